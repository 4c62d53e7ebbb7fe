package instance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

type bundles = store.CircleBundles

// counted counts what replicas write and read.
type counted struct {
	bundles
	writes, reads int
}

func (c *counted) PutCircleBundle(ctx context.Context, root, old [32]byte, b []byte, now time.Time) error {
	c.writes++
	return c.bundles.PutCircleBundle(ctx, root, old, b, now)
}

func (c *counted) CircleBundle(ctx context.Context, root [32]byte) (*store.CircleBundle, error) {
	c.reads++
	return c.bundles.CircleBundle(ctx, root)
}

// replica is one process's part.
type replica struct {
	*Circles
	memory *circletest.Memory
	db     *counted
	now    time.Time
}

func newDatabase(t *testing.T) store.CircleBundles {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newReplica(t *testing.T, db store.CircleBundles, root statement.ID, now time.Time) *replica {
	t.Helper()
	r := &replica{memory: &circletest.Memory{}, db: &counted{bundles: db}, now: now}
	c, err := circle.New(t.Context(), r.memory, root)
	if err != nil {
		t.Fatal(err)
	}
	r.Circles = &Circles{believed: c, store: r.db, roots: []statement.ID{root}, now: func() time.Time { return r.now }, log: slog.New(slog.DiscardHandler), heard: map[[32]byte]heard{}}
	return r
}

func (r *replica) version() uint64 { return r.Status()[0].Version }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantsCode(t *testing.T, err error, want rejection.Code) {
	t.Helper()
	if r := rejection.Of(err); r == nil || r.Code != want {
		t.Fatalf("%v: want %s", err, want)
	}
}

// Two replicas that hold the same version with evidence of two forms do not write in
// turns, nor do those to whom a side has said two things.
func TestReplicasDoNotWriteInTurns(t *testing.T) {
	for name, second := range map[string]func(s *circletest.Side, first circle.Update) circle.Update{
		"another form of the evidence": func(s *circletest.Side, first circle.Update) circle.Update {
			payload, err := s.Last.Encode()
			must(t, err)
			return s.Agree("circle", "operator", payload, "officer1", "officer2")
		},
		"another statement": func(s *circletest.Side, first circle.Update) circle.Update {
			s.Last, s.ID = nil, statement.ID{}
			return s.Publish(func(st *trust.Statement) { st.Expires = st.Expires.Add(time.Hour) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := circletest.New(t)
			u1 := s.Publish()
			u2 := second(s, u1)
			if bytes.Equal(u1.Evidence, u2.Evidence) {
				t.Fatal("the evidence is the same")
			}
			db := newDatabase(t)
			a, b := newReplica(t, db, s.Root, s.Now), newReplica(t, db, s.Root, s.Now)
			must(t, a.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{u1}}))
			err := b.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{u2}})
			if err != nil {
				wantsCode(t, err, rejection.RevisionRollback)
			}
			told := 0
			for range 10 {
				for _, r := range []*replica{a, b} {
					if err := r.Hear(t.Context()); err != nil {
						told++
					}
				}
			}
			if n := a.db.writes + b.db.writes; n > 3 {
				t.Errorf("%d writes of one version", n)
			}
			if n := a.db.reads + b.db.reads; n > 4 || told > 1 {
				t.Errorf("%d reads, %d complaints", n, told)
			}
		})
	}
}

// A replica that is behind does not put an older version in the place of a newer one,
// also when it looked before the newer one came and its writer dies at once.
func TestLateReplicaLosesNothing(t *testing.T) {
	s := circletest.New(t)
	db := newDatabase(t)
	a, b := newReplica(t, db, s.Root, s.Now), newReplica(t, db, s.Root, s.Now)
	v1 := s.Publish()
	must(t, a.believed.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{v1}}, a.now)) // it believes, and is about to write
	s.Now = s.Now.Add(time.Minute)
	b.now, a.now = s.Now, s.Now
	must(t, b.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{v1, s.Publish()}})) // … and is killed
	must(t, a.share(t.Context(), s.Root))
	late := newReplica(t, db, s.Root, s.Now)
	must(t, late.Hear(t.Context()))
	if a.version() != 2 || late.version() != 2 {
		t.Fatalf("versions %d and %d: want 2", a.version(), late.version())
	}
}

