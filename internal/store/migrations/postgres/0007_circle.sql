-- +goose Up
CREATE TABLE circle_bundles (
  root    BYTEA PRIMARY KEY,
  digest  BYTEA NOT NULL,
  bundle  BYTEA NOT NULL,
  updated BIGINT NOT NULL
);
ALTER TABLE circle_bundles ALTER COLUMN bundle SET STORAGE EXTERNAL;
