package server_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func stamped(c *charter.Charter) {
	for name, p := range c.Policies {
		p.Timestamp = []string{"self"}
		c.Policies[name] = p
	}
}

// stamper gives tokens that are words, or waits, or fails.
type stamper struct {
	mu    sync.Mutex
	hang  chan struct{} // closed when somebody waits
	fail  bool
	calls int
}

func (s *stamper) Stamp(ctx context.Context, _ []string, sig []byte) ([]byte, error) {
	s.mu.Lock()
	s.calls++
	hang, fail := s.hang, s.fail
	s.hang = nil
	s.mu.Unlock()
	if hang != nil {
		close(hang)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if fail {
		return nil, errors.New("no authority answers")
	}
	return append([]byte("token of "), sig...), nil
}

// An authority that hangs does not hold up messages.
func TestMessagesWhileAnAuthorityHangs(t *testing.T) {
	w := servertest.New(t, stamped)
	all := newReceiver(t, 0)
	st := &stamper{hang: make(chan struct{})}
	hangs := st.hang
	s, _ := w.Server(w.Store(""), withHooks(all.hook(notify.Pending)), func(c *server.Config) { c.Stamper = st })
	items := w.Files("app", 1)
	_, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	<-hangs
	items = w.Files("other", 1)
	env := w.Sign("alice", "single", items)
	_, _, err = s.Submit(t.Context(), env, items)
	must(t, err)
	if m := all.wait(1)[0]; m.Data.Request != w.ID(env).String() {
		t.Errorf("message: %+v", m)
	}
}

// Many signatures are stamped in several turns, each once; an authority that is
// away is not asked for each of them.
func TestManyTimestamps(t *testing.T) {
	w := servertest.New(t, stamped)
	st := &stamper{fail: true}
	db := w.Store("")
	s, _ := w.Server(db, func(c *server.Config) { c.Stamper = st })
	const n = 600
	items := w.Files("app", n)
	r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
	must(t, err)
	w.Until(s, r.ID, store.Executed)
	calls := func() int { st.mu.Lock(); defer st.mu.Unlock(); return st.calls }
	for calls() == 0 || s.Metrics.TimestampFailures.Load() < int64(calls()) {
		s.AwaitNews(t.Context())
	}
	if c := calls(); c > 100 {
		t.Errorf("an authority that is away was asked %d times", c)
	}
	st.mu.Lock()
	st.fail, st.calls = false, 0
	st.mu.Unlock()
	w.Pass(10 * 60 * 1e9)
	for range 200 {
		v, err := s.View(t.Context(), r, false)
		must(t, err)
		if v.Timestamps != nil && v.Timestamps.Done == n {
			break
		}
		w.Pass(1e9)
		s.AwaitNews(t.Context())
	}
	ts, err := db.Timestamps(t.Context(), statement.ID(r.ID))
	must(t, err)
	if len(ts) != n || calls() != n {
		t.Errorf("%d of %d signatures have timestamps, after %d calls", len(ts), n, calls())
	}
}
