// Package store keeps the server's state in SQL: requests, endorsements,
// outcomes, the audit log's tiles, durable jobs, uploads and tokens. The same
// schema and the same statements run on SQLite and PostgreSQL.
//
// Nothing in it is trusted: whoever edits a row by hand changes what the server
// shows, never what the keeper signs. The store's promise is durability and
// atomicity.
//
// Invariants:
//
//  1. A [Change] is applied whole or not at all: the state, what caused it, its
//     log entries and the jobs that follow are one transaction.
//  2. A request's revision grows by one with every change; a change made against
//     an older revision is [ErrConflict] and changes nothing.
//  3. There is one open request for a command at the most: a second one is
//     [ErrOpen], with the ID of the first.
//  4. Log entries get their index in one place ([Store.Sequence]), each exactly
//     once, in the order of their arrival.
//  5. A request that is sent was so at the revision that its evidence was read
//     at: a step that was decided before is [ErrConflict], whichever replica took
//     it. Whoever finds Sent takes no other step.
//  6. A job that was committed is handed out until it is done, to one worker at
//     a time.
//
// Changes that arrive together share a transaction (group commit), so that their
// number is not bound by the disk's flushes.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/statement"
)

// What callers branch on.
var (
	ErrNotFound = errors.New("store: not found")
	ErrConflict = errors.New("store: the request has changed meanwhile")
	ErrExists   = errors.New("store: already exists")
	ErrBusy     = errors.New("store: the database is busy or away") // worth a retry
)

// OpenError says that a request for the same command is open already.
type OpenError struct{ Request statement.ID }

func (e *OpenError) Error() string {
	return fmt.Sprintf("store: request %s for the same command is open", e.Request)
}

// State is where a request is.
type State string

// The states. Pending and Endorsed are open; the others are final.
const (
	Pending     State = "pending"     // waits for its quorum
	Endorsed    State = "endorsed"    // has it; waits for the keeper
	Executed    State = "executed"    // done
	Disapproved State = "disapproved" // somebody entitled to said no
	Expired     State = "expired"
	Cancelled   State = "cancelled" // by its requester
	Failed      State = "failed"    // the keeper refused it for good
)

// Open reports whether something can still happen to a request in state s.
func (s State) Open() bool { return s == Pending || s == Endorsed }

// States lists every state.
func States() []State {
	return []State{Pending, Endorsed, Executed, Disapproved, Expired, Cancelled, Failed}
}

// Request is one request as the server knows it. All but State, Code, Detail and
// the times can be derived from Envelope.
type Request struct {
	ID        statement.ID
	Revision  int64
	Envelope  []byte
	Command   statement.CommandName
	Digest    string // of the command
	Policy    string // of sign
	Key       string
	Requester string
	Count     int  // items
	Upload    bool // its artifacts are to be uploaded
	State     State
	Code      string // why, for Failed and Disapproved; while pending, why the last attempt was refused
	Detail    string
	Created   time.Time // by the requester's clock
	Updated   time.Time // by the server's
	Expires   time.Time
	Receipt   uint64 // number; 0 before it is executed
	// Sent says that its evidence is on its way to the keeper, or may be: nothing
	// moves it on but what the keeper answers.
	Sent bool

	Endorsements []Endorsement // in order of arrival
}

// Endorsement is one endorsement as it arrived.
type Endorsement struct {
	ID       statement.ID
	Envelope []byte
	Endorser string
	Verdict  statement.Verdict
	Arrived  time.Time
}

// File is one item of a request, as far as it can be searched.
type File struct {
	Request statement.ID
	Index   int
	Name    string // the requester's word
	Format  string
	Digest  string
	Content []byte // the digest by which the content is known
	Size    int64
	Version string // from the file's own facts, as the next three

	Product   string
	Publisher string
	Also      [][]byte // digests in the plan's facts
}

// Receipt is one receipt of the keeper.
type Receipt struct {
	Number   uint64
	Request  statement.ID
	Outcome  statement.Outcome
	Time     time.Time
	Envelope []byte
}

