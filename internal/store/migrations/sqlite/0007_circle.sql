-- +goose Up
CREATE TABLE circle_bundles (
  root    BLOB PRIMARY KEY,
  digest  BLOB NOT NULL,
  bundle  BLOB NOT NULL,
  updated INTEGER NOT NULL
);
