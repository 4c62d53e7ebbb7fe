package server_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// counted is a store that counts the looks at requests and items.
type counted struct {
	store.Store
	requests, items atomic.Int64
}

func (c *counted) Request(ctx context.Context, id statement.ID) (*store.Request, error) {
	c.requests.Add(1)
	return c.Store.Request(ctx, id)
}

func (c *counted) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	c.items.Add(1)
	return c.Store.Items(ctx, id)
}

// From its submission to its execution a request is not read again.
func TestRequestsAreRemembered(t *testing.T) {
	w := servertest.New(t)
	db := &counted{Store: w.Store("")}
	s, stop := w.Server(db)
	items := w.Files("app", 3)
	env := w.Sign("alice", "release", items)
	_, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	stop() // the loops look for themselves
	before := db.requests.Load()
	for _, who := range []string{"bob", "carol"} {
		_, err := s.Endorse(t.Context(), w.Endorse(who, env))
		must(t, err)
	}
	if n := db.requests.Load() - before; n != 0 {
		t.Errorf("the request was read %d times for two endorsements", n)
	}
	must(t, s.Execute(t.Context(), w.ID(env)))
	if n := db.items.Load(); n != 0 {
		t.Errorf("the items were read %d times", n)
	}
	r, err := db.Store.Request(t.Context(), w.ID(env))
	must(t, err)
	if r.State != store.Executed {
		t.Errorf("the request is %s", r.State)
	}
}

// What one replica remembers of a request that another one has moved on neither
// refuses anybody nor is taken for its state.
func TestRememberedRequestsAreOld(t *testing.T) {
	w := servertest.New(t)
	db := w.Store("")
	here, _ := w.Server(db)
	there, _ := w.Server(db)
	submit := func(name string) []byte {
		t.Helper()
		items := w.Files(name, 1)
		env := w.Sign("alice", "release", items)
		_, _, err := here.Submit(t.Context(), env, items)
		must(t, err)
		return env
	}

	// An endorsement that arrived there: here it is the second of two, and
	// arriving again it is no error.
	env := submit("one")
	first := w.Endorse("bob", env)
	_, err := there.Endorse(t.Context(), first)
	must(t, err)
	r, err := here.Endorse(t.Context(), first)
	must(t, err)
	if len(r.Endorsements) != 1 {
		t.Errorf("%d endorsements", len(r.Endorsements))
	}
	r, err = here.Endorse(t.Context(), w.Endorse("carol", env))
	must(t, err)
	if len(r.Endorsements) != 2 {
		t.Errorf("%d endorsements", len(r.Endorsements))
	}
	w.Until(here, r.ID, store.Executed)

	// Closed there: refused here, for the reason that is true.
	env = submit("two")
	_, err = there.Endorse(t.Context(), w.Say(statement.Disapprove, "bob", env))
	must(t, err)
	if _, err = here.Endorse(t.Context(), w.Endorse("carol", env)); code(err) != "request-closed" {
		t.Errorf("an endorsement of what was disapproved there: %v", err)
	}

	// Remembered here as it was, and closed there: nothing of it is executed here.
	env = submit("three")
	_, err = here.Endorse(t.Context(), w.Endorse("bob", env))
	must(t, err)
	_, err = there.Endorse(t.Context(), w.Say(statement.Disapprove, "carol", env))
	must(t, err)
	must(t, here.Execute(t.Context(), w.ID(env)))
	if r, err = db.Request(t.Context(), w.ID(env)); err != nil || r.State == store.Executed {
		t.Errorf("executed: %+v, %v", r, err)
	}
}
