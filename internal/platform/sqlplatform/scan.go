package sqlplatform

import (
	"context"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/internal/platform"
)

const (
	batchRows  = 500     // rows that are handed on together
	batchBytes = 4 << 20 // or when they are this large
	pageRows   = 2000    // of one short query
	batchKeys  = 200     // keys of one query
)

// reading is one Scan.
type reading struct {
	p      *Platform
	q      platform.Query
	t      *Table
	cols   []*Column // that are read; the first n of them were asked for
	asked  int
	exact  bool
	out    chan []*platform.Row
	batch  []*platform.Row
	size   int
	seen   int64 // rows that fit
	signed bool  // the table has signatures at all
	wanted map[string]bool
}

// Scan implements platform.Platform. One goroutine reads, while f works on what was
// read before.
func (p *Platform) Scan(ctx context.Context, q platform.Query, f func(*platform.Row) error) error {
	r, err := p.reading(ctx, q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := r.run(ctx)
		close(r.out)
		done <- err
	}()
	for batch := range r.out {
		for _, row := range batch {
			if err := f(row); err != nil {
				cancel()
				for range r.out { // until the reader has ended
				}
				<-done
				return err
			}
		}
	}
	return p.fail("scan "+q.Table, <-done)
}

func (p *Platform) reading(ctx context.Context, q platform.Query) (*reading, error) {
	t, err := p.table(ctx, p.Driver, q.Table)
	if err != nil {
		return nil, p.fail("scan", err)
	}
	cols, err := t.columns(q.Fields)
	if err != nil {
		return nil, p.fail("scan", err)
	}
	r := &reading{p: p, q: q, t: t, cols: slices.Clone(cols), asked: len(cols), out: make(chan []*platform.Row, 2)}
	if r.exact, err = t.where(newStmt(p.Driver), q.Where); err != nil {
		return nil, p.fail("scan", err)
	}
	if !r.exact {
		need, err := t.columns(q.Where.Fields())
		if err != nil {
			return nil, p.fail("scan", err)
		}
		for _, c := range need {
			if !slices.Contains(r.cols, c) {
				r.cols = append(r.cols, c)
			}
		}
	}
	if q.Signatures || q.Revisions {
		if r.signed, err = p.signed(ctx, q.Table); err != nil {
			return nil, p.fail("scan", err)
		}
	}
	return r, nil
}

func (r *reading) run(ctx context.Context) error {
	if r.q.Keys != nil {
		return r.keys(ctx)
	}
	after := r.q.After
	if r.q.After != nil && len(after) == 0 {
		after = nil
	}
	for {
		n, last, err := r.page(ctx, after, nil)
		if err != nil {
			return err
		}
		if !r.p.Driver.Pages() || n < pageRows || r.enough() {
			return r.flush(ctx)
		}
		after = last
	}
}

// keys reads the records of q.Keys, a number of them with each query.
func (r *reading) keys(ctx context.Context) error {
	var keys [][]string
	r.wanted = map[string]bool{}
	for _, k := range r.q.Keys {
		if id := string(encodeKey(k)); !r.wanted[id] {
			r.wanted[id] = true
			keys = append(keys, k)
		}
	}
	for part := range slices.Chunk(keys, batchKeys) {
		if _, _, err := r.page(ctx, r.q.After, part); err != nil {
			return err
		}
		if r.enough() {
			break
		}
	}
	return r.flush(ctx)
}

func (r *reading) enough() bool { return r.q.Limit > 0 && r.seen >= r.q.Limit }

