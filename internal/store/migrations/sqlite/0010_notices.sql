-- +goose Up
CREATE TABLE notices (
  id        TEXT PRIMARY KEY,
  request   BLOB NOT NULL,
  event     TEXT NOT NULL,
  recipient TEXT NOT NULL,
  way       TEXT NOT NULL,
  state     TEXT NOT NULL,
  attempts  INTEGER NOT NULL,
  unsure    INTEGER NOT NULL,
  error     TEXT NOT NULL,
  digest    TEXT NOT NULL,
  letter    BLOB NOT NULL,
  created   INTEGER NOT NULL,
  due       INTEGER NOT NULL,
  updated   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX notices_request ON notices (request, created, id);
CREATE INDEX notices_held ON notices (recipient, due) WHERE state = 'held';
CREATE TABLE notice_preferences (
  person  TEXT PRIMARY KEY,
  data    BLOB NOT NULL,
  updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_kind ON jobs (kind, run_at);

-- +goose Down
DROP INDEX jobs_kind;
DROP TABLE notice_preferences;
DROP TABLE notices;
