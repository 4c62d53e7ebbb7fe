-- Rows stand in the order of their arrival, and what is large is not in a tree of
-- random IDs: fewer pages change with a request. In a table WITHOUT ROWID, whoever
-- passes a row on the way to another one reads all of it, however large it is.

-- +goose Up
CREATE TABLE requests_3 (
  id        BLOB NOT NULL,
  revision  INTEGER NOT NULL,
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
  created   INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  receipt   INTEGER NOT NULL,
  envelope  BLOB NOT NULL
);
INSERT INTO requests_3 (id, revision, command, digest, policy, key, requester, count, upload, state, code, detail, created, updated, expires, receipt, envelope)
  SELECT id, revision, command, digest, policy, key, requester, count, upload, state, code, detail, created, updated, expires, receipt, envelope FROM requests ORDER BY created;
DROP TABLE requests;
ALTER TABLE requests_3 RENAME TO requests;
CREATE UNIQUE INDEX requests_id ON requests (id);
CREATE UNIQUE INDEX requests_open ON requests (digest) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_due ON requests (expires) WHERE state IN ('pending', 'endorsed');
CREATE INDEX requests_created ON requests (created);
CREATE TABLE endorsements_3 (
  request  BLOB NOT NULL,
  seq      INTEGER NOT NULL,
  id       BLOB NOT NULL,
  endorser TEXT NOT NULL,
  verdict  TEXT NOT NULL,
  arrived  INTEGER NOT NULL,
  envelope BLOB NOT NULL
);
INSERT INTO endorsements_3 (request, seq, id, endorser, verdict, arrived, envelope)
  SELECT request, seq, id, endorser, verdict, arrived, envelope FROM endorsements ORDER BY arrived;
DROP TABLE endorsements;
ALTER TABLE endorsements_3 RENAME TO endorsements;
CREATE UNIQUE INDEX endorsements_request ON endorsements (request, seq);
CREATE TABLE results_3 (
  request BLOB NOT NULL,
  data    BLOB NOT NULL
);
INSERT INTO results_3 (request, data) SELECT r.request, r.data FROM results r LEFT JOIN requests q ON q.id = r.request ORDER BY q.receipt;
DROP TABLE results;
ALTER TABLE results_3 RENAME TO results;
CREATE UNIQUE INDEX results_request ON results (request);
DROP INDEX receipts_request;
CREATE TABLE items_3 (
  request BLOB NOT NULL,
  chunk   INTEGER NOT NULL,
  data    BLOB NOT NULL
);
INSERT INTO items_3 (request, chunk, data) SELECT request, chunk, data FROM items;
DROP TABLE items;
ALTER TABLE items_3 RENAME TO items;
CREATE UNIQUE INDEX items_request ON items (request, chunk);
CREATE TABLE log_tiles_3 (
  level INTEGER NOT NULL,
  n     INTEGER NOT NULL,
  w     INTEGER NOT NULL,
  data  BLOB NOT NULL
);
INSERT INTO log_tiles_3 (level, n, w, data) SELECT level, n, w, data FROM log_tiles;
DROP TABLE log_tiles;
ALTER TABLE log_tiles_3 RENAME TO log_tiles;
CREATE UNIQUE INDEX log_tiles_level ON log_tiles (level, n);
CREATE TABLE log_bodies_3 (
  sum  BLOB NOT NULL,
  data BLOB NOT NULL
);
INSERT INTO log_bodies_3 (sum, data) SELECT sum, data FROM log_bodies;
DROP TABLE log_bodies;
ALTER TABLE log_bodies_3 RENAME TO log_bodies;
CREATE UNIQUE INDEX log_bodies_sum ON log_bodies (sum);

-- +goose Down
CREATE INDEX receipts_request ON receipts (request);
CREATE UNIQUE INDEX endorsements_id ON endorsements (id);
