package store

import (
	"context"
	"errors"
	"time"

	"github.com/greatseal-io/greatseal/order"
)

// What callers of a Queue branch on.
var (
	ErrLost     = errors.New("store: the lease is another's, or nobody's")
	ErrPage     = errors.New("store: another page has this number, or one before it is missing")
	ErrTooLarge = errors.New("store: the result is larger than allowed")
)

// QueueState is where a record of the queue is.
type QueueState string

// The states. An error that says that an agent was lost may still be followed by
// that agent's own result.
const (
	QueueReady      QueueState = "ready"
	QueueProcessing QueueState = "processing"
	QueueProcessed  QueueState = "processed"
	QueueError      QueueState = "error"
)

// QueueStates lists every state.
func QueueStates() []QueueState {
	return []QueueState{QueueReady, QueueProcessing, QueueProcessed, QueueError}
}

// The two directions of the queue, as seen from the instance.
const (
	QueueOutput = "output" // jobs
	QueueInput  = "input"  // pages of results
)

// The error strings of jobs that did not end by their agents' word.
const (
	ErrorAgentLost = "AGENT_LOST"  // it was begun, and its agent has gone
	ErrorAttempts  = "ATTEMPTS"    // it was handed out too often and never begun
	ErrorExpired   = "JOB_EXPIRED" // nobody began it in time
	ErrorCancelled = "CANCELLED"   //
)

// QueueRecord is one record of the queue: a job, or a page of a job's result.
type QueueRecord struct {
	ID              string // 32 hexadecimal digits
	Agent           string
	AgentCorrelator string // the caller's own reference
	Topic           string
	Name            string
	Source          string // who asked
	ResponseTo      string // of a page: its job
	Queue           string
	State           QueueState
	ErrorString     string
	Priority        order.Priority
	Payload         []byte
	Created         time.Time
	Updated         time.Time
	Processed       time.Time

	Cluster     string
	Parent      string
	Repeatable  bool
	Expires     time.Time
	Attempt     uint64
	Token       string // of the lease; shown to the agent that has it
	LeaseUntil  time.Time
	Started     time.Time
	Cancel      bool // is to stop
	Lost        bool // its agent was given up
	Pages       int64
	Bytes       int64 // of all pages
	ContentType string
	Outcome     []byte

	Sequence int64
}

// QueueLease names one attempt of one job, by whoever has it.
type QueueLease struct {
	Job     string
	Agent   string
	Attempt uint64
	Token   string
}

// QueueAsk asks for work.
type QueueAsk struct {
	Agent    string
	Clusters []string // those whose jobs it may have now
	Topics   []string
	Max      int
	Only     *order.Priority // jobs of that priority alone; nil: of any
	Token    string
	Now      time.Time
	Until    time.Time // of the leases
}

// QueuePage is one page of a result.
type QueuePage struct {
	QueueLease
	ID     string
	Number int64
	Type   string
	Body   []byte
	Limit  int64 // bytes of the whole result
	Now    time.Time
}

// QueueFinish ends a job.
type QueueFinish struct {
	QueueLease
	Error   string // empty: it succeeded
	Pages   int64
	Outcome []byte
	Now     time.Time
}

// QueueFilter selects records, newest first; zero members select everything.
type QueueFilter struct {
	Agent, Cluster, Topic, Source, Parent, Correlator string
	Queue                                             string // default output
	State                                             QueueState
	Before                                            int64 // page on: Sequence of the last record
	Limit                                             int   // default 100, at most 1000
}

// QueueSweep is what a sweep has found.
type QueueSweep struct {
	Moved   []string // targets whose jobs are ready again
	Lost    []string // jobs whose agents were given up
	Expired int
}

// AgentState says whether an agent may do anything.
type AgentState string

// The states of agents.
const (
	AgentValid   AgentState = "valid"
	AgentInvalid AgentState = "invalid"
)

