// Package exec is what executors of an agent have in common: what they get, and what
// they give.
//
// Invariants:
//
//  1. What decides what runs, and on what, comes from *record.Trusted: from fields
//     that a trusted instance signed. A parameter of the order stands in for none.
//  2. A field on which an executor depends and that the configuration does not sign
//     is FIELD_UNCOVERED, never read from elsewhere.
//  3. Errors name what failed; they hold no parameter, no row, no credential, and no
//     text of a peer.
//  4. Everything that is brought is in pages of bounded size, each written before the
//     next is made.
package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Work is one verified job.
type Work struct {
	Topic    string
	Instance string
	Records  []*record.Trusted // that the order names; the first is what runs
	Includes []*record.Trusted // what they depend on
	Params   map[string]string // checked against the signed configuration's names
	// Attachment returns an attachment's bytes after their digest was compared.
	Attachment func(ctx context.Context, t *record.Trusted, a record.Attachment) ([]byte, error)
	Limits     Limits
}

// Main is the record that runs.
func (w *Work) Main() *record.Trusted { return w.Records[0] }

// Limits bound one job.
type Limits struct {
	Time   time.Duration
	Output int64 // bytes of all pages
	Rows   int64 // of a query
	Memory int64 // bytes of each process
}

// Needs is what a job reaches: what the firewall is asked for.
type Needs struct {
	Targets     []firewall.Target
	Credentials []string
}

// Output takes pages. Write returns when the page is kept durably.
type Output interface {
	Write(ctx context.Context, typ string, body []byte) error
}

// Result is how a job ended that ran.
type Result struct {
	Truncated string // which limit cut the output; empty: none
	ExitCode  int
	Rows      int64
}

// Executor runs the jobs of some topics.
type Executor interface {
	// Topics are the queue's names.
	Topics() []string
	// Needs reads the signed fields. It does no I/O and refuses what it does not
	// understand, by *rejection.Error.
	Needs(w *Work) (*Needs, error)
	// Run runs the job, reaching nothing that g does not cover.
	Run(ctx context.Context, w *Work, g *firewall.Grant, out Output) (Result, error)
}

// Page is the largest body that is given to an Output.
const Page = 1 << 20

// Signed is a signed field's value; an absent one is "".
func Signed(t *record.Trusted, field string) (string, error) {
	v, ok := t.Field(field)
	if !ok {
		return "", rejection.New(rejection.FieldUncovered, field, "the agent's executor depends on it")
	}
	return v, nil
}

// Fields reads several signed fields.
type Fields struct {
	t   *record.Trusted
	err error
}

// Of reads the fields of t.
func Of(t *record.Trusted) *Fields { return &Fields{t: t} }

// Get is a field that must be signed, and may be absent.
func (f *Fields) Get(name string) string {
	v, err := Signed(f.t, name)
	if f.err == nil {
		f.err = err
	}
	return v
}

// Optional is a field that counts where it is signed and is absent otherwise: one
// whose absence is the stricter choice.
func (f *Fields) Optional(name string) string {
	v, _ := f.t.Field(name)
	return v
}

// Bad notes that a field's value is not understood.
func (f *Fields) Bad(name, why string) {
	if f.err == nil {
		f.err = Malformed(name, why)
	}
}

// Err is the first refusal.
func (f *Fields) Err() error { return f.err }

// Bool reads "true", "false" or nothing.
func (f *Fields) Bool(name, value string) bool {
	switch value {
	case "true":
		return true
	case "", "false":
	default:
		f.Bad(name, "want true or false")
	}
	return false
}

// Port reads a port, or uses a default where there is none.
func (f *Fields) Port(name, value string, def uint16) uint16 {
	if value == "" {
		return def
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		f.Bad(name, "want a port")
	}
	return uint16(n)
}

// Malformed is the refusal of a field that is signed and not understood.
func Malformed(field, why string) error {
	return rejection.New(rejection.PayloadMalformed, field, why)
}