// page runs one query. It returns the number of rows that it read, and the last key.
func (r *reading) page(ctx context.Context, after []string, keys [][]string) (n int, last []string, err error) {
	t := r.t
	s := newStmt(r.p.Driver, "SELECT ")
	for i, c := range append(slices.Clone(t.Key), r.cols...) {
		if i > 0 {
			s.add(", ")
		}
		s.add(c.Select)
	}
	s.add(" FROM ", t.SQL, " WHERE 1=1")
	if len(after) > 0 {
		args, err := t.keyArgs(after)
		if err != nil {
			return 0, nil, err
		}
		s.add(" AND ").after(t, args)
	}
	if keys != nil {
		s.add(" AND (1=0")
		for _, k := range keys {
			args, err := t.keyArgs(k)
			if err != nil {
				return 0, nil, err
			}
			s.add(" OR (").is(t, args)
			s.add(")")
		}
		s.add(")")
	}
	if _, err := t.where(s, r.q.Where); err != nil {
		return 0, nil, err
	}
	s.add(" ORDER BY ")
	for i, c := range t.Key {
		if i > 0 {
			s.add(", ")
		}
		s.add(c.Order)
	}
	limit := int64(0)
	if r.p.Driver.Pages() && keys == nil {
		limit = pageRows
	}
	if left := r.q.Limit - r.seen; r.q.Limit > 0 && r.exact && keys == nil && (limit == 0 || left < limit) {
		limit = left
	}
	if limit > 0 {
		s.add(fmt.Sprintf(" LIMIT %d", limit))
	}
	// A page that stands in nobody's way is handed on before it is all read.
	hold := r.p.Driver.Pages()
	var held []*platform.Row
	size := 0
	err = r.p.Driver.Query(ctx, s, func(v [][]byte, kinds []Kind) error {
		n++
		if r.enough() {
			return errEnough
		}
		row, err := r.row(v, kinds)
		if err != nil {
			return err
		}
		if row == nil {
			if last, err = t.key(v, kinds); err != nil {
				return err
			}
			return nil
		}
		last = row.Record.Ref.Key
		if hold {
			held = append(held, row)
			if size += weight(row); size >= batchBytes {
				n = pageRows // there may be more
				return errEnough
			}
			return nil
		}
		return r.hand(ctx, row)
	})
	if err == errEnough {
		err = nil
	}
	if hold && err == nil {
		for _, row := range held {
			if err = r.hand(ctx, row); err != nil {
				break
			}
		}
	}
	return n, last, err
}

// errEnough ends a query early.
var errEnough = fmt.Errorf("enough")

// row reads one row; nil: it does not fit.
func (r *reading) row(v [][]byte, kinds []Kind) (*platform.Row, error) {
	t := r.t
	key, err := t.key(v, kinds)
	if err != nil {
		return nil, err
	}
	if r.wanted != nil && !r.wanted[string(encodeKey(key))] {
		return nil, nil
	}
	k := kinds
	if k != nil {
		k = k[len(t.Key):]
	}
	fields, err := t.fields(r.cols, v[len(t.Key):], k)
	if err != nil {
		return nil, err
	}
	if !r.exact {
		ok, err := r.q.Where.Eval(fields)
		if err != nil || !ok {
			return nil, err
		}
		for _, c := range r.cols[r.asked:] {
			delete(fields, c.Name)
		}
	}
	if r.wanted != nil {
		delete(r.wanted, string(encodeKey(key)))
	}
	row := &platform.Row{}
	row.Record.Ref.Table, row.Record.Ref.Key, row.Record.Fields = t.Name, key, fields
	r.seen++
	return row, nil
}

func weight(row *platform.Row) int {
	n := 128
	for k, v := range row.Record.Fields {
		n += len(k) + len(v)
	}
	return n
}

func (r *reading) hand(ctx context.Context, row *platform.Row) error {
	r.batch = append(r.batch, row)
	if r.size += weight(row); len(r.batch) < batchRows && r.size < batchBytes {
		return nil
	}
	return r.flush(ctx)
}

// flush completes the rows of the batch and hands them on.
func (r *reading) flush(ctx context.Context) error {
	batch := r.batch
	r.batch, r.size = nil, 0
	if len(batch) == 0 {
		return nil
	}
	if r.signed {
		if err := r.p.sign(ctx, batch, r.q.Signatures); err != nil {
			return err
		}
	}
	if r.q.Attachments {
		if err := r.p.attach(ctx, r.t, batch); err != nil {
			return err
		}
	}
	select {
	case r.out <- batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Count implements platform.Platform.
func (p *Platform) Count(ctx context.Context, q platform.Query) (int64, error) {
	q.Fields, q.Attachments, q.Signatures, q.Revisions = []string{}, false, false, false
	r, err := p.reading(ctx, q)
	if err != nil {
		return 0, err
	}
	if !r.exact || q.Keys != nil || q.Limit > 0 {
		var n int64
		err := p.Scan(ctx, q, func(*platform.Row) error { n++; return nil })
		return n, err
	}
	s := newStmt(p.Driver, "SELECT count(*) FROM ", r.t.SQL, " WHERE 1=1")
	if len(q.After) > 0 {
		args, err := r.t.keyArgs(q.After)
		if err != nil {
			return 0, p.fail("count", err)
		}
		s.add(" AND ").after(r.t, args)
	}
	if _, err := r.t.where(s, q.Where); err != nil {
		return 0, p.fail("count", err)
	}
	var n int64
	err = p.Driver.Query(ctx, s, func(v [][]byte, _ []Kind) error { n, err = number(v[0]); return err })
	return n, p.fail("count", err)
}
