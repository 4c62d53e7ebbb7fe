-- +goose Up
ALTER TABLE requests ADD COLUMN sent BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE requests DROP COLUMN sent;
