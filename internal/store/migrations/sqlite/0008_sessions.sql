-- +goose Up
CREATE TABLE sessions (
  hash    BLOB PRIMARY KEY,
  handle  TEXT NOT NULL UNIQUE,
  person  TEXT NOT NULL,
  member  INTEGER NOT NULL,
  via     TEXT NOT NULL,
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  sid     TEXT NOT NULL,
  groups  TEXT NOT NULL,
  binding BLOB NOT NULL,
  agent   TEXT NOT NULL,
  created INTEGER NOT NULL,
  seen    INTEGER NOT NULL,
  expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_person ON sessions (person, created);
CREATE INDEX sessions_subject ON sessions (issuer, subject, sid);
CREATE INDEX sessions_expires ON sessions (expires);
CREATE TABLE session_links (
  hash    BLOB PRIMARY KEY,
  person  TEXT NOT NULL,
  expires INTEGER NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE session_links;
DROP TABLE sessions;
