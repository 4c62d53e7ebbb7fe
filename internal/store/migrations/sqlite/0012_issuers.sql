-- +goose Up
CREATE TABLE issuers (
  url     TEXT PRIMARY KEY,
  jwks    TEXT NOT NULL,
  seen    INTEGER NOT NULL,
  tried   INTEGER NOT NULL,
  problem TEXT NOT NULL
);

-- +goose Down
DROP TABLE issuers;
