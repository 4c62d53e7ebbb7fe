-- +goose Up
CREATE TABLE notices (
  id        TEXT PRIMARY KEY,
  request   BYTEA NOT NULL,
  event     TEXT NOT NULL,
  recipient TEXT NOT NULL,
  way       TEXT NOT NULL,
  state     TEXT NOT NULL,
  attempts  BIGINT NOT NULL,
  unsure    BIGINT NOT NULL,
  error     TEXT NOT NULL,
  digest    TEXT NOT NULL,
  letter    BYTEA NOT NULL,
  created   BIGINT NOT NULL,
  due       BIGINT NOT NULL,
  updated   BIGINT NOT NULL
);
CREATE INDEX notices_request ON notices (request, created, id);
CREATE INDEX notices_held ON notices (recipient, due) WHERE state = 'held';
CREATE TABLE notice_preferences (
  person  TEXT PRIMARY KEY,
  data    BYTEA NOT NULL,
  updated BIGINT NOT NULL
);
CREATE INDEX jobs_kind ON jobs (kind, run_at);

-- +goose Down
DROP INDEX jobs_kind;
DROP TABLE notice_preferences;
DROP TABLE notices;
