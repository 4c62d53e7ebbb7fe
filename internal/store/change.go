package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/statement"
)

const (
	maxGroup  = 128 // changes of one transaction
	chunkSize = 256 // items of one row

	many   = 4 // changes of a group after which more are expected
	plenty = 32
	gather = 8 * time.Millisecond // how long they are waited for at the most
)

type pendingChange struct {
	c       *Change
	result  chan error
	unknown error // of a commit that the change may have been applied by
}

// guarded reports whether c, applied twice, is applied once.
func guarded(c *Change) bool {
	return c.New != nil || c.Request != statement.ID{} || c.Receipt != nil
}

// Apply queues c for the next transaction and waits for it. When ctx ends first
// the change may still be applied.
func (s *SQL) Apply(ctx context.Context, c *Change) error {
	p := &pendingChange{c: c, result: make(chan error, 1)}
	select {
	case s.queue <- p:
	case <-s.stopped:
		return fmt.Errorf("%w: closed", ErrBusy)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.result:
		return err
	case <-s.done:
		select {
		case err := <-p.result:
			return err
		default:
			return fmt.Errorf("%w: closed", ErrBusy)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commitLoop applies what is queued, as many changes in a transaction as there
// are. When changes come in numbers it waits for more of them: a transaction costs
// as much again as several changes, and those who wait have company. One that comes
// alone is not held up.
func (s *SQL) commitLoop() {
	last := 0 // changes of the group before
	for {
		var group []*pendingChange
		select {
		case p := <-s.queue:
			group = append(group, p)
		case <-s.stopped:
			select {
			case p := <-s.queue: // queued before the end
				group = append(group, p)
			default:
				return
			}
		}
		var gathered <-chan time.Time // nil: nothing is waited for
		if last >= many {
			gathered = time.After(gather)
		}
	fill:
		for len(group) < maxGroup {
			select {
			case p := <-s.queue:
				group = append(group, p)
				continue
			default:
			}
			if gathered == nil || len(group) >= plenty {
				break
			}
			select {
			case p := <-s.queue:
				group = append(group, p)
			case <-gathered:
				break fill
			case <-s.stopped:
				break fill
			}
		}
		last = len(group)
		s.commitGroup(group)
	}
}

// commitGroup applies a group and tells everybody in it. It returns the error of a
// database in which no transaction can be begun.
func (s *SQL) commitGroup(group []*pendingChange) (away error) {
	// Changes outlive the caller's patience: whether they were applied is told by
	// the database alone.
	ctx := context.Background()
	outcome := make([]error, len(group))
	err := s.inTx(ctx, func(t tx) error { return applyGroup(ctx, t, &s.texts, group, outcome) })
	if errors.As(err, new(*beginError)) {
		away = err
	}
	lost := errors.As(err, new(*commitError))
	if err != nil && away == nil && (len(group) > 1 || lost && group[0].unknown == nil) {
		// One of them is at fault, or the connection: each finds out for itself, as
		// long as there is a database. One that is away is waited for once, not by
		// each of them in turn.
		for _, p := range group {
			if lost {
				p.unknown = err
			}
			switch {
			case lost && !guarded(p.c):
				p.result <- s.wrap(err) // again would be twice
			case away != nil:
				p.result <- s.wrap(away)
			default:
				away = s.commitGroup([]*pendingChange{p})
			}
		}
		return away
	}
	for i, p := range group {
		switch {
		case err != nil:
			p.result <- refused(p.c, s.wrap(err))
		case outcome[i] != nil:
			p.result <- s.explain(ctx, p, outcome[i])
		default:
			p.result <- nil
		}
	}
	return away
}

// refused turns the violation of a key into the conflict that it is: the receipt
// is the only thing that a change inserts without passing over what is there.
func refused(c *Change, err error) error {
	if c.First && errors.Is(err, ErrExists) {
		return fmt.Errorf("%w: receipt %d is there", ErrConflict, c.Receipt.Number)
	}
	return err
}

// explain turns a conflict into the error that the caller can act on.
func (s *SQL) explain(ctx context.Context, p *pendingChange, err error) error {
	c := p.c
	if c.New == nil {
		return err
	}
	if r, e := s.Request(ctx, c.New.ID); e == nil {
		if p.unknown != nil && bytes.Equal(r.Envelope, c.New.Envelope) {
			return nil // the commit whose answer was lost
		}
		return fmt.Errorf("%w: request %s", ErrExists, c.New.ID)
	}
	if open, e := s.OpenRequest(ctx, c.New.Digest); e == nil {
		return &OpenError{open.ID}
	}
	return fmt.Errorf("%w: a request for the same command has just been closed", ErrConflict)
}

// applyGroup runs the guards of all changes first: an insert or update that
// changes a row only when the change is still possible. What belongs to a change
// whose guard failed is left out.
func applyGroup(ctx context.Context, t tx, known *texts, group []*pendingChange, outcome []error) error {
	var guards []stmt
	var at []int
	for i, p := range group {
		outcome[i] = nil
		switch c := p.c; {
		case c.New != nil:
			guards = append(guards, insertRequest(c))
			at = append(at, i)
		case c.Request != statement.ID{}:
			guards = append(guards, updateRequest(c))
			at = append(at, i)
		case c.Receipt != nil:
			guards = append(guards, insertReceipt(c.Receipt))
			at = append(at, i)
		}
	}
	if len(guards) > 0 {
		n, err := t.run(ctx, guards)
		if err != nil {
			return err
		}
		for j, i := range at {
			if n[j] == 0 {
				outcome[i] = ErrConflict
			}
		}
	}
	rest := inserts{texts: known}
	for i, p := range group {
		if outcome[i] == nil {
			if err := rest.belongings(p.c); err != nil {
				return err
			}
		}
	}
	if len(rest.order) == 0 {
		return nil
	}
	_, err := t.run(ctx, rest.stmts())
	return err
}

func insertRequest(c *Change) stmt {
	r := c.New
	return stmt{`INSERT INTO requests (id, revision, envelope, command, digest, policy, key, requester, count, upload, state, code, detail, created, updated, expires, receipt, sent)
		VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0, $16) ON CONFLICT DO NOTHING`,
		[]any{r.ID[:], r.Envelope, string(r.Command), r.Digest, r.Policy, r.Key, r.Requester, int64(r.Count), flag(r.Upload),
			string(r.State), r.Code, text(r.Detail), ms(r.Created), ms(c.At), ms(r.Expires), flag(r.Sent)}}
}

func updateRequest(c *Change) stmt {
	var number int64
	if c.Receipt != nil && c.Receipt.Outcome == statement.Executed {
		number = int64(c.Receipt.Number)
	}
	return stmt{`UPDATE requests SET revision = revision + 1, state = CASE WHEN $3 = '' THEN state ELSE $3 END,
		code = $4, detail = $5, updated = $6, receipt = CASE WHEN $7 = 0 THEN receipt ELSE $7 END, sent = $8 WHERE id = $1 AND revision = $2`,
		[]any{c.Request[:], c.Revision, string(c.State), c.Code, text(c.Detail), ms(c.At), number, flag(c.Sent)}}
}

const receiptInto = `INSERT INTO receipts (number, request, outcome, time, envelope)`

func receiptArgs(rc *Receipt) []any {
	return []any{int64(rc.Number), rc.Request[:], string(rc.Outcome), ms(rc.Time), rc.Envelope}
}

func insertReceipt(rc *Receipt) stmt {
	return stmt{receiptInto + ` VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, receiptArgs(rc)}
}

// inserts are rows to insert, table by table.
type inserts struct {
	texts *texts
	order []into // statements, as they first appeared
	by    map[into][][]any
}

// into is a statement without its values.
type into struct {
	text, suffix string
	most         int // rows of one statement
}

// texts are the statements for so many rows: there are few, and making one takes
// as long as inserting a row. It is safe for concurrent use.
type texts struct {
	mu sync.Mutex
	of map[textKey]string
}

type textKey struct {
	into
	rows int
}

func (t *texts) get(in into, columns, rows int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := textKey{in, rows}
	if t.of[k] == "" {
		if t.of == nil {
			t.of = map[textKey]string{}
		}
		values := make([]string, rows)
		for i := range values {
			values[i] = "(" + marks(i*columns, columns) + ")"
		}
		t.of[k] = in.text + " VALUES " + strings.Join(values, ", ") + in.suffix
	}
	return t.of[k]
}

// add adds one row to what text inserts; suffix follows the values.
func (r *inserts) add(text, suffix string, most int, args ...any) {
	if r.by == nil {
		r.by = map[into][][]any{}
	}
	in := into{text, suffix, most}
	if r.by[in] == nil {
		r.order = append(r.order, in)
	}
	r.by[in] = append(r.by[in], args)
}

// small and large are how many rows go into one statement.
const (
	small = 64
	large = 1 // of rows that may have megabytes
)

func (r *inserts) stmts() []stmt {
	var out []stmt
	for _, in := range r.order {
		args := r.by[in]
		out = append(out, several(args, in.most, func(n int) string { return r.texts.get(in, len(args[0]), n) })...)
	}
	return out
}

// marks is the n placeholders after the first skip.
func marks(skip, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("$%d", skip+i+1)
	}
	return strings.Join(out, ", ")
}

// several spreads rows over statements of few sizes, so that there are few texts
// to parse and to keep prepared. text makes the statement for n rows.
func several(args [][]any, most int, text func(n int) string) []stmt {
	var out []stmt
	for n := most; n >= 1; n /= 4 {
		if len(args) < n {
			continue
		}
		sql := text(n)
		for len(args) >= n {
			s := stmt{sql: sql}
			for _, a := range args[:n] {
				s.args = append(s.args, a...)
			}
			out, args = append(out, s), args[n:]
		}
	}
	return out
}

// belongings adds the rows that come with a change.
func (r *inserts) belongings(c *Change) error {
	id := c.Request
	if c.New != nil {
		id = c.New.ID
	}
	for at := 0; at < len(c.Items); at += chunkSize {
		data, err := cbor.Marshal(c.Items[at:min(at+chunkSize, len(c.Items))])
		if err != nil {
			return err
		}
		r.add(`INSERT INTO items (request, chunk, data)`, "", large, id[:], int64(at/chunkSize), data)
	}
	for _, f := range c.Files {
		r.add(`INSERT INTO files (request, idx, name, format, digest, content, size, version, product, publisher, also)`, "", small,
			id[:], int64(f.Index), text(f.Name), f.Format, f.Digest, f.Content, f.Size, text(f.Version), text(f.Product), text(f.Publisher), digestsText(f.Also))
	}
	if c.State == Executed || c.New != nil && c.New.State == Executed {
		r.add(`INSERT INTO catalogue_waiting (request, next)`, "", small, id[:], int64(0))
	}
	const ignore = " ON CONFLICT DO NOTHING"
	if e := c.Endorsement; e != nil {
		r.add(`INSERT INTO endorsements (request, seq, id, envelope, endorser, verdict, arrived)`, ignore, small,
			id[:], c.Revision+1, e.ID[:], e.Envelope, e.Endorser, string(e.Verdict), ms(e.Arrived))
	}
	if rc := c.Receipt; rc != nil && id != (statement.ID{}) { // else it is its own guard
		suffix := ignore
		if c.First {
			suffix = ""
		}
		r.add(receiptInto, suffix, small, receiptArgs(rc)...)
	}
	if c.Result != nil {
		most := small
		if len(c.Result) > 64<<10 {
			most = large
		}
		r.add(`INSERT INTO results (request, data)`, ignore, most, id[:], c.Result)
	}
	for _, e := range c.Entries {
		if e.Body != nil {
			r.add(`INSERT INTO log_bodies (sum, data)`, ignore, large, e.BodySum[:], e.Body)
		}
		r.add(`INSERT INTO log_waiting (kind, request, time, data)`, "", small, string(e.Kind), e.Request[:], ms(e.Time), e.Data)
	}
	for _, j := range c.Jobs {
		p := j.Payload
		if p == nil {
			p = []byte{}
		}
		r.add(`INSERT INTO jobs (kind, ref, payload, run_at, attempts, error)`, ignore, small, j.Kind, j.Ref, p, ms(j.RunAt), int64(0), "")
	}
	return nil
}
