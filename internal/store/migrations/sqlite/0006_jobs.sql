-- +goose Up
CREATE TABLE security_jobs (
  id        TEXT PRIMARY KEY,
  revision  INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  name      TEXT NOT NULL,
  state     TEXT NOT NULL,
  platform  TEXT NOT NULL,
  requester TEXT NOT NULL,
  spec      BLOB NOT NULL,
  place     BLOB NOT NULL,
  summary   BLOB NOT NULL,
  request   TEXT NOT NULL,
  error     TEXT NOT NULL,
  count     INTEGER NOT NULL,
  total     INTEGER NOT NULL,
  busy      INTEGER NOT NULL,
  created   INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  started   INTEGER NOT NULL,
  finished  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX security_jobs_created ON security_jobs (created, id);
CREATE TABLE security_job_chunks (
  job   TEXT NOT NULL,
  first INTEGER NOT NULL,
  count INTEGER NOT NULL,
  data  BLOB NOT NULL,
  PRIMARY KEY (job, first)
) WITHOUT ROWID;
CREATE TABLE record_marks (
  ref      BLOB PRIMARY KEY,
  revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE record_findings (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL,
  source  TEXT NOT NULL,
  ref     BLOB NOT NULL,
  tbl     TEXT NOT NULL,
  code    TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
);
CREATE INDEX record_findings_ref ON record_findings (ref, id);
CREATE TABLE retrieved_sets (
  id       TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  name     TEXT NOT NULL,
  state    TEXT NOT NULL,
  platform TEXT NOT NULL,
  who      TEXT NOT NULL,
  data     BLOB NOT NULL,
  preview  BLOB NOT NULL,
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX retrieved_sets_created ON retrieved_sets (created, id);

-- +goose Down
DROP TABLE retrieved_sets;
DROP TABLE record_findings;
DROP TABLE record_marks;
DROP TABLE security_job_chunks;
DROP TABLE security_jobs;
