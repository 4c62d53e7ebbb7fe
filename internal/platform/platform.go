// Package platform is the interface to a database in which an application keeps
// records that execute. Greatseal reads the application's tables as they are and
// keeps its signatures in tables of its own beside them.
//
// Invariants:
//
//  1. The application's tables are never altered. Only [Capturer.Capture] adds
//     something to them, a trigger, and only where it is asked to; Release removes it.
//  2. A value's canonical text (docs/spec/platforms.md) depends on what is stored
//     alone: not on a session's time zone, language or formats. NULL and the empty
//     text are absent.
//  3. No name and no value becomes part of a statement's text but as a quoted
//     identifier that the database's catalogue holds, or as a bound argument.
//  4. What [Batch] wrote of a job cannot be read before [Platform.PutRoot] of that
//     job succeeded, and then all of it can.
//  5. [Platform.Apply] does all of its changes or none.
//  6. A watcher is told of every committed change at least once, over restarts of
//     either side.
//
// A caller may not conclude that a row is as it was signed, or that a signature that
// is read here is good: package record judges that. Whoever may write to the database
// may write these tables too.
package platform

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("platform: no such record")     // of Get, Attachment, and an update or delete in Apply
	ErrExists   = errors.New("platform: record exists")      // of an insert in Apply
	ErrConflict = errors.New("platform: record was changed") // Change.Expect does not hold
	ErrTable    = errors.New("platform: no such table, or none with a primary key")
	ErrField    = errors.New("platform: no such field")
	ErrValue    = errors.New("platform: value does not fit its field")
	ErrLimit    = errors.New("platform: limit exceeded")
	ErrSealed   = errors.New("platform: job has its root already") // of Begin and of PutRoot with another root
	ErrJob      = errors.New("platform: no such job")              // of PutRoot
)

// Limits of one platform.
const (
	MaxField      = record.MaxValue          // bytes of one field's canonical text
	MaxAttachment = 1 << 30                  // bytes of an attachment, unpacked
	MaxStatement  = record.MaxStatement      // bytes of an encoded statement
	MaxRoot       = record.MaxRoot           // bytes of an encoded SignedRoot
	MaxPath       = 64 * 32                  // bytes of a path
	MaxSignatures = record.MaxSignatures + 1 // signatures of one record that are read, the newest first: one more than is judged, so that too many are noticed
)

// Column is one column of a table.
type Column struct {
	Name     string
	Type     string // as the database names it
	Nullable bool
	Written  bool // false: the database computes it, Apply cannot set it
}

// Table is one table of the application.
type Table struct {
	Name    string
	Columns []Column
	Key     []string // names of the primary key's columns, in its order; never empty
}

// Query asks for records of one table.
type Query struct {
	Table       string
	Fields      []string             // nil: all; key columns are in Row.Record.Fields only when named
	Where       *condition.Condition // nil: every record; it may depend on fields that are not in Fields
	After       []string             // key of the last record seen; nil: from the start
	Keys        [][]string           // not nil: these records only, each at most once
	Limit       int64                // records; 0: no limit
	Attachments bool                 // fill Record.Attachments: every attachment is read and hashed
	Signatures  bool                 // fill Row.Signatures
	Revisions   bool                 // fill Row.Revision; Signatures does too
}

// Row is one record as it was read. It is the callee's to keep.
type Row struct {
	Record     record.Record
	Revision   uint64             // the highest of its readable signatures; 0: none
	Signatures []record.Signature // newest (highest revision, then last written) first
}

// Op is what a Change does.
type Op uint8

// The operations.
const (
	Insert Op = iota + 1 // ErrExists when there is one
	Update               // the named fields only; ErrNotFound when there is none
	Upsert               // insert, or update of the named fields
	Delete               // with its attachments; signatures stay. ErrNotFound when there is none
	Sign                 // adds Signatures, touches no table of the application
)

// Change is one change of one record.
type Change struct {
	Op     Op
	Ref    record.Ref
	Fields map[string]string // canonical; a field that is present and "" becomes NULL, or "" where NULL is not allowed

	// Expect, when not nil, holds fields and the canonical values that they have in
	// the database ("": absent), or the change and all others fail with ErrConflict.
	Expect map[string]string

	// Attachments, when not nil, replaces all attachments of the record.
	Attachments []File

	Signatures []record.Signature // added to those that the record has; the same one twice is one
}

// File is an attachment to be written.
type File struct {
	Name string
	Type string
	Size int64
	Open func() (io.ReadCloser, error) // may be called more than once; exactly Size bytes
}

// Tile is a piece of a job's tree, as merkle.TileWriter gets it.
type Tile struct {
	Level  uint8
	Index  int64
	Hashes []byte // 32 bytes each
}

