package records

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// GuardConfig is what a Guard works with.
type GuardConfig struct {
	Instance  *Instance
	Store     store.Protection
	Platforms map[string]platform.Platform
	Now       func() time.Time
	Log       *slog.Logger                               // nil: nowhere
	Notify    func(context.Context, store.Finding) error // of each finding, after it is stored; may be nil
}

// Guard judges the records of an instance by the circle of trust. It signs nothing.
// It is safe for concurrent use.
type Guard struct {
	c     GuardConfig
	roots *record.Roots

	mu       sync.Mutex // guards the next
	verifier *record.Verifier
	trust    *record.Trust
	at       time.Time
}

// NewGuard makes a Guard.
func NewGuard(c GuardConfig) (*Guard, error) {
	if c.Instance == nil || c.Store == nil || c.Now == nil {
		return nil, errors.New("records: instance, store and clock are wanted")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Guard{c: c, roots: record.NewRoots(0)}, nil
}

// fresh is how long a verifier is used before the circle is asked again.
const fresh = time.Second

// judge returns a verifier over what is believed now.
func (g *Guard) judge() (*record.Verifier, *record.Trust, error) {
	now := g.c.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.verifier != nil && !now.Before(g.at) && now.Sub(g.at) < fresh {
		return g.verifier, g.trust, nil
	}
	b, err := g.c.Instance.believe(now)
	if err != nil {
		return nil, nil, err
	}
	t := b.Records(g.c.Instance.Name)
	v, err := record.NewVerifier(t, g.roots)
	if err != nil {
		return nil, nil, err
	}
	g.verifier, g.trust, g.at = v, t, now
	return v, t, nil
}

// marks are the durable high-water marks of revisions.
type marks struct {
	s      store.Protection
	frozen bool // looking changes nothing
}

// Marks are the high-water marks that s keeps.
func Marks(s store.Protection) record.Marks { return marks{s: s} }

// Highest implements record.Marks.
func (m marks) Highest(ctx context.Context, ref record.Ref) (uint64, error) {
	return m.s.Mark(ctx, []byte(ref.ID()))
}

// Raise implements record.Marks.
func (m marks) Raise(ctx context.Context, ref record.Ref, revision uint64) error {
	if m.frozen {
		return nil
	}
	id := []byte(ref.ID())
	if err := m.s.Raise(ctx, [][]byte{id}, []uint64{revision}); err != nil {
		return err
	}
	// Somebody else may have raised it further meanwhile: then this one is old.
	now, err := m.s.Mark(ctx, id)
	if err == nil && now > revision {
		err = fmt.Errorf("records: mark of %s: %w", ref, record.ErrLower)
	}
	return err
}

func (g *Guard) platform(name string) (platform.Platform, error) {
	p := g.c.Platforms[name]
	if p == nil {
		return nil, fmt.Errorf("%w: no platform is called %.80q here", platform.ErrTable, name)
	}
	return p, nil
}

// platforms are the names, sorted.
func (g *Guard) platforms() []string { return slices.Sorted(maps.Keys(g.c.Platforms)) }

// IsTrusted verifies a record as it stands in a platform, for a purpose. What it
// returns is what was verified: use it, and read nothing again.
func (g *Guard) IsTrusted(ctx context.Context, on string, ref record.Ref, purpose string) (*record.Trusted, error) {
	rec, sigs, err := g.fetch(ctx, on, ref)
	if err != nil {
		return nil, err
	}
	v, _, err := g.judge()
	if err != nil {
		return nil, err
	}
	return v.Verify(ctx, rec, purpose, sigs, Marks(g.c.Store))
}

// fetch reads a record with its signatures. A record that is not there is a refusal.
func (g *Guard) fetch(ctx context.Context, on string, ref record.Ref) (*record.Record, []record.Signature, error) {
	if err := ref.Check(); err != nil {
		return nil, nil, err
	}
	db, err := g.platform(on)
	if err != nil {
		return nil, nil, err
	}
	row, err := db.Get(ctx, ref, nil)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, nil, rejection.New(rejection.RecordMismatch, ref.Table, "there is no such record")
	}
	if err != nil {
		return nil, nil, err
	}
	return &row.Record, row.Signatures, nil
}

// Job is a record for a queue job: as it stands, its signatures, and the verdict. A
// verdict of nil means that it verified; the agent judges again by itself.
type Job struct {
	Platform   string
	Record     record.Record
	Signatures []record.Signature
	Statement  *record.Statement // nil when it did not verify
	Verdict    error
}

// ForJob returns a record for dispatch, from the first platform (by name) that has
// its table.
func (g *Guard) ForJob(ctx context.Context, ref record.Ref, purpose string) (*Job, error) {
	on, err := g.where(ctx, ref.Table)
	if err != nil {
		return nil, err
	}
	rec, sigs, err := g.fetch(ctx, on, ref)
	if err != nil {
		return nil, err
	}
	j := &Job{Platform: on, Record: *rec, Signatures: sigs}
	v, _, err := g.judge()
	if err != nil {
		j.Verdict = err
		return j, nil
	}
	t, err := v.Verify(ctx, rec, purpose, sigs, Marks(g.c.Store))
	if err != nil {
		j.Verdict = err
		return j, nil
	}
	st := t.Statement()
	j.Record, j.Statement = t.Record(), &st
	return j, nil
}

// where is the platform that has a table.
func (g *Guard) where(ctx context.Context, table string) (string, error) {
	for _, n := range g.platforms() {
		ts, err := g.c.Platforms[n].Tables(ctx)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(ts, func(t platform.Table) bool { return t.Name == table }) {
			return n, nil
		}
	}
	return "", rejection.New(rejection.RecordMismatch, table, "no platform of this instance has such a table")
}

// find adds findings and tells of them.
func (g *Guard) find(ctx context.Context, fs ...store.Finding) error {
	if err := g.c.Store.AddFindings(ctx, fs...); err != nil {
		return err
	}
	for _, f := range fs {
		g.c.Log.Warn("a record does not verify", "source", f.Source, "table", f.Table, "code", f.Code, "subject", f.Subject)
		if g.c.Notify != nil {
			if err := g.c.Notify(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func finding(now time.Time, source string, ref record.Ref, err error) store.Finding {
	f := store.Finding{At: now, Source: source, Table: ref.Table, Ref: []byte(ref.ID())}
	if r := rejection.Of(err); r != nil {
		f.Code, f.Subject, f.Detail = string(r.Code), r.Subject, r.Detail
	} else {
		f.Code, f.Detail = string(rejection.SigInvalid), "it could not be judged"
	}
	return f
}
