-- +goose Up
CREATE TABLE secrets (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE used (
  hash    BLOB PRIMARY KEY,
  expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX used_expires ON used (expires);

-- +goose Down
DROP TABLE used;
DROP TABLE secrets;
