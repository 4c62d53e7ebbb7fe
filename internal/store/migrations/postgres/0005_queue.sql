-- +goose Up
CREATE TABLE ecc_queue (
  seq              BIGSERIAL PRIMARY KEY,
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
  priority         BIGINT NOT NULL, -- 0 interactive, 1 expedited, 2 standard
  payload          BYTEA NOT NULL,
  created          BIGINT NOT NULL, -- unix milliseconds, as every time here
  updated          BIGINT NOT NULL,
  processed        BIGINT NOT NULL,
  cluster          TEXT NOT NULL,
  target           TEXT NOT NULL, -- of a job: a:AGENT or c:CLUSTER
  parent           TEXT NOT NULL, -- of a copy: the submission for every agent
  repeatable       BIGINT NOT NULL,
  expires          BIGINT NOT NULL, -- of a job: not begun later; 0: never
  attempt          BIGINT NOT NULL, -- of a page: that which brought it
  token            TEXT NOT NULL, -- of the lease
  lease_until      BIGINT NOT NULL,
  started          BIGINT NOT NULL,
  cancel           BIGINT NOT NULL,
  lost             BIGINT NOT NULL,
  pages            BIGINT NOT NULL, -- of a page: its number
  bytes            BIGINT NOT NULL,
  content_type     TEXT NOT NULL,
  outcome          BYTEA NOT NULL
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
  key         BYTEA NOT NULL, -- SHA-256 of the SubjectPublicKeyInfo
  next        BYTEA NOT NULL, -- of a key that takes its place at its first use; or no bytes
  certificate BYTEA NOT NULL, -- the newest chain, DER one after the other
  not_after   BIGINT NOT NULL,
  version     TEXT NOT NULL,
  os          TEXT NOT NULL,
  arch        TEXT NOT NULL,
  topics      TEXT NOT NULL,
  created     BIGINT NOT NULL,
  validated   BIGINT NOT NULL,
  validator   TEXT NOT NULL,
  reason      TEXT NOT NULL, -- of an invalidation
  heartbeat   BIGINT NOT NULL,
  running     BIGINT NOT NULL,
  spooled     BIGINT NOT NULL,
  draining    BIGINT NOT NULL,
  rekey       BIGINT NOT NULL,
  circle      TEXT NOT NULL,
  trust_until BIGINT NOT NULL
);
CREATE UNIQUE INDEX agents_key ON agents (key);
CREATE TABLE agent_enrolments (
  key     BYTEA PRIMARY KEY,
  name    TEXT NOT NULL,
  request BYTEA NOT NULL,
  state   TEXT NOT NULL, -- waiting, validated or refused
  version TEXT NOT NULL,
  os      TEXT NOT NULL,
  arch    TEXT NOT NULL,
  topics  TEXT NOT NULL,
  address TEXT NOT NULL,
  created BIGINT NOT NULL
);
CREATE INDEX agent_enrolments_name ON agent_enrolments (name);
CREATE TABLE agent_clusters (
  name TEXT PRIMARY KEY,
  mode TEXT NOT NULL -- balance or failover
);
CREATE TABLE agent_members (
  cluster  TEXT NOT NULL,
  agent    TEXT NOT NULL,
  position BIGINT NOT NULL,
  PRIMARY KEY (cluster, agent)
);
CREATE INDEX agent_members_agent ON agent_members (agent);
CREATE TABLE agent_rejections (
  seq     BIGSERIAL PRIMARY KEY,
  id      TEXT NOT NULL,
  time    BIGINT NOT NULL,
  agent   TEXT NOT NULL,
  job     TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  topic   TEXT NOT NULL,
  code    TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL,
  records BYTEA NOT NULL
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
