-- The catalogue holds the files of executed requests as they are searched. It is
-- filled behind what is executed, from catalogue_waiting: its indexes cost a request
-- of many files nothing.

-- +goose Up
ALTER TABLE files ADD COLUMN product TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN publisher TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN also TEXT NOT NULL DEFAULT ''; -- further digests of the plan, hexadecimal, with spaces between
CREATE TABLE catalogue (
  seq       INTEGER PRIMARY KEY,
  request   BLOB NOT NULL,
  idx       INTEGER NOT NULL,
  signed    INTEGER NOT NULL,
  name      TEXT NOT NULL,
  fold      TEXT NOT NULL, -- the name in small letters, as it is searched
  format    TEXT NOT NULL,
  digest    TEXT NOT NULL,
  content   BLOB NOT NULL,
  size      INTEGER NOT NULL,
  version   TEXT NOT NULL,
  product   TEXT NOT NULL,
  publisher TEXT NOT NULL,
  maker     TEXT NOT NULL, -- the publisher in small letters
  thing     TEXT NOT NULL, -- the product in small letters
  policy    TEXT NOT NULL,
  key       TEXT NOT NULL,
  requester TEXT NOT NULL,
  receipt   INTEGER NOT NULL
);
CREATE UNIQUE INDEX catalogue_request ON catalogue (request, idx);
CREATE INDEX catalogue_signed ON catalogue (signed, seq);
CREATE INDEX catalogue_policy ON catalogue (policy, signed, seq);
CREATE INDEX catalogue_key ON catalogue (key, signed, seq);
CREATE INDEX catalogue_requester ON catalogue (requester, signed, seq);
CREATE INDEX catalogue_format ON catalogue (format, signed, seq);
CREATE INDEX catalogue_maker ON catalogue (maker, signed, seq) WHERE maker <> '';
CREATE INDEX catalogue_thing ON catalogue (thing, signed, seq) WHERE thing <> '';
CREATE INDEX catalogue_fold ON catalogue (substr(fold, 1, 100));
CREATE TABLE catalogue_digests (
  digest BLOB NOT NULL,
  seq    INTEGER NOT NULL,
  PRIMARY KEY (digest, seq)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE catalogue_grams USING fts5 (fold, content = '', detail = none, columnsize = 0, tokenize = 'trigram');
CREATE TABLE catalogue_waiting (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  request BLOB NOT NULL,
  next    INTEGER NOT NULL -- the first of its files that is not in the catalogue
);
INSERT INTO catalogue_waiting (request, next) SELECT id, 0 FROM requests WHERE state = 'executed' AND command = 'sign' ORDER BY receipt;
CREATE INDEX endorsements_endorser ON endorsements (endorser, request);
CREATE INDEX requests_unsigned ON requests (state, created) WHERE state <> 'executed';
CREATE INDEX requests_pending ON requests (policy, created) WHERE state = 'pending';
CREATE INDEX requests_policy ON requests (policy, created);
CREATE INDEX requests_key ON requests (key, created);
CREATE INDEX requests_requester ON requests (requester, created);
CREATE TABLE tallies (
  kind    TEXT NOT NULL,
  day     INTEGER NOT NULL, -- days since 1970-01-01 UTC
  name    TEXT NOT NULL,
  other   TEXT NOT NULL,
  bucket  INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  changed INTEGER NOT NULL, -- the number of log entries that were counted when it was changed last
  PRIMARY KEY (kind, day, name, other, bucket)
) WITHOUT ROWID;
CREATE INDEX tallies_changed ON tallies (changed);
CREATE TABLE tallies_head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  next INTEGER NOT NULL -- the first log entry that is not counted
);
INSERT INTO tallies_head (one, next) VALUES (1, 0);
CREATE TABLE saved_searches (
  id      TEXT PRIMARY KEY,
  person  TEXT NOT NULL,
  name    TEXT NOT NULL,
  query   TEXT NOT NULL,
  created INTEGER NOT NULL,
  UNIQUE (person, name)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE saved_searches;
DROP TABLE tallies_head;
DROP TABLE tallies;
DROP INDEX requests_requester;
DROP INDEX requests_key;
DROP INDEX requests_policy;
DROP INDEX requests_pending;
DROP INDEX requests_unsigned;
DROP INDEX endorsements_endorser;
DROP TABLE catalogue_waiting;
DROP TABLE catalogue_grams;
DROP TABLE catalogue_digests;
DROP TABLE catalogue;
ALTER TABLE files DROP COLUMN also;
ALTER TABLE files DROP COLUMN publisher;
ALTER TABLE files DROP COLUMN product;
