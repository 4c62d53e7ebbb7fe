-- +goose Up
CREATE TABLE ecc_queue (
  seq              INTEGER PRIMARY KEY AUTOINCREMENT,
  id               TEXT NOT NULL,
  agent            TEXT NOT NULL, -- of a cluster's job: whoever has it, or had it last
  agent_correlator TEXT NOT NULL,
  topic            TEXT NOT NULL,
  name             TEXT NOT NULL,
  source           TEXT NOT NULL,
  response_to      TEXT NOT NULL, -- of a result: its job
  queue            TEXT NOT NULL, -- output: a job; input: a page of its result
  state            TEXT NOT NULL,
  error_string     TEXT NOT NULL,
  priority         INTEGER NOT NULL, -- 0 interactive, 1 expedited, 2 standard
  payload          BLOB NOT NULL,
  created          INTEGER NOT NULL, -- unix milliseconds, as every time here
  updated          INTEGER NOT NULL,
  processed        INTEGER NOT NULL,
  cluster          TEXT NOT NULL,
  target           TEXT NOT NULL, -- of a job: a:AGENT or c:CLUSTER
  parent           TEXT NOT NULL, -- of a copy: the submission for every agent
  repeatable       INTEGER NOT NULL,
  expires          INTEGER NOT NULL, -- of a job: not begun later; 0: never
  attempt          INTEGER NOT NULL, -- of a page: that which brought it
  token            TEXT NOT NULL, -- of the lease
  lease_until      INTEGER NOT NULL,
  started          INTEGER NOT NULL,
  cancel           INTEGER NOT NULL,
  lost             INTEGER NOT NULL,
  pages            INTEGER NOT NULL, -- of a page: its number
  bytes            INTEGER NOT NULL,
  content_type     TEXT NOT NULL,
  outcome          BLOB NOT NULL
);
CREATE UNIQUE INDEX ecc_queue_id ON ecc_queue (id);
CREATE INDEX ecc_queue_ready ON ecc_queue (target, priority, seq) WHERE state = 'ready' AND queue = 'output';
CREATE INDEX ecc_queue_leased ON ecc_queue (lease_until) WHERE state = 'processing' AND queue = 'output';
CREATE INDEX ecc_queue_running ON ecc_queue (agent) WHERE state = 'processing' AND queue = 'output';
CREATE INDEX ecc_queue_expires ON ecc_queue (expires) WHERE state = 'ready' AND queue = 'output' AND expires > 0;
CREATE UNIQUE INDEX ecc_queue_pages ON ecc_queue (response_to, attempt, pages) WHERE queue = 'input';
CREATE INDEX ecc_queue_parent ON ecc_queue (parent) WHERE parent <> '';
CREATE INDEX ecc_queue_correlator ON ecc_queue (agent_correlator) WHERE agent_correlator <> '';
CREATE TABLE agents (
  name        TEXT PRIMARY KEY,
  state       TEXT NOT NULL, -- valid or invalid
  key         BLOB NOT NULL, -- SHA-256 of the SubjectPublicKeyInfo
  next        BLOB NOT NULL, -- of a key that takes its place at its first use; or no bytes
  certificate BLOB NOT NULL, -- the newest chain, DER one after the other
  not_after   INTEGER NOT NULL,
  version     TEXT NOT NULL,
  os          TEXT NOT NULL,
  arch        TEXT NOT NULL,
  topics      TEXT NOT NULL,
  created     INTEGER NOT NULL,
  validated   INTEGER NOT NULL,
  validator   TEXT NOT NULL,
  reason      TEXT NOT NULL, -- of an invalidation
  heartbeat   INTEGER NOT NULL,
  running     INTEGER NOT NULL,
  spooled     INTEGER NOT NULL,
  draining    INTEGER NOT NULL,
  rekey       INTEGER NOT NULL,
  circle      TEXT NOT NULL,
  trust_until INTEGER NOT NULL
);
CREATE UNIQUE INDEX agents_key ON agents (key);
CREATE TABLE agent_enrolments (
  key     BLOB PRIMARY KEY,
  name    TEXT NOT NULL,
  request BLOB NOT NULL,
  state   TEXT NOT NULL, -- waiting, validated or refused
  version TEXT NOT NULL,
  os      TEXT NOT NULL,
  arch    TEXT NOT NULL,
  topics  TEXT NOT NULL,
  address TEXT NOT NULL,
  created INTEGER NOT NULL
);
CREATE INDEX agent_enrolments_name ON agent_enrolments (name);
CREATE TABLE agent_clusters (
  name TEXT PRIMARY KEY,
  mode TEXT NOT NULL -- balance or failover
);
CREATE TABLE agent_members (
  cluster  TEXT NOT NULL,
  agent    TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (cluster, agent)
);
CREATE INDEX agent_members_agent ON agent_members (agent);
CREATE TABLE agent_rejections (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  id      TEXT NOT NULL,
  time    INTEGER NOT NULL,
  agent   TEXT NOT NULL,
  job     TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  topic   TEXT NOT NULL,
  code    TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL,
  records BLOB NOT NULL
);
CREATE UNIQUE INDEX agent_rejections_id ON agent_rejections (id);
CREATE INDEX agent_rejections_agent ON agent_rejections (agent, seq);

-- +goose Down
DROP TABLE agent_rejections;
DROP TABLE agent_members;
DROP TABLE agent_clusters;
DROP TABLE agent_enrolments;
DROP TABLE agents;
DROP TABLE ecc_queue;