// Batch writes the statements of a job. It is not safe for concurrent use.
type Batch interface {
	// Put adds the statement that stands at index of the job's tree and is of
	// revision. The same index twice is an error, of Put or of Commit.
	Put(ctx context.Context, ref record.Ref, revision uint64, statement []byte, index int64) error
	// Commit makes durable what was Put since Begin. It does not make it readable.
	Commit(ctx context.Context) error
	// Rollback forgets what is not durable yet; a large batch may be so in part, and
	// Progress says how far. After Commit it does nothing.
	Rollback() error
}

// Progress is how far a job came before PutRoot.
type Progress struct {
	Count int64      // statements that are committed
	Last  int64      // the highest index; -1: none
	Ref   record.Ref // the record of that index
}

// EventOp is what happened to a record.
type EventOp string

// What happens.
const (
	Changed EventOp = "changed" // inserted or updated, or its attachments were
	Deleted EventOp = "deleted" // a Ref without a key: every record of the table
)

// Event is one change that a watcher is told of: the record's last known state, not
// each step to it.
type Event struct {
	Ref record.Ref
	Op  EventOp
	At  time.Time // when it was noticed or, where the database says so, done
}

// Watch says what to watch.
type Watch struct {
	Name     string        // of the watcher; its position is kept under it
	Tables   []string      // at least one
	Interval time.Duration // between polls where the database does not call; 0: 10 s
	Batch    int           // events of one call; 0: 1000
	Initial  bool          // a watcher that is new is told of every existing record first
}

// Platform is one database. It is safe for concurrent use.
type Platform interface {
	// Name says which one it is: "postgres", "mariadb", "sqlite".
	Name() string

	// Prepare makes Greatseal's own tables; where they are, it does nothing.
	Prepare(ctx context.Context) error

	// Tables lists the tables that have a primary key, sorted by name, without
	// Greatseal's own and without attachment tables.
	Tables(ctx context.Context) ([]Table, error)

	// Scan calls f for each record, in the order of the primary key's index: total
	// and stable for one table on one platform, and not the same on two. Memory does
	// not grow with the table. Each record is seen in a committed state; the states
	// of two records may be of different moments. f's error ends the scan and is
	// returned as it is. f may use the platform.
	Scan(ctx context.Context, q Query, f func(*Row) error) error

	// Count is the number of records that Scan would read.
	Count(ctx context.Context, q Query) (int64, error)

	// Get returns one record with its attachments and signatures.
	Get(ctx context.Context, ref record.Ref, fields []string) (*Row, error)

	// Attachment opens the content of an attachment that ref has under name. Reading
	// fails when the content is not exactly of the size that was recorded. More than
	// one attachment of that name is an error.
	Attachment(ctx context.Context, ref record.Ref, name string) (io.ReadCloser, error)

	// Begin starts a batch of a job. More than one batch of a job may be written, one
	// after another. ErrSealed when the job has its root.
	Begin(ctx context.Context, job string) (Batch, error)
	// Progress says what of a job is committed, so that it can go on after a crash.
	Progress(ctx context.Context, job string) (Progress, error)
	// Statements calls f with the committed statements of a job from index on, in
	// the order of their indices.
	Statements(ctx context.Context, job string, index int64, f func(ref record.Ref, statement []byte, index int64) error) error
	// PutRoot makes a job's statements readable as signatures, all at once. The same
	// root again does nothing. count is the number of the tree's leaves, each
	// of which was Put, root the encoded record.SignedRoot, tiles those of merkle.Builder.
	PutRoot(ctx context.Context, job string, root []byte, count int64, tiles iter.Seq2[Tile, error]) error
	// DropJob removes everything of a job, readable or not; where nothing is, it does
	// nothing. Signatures that Apply added are not of a job here.
	DropJob(ctx context.Context, job string) error

	// Apply makes all changes in one transaction, in their order, or none.
	Apply(ctx context.Context, changes []Change) error

	// Watch calls f with changes until ctx ends or f returns an error. When f returns
	// nil the events are done with; those of a call that did not are told again. One
	// record stands once in a call, in its last state.
	Watch(ctx context.Context, w Watch, f func([]Event) error) error
	// Unwatch forgets a watcher's position.
	Unwatch(ctx context.Context, name string) error

	Close() error
}

// Capturer is a platform whose database can itself note changes for Watch: at once,
// and without polling. Without Capture its Watch polls.
type Capturer interface {
	// Capture adds the trigger that notes changes to each table; Release removes it.
	Capture(ctx context.Context, tables []string) error
	Release(ctx context.Context, tables []string) error
}
