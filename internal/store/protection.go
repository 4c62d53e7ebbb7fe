package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Finding is one record that did not verify where somebody looked: tampering, a
// refused import. It holds names, never values.
type Finding struct {
	ID      int64
	At      time.Time
	Source  string // who looked: "watch", "import", …
	Table   string
	Ref     []byte // the reference, encoded
	Code    string
	Subject string
	Detail  string
}

// RetrievedSet is an update set that somebody brought to a protected instance.
type RetrievedSet struct {
	ID       string
	Revision int64
	Name     string
	State    string
	Platform string
	Who      string
	Data     []byte // as it came
	Preview  []byte // problems, and what was decided of them
	Created  time.Time
	Updated  time.Time
}

// Protection keeps what a protected instance remembers. [*SQL] does.
type Protection interface {
	// Mark returns the highest revision raised for a reference; 0: none.
	Mark(ctx context.Context, ref []byte) (uint64, error)
	// Raise raises marks; a lower revision changes nothing. All or none.
	Raise(ctx context.Context, refs [][]byte, revisions []uint64) error
	// AddFindings adds findings; ID is set by the store.
	AddFindings(ctx context.Context, fs ...Finding) error
	// Findings lists findings, newest first, with an ID below before (0: all).
	Findings(ctx context.Context, before int64, limit int) ([]Finding, error)
	// PutSet adds a retrieved set at revision 1; ErrExists.
	PutSet(ctx context.Context, r *RetrievedSet) error
	// StepSet replaces State, Preview and Updated of the set at r.Revision, which
	// is one higher afterwards; ErrConflict when the set has moved on.
	StepSet(ctx context.Context, r *RetrievedSet) error
	// Set returns one set; Sets lists them, newest first, without their data.
	Set(ctx context.Context, id string) (*RetrievedSet, error)
	Sets(ctx context.Context, limit int) ([]*RetrievedSet, error)
}

var _ Protection = (*SQL)(nil)

// Mark returns a high-water mark.
func (s *SQL) Mark(ctx context.Context, ref []byte) (uint64, error) {
	rows, err := s.rows(ctx, `SELECT revision FROM record_marks WHERE ref = $1`, ref)
	out, err := collect(rows, err, func(r scanner) (v int64, err error) {
		err = r.Scan(&v)
		return v, err
	})
	if err != nil || len(out) == 0 {
		return 0, s.wrap(err)
	}
	return uint64(out[0]), nil
}

// Raise raises marks.
func (s *SQL) Raise(ctx context.Context, refs [][]byte, revisions []uint64) error {
	var ss []stmt
	for i, r := range refs {
		if revisions[i] > 1<<62 {
			return fmt.Errorf("store: revision %d is too high", revisions[i])
		}
		ss = append(ss, stmt{`INSERT INTO record_marks (ref, revision) VALUES ($1, $2)
			ON CONFLICT (ref) DO UPDATE SET revision = excluded.revision WHERE record_marks.revision < excluded.revision`, []any{r, int64(revisions[i])}})
	}
	if len(ss) == 0 {
		return nil
	}
	return s.wrap(s.inTx(ctx, func(t tx) error {
		_, err := t.run(ctx, ss)
		return err
	}))
}

// AddFindings adds findings.
func (s *SQL) AddFindings(ctx context.Context, fs ...Finding) error {
	var ss []stmt
	for _, f := range fs {
		ss = append(ss, stmt{`INSERT INTO record_findings (at, source, ref, tbl, code, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			[]any{ms(f.At), f.Source, blob(f.Ref), text(f.Table), f.Code, text(f.Subject), text(f.Detail)}})
	}
	if len(ss) == 0 {
		return nil
	}
	return s.wrap(s.inTx(ctx, func(t tx) error {
		_, err := t.run(ctx, ss)
		return err
	}))
}

// Findings lists findings.
func (s *SQL) Findings(ctx context.Context, before int64, limit int) ([]Finding, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	rows, err := s.read.QueryContext(ctx, `SELECT id, at, source, ref, tbl, code, subject, detail FROM record_findings WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, page(limit))
	out, err := collect(rows, err, func(r scanner) (f Finding, err error) {
		var t int64
		err = r.Scan(&f.ID, &t, &f.Source, &f.Ref, &f.Table, &f.Code, &f.Subject, &f.Detail)
		f.At = at(t)
		return f, err
	})
	return out, s.wrap(err)
}

// PutSet adds a retrieved set.
func (s *SQL) PutSet(ctx context.Context, r *RetrievedSet) error {
	r.Revision = 1
	_, err := s.exec(ctx, `INSERT INTO retrieved_sets (`+setColumns+`) VALUES (`+marks(0, 10)+`)`,
		r.ID, r.Revision, text(r.Name), r.State, r.Platform, text(r.Who), blob(r.Data), blob(r.Preview), ms(r.Created), ms(r.Updated))
	return err
}

// StepSet moves a retrieved set on.
func (s *SQL) StepSet(ctx context.Context, r *RetrievedSet) error {
	n, err := s.exec(ctx, `UPDATE retrieved_sets SET revision = revision + 1, state = $3, preview = $4, updated = $5 WHERE id = $1 AND revision = $2`,
		r.ID, r.Revision, r.State, blob(r.Preview), ms(r.Updated))
	if err != nil {
		return err
	}
	if n != 1 {
		return ErrConflict
	}
	r.Revision++
	return nil
}

const setColumns = `id, revision, name, state, platform, who, data, preview, created, updated`

func scanSet(r scanner) (*RetrievedSet, error) {
	var v RetrievedSet
	var created, updated int64
	err := r.Scan(&v.ID, &v.Revision, &v.Name, &v.State, &v.Platform, &v.Who, &v.Data, &v.Preview, &created, &updated)
	v.Created, v.Updated = at(created), at(updated)
	return &v, err
}

// Set returns one retrieved set.
func (s *SQL) Set(ctx context.Context, id string) (*RetrievedSet, error) {
	v, err := scanSet(s.read.QueryRowContext(ctx, `SELECT `+setColumns+` FROM retrieved_sets WHERE id = $1`, id))
	if err != nil {
		return nil, s.wrap(err)
	}
	return v, nil
}

// Sets lists retrieved sets.
func (s *SQL) Sets(ctx context.Context, limit int) ([]*RetrievedSet, error) {
	columns := strings.Replace(strings.Replace(setColumns, "data", "''", 1), "preview", "''", 1)
	rows, err := s.read.QueryContext(ctx, `SELECT `+columns+` FROM retrieved_sets ORDER BY created DESC, id DESC LIMIT $1`, page(limit))
	out, err := collect(rows, err, scanSet)
	return out, s.wrap(err)
}
