-- +goose Up
CREATE TABLE issuers (
  url     TEXT PRIMARY KEY,
  jwks    TEXT NOT NULL,
  seen    BIGINT NOT NULL,
  tried   BIGINT NOT NULL,
  problem TEXT NOT NULL
);

-- +goose Down
DROP TABLE issuers;
