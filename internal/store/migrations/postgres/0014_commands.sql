-- +goose Up
-- Commands other than sign are few, and are asked for by name.
CREATE INDEX requests_commands ON requests (command, key, created) WHERE command <> 'sign';

-- +goose Down
DROP INDEX requests_commands;