// List splits a field of names at commas and white space.
func List(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}

// Failure is an error of a job that ran; its text holds no values.
type Failure string

func (f Failure) Error() string { return string(f) }

// Failed makes a Failure.
func Failed(format string, args ...any) error { return Failure(fmt.Sprintf(format, args...)) }

// Stopped is why ctx ended, as a Failure; err otherwise.
func Stopped(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Failure("the limit on time")
	}
	return context.Cause(ctx)
}

// The limits that cut outputs.
const (
	CutRows   = "the limit on rows"
	CutOutput = "the limit on output"
	CutTime   = "the limit on time"
)

// ErrCut is what a writer returns when a limit is reached.
var ErrCut = errors.New("exec: a limit cuts the output")

// Rows makes pages of rows: {"columns":[{"name":…,"type":…}],"rows":[[…],…]}.
type Rows struct {
	out     Output
	limits  Limits
	columns []byte
	page    bytes.Buffer
	inPage  int
	written int64
	// Count is the number of rows that were added.
	Count int64
	// Cut is the limit that ended it.
	Cut string
}

// Column describes a column.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"` // the database's word
}

// JSON is the media type of pages of rows.
const JSON = "application/json"

// NewRows begins.
func NewRows(out Output, l Limits, columns []Column) (*Rows, error) {
	if columns == nil {
		columns = []Column{}
	}
	b, err := json.Marshal(columns)
	if err != nil {
		return nil, err
	}
	if len(b) > Page/2 {
		return nil, Failure("the columns' names are too long")
	}
	return &Rows{out: out, limits: l, columns: b}, nil
}

// Add adds a row. ErrCut: a limit is reached, and the row is not in it.
func (r *Rows) Add(ctx context.Context, row []any) error {
	if r.Count >= r.limits.Rows {
		r.Cut = CutRows
		return ErrCut
	}
	b, err := json.Marshal(row)
	if err != nil {
		return Failure("a value has no form in JSON")
	}
	overhead := len(`{"columns":,"rows":[]}`) + len(r.columns)
	if r.written+int64(r.page.Len()+len(b)+overhead) > r.limits.Output || len(b)+overhead > Page {
		r.Cut = CutOutput
		return ErrCut
	}
	if r.inPage > 0 && r.page.Len()+len(b)+overhead+1 > Page {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	if r.inPage > 0 {
		r.page.WriteByte(',')
	}
	r.page.Write(b)
	r.inPage++
	r.Count++
	return nil
}

func (r *Rows) flush(ctx context.Context) error {
	body := make([]byte, 0, r.page.Len()+len(r.columns)+32)
	body = append(body, `{"columns":`...)
	body = append(body, r.columns...)
	body = append(body, `,"rows":[`...)
	body = append(body, r.page.Bytes()...)
	body = append(body, `]}`...)
	r.page.Reset()
	r.inPage = 0
	r.written += int64(len(body))
	return r.out.Write(ctx, JSON, body)
}

// Close writes the last page; there is at least one.
func (r *Rows) Close(ctx context.Context) error {
	if r.inPage == 0 && r.written > 0 {
		return nil
	}
	return r.flush(ctx)
}

// Stream makes pages of what a program writes to one stream.
type Stream struct {
	out  Output
	typ  string
	page []byte
}

// NewStream begins; typ is the media type of its pages.
func NewStream(out Output, typ string) *Stream { return &Stream{out: out, typ: typ} }

// Write adds bytes.
func (s *Stream) Write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), Page-len(s.page))
		s.page = append(s.page, p[:n]...)
		p = p[n:]
		if len(s.page) == Page {
			if err := s.Close(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close writes what is left.
func (s *Stream) Close(ctx context.Context) error {
	if len(s.page) == 0 {
		return nil
	}
	p := s.page
	s.page = nil
	return s.out.Write(ctx, s.typ, p)
}
