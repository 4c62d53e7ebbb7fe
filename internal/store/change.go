package store

import (
	"context"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/statement"
)

const (
	maxGroup  = 128 // changes of one transaction
	chunkSize = 256 // items of one row
)

type pendingChange struct {
	c      *Change
	result chan error
}

// Apply queues c for the next transaction and waits for it. When ctx ends first
// the change may still be applied.
func (s *SQL) Apply(ctx context.Context, c *Change) error {
	p := &pendingChange{c, make(chan error, 1)}
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
// are.
func (s *SQL) commitLoop() {
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
	fill:
		for len(group) < maxGroup {
			select {
			case p := <-s.queue:
				group = append(group, p)
			default:
				break fill
			}
		}
		s.commitGroup(group)
	}
}

func (s *SQL) commitGroup(group []*pendingChange) {
	// Changes outlive the caller's patience: whether they were applied is told by
	// the database alone.
	ctx := context.Background()
	outcome := make([]error, len(group))
	err := s.inTx(ctx, func(t tx) error { return applyGroup(ctx, t, group, outcome) })
	if err != nil && len(group) > 1 {
		// One of them is at fault, or the connection: each finds out for itself.
		for _, p := range group {
			s.commitGroup([]*pendingChange{p})
		}
		return
	}
	for i, p := range group {
		switch {
		case err != nil:
			p.result <- s.wrap(err)
		case outcome[i] != nil:
			p.result <- s.explain(ctx, p.c, outcome[i])
		default:
			p.result <- nil
		}
	}
}

// explain turns a conflict into the error that the caller can act on.
func (s *SQL) explain(ctx context.Context, c *Change, err error) error {
	if c.New == nil {
		return err
	}
	if _, e := s.Request(ctx, c.New.ID); e == nil {
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
func applyGroup(ctx context.Context, t tx, group []*pendingChange, outcome []error) error {
	var guards []stmt
	var guarded []int
	for i, p := range group {
		outcome[i] = nil
		switch c := p.c; {
		case c.New != nil:
			guards = append(guards, insertRequest(c))
			guarded = append(guarded, i)
		case c.Request != statement.ID{}:
			guards = append(guards, updateRequest(c))
			guarded = append(guarded, i)
		}
	}
	if len(guards) > 0 {
		n, err := t.run(ctx, guards)
		if err != nil {
			return err
		}
		for j, i := range guarded {
			if n[j] == 0 {
				outcome[i] = ErrConflict
			}
		}
	}
	var rest []stmt
	for i, p := range group {
		if outcome[i] == nil {
			ss, err := belongings(p.c)
			if err != nil {
				return err
			}
			rest = append(rest, ss...)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	_, err := t.run(ctx, rest)
	return err
}

func insertRequest(c *Change) stmt {
	r := c.New
	return stmt{`INSERT INTO requests (id, revision, envelope, command, digest, policy, key, requester, count, upload, state, code, detail, created, updated, expires, receipt)
		VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0) ON CONFLICT DO NOTHING`,
		[]any{r.ID[:], r.Envelope, string(r.Command), r.Digest, r.Policy, r.Key, r.Requester, int64(r.Count), flag(r.Upload),
			string(r.State), r.Code, text(r.Detail), ms(r.Created), ms(c.At), ms(r.Expires)}}
}

func updateRequest(c *Change) stmt {
	var number int64
	if c.Receipt != nil && c.Receipt.Outcome == statement.Executed {
		number = int64(c.Receipt.Number)
	}
	return stmt{`UPDATE requests SET revision = revision + 1, state = CASE WHEN $3 = '' THEN state ELSE $3 END,
		code = $4, detail = $5, updated = $6, receipt = CASE WHEN $7 = 0 THEN receipt ELSE $7 END WHERE id = $1 AND revision = $2`,
		[]any{c.Request[:], c.Revision, string(c.State), c.Code, text(c.Detail), ms(c.At), number}}
}

// belongings are the rows that come with a change.
func belongings(c *Change) ([]stmt, error) {
	var out []stmt
	id := c.Request
	if c.New != nil {
		id = c.New.ID
	}
	for at := 0; at < len(c.Items); at += chunkSize {
		data, err := cbor.Marshal(c.Items[at:min(at+chunkSize, len(c.Items))])
		if err != nil {
			return nil, err
		}
		out = append(out, stmt{`INSERT INTO items (request, chunk, data) VALUES ($1, $2, $3)`, []any{id[:], int64(at / chunkSize), data}})
	}
	for _, f := range c.Files {
		out = append(out, stmt{`INSERT INTO files (request, idx, name, format, digest, content, size, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			[]any{id[:], int64(f.Index), text(f.Name), f.Format, f.Digest, f.Content, f.Size, text(f.Version)}})
	}
	if e := c.Endorsement; e != nil {
		out = append(out, stmt{`INSERT INTO endorsements (request, seq, id, envelope, endorser, verdict, arrived) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
			[]any{id[:], c.Revision + 1, e.ID[:], e.Envelope, e.Endorser, string(e.Verdict), ms(e.Arrived)}})
	}
	if r := c.Receipt; r != nil {
		out = append(out, stmt{`INSERT INTO receipts (number, request, outcome, time, envelope) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			[]any{int64(r.Number), r.Request[:], string(r.Outcome), ms(r.Time), r.Envelope}})
	}
	if c.Result != nil {
		out = append(out, stmt{`INSERT INTO results (request, data) VALUES ($1, $2) ON CONFLICT DO NOTHING`, []any{id[:], c.Result}})
	}
	for _, e := range c.Entries {
		if e.Body != nil {
			out = append(out, stmt{`INSERT INTO log_bodies (sum, data) VALUES ($1, $2) ON CONFLICT DO NOTHING`, []any{e.BodySum[:], e.Body}})
		}
		out = append(out, stmt{`INSERT INTO log_waiting (kind, request, time, data) VALUES ($1, $2, $3, $4)`,
			[]any{string(e.Kind), e.Request[:], ms(e.Time), e.Data}})
	}
	for _, j := range c.Jobs {
		out = append(out, insertJob(j))
	}
	return out, nil
}

func insertJob(j Job) stmt {
	p := j.Payload
	if p == nil {
		p = []byte{}
	}
	return stmt{`INSERT INTO jobs (kind, ref, payload, run_at, attempts, error) VALUES ($1, $2, $3, $4, 0, '') ON CONFLICT DO NOTHING`,
		[]any{j.Kind, j.Ref, p, ms(j.RunAt)}}
}
