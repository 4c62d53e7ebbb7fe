-- +goose Up
CREATE TABLE issuers (
  url     TEXT PRIMARY KEY,
  keys    TEXT NOT NULL,
  seen    BIGINT NOT NULL,
  tried   BIGINT NOT NULL,
  problem TEXT NOT NULL
);
