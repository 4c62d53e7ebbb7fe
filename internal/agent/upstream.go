package agent

import (
	"context"
	"io"
	"time"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Upstream is the protected instance, as its agent sees it. It is believed in
// nothing: what it delivers is verified here, and it can withhold and delay alone.
//
// An implementation is safe for concurrent use. Its errors are ErrUnreachable when
// the call may be repeated later, ErrNotValidated and ErrInvalidated when the
// instance does not know this agent (any more), ErrLost when a lease is another's
// now; every other error is final for that call.
type Upstream interface {
	// Enrol asks for a certificate, or asks again. It is the one call that needs no
	// certificate; with one, and Enrolment.Rekey, it replaces the key.
	Enrol(ctx context.Context, e *Enrolment) (*Enrolled, error)
	// Heartbeat says that the agent lives, and learns what it should do.
	Heartbeat(ctx context.Context, b *Beat) (*Pulse, error)
	// Lease waits for work (push) for as long as w.Wait, and returns none when none
	// came. What it returns is this agent's until Lease.Until.
	Lease(ctx context.Context, w *Want) ([]Job, error)
	// Start says that a job is verified and about to run. Calling it again for the
	// same attempt is no error.
	Start(ctx context.Context, l Lease) error
	// Progress prolongs the lease of a job that runs.
	Progress(ctx context.Context, l Lease, p Progress) (until time.Time, err error)
	// Result brings one page. Pages are numbered from 0; the same page again is no
	// error, another one with its number is.
	Result(ctx context.Context, l Lease, p Page) error
	// Finish ends a job. Calling it again with the same outcome is no error.
	Finish(ctx context.Context, l Lease, o Outcome) error
	// Reject ends a job that was refused, before it ran.
	Reject(ctx context.Context, l Lease, r *rejection.Error) error
	// CircleBundle returns circle.Bundle values, encoded: one for each trusted side.
	CircleBundle(ctx context.Context) ([][]byte, error)
	// Attachment opens an attachment of a record that job l brought. Its bytes are
	// believed only after they were digested here.
	Attachment(ctx context.Context, l Lease, ref record.Ref, a record.Attachment) (io.ReadCloser, error)
}

// Enrolment is what an agent says of itself. Request is a PKCS #10 request signed by
// its key, so that nobody enrols a key that is another's.
type Enrolment struct {
	Name     string
	Request  []byte // PKCS #10, DER; the common name is Name
	Rekey    bool   // the key replaces the one of the certificate that the call is made with
	Version  string
	OS, Arch string
	Topics   []string // that this agent has executors for, sorted
}

// EnrolState is where an enrolment stands.
type EnrolState string

// The states of enrolments.
const (
	EnrolWaiting     EnrolState = "waiting"     // for an administrator
	EnrolValidated   EnrolState = "validated"   // Certificates are there
	EnrolInvalidated EnrolState = "invalidated" // for good: a new key is needed
)

// Enrolled is the answer to an Enrolment.
type Enrolled struct {
	State        EnrolState
	Certificates [][]byte // DER, leaf first; with EnrolValidated
	Clusters     []string // that the agent is a member of
	RetryAfter   time.Duration
}

// Beat is one heartbeat.
type Beat struct {
	Time     time.Time // of the agent's clock
	Version  string
	Running  int // jobs now
	Spooled  int // jobs whose results wait to be brought
	Draining bool
	Circle   string    // digest of the trust in force, hexadecimal; empty: none
	TrustAge time.Time // until when that trust may be used
}

// Pulse is the answer to a Beat.
type Pulse struct {
	Clusters    []string
	Rekey       bool     // an administrator wants a new key
	CancelJobs  []string // IDs of running jobs that are to stop
	PullCircle  bool     // there is a newer circle than Beat.Circle
	Certificate [][]byte // a renewed one over the same key, DER, leaf first; empty: keep
}

// Want says what an agent has room for.
type Want struct {
	Topics []string      // sorted
	Max    int           // jobs
	Only   Priority      // jobs of that priority alone; empty: of any
	Wait   time.Duration // at most
}

// Lease names one attempt of one job.
type Lease struct {
	Job     string // ID of the queue record
	Attempt uint32
	Token   string // of this lease; proves that the caller holds it
}

// Priority orders jobs.
type Priority string

// The priorities, highest first.
const (
	Interactive Priority = "interactive"
	Expedited   Priority = "expedited"
	Standard    Priority = "standard"
)

// Job is what a lease brings. All of it is a claim until Agent.judge has verified
// it: Topic and Priority only choose where it waits.
type Job struct {
	Lease    Lease
	Until    time.Time // of the lease
	Topic    string
	Priority Priority
	Order    []byte // order.Signed, encoded
	Records  []Item // those the order names, in its order; then what they depend on
}

// Item is a record with its signatures. Attachments are named, and fetched when
// they are needed.
type Item struct {
	Record     record.Record
	Signatures []record.Signature
}

// Progress is how far a job is.
type Progress struct {
	Pages int64
	Rows  int64
	Bytes int64
}

// Page is a part of a result.
type Page struct {
	Number int
	Type   string // media type: application/json for rows, application/octet-stream for output
	Body   []byte // at most MaxPage
}

// MaxPage is the size of the largest page, in bytes.
const MaxPage = 1 << 20

// Outcome is how a job ended that ran.
type Outcome struct {
	Error     string    // empty: it succeeded; one line, no values, no secrets
	Truncated bool      // a limit cut the output; Error says which
	ExitCode  int       // of a script; 0 otherwise
	Pages     int       // that were brought
	Rows      int64     // of a query
	Digest    [32]byte  // SHA-256 over the pages' bodies, one after the other
	Started   time.Time // of the agent's clock
	Ended     time.Time
}

// upstreamError is a constant error.
type upstreamError string

func (e upstreamError) Error() string { return "agent: " + string(e) }

// What an Upstream says of itself.
const (
	ErrUnreachable  = upstreamError("the instance is not reachable")
	ErrNotValidated = upstreamError("this agent is not validated yet")
	ErrInvalidated  = upstreamError("this agent was invalidated")
	ErrLost         = upstreamError("the lease is another's")
)