// Agent is one agent that an administrator has validated once.
type Agent struct {
	Name        string
	State       AgentState
	Key         [32]byte // SHA-256 of its SubjectPublicKeyInfo
	Next        [32]byte // that of the key which will take its place; zero: none
	Certificate []byte   // the newest chain, DER
	NotAfter    time.Time
	Version     string
	OS, Arch    string
	Topics      []string
	Created     time.Time
	Validated   time.Time
	Validator   string
	Reason      string
	Heartbeat   time.Time
	Running     int64
	Spooled     int64
	Draining    bool
	Rekey       bool
	Circle      string
	TrustUntil  time.Time
}

// AgentEnrolment is what somebody says who wants to be an agent.
type AgentEnrolment struct {
	Key      [32]byte
	Name     string
	Request  []byte // PKCS #10
	State    string // waiting, validated, refused
	Version  string
	OS, Arch string
	Topics   []string
	Address  string
	Created  time.Time
}

// The states of enrolments.
const (
	EnrolmentWaiting   = "waiting"
	EnrolmentValidated = "validated"
	EnrolmentRefused   = "refused"
)

// AgentBeat is one heartbeat.
type AgentBeat struct {
	Name       string
	Version    string
	Running    int64
	Spooled    int64
	Draining   bool
	Circle     string
	TrustUntil time.Time
	At         time.Time
}

// Cluster modes.
const (
	ClusterBalance  = "balance"  // whoever has room
	ClusterFailover = "failover" // the first member that is up
)

// AgentCluster is a cluster with its members, in order.
type AgentCluster struct {
	Name    string
	Mode    string
	Members []string
}

// AgentRejection is one refusal of an agent. It holds names, never values.
type AgentRejection struct {
	ID       string
	Time     time.Time
	Agent    string
	Job      string
	Attempt  uint64
	Topic    string
	Code     string
	Subject  string
	Detail   string
	Records  []byte // JSON: references
	Sequence int64
}

