package ecc_test

import (
	"context"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// meanwhile is a database to which something comes to pass right before a write.
type meanwhile struct {
	ecc.Store
	enrol, promote func()
}

func (m *meanwhile) Enrol(ctx context.Context, e *store.AgentEnrolment, waiting, perName int64) (*store.AgentEnrolment, error) {
	if f := m.enrol; f != nil {
		m.enrol = nil
		f()
	}
	return m.Store.Enrol(ctx, e, waiting, perName)
}

func (m *meanwhile) PromoteAgent(ctx context.Context, name string, next [32]byte) error {
	if f := m.promote; f != nil {
		m.promote = nil
		f()
	}
	return m.Store.PromoteAgent(ctx, name, next)
}

func meantime(t *testing.T) (*site, *meanwhile) {
	var m *meanwhile
	s := newSite(t, func(c *ecc.Config) {
		m = &meanwhile{Store: c.Store}
		c.Store = m
	})
	return s, m
}

// Who asks while an administrator validates it is validated; who is invalidated just
// then is not.
func TestInvariant6EnrolWhileValidated(t *testing.T) {
	s, m := meantime(t)
	ctx := t.Context()
	for _, invalid := range []bool{false, true} {
		x := ecctest.NewIdentity(t, "mid-1")
		e := ecc.Enrolment{Name: "mid-1", Request: x.Request(t)}
		_, err := s.Enrol(ctx, e)
		must(t, err)
		m.enrol = func() {
			_, err := s.Validate(ctx, x.Fingerprint(t), "admin")
			must(t, err)
			if invalid {
				must(t, s.Invalidate(ctx, "mid-1", "", "admin"))
			}
		}
		got, err := s.Enrol(ctx, e)
		must(t, err)
		want, chain := store.EnrolmentValidated, 2
		if invalid {
			want, chain = store.EnrolmentRefused, 0
		}
		if got.State != want || len(got.Certificates) != chain {
			t.Errorf("invalidated %v: %+v", invalid, got)
		}
	}
}

// Of calls that use a new key together each one is the agent's; and none is where the
// agent is invalidated meanwhile.
func TestRekeyTogether(t *testing.T) {
	s, m := meantime(t)
	ctx := t.Context()
	a := ecctest.Agent(t, s.Service, "mid-1")
	rekey := func() *ecctest.Identity {
		t.Helper()
		fresh := ecctest.NewIdentity(t, "mid-1")
		e, err := s.Rekey(ctx, a.Peer(t, s.Service), fresh.Request(t))
		must(t, err)
		fresh.Chain = e.Certificates
		return fresh
	}
	fresh := rekey()
	m.promote = func() { fresh.Peer(t, s.Service) }
	fresh.Peer(t, s.Service)
	for range 20 {
		a, fresh = fresh, nil
		fresh = rekey()
		leaf := fresh.Leaf(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if p, err := s.Peer(ctx, leaf); err != nil || p.Name() != "mid-1" {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	a = fresh
	fresh = rekey()
	m.promote = func() { must(t, s.Invalidate(ctx, "mid-1", "", "admin")) }
	_, err := s.Peer(ctx, fresh.Leaf(t))
	wantErr(t, err, ecc.ErrInvalidated)
}
