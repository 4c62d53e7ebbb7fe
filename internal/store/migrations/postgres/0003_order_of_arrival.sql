-- Nobody looks for these: a request's revision keeps an endorsement from standing
-- twice, and receipts are found by number.

-- +goose Up
DROP INDEX endorsements_id;
DROP INDEX receipts_request;

-- +goose Down
CREATE INDEX receipts_request ON receipts (request);
CREATE UNIQUE INDEX endorsements_id ON endorsements (id);