// Queue keeps jobs for agents, their results and the agents themselves.
//
// Invariants:
//
//  1. A job that was submitted is leased until it is processed or in error, to one
//     agent at a time; each lease has the next attempt and a token of its own.
//  2. Of a job that is not repeatable one attempt is started at the most, ever, by
//     the agent that has the lease when it is started: the start is a conditional
//     update of one row.
//  3. A page and an end are taken from the attempt that was started and is in
//     force; of a job that is not repeatable also after its agent was given up.
//     Taking them twice changes nothing.
//  4. An agent that is not valid is given nothing and starts nothing, from the
//     moment at which its row says so.
//
// Slices of errors have one place for each element of the question; the second
// error is that of the whole.
type Queue interface {
	// Submit adds jobs. One whose ID is there already is left alone; added says
	// which are new.
	SubmitWork(ctx context.Context, jobs []QueueRecord) (added []bool, err error)
	// LeaseWork hands out jobs that are ready.
	LeaseWork(ctx context.Context, asks []QueueAsk) ([][]QueueRecord, error)
	// StartWork notes that a job begins, or says ErrLost. The same lease may say so
	// again.
	StartWork(ctx context.Context, leases []QueueLease, now, until time.Time) ([]error, error)
	// ProlongWork moves the end of a started job's lease; cancel says which are to
	// stop.
	ProlongWork(ctx context.Context, leases []QueueLease, now, until time.Time) (cancel []bool, errs []error, err error)
	// PutPages adds pages, each after the one before: ErrLost, ErrPage, ErrTooLarge.
	PutPages(ctx context.Context, pages []QueuePage) ([]error, error)
	// FinishWork ends jobs; ErrLost, or ErrPage when pages are missing.
	FinishWork(ctx context.Context, ends []QueueFinish) ([]error, error)
	// RejectWork ends a job that an agent refuses, and keeps the rejection with its
	// log entry and follow-up jobs, in one transaction. ErrLost: the lease never was
	// the agent's. The same rejection again changes nothing.
	RejectWork(ctx context.Context, l QueueLease, r *AgentRejection, entries []LogEntry, jobs []Job) (fresh bool, err error)
	// FailWork ends a job that was handed out and cannot be delivered.
	FailWork(ctx context.Context, l QueueLease, cause string, now time.Time) error
	// CancelWork ends a job that has not begun, and asks for the end of one that has.
	CancelWork(ctx context.Context, id string, now time.Time) (*QueueRecord, error)
	// SweepWork puts back or gives up what nobody works on any more. Agents without
	// a heartbeat since down are taken to be gone.
	SweepWork(ctx context.Context, now, down time.Time, attempts uint64) (*QueueSweep, error)
	// ReadyTargets are the targets (a:AGENT, c:CLUSTER) of jobs that are ready.
	ReadyTargets(ctx context.Context) ([]string, error)
	// WatchQueue calls wake with targets whose jobs have become ready at any replica,
	// until ctx ends; "" stands for all. Where the database cannot tell it waits.
	WatchQueue(ctx context.Context, wake func(target string)) error
	// Cancelling are the IDs of started jobs of an agent that are to stop.
	Cancelling(ctx context.Context, agent string) ([]string, error)
	QueueRecord(ctx context.Context, id string) (*QueueRecord, error)
	QueueRecords(ctx context.Context, f QueueFilter) ([]QueueRecord, error)
	// ResultPages are the pages of a finished job's result, from a number on.
	ResultPages(ctx context.Context, job string, from int64, limit int) ([]QueueRecord, error)
	// TakePage marks a page as processed, or in error; ErrConflict when it is so
	// already.
	TakePage(ctx context.Context, id string, cause string, now time.Time) error
	// QueueCounts counts the jobs by state.
	QueueCounts(ctx context.Context) (map[QueueState]int64, error)
	// ForgetWork removes jobs that ended before t, with their pages; at most limit.
	ForgetWork(ctx context.Context, t time.Time, limit int) (int64, error)

	// Enrol keeps an enrolment, unless its key is there, and returns what is kept.
	// ErrExists says that maxWaiting others wait, or perName of its name.
	Enrol(ctx context.Context, e *AgentEnrolment, maxWaiting, perName int64) (*AgentEnrolment, error)
	Enrolments(ctx context.Context, state string, limit int) ([]AgentEnrolment, error)
	Enrolment(ctx context.Context, key [32]byte) (*AgentEnrolment, error)
	RefuseEnrolment(ctx context.Context, key [32]byte) error
	// ForgetEnrolments removes those that have waited, or were refused, since before t.
	ForgetEnrolments(ctx context.Context, t time.Time) error
	// PutAgent makes an agent of an enrolment, or gives the one of that name its key.
	PutAgent(ctx context.Context, a *Agent) error
	// RenewAgent keeps a new certificate; next is the key it is for, if that is not
	// the agent's own. ErrConflict: the agent is not valid with key any more.
	RenewAgent(ctx context.Context, name string, key, next [32]byte, chain []byte, notAfter time.Time) error
	// PromoteAgent makes next the agent's key.
	PromoteAgent(ctx context.Context, name string, next [32]byte) error
	// InvalidateAgent takes everything from an agent, at once.
	InvalidateAgent(ctx context.Context, name, reason string, now time.Time) error
	// AskRekey asks an agent for a new key.
	AskRekey(ctx context.Context, name string) error
	Agent(ctx context.Context, name string) (*Agent, error)
	// AgentByKey finds the agent whose key, or next key, this is.
	AgentByKey(ctx context.Context, key [32]byte) (*Agent, error)
	Agents(ctx context.Context) ([]Agent, error)
	// Beat keeps heartbeats of valid agents.
	Beat(ctx context.Context, beats []AgentBeat) error
	// TouchAgent says that a valid agent was heard of.
	TouchAgent(ctx context.Context, name string, now time.Time) error
	PutCluster(ctx context.Context, c *AgentCluster) error
	DeleteCluster(ctx context.Context, name string) error
	Clusters(ctx context.Context) ([]AgentCluster, error)
	Rejections(ctx context.Context, agent, job string, before int64, limit int) ([]AgentRejection, error)
	Rejection(ctx context.Context, id string) (*AgentRejection, error)
}
