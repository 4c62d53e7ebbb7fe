-- +goose Up
CREATE TABLE secrets (
  name  TEXT PRIMARY KEY,
  value BYTEA NOT NULL
);
CREATE TABLE used (
  hash    BYTEA PRIMARY KEY,
  expires BIGINT NOT NULL
);
CREATE INDEX used_expires ON used (expires);

-- +goose Down
DROP TABLE used;
DROP TABLE secrets;