// LogEntry is an entry waiting for its index. Body is kept beside the log when
// the entry only names it.
type LogEntry struct {
	Kind    audit.Kind
	Request statement.ID
	Time    time.Time
	Data    []byte // the encoded entry
	Body    []byte // of a detached body
	BodySum [32]byte
}

// Job is one piece of background work.
type Job struct {
	ID       int64
	Kind     string
	Ref      string // what it is about; (Kind, Ref) stands once
	Payload  []byte
	RunAt    time.Time
	Attempts int
	Error    string // of the last attempt
}

// Change is one step of one request, with everything that belongs to it.
type Change struct {
	// A new request: New, its items and files. Or a step of an existing one:
	// Request and the Revision that the step was decided on. Or neither: entries
	// and jobs that stand for themselves, or a receipt with its entry: one whose
	// number is there already is [ErrConflict].
	New   *Request
	Items [][]byte
	Files []File

	Request  statement.ID
	Revision int64
	State    State // to be; "" keeps it
	Code     string
	Detail   string
	Sent     bool // to be; of a new request it is New's

	Endorsement *Endorsement
	Receipt     *Receipt
	First       bool   // of Receipt: one whose number is there already is [ErrConflict]
	Result      []byte // keeper.Outcome, encoded; kept under the request
	Entries     []LogEntry
	Jobs        []Job
	At          time.Time
}

// Filter selects requests; zero members select everything. Results come newest
// first.
type Filter struct {
	States    []State
	Command   statement.CommandName
	Policy    string
	Key       string
	Requester string
	Endorser  string // who has endorsed or disapproved it
	Name      string // of a file; '*' matches anything, a letter its capital
	Content   []byte // a file's digest
	Prefix    string // of the ID, hexadecimal
	Since     time.Time
	Until     time.Time
	Before    time.Time // page on: created before
	// BeforeID is the last request of the page before, created at Before: many are
	// created at one time. Zero: nothing created at Before.
	BeforeID statement.ID
	Limit    int // default 100, at most 1000
	// Awaiting selects pending requests that somebody's endorsement could count
	// for, as far as that can be said without judging them; nil: any.
	Awaiting *Awaiting
}

// Awaiting is where somebody stands in a quorum: under these policies, or of these
// commands. None of Actors, who count as one with him, has requested or endorsed.
type Awaiting struct {
	Policies []string
	Commands []statement.CommandName
	Actors   []string
}

// Head is the log's state: the tree as sequenced, and the last checkpoint, which
// may lag behind it.
type Head struct {
	Tree   audit.Tree
	Note   []byte // last signed checkpoint
	Signed int64  // its size
}

// EntryRef is one log entry found by a search.
type EntryRef struct {
	Index   int64
	Kind    audit.Kind
	Request statement.ID
	Time    time.Time
}

// Upload is one artifact on its way to the blob folder.
type Upload struct {
	Request  statement.ID
	Index    int
	Size     int64
	Received int64
	Done     bool
}

// Token is a bearer token; only its hash is kept.
type Token struct {
	Hash       [32]byte
	ID         string // public handle
	Principal  string
	Scopes     []string
	Credential string // of a session: [credential.Pin] of what it began with
	Created    time.Time
	Expires    time.Time
}

