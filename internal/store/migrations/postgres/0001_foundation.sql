-- +goose Up
CREATE TABLE requests (
  id        BYTEA PRIMARY KEY,
  revision  BIGINT NOT NULL,
  envelope  BYTEA NOT NULL,
  command   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  policy    TEXT NOT NULL,
  key       TEXT NOT NULL,
  requester TEXT NOT NULL,
  count     BIGINT NOT NULL,
  upload    BIGINT NOT NULL,
  state     TEXT NOT NULL,
  code      TEXT NOT NULL,
  detail    TEXT NOT NULL,
  created   BIGINT NOT NULL, -- unix milliseconds, as every time here
  updated   BIGINT NOT NULL,
  expires   BIGINT NOT NULL,
  receipt   BIGINT NOT NULL
);
CREATE UNIQUE INDEX requests_open ON requests (digest) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_due ON requests (expires) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_created ON requests (created);
CREATE TABLE items (
  request BYTEA NOT NULL,
  chunk   BIGINT NOT NULL,
  data    BYTEA NOT NULL,
  PRIMARY KEY (request, chunk)
);
CREATE TABLE files (
  request BYTEA NOT NULL,
  idx     BIGINT NOT NULL,
  name    TEXT NOT NULL,
  format  TEXT NOT NULL,
  digest  TEXT NOT NULL,
  content BYTEA NOT NULL,
  size    BIGINT NOT NULL,
  version TEXT NOT NULL,
  PRIMARY KEY (request, idx)
);
CREATE INDEX files_content ON files (content);
CREATE TABLE endorsements (
  request  BYTEA NOT NULL,
  seq      BIGINT NOT NULL,
  id       BYTEA NOT NULL,
  envelope BYTEA NOT NULL,
  endorser TEXT NOT NULL,
  verdict  TEXT NOT NULL,
  arrived  BIGINT NOT NULL,
  PRIMARY KEY (request, seq)
);
CREATE UNIQUE INDEX endorsements_id ON endorsements (id);
CREATE TABLE receipts (
  number   BIGINT PRIMARY KEY,
  request  BYTEA NOT NULL,
  outcome  TEXT NOT NULL,
  time     BIGINT NOT NULL,
  envelope BYTEA NOT NULL
);
CREATE INDEX receipts_request ON receipts (request);
CREATE TABLE results (
  request BYTEA PRIMARY KEY,
  data    BYTEA NOT NULL
);
CREATE TABLE timestamps (
  request BYTEA NOT NULL,
  idx     BIGINT NOT NULL,
  token   BYTEA NOT NULL,
  PRIMARY KEY (request, idx)
);
CREATE TABLE log_waiting (
  id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind    TEXT NOT NULL,
  request BYTEA NOT NULL,
  time    BIGINT NOT NULL,
  data    BYTEA NOT NULL
);
CREATE TABLE log_entries (
  idx     BIGINT PRIMARY KEY,
  kind    TEXT NOT NULL,
  request BYTEA NOT NULL,
  time    BIGINT NOT NULL
);
CREATE INDEX log_entries_request ON log_entries (request);
CREATE TABLE log_tiles (
  level BIGINT NOT NULL, -- -1: entry bundles
  n     BIGINT NOT NULL,
  w     BIGINT NOT NULL,
  data  BYTEA NOT NULL,
  PRIMARY KEY (level, n)
);
CREATE TABLE log_bodies (
  sum  BYTEA PRIMARY KEY,
  data BYTEA NOT NULL
);
CREATE TABLE log_head (
  one    BIGINT PRIMARY KEY CHECK (one = 1),
  size   BIGINT NOT NULL,
  root   BYTEA NOT NULL,
  note   BYTEA NOT NULL,
  signed BIGINT NOT NULL
);
CREATE TABLE jobs (
  id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind     TEXT NOT NULL,
  ref      TEXT NOT NULL,
  payload  BYTEA NOT NULL,
  run_at   BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  error    TEXT NOT NULL,
  UNIQUE (kind, ref)
);
CREATE INDEX jobs_due ON jobs (run_at);
CREATE TABLE uploads (
  request  BYTEA NOT NULL,
  idx      BIGINT NOT NULL,
  size     BIGINT NOT NULL,
  received BIGINT NOT NULL,
  done     BIGINT NOT NULL,
  PRIMARY KEY (request, idx)
);
CREATE TABLE tokens (
  hash      BYTEA PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  principal TEXT NOT NULL,
  scopes    TEXT NOT NULL,
  created   BIGINT NOT NULL,
  expires   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE tokens;
DROP TABLE uploads;
DROP TABLE jobs;
DROP TABLE log_head;
DROP TABLE log_bodies;
DROP TABLE log_tiles;
DROP TABLE log_entries;
DROP TABLE log_waiting;
DROP TABLE timestamps;
DROP TABLE results;
DROP TABLE receipts;
DROP TABLE endorsements;
DROP TABLE files;
DROP TABLE items;
DROP TABLE requests;
