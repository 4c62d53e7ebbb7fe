-- +goose Up
CREATE TABLE issuers (
  url     TEXT PRIMARY KEY,
  keys    TEXT NOT NULL,
  seen    INTEGER NOT NULL,
  tried   INTEGER NOT NULL,
  problem TEXT NOT NULL
);
