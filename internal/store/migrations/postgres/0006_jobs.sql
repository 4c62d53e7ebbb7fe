-- +goose Up
CREATE TABLE security_jobs (
  id        TEXT PRIMARY KEY,
  revision  BIGINT NOT NULL,
  kind      TEXT NOT NULL,
  name      TEXT NOT NULL,
  state     TEXT NOT NULL,
  platform  TEXT NOT NULL,
  requester TEXT NOT NULL,
  spec      BYTEA NOT NULL,
  place     BYTEA NOT NULL,
  summary   BYTEA NOT NULL,
  request   TEXT NOT NULL,
  error     TEXT NOT NULL,
  count     BIGINT NOT NULL,
  total     BIGINT NOT NULL,
  busy      BIGINT NOT NULL,
  created   BIGINT NOT NULL,
  updated   BIGINT NOT NULL,
  started   BIGINT NOT NULL,
  finished  BIGINT NOT NULL
);
CREATE INDEX security_jobs_created ON security_jobs (created, id);
CREATE TABLE security_job_chunks (
  job   TEXT NOT NULL,
  first BIGINT NOT NULL,
  count BIGINT NOT NULL,
  data  BYTEA NOT NULL,
  PRIMARY KEY (job, first)
);
ALTER TABLE security_job_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE record_marks (
  ref      BYTEA PRIMARY KEY,
  revision BIGINT NOT NULL
);
CREATE TABLE record_findings (
  id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      BIGINT NOT NULL,
  source  TEXT NOT NULL,
  ref     BYTEA NOT NULL,
  tbl     TEXT NOT NULL,
  code    TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
);
CREATE INDEX record_findings_ref ON record_findings (ref, id);
CREATE TABLE retrieved_sets (
  id       TEXT PRIMARY KEY,
  revision BIGINT NOT NULL,
  name     TEXT NOT NULL,
  state    TEXT NOT NULL,
  platform TEXT NOT NULL,
  who      TEXT NOT NULL,
  data     BYTEA NOT NULL,
  preview  BYTEA NOT NULL,
  created  BIGINT NOT NULL,
  updated  BIGINT NOT NULL
);
CREATE INDEX retrieved_sets_created ON retrieved_sets (created, id);

-- +goose Down
DROP TABLE retrieved_sets;
DROP TABLE record_findings;
DROP TABLE record_marks;
DROP TABLE security_job_chunks;
DROP TABLE security_jobs;