// A bundle that was refused for a reason that passes is taken up later; one that
// cannot be is looked at once.
func TestHearAgain(t *testing.T) {
	s := circletest.New(t)
	db := newDatabase(t)
	a := newReplica(t, db, s.Root, s.Now)
	must(t, a.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{s.Publish()}}))
	t.Run("the clock is behind", func(t *testing.T) {
		b := newReplica(t, db, s.Root, s.Now.Add(-time.Hour))
		wantsCode(t, b.Hear(t.Context()), rejection.NotYetValid)
		must(t, b.Hear(t.Context()))
		b.now = s.Now
		must(t, b.Hear(t.Context()))
		if b.version() != 1 {
			t.Error("it was never taken up")
		}
	})
	t.Run("the disk is full", func(t *testing.T) {
		b := newReplica(t, db, s.Root, s.Now)
		b.memory.Err = errors.New("disk full")
		if err := b.Hear(t.Context()); !errors.Is(err, b.memory.Err) {
			t.Fatal(err)
		}
		b.memory.Err = nil
		must(t, b.Hear(t.Context()))
		b.now = b.now.Add(hearAgain)
		must(t, b.Hear(t.Context()))
		if b.version() != 1 {
			t.Error("it was never taken up")
		}
	})
}

// lied is a database that somebody has written to by hand.
type lied struct{ row store.CircleBundle }

func (l *lied) PutCircleBundle(context.Context, [32]byte, [32]byte, []byte, time.Time) error {
	return store.ErrConflict
}
func (l *lied) CircleBundle(context.Context, [32]byte) (*store.CircleBundle, error) {
	return &l.row, nil
}
func (l *lied) CircleBundles(context.Context) ([]store.CircleBundle, error) {
	return []store.CircleBundle{{Root: l.row.Root, Digest: l.row.Digest}}, nil
}

func TestForgedBundleIsReadOnce(t *testing.T) {
	s := circletest.New(t)
	good, err := (&circle.Bundle{Root: s.Root, Circles: []circle.Update{s.Publish()}}).Encode()
	must(t, err)
	for name, row := range map[string]store.CircleBundle{
		"garbage":          {Root: s.Root, Digest: sha256.Sum256([]byte("x")), Bundle: []byte("x")},
		"digest of others": {Root: s.Root, Digest: [32]byte{1}, Bundle: good},
		"side of others":   {Root: [32]byte{9}, Digest: sha256.Sum256(good), Bundle: good},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t, &lied{row}, s.Root, s.Now)
			complaints := 0
			for range 5 {
				if r.Hear(t.Context()) != nil {
					complaints++
				}
			}
			if r.db.reads > 1 || complaints > 1 || r.version() != 0 {
				t.Errorf("%d reads, %d complaints, version %d", r.db.reads, complaints, r.version())
			}
		})
	}
}

// A server that has lost its state while nobody signed freshness learns its own
// circle again, or nobody ever signs any.
func TestVersionOutlivesItsFreshness(t *testing.T) {
	s := circletest.New(t)
	db := newDatabase(t)
	a := newReplica(t, db, s.Root, s.Now)
	must(t, a.Apply(t.Context(), s.Bundle(s.Publish())))
	b := newReplica(t, db, s.Root, s.Now.Add(48*time.Hour))
	must(t, b.Hear(t.Context()))
	if b.version() != 1 {
		t.Fatal("it was not taken up")
	}
	if _, err := b.Trusted(); rejection.Of(err) == nil || rejection.Of(err).Code != rejection.TrustStoreStale {
		t.Fatalf("it is believed without freshness: %v", err)
	}
}
