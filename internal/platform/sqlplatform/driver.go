// Package sqlplatform is what the platforms of SQL databases share: queries in key
// order, signature tables, attachments, changes in one transaction and polling. What
// differs is a [Driver]: packages postgres, mariadb and sqlite.
//
// Invariants are those of package platform. Here they rest on this:
//
//  1. A statement's text is made of constants of this program, of numbers that it
//     counted, and of names that Driver.Table read in the catalogue and Driver.Quote
//     quoted. Everything else is an argument.
//  2. A record is found only under the very key that it is read under: a collation
//     that takes two keys for one does not make two names of one record.
package sqlplatform

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Kind is how a database without types of columns stored a value.
type Kind uint8

// The kinds.
const (
	Text Kind = iota
	Integer
	Real
	Blob
)

// Stmt is one statement in the making.
type Stmt struct {
	driver Driver
	text   strings.Builder
	Args   []any // nil, string, []byte, int64, uint64 or float64
	Bytes  []int // columns of the result that are to come as bytes, not as text
}

func newStmt(d Driver, parts ...string) *Stmt {
	s := &Stmt{driver: d}
	return s.add(parts...)
}

// NewStmt is a statement that begins with text.
func NewStmt(d Driver, text string, args ...any) *Stmt {
	s := newStmt(d, text)
	s.Args = append(s.Args, args...)
	return s
}

func (s *Stmt) add(parts ...string) *Stmt {
	for _, p := range parts {
		s.text.WriteString(p)
	}
	return s
}

// arg binds a value and writes its placeholder.
func (s *Stmt) arg(v any) *Stmt {
	s.Args = append(s.Args, v)
	return s.add(s.driver.Placeholder(len(s.Args)))
}

// param binds a column's value in the form that c asks for.
func (s *Stmt) param(c *Column, v any) *Stmt {
	s.Args = append(s.Args, v)
	p := s.driver.Placeholder(len(s.Args))
	if c.Param != "" {
		p = strings.Replace(c.Param, "%", p, 1)
	}
	return s.add(p)
}

// SQL is its text.
func (s *Stmt) SQL() string { return s.text.String() }

// Runner runs statements.
type Runner interface {
	// Query calls each with every row: nil for NULL, else text, or bytes for Stmt.Bytes.
	// The values are valid during the call. kinds is nil where columns have types.
	Query(ctx context.Context, s *Stmt, each func(v [][]byte, kinds []Kind) error) error
	// Exec returns how many rows a statement touched: those that matched, changed or not.
	Exec(ctx context.Context, s *Stmt) (int64, error)
}

// Tx is a transaction that may write.
type Tx interface {
	Runner
	Commit(ctx context.Context) error
	Rollback() error // after Commit it does nothing
}

// Column is a column and how to deal with it.
type Column struct {
	platform.Column
	Select string                                      // expression that is read
	Read   func(v []byte, k Kind) (string, error)      // what was read, as canonical text; nil: as it is
	Order  string                                      // expression that its values are ordered and compared by
	Param  string                                      // how a bound value is written; % is the placeholder; "": plainly
	Arg    func(canonical string) (arg any, err error) // nil: as it is
	Bytes  string                                      // expression for its content as bytes
	Auto   bool                                        // the database makes a value where none is given
	Number bool                                        // an integer
	Cond   condition.Column
}

func (c *Column) read(v []byte, k Kind) (string, error) {
	if v == nil {
		return "", nil
	}
	if c.Read == nil {
		return string(v), nil
	}
	return c.Read(v, k)
}

func (c *Column) arg(canonical string) (any, error) {
	if c.Arg == nil {
		return canonical, nil
	}
	return c.Arg(canonical)
}

// Table is a table as the catalogue describes it.
type Table struct {
	Name     string
	SQL      string // quoted and qualified
	Columns  []*Column
	Key      []*Column
	ReadOnly string // why Apply cannot write it; "": it can
	byName   map[string]*Column
}

// Column is the column of that name; nil: there is none.
func (t *Table) Column(name string) *Column {
	if t.byName == nil {
		t.byName = make(map[string]*Column, len(t.Columns))
		for _, c := range t.Columns {
			t.byName[c.Name] = c
		}
	}
	return t.byName[name]
}

// Row is one row of the signature table.
type SignatureRow struct {
	Index     int64
	Record    []byte // locator
	Revision  int64
	Statement []byte
}

// ErrGone is what a Loader ends with when its job was dropped or got its root
// meanwhile.
var ErrGone = fmt.Errorf("%w, or it has its root already", platform.ErrJob)

// Loader writes rows of the signature table in bulk.
type Loader interface {
	Add(ctx context.Context, r SignatureRow) error // keeps r
	Commit(ctx context.Context) error              // and counts them in the job's row
	Rollback() error
}

// Driver is one kind of database.
type Driver interface {
	Runner
	Name() string
	Begin(ctx context.Context) (Tx, error)
	Close() error

	Quote(name string) string
	Placeholder(n int) string // of the n-th argument, from 1
	Own(table string) string  // one of Greatseal's tables, quoted and qualified
	Prepare(ctx context.Context) error
	Dialect() condition.Dialect
	Pages() bool // a scan reads in short queries: a long one would stand in the way of writers

	// Table reads one table's description; ErrTable when it is not there under exactly
	// this name, or has no primary key. Names lists what Table finds.
	Table(ctx context.Context, r Runner, name string) (*Table, error)
	Names(ctx context.Context) ([]string, error)

	// Load starts a bulk load of signature rows under a root's id.
	Load(ctx context.Context, root int64) (Loader, error)
	// Newest writes a query for the readable signatures of records, at most limit each,
	// with the columns of newestColumns.
	Newest(records [][]byte, limit int) *Stmt
	NewestBatch() int           // records of one such query
	Explain(err error) error    // one of package platform's errors where it is one
	Ignore() (verb, end string) // around an INSERT that does nothing where a unique row is there
	Lock() string               // what makes a SELECT lock its rows; "": the transaction does
}

// Capture is a Driver whose database can note changes by itself.
type Capture interface {
	// Captured reports whether all of the tables' changes are noted.
	Captured(ctx context.Context, tables []*Table) (bool, error)
	// Mark returns the position before which nothing is to come.
	Mark(ctx context.Context) (string, error)
	// Changes returns changes of the tables after a position, at most limit, and the
	// position behind them.
	Changes(ctx context.Context, tables []*Table, after string, limit int) ([]platform.Event, string, error)
	// Forget removes changes that lie before every one of the positions.
	Forget(ctx context.Context, positions []string) error
	// Wait returns when something changed, or after a time, or when ctx ends.
	Wait(ctx context.Context, longest time.Duration) error
}
