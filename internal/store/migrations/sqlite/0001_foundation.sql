-- +goose Up
CREATE TABLE requests (
  id        BLOB PRIMARY KEY,
  revision  INTEGER NOT NULL,
  envelope  BLOB NOT NULL,
  command   TEXT NOT NULL,
  digest    TEXT NOT NULL,
  policy    TEXT NOT NULL,
  key       TEXT NOT NULL,
  requester TEXT NOT NULL,
  count     INTEGER NOT NULL,
  upload    INTEGER NOT NULL,
  state     TEXT NOT NULL,
  code      TEXT NOT NULL,
  detail    TEXT NOT NULL,
  created   INTEGER NOT NULL, -- unix milliseconds, as every time here
  updated   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  receipt   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX requests_open ON requests (digest) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_due ON requests (expires) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_created ON requests (created);
CREATE TABLE items (
  request BLOB NOT NULL,
  chunk   INTEGER NOT NULL,
  data    BLOB NOT NULL,
  PRIMARY KEY (request, chunk)
) WITHOUT ROWID;
CREATE TABLE files (
  request BLOB NOT NULL,
  idx     INTEGER NOT NULL,
  name    TEXT NOT NULL,
  format  TEXT NOT NULL,
  digest  TEXT NOT NULL,
  content BLOB NOT NULL,
  size    INTEGER NOT NULL,
  version TEXT NOT NULL,
  PRIMARY KEY (request, idx)
) WITHOUT ROWID;
CREATE INDEX files_content ON files (content);
CREATE TABLE endorsements (
  request  BLOB NOT NULL,
  seq      INTEGER NOT NULL,
  id       BLOB NOT NULL,
  envelope BLOB NOT NULL,
  endorser TEXT NOT NULL,
  verdict  TEXT NOT NULL,
  arrived  INTEGER NOT NULL,
  PRIMARY KEY (request, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX endorsements_id ON endorsements (id);
CREATE TABLE receipts (
  number   INTEGER PRIMARY KEY,
  request  BLOB NOT NULL,
  outcome  TEXT NOT NULL,
  time     INTEGER NOT NULL,
  envelope BLOB NOT NULL
);
CREATE INDEX receipts_request ON receipts (request);
CREATE TABLE results (
  request BLOB PRIMARY KEY,
  data    BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE timestamps (
  request BLOB NOT NULL,
  idx     INTEGER NOT NULL,
  token   BLOB NOT NULL,
  PRIMARY KEY (request, idx)
) WITHOUT ROWID;
CREATE TABLE log_waiting (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL,
  request BLOB NOT NULL,
  time    INTEGER NOT NULL,
  data    BLOB NOT NULL
);
CREATE TABLE log_entries (
  idx     INTEGER PRIMARY KEY,
  kind    TEXT NOT NULL,
  request BLOB NOT NULL,
  time    INTEGER NOT NULL
);
CREATE INDEX log_entries_request ON log_entries (request);
CREATE TABLE log_tiles (
  level INTEGER NOT NULL, -- -1: entry bundles
  n     INTEGER NOT NULL,
  w     INTEGER NOT NULL,
  data  BLOB NOT NULL,
  PRIMARY KEY (level, n)
) WITHOUT ROWID;
CREATE TABLE log_bodies (
  sum  BLOB PRIMARY KEY,
  data BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE log_head (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  size   INTEGER NOT NULL,
  root   BLOB NOT NULL,
  note   BLOB NOT NULL,
  signed INTEGER NOT NULL
);
CREATE TABLE jobs (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  kind     TEXT NOT NULL,
  ref      TEXT NOT NULL,
  payload  BLOB NOT NULL,
  run_at   INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  error    TEXT NOT NULL,
  UNIQUE (kind, ref)
);
CREATE INDEX jobs_due ON jobs (run_at);
CREATE TABLE uploads (
  request  BLOB NOT NULL,
  idx      INTEGER NOT NULL,
  size     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  done     INTEGER NOT NULL,
  PRIMARY KEY (request, idx)
) WITHOUT ROWID;
CREATE TABLE tokens (
  hash      BLOB PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  principal TEXT NOT NULL,
  scopes    TEXT NOT NULL,
  created   INTEGER NOT NULL,
  expires   INTEGER NOT NULL
) WITHOUT ROWID;

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
