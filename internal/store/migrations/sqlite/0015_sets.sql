-- What is large stands last, and not in a tree of IDs: whoever lists sets does not
-- pass their contents.

-- +goose Up
CREATE TABLE retrieved_sets_15 (
  id       TEXT NOT NULL,
  revision INTEGER NOT NULL,
  name     TEXT NOT NULL,
  state    TEXT NOT NULL,
  platform TEXT NOT NULL,
  who      TEXT NOT NULL,
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL,
  preview  BLOB NOT NULL,
  data     BLOB NOT NULL
);
INSERT INTO retrieved_sets_15 (id, revision, name, state, platform, who, created, updated, preview, data)
  SELECT id, revision, name, state, platform, who, created, updated, preview, data FROM retrieved_sets ORDER BY created, id;
DROP TABLE retrieved_sets;
ALTER TABLE retrieved_sets_15 RENAME TO retrieved_sets;
CREATE UNIQUE INDEX retrieved_sets_id ON retrieved_sets (id);
CREATE INDEX retrieved_sets_created ON retrieved_sets (created, id);

-- +goose Down
CREATE TABLE retrieved_sets_6 (
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
INSERT INTO retrieved_sets_6 (id, revision, name, state, platform, who, data, preview, created, updated)
  SELECT id, revision, name, state, platform, who, data, preview, created, updated FROM retrieved_sets;
DROP TABLE retrieved_sets;
ALTER TABLE retrieved_sets_6 RENAME TO retrieved_sets;
CREATE INDEX retrieved_sets_created ON retrieved_sets (created, id);
