-- +goose Up
CREATE TABLE registrations (
  id            TEXT PRIMARY KEY,
  person        TEXT NOT NULL,
  credential    TEXT NOT NULL,
  credential_id TEXT NOT NULL,
  attestation   TEXT NOT NULL,
  transports    TEXT NOT NULL,
  label         TEXT NOT NULL,
  replaces      TEXT NOT NULL,
  state         TEXT NOT NULL,
  detail        TEXT NOT NULL,
  request       BLOB,
  via           TEXT NOT NULL,
  issuer        TEXT NOT NULL,
  subject       TEXT NOT NULL,
  created       INTEGER NOT NULL,
  updated       INTEGER NOT NULL,
  expires       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX registrations_person ON registrations (person, created);
CREATE INDEX registrations_state ON registrations (state, created);
CREATE UNIQUE INDEX registrations_waiting ON registrations (credential_id) WHERE state IN ('open', 'proposed');

-- +goose Down
DROP TABLE registrations;
