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
  request       BYTEA,
  via           TEXT NOT NULL,
  issuer        TEXT NOT NULL,
  subject       TEXT NOT NULL,
  created       BIGINT NOT NULL,
  updated       BIGINT NOT NULL,
  expires       BIGINT NOT NULL
);
CREATE INDEX registrations_person ON registrations (person, created);
CREATE INDEX registrations_state ON registrations (state, created);
CREATE UNIQUE INDEX registrations_waiting ON registrations (credential_id) WHERE state IN ('open', 'proposed');

-- +goose Down
DROP TABLE registrations;
