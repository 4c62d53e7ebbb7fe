package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// Tally is one number: how many there were of a kind, on a day, for a name.
type Tally struct {
	Kind   string
	Day    int64 // since 1970-01-01 UTC
	Name   string
	Other  string // what the kind tells apart besides
	Bucket int64  // of a distribution
	N      int64
}

// Brief is what counting a request takes beside its log entries.
type Brief struct {
	Command      statement.CommandName
	Policy       string
	Key          string
	Requester    string
	Formats      map[string]int64 // files of each
	Entered      time.Time        // when the log took it; zero: it has not
	Endorsements []Endorsement    // without their envelopes
}

// Tallier keeps tallies of the log. They are of its first entries: as many as
// TallyHead says.
type Tallier interface {
	// Tally adds to the tallies what entries from to to, exclusive, give. When
	// others are counted than from on, it is [ErrConflict] and changes nothing.
	Tally(ctx context.Context, from, to int64, add []Tally) error
	// TallyHead is the number of entries that are counted.
	TallyHead(ctx context.Context) (int64, error)
	// Tallies lists those that changed when more than so many entries were
	// counted, and the number that all are true of.
	Tallies(ctx context.Context, after int64) ([]Tally, int64, error)
	// Briefs describes requests. Those that are not known are left out.
	Briefs(ctx context.Context, ids []statement.ID) (map[statement.ID]*Brief, error)
}

// TallyHead is the number of entries that are counted.
func (s *SQL) TallyHead(ctx context.Context) (n int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT next FROM tallies_head`).Scan(&n)
	return n, s.wrap(err)
}

// Tally adds to the tallies.
func (s *SQL) Tally(ctx context.Context, from, to int64, add []Tally) error {
	err := s.inSQLTx(ctx, func(t tx) error {
		st := t.(sqlTx)
		r, err := st.tx.ExecContext(ctx, `UPDATE tallies_head SET next = $2 WHERE next = $1`, from, to)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = ErrConflict
			}
			return err
		}
		in := inserts{texts: &s.texts}
		for _, x := range add {
			in.add(`INSERT INTO tallies (kind, day, name, other, bucket, n, changed)`,
				` ON CONFLICT (kind, day, name, other, bucket) DO UPDATE SET n = tallies.n + excluded.n, changed = excluded.changed`, small,
				x.Kind, x.Day, text(x.Name), text(x.Other), x.Bucket, x.N, to)
		}
		_, err = st.run(ctx, in.stmts())
		return err
	})
	if err == ErrConflict {
		return err
	}
	return s.wrap(err)
}

// Tallies lists tallies that changed. The head is read first: what changes in
// between is listed again the next time.
func (s *SQL) Tallies(ctx context.Context, after int64) ([]Tally, int64, error) {
	head, err := s.TallyHead(ctx)
	if err != nil || head <= after {
		return nil, head, err
	}
	rows, err := s.read.QueryContext(ctx, `SELECT kind, day, name, other, bucket, n FROM tallies WHERE changed > $1`, after)
	out, err := collect(rows, err, func(r scanner) (x Tally, err error) {
		err = r.Scan(&x.Kind, &x.Day, &x.Name, &x.Other, &x.Bucket, &x.N)
		return x, err
	})
	return out, head, s.wrap(err)
}

// briefs is how many requests one query describes.
const briefs = 256

// Briefs describes requests.
func (s *SQL) Briefs(ctx context.Context, ids []statement.ID) (map[statement.ID]*Brief, error) {
	out := make(map[statement.ID]*Brief, len(ids))
	for at := 0; at < len(ids); at += briefs {
		if err := s.briefs(ctx, out, ids[at:min(at+briefs, len(ids))]); err != nil {
			return nil, s.wrap(err)
		}
	}
	return out, nil
}

func (s *SQL) briefs(ctx context.Context, out map[statement.ID]*Brief, ids []statement.ID) error {
	var args []any
	for _, id := range ids {
		args = append(args, append([]byte(nil), id[:]...))
	}
	in := " IN (" + marks(0, len(args)) + ")"
	each := func(q string, scan func(r scanner, id *[]byte) (func(*Brief), error)) error {
		rows, err := s.read.QueryContext(ctx, fmt.Sprintf(q, in), args...)
		_, err = collect(rows, err, func(r scanner) (struct{}, error) {
			var b []byte
			set, err := scan(r, &b)
			var id statement.ID
			copy(id[:], b)
			if x := out[id]; err == nil && x != nil {
				set(x)
			}
			return struct{}{}, err
		})
		return err
	}
	rows, err := s.read.QueryContext(ctx, `SELECT id, command, policy, key, requester FROM requests WHERE id`+in, args...)
	if _, err := collect(rows, err, func(r scanner) (struct{}, error) {
		var b []byte
		var command string
		x := &Brief{Formats: map[string]int64{}}
		err := r.Scan(&b, &command, &x.Policy, &x.Key, &x.Requester)
		var id statement.ID
		copy(id[:], b)
		x.Command = statement.CommandName(command)
		out[id] = x
		return struct{}{}, err
	}); err != nil {
		return err
	}
	if err := each(`SELECT request, format, count(*) FROM files WHERE request%s GROUP BY request, format`, func(r scanner, id *[]byte) (func(*Brief), error) {
		var format string
		var n int64
		err := r.Scan(id, &format, &n)
		return func(x *Brief) { x.Formats[format] = n }, err
	}); err != nil {
		return err
	}
	if err := each(`SELECT request, min(time) FROM log_entries WHERE kind = 'request' AND request%s GROUP BY request`, func(r scanner, id *[]byte) (func(*Brief), error) {
		var t sql.NullInt64
		err := r.Scan(id, &t)
		return func(x *Brief) { x.Entered = at(t.Int64) }, err
	}); err != nil {
		return err
	}
	return each(`SELECT request, id, endorser, verdict, arrived FROM endorsements WHERE request%s ORDER BY request, seq`, func(r scanner, id *[]byte) (func(*Brief), error) {
		var e Endorsement
		var eid []byte
		var verdict string
		var arrived int64
		err := r.Scan(id, &eid, &e.Endorser, &verdict, &arrived)
		copy(e.ID[:], eid)
		e.Verdict, e.Arrived = statement.Verdict(verdict), at(arrived)
		return func(x *Brief) { x.Endorsements = append(x.Endorsements, e) }, err
	})
}