// Store is one database. It is safe for concurrent use, and several replicas may
// share a PostgreSQL database.
type Store interface {
	// Apply applies c atomically. See the errors above.
	Apply(ctx context.Context, c *Change) error

	// Request returns one request with its endorsements.
	Request(ctx context.Context, id statement.ID) (*Request, error)
	// OpenRequest returns the open request for a command's digest.
	OpenRequest(ctx context.Context, digest string) (*Request, error)
	// Requests lists requests without their endorsements.
	Requests(ctx context.Context, f Filter) ([]*Request, error)
	// Items returns the encoded items of a request, in order.
	Items(ctx context.Context, id statement.ID) ([][]byte, error)
	// Files returns the items of a request as they are searched, in order.
	Files(ctx context.Context, id statement.ID) ([]File, error)
	// FilesByContent finds executed files by their digest.
	FilesByContent(ctx context.Context, content []byte) ([]File, error)
	// Result returns what Change.Result kept.
	Result(ctx context.Context, id statement.ID) ([]byte, error)
	// Receipt returns one receipt, LastReceipt the one with the highest number.
	Receipt(ctx context.Context, number uint64) (*Receipt, error)
	LastReceipt(ctx context.Context) (*Receipt, error)
	// MissingReceipts returns, in order, the first numbers above after and up to
	// last that are not here.
	MissingReceipts(ctx context.Context, after, last uint64, limit int) ([]uint64, error)
	// Stuck returns requests that have been endorsed since before t, the oldest
	// first, without the first skip: their execution was interrupted, or waits.
	Stuck(ctx context.Context, t time.Time, skip, limit int) ([]statement.ID, error)
	// Due returns open requests that have expired at t, without those that are
	// sent: the keeper says what became of them.
	Due(ctx context.Context, t time.Time, limit int) ([]statement.ID, error)
	// DueRequests returns them with their endorsements.
	DueRequests(ctx context.Context, t time.Time, limit int) ([]*Request, error)

	// SetTimestamp keeps the token of one item's signature; Timestamps returns
	// those of a request by index.
	SetTimestamp(ctx context.Context, id statement.ID, index int, token []byte) error
	Timestamps(ctx context.Context, id statement.ID) (map[int][]byte, error)

	// Sequence gives up to limit waiting entries their index and integrates them
	// into the tree. It returns the number integrated.
	Sequence(ctx context.Context, limit int) (int, error)
	// Head returns the log's head.
	Head(ctx context.Context) (*Head, error)
	// SetCheckpoint publishes the signed note of a tree size.
	SetCheckpoint(ctx context.Context, size int64, note []byte) error
	// ReadTiles reads hash tiles; it makes the Store an audit.TileReader.
	ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error)
	// ReadBundle reads an entry bundle with at least width entries.
	ReadBundle(ctx context.Context, index int64, width int) ([]byte, error)
	// Body returns a detached body by its SHA-256.
	Body(ctx context.Context, sum [32]byte) ([]byte, error)
	// EntriesOf returns the sequenced entries that belong to a request, in order.
	EntriesOf(ctx context.Context, id statement.ID) ([]EntryRef, error)

	// Enqueue adds jobs on their own. One whose kind and ref exist is left alone.
	Enqueue(ctx context.Context, jobs ...Job) error
	// Lease hands out up to limit jobs of the kinds that are due, for d.
	Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]Job, error)
	// DueKinds lists the kinds with a prefix of which a job is due at t.
	DueKinds(ctx context.Context, prefix string, t time.Time) ([]string, error)
	// Done removes a finished job; Retry puts it back until at, with its error;
	// Again puts one back that has got on, as if it were new.
	Done(ctx context.Context, id int64) error
	Again(ctx context.Context, id int64, at time.Time) error
	Retry(ctx context.Context, id int64, at time.Time, cause string) error
	// Jobs counts the jobs by kind.
	Jobs(ctx context.Context) (map[string]int, error)

	// PutUpload records progress; Uploads returns those of a request.
	PutUpload(ctx context.Context, u Upload) error
	Uploads(ctx context.Context, id statement.ID) ([]Upload, error)

	// PutToken, Token and DeleteToken keep bearer tokens.
	PutToken(ctx context.Context, t Token) error
	Token(ctx context.Context, hash [32]byte) (*Token, error)
	Tokens(ctx context.Context) ([]Token, error)
	DeleteToken(ctx context.Context, id string) error
	// Secret returns the secret that all replicas share under a name: fresh, if
	// nobody has asked before. Whoever reads the database knows it.
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	// Once notes that something is used, and forgets it after it has expired.
	// ErrExists says that it was used before, here or on another replica.
	Once(ctx context.Context, hash [32]byte, expires, now time.Time) error

	Catalogue
	Tallier
	SavedSearches

	// Health says whether the database answers.
	Health(ctx context.Context) error
	Close() error
}
