-- +goose Up
CREATE TABLE sessions (
  hash    BYTEA PRIMARY KEY,
  handle  TEXT NOT NULL UNIQUE,
  person  TEXT NOT NULL,
  member  BIGINT NOT NULL,
  via     TEXT NOT NULL,
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  sid     TEXT NOT NULL,
  groups  TEXT NOT NULL,
  binding BYTEA NOT NULL,
  agent   TEXT NOT NULL,
  created BIGINT NOT NULL,
  seen    BIGINT NOT NULL,
  expires BIGINT NOT NULL
);
CREATE INDEX sessions_person ON sessions (person, created);
CREATE INDEX sessions_subject ON sessions (issuer, subject, sid);
CREATE INDEX sessions_expires ON sessions (expires);
CREATE TABLE session_links (
  hash    BYTEA PRIMARY KEY,
  person  TEXT NOT NULL,
  expires BIGINT NOT NULL
);

-- +goose Down
DROP TABLE session_links;
DROP TABLE sessions;
