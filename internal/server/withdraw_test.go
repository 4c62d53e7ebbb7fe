package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// honestLog verifies the log of a database as a stranger reads it, as soon as it
// holds every receipt. The world's keys were made before
// there was a server: those two requests are missing.
func honestLog(t *testing.T, w *servertest.World, st store.Store, ids ...statement.ID) {
	t.Helper()
	ks, err := w.Keeper.Status(t.Context())
	must(t, err)
	var rep *verify.LogReport
	chain, err := w.Keeper.Chain(t.Context())
	must(t, err)
	c, err := quorum.DecodeChain(&w.Pin, chain)
	must(t, err)
	for range 2400 {
		rep, err = verify.Log(t.Context(), servertest.LogSource(st, c.Founding()), w.Pin, verify.LogOptions{})
		if err == nil && rep.Kinds[audit.KindReceipt] == int64(ks.Receipts) && len(rep.Problems) == 2 {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	must(t, err)
	for i, p := range rep.Problems {
		if i >= 2 || p.Code != verify.ProblemRequestUnknown || p.Receipt > 2 {
			t.Errorf("the log: entry %d: %s: %s", p.Index, p.Code, p.Detail)
		}
	}
	if n := rep.Kinds[audit.KindReceipt]; n != int64(ks.Receipts) {
		t.Errorf("the log holds %d receipts of %d", n, ks.Receipts)
	}
	for _, id := range ids {
		refs, err := st.EntriesOf(t.Context(), id)
		if err != nil || len(refs) == 0 {
			t.Errorf("the log: %d entries of %s, %v", len(refs), id, err)
		}
	}
}

// suspend and resume the key that everything is signed with.
func (r *racers) order(name statement.CommandName) {
	r.t.Helper()
	env := r.w.Request("bob", statement.Command{Name: name, Key: &statement.KeyArgs{Key: "release"}})
	q, _, err := r.s[0].Submit(r.t.Context(), env, nil)
	must(r.t, err)
	_, err = r.s[0].Endorse(r.t.Context(), r.w.Endorse("carol", env))
	must(r.t, err)
	r.w.Until(r.s[0], q.ID, store.Executed)
}

// racers are two replicas on one database.
type racers struct {
	t  *testing.T
	w  *servertest.World
	st store.Store
	s  [2]*server.Server
}

// A withdrawal, by the requester or by an endorser, and the execution on another
// replica: one of the two happens, whichever comes first, and everybody who was
// told that it is withdrawn was told the truth.
func TestWithdrawalAgainstExecution(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		r := &racers{t: t, w: servertest.New(t)}
		if dsn == "" {
			dsn = "sqlite:" + t.TempDir() + "/shared.db"
		}
		for i := range r.s {
			r.st = r.w.Store(dsn)
			r.s[i], _ = r.w.Server(r.st)
		}
		type ending struct {
			name string
			do   func(s *server.Server, env []byte) error
			to   store.State
		}
		endings := []ending{
			{"the requester", func(s *server.Server, env []byte) error {
				id := r.w.ID(env)
				return second(s.Cancel(t.Context(), id, "alice", cancelSig(t, "alice", id)))
			}, store.Cancelled},
			{"a veto", func(s *server.Server, env []byte) error {
				return second(s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "dave", env)))
			}, store.Disapproved},
			{"an endorser", func(s *server.Server, env []byte) error {
				return second(s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "bob", env)))
			}, store.Disapproved},
		}
		var mu sync.Mutex
		won, lost := 0, 0
		race := func(id statement.ID, env []byte, e ending, by, on *server.Server) {
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := by.Execute(t.Context(), id); err != nil {
					t.Errorf("execute: %v", err)
				}
			})
			err := e.do(on, env)
			wg.Wait()
			mu.Lock()
			defer mu.Unlock()
			switch code(err) {
			case "":
				won++
				if q, err := on.Get(t.Context(), id); err != nil || q.State != e.to {
					t.Errorf("%s has withdrawn it, and it is %s, %v", e.name, q.State, err)
				}
			case "request-executing", "request-closed":
				lost++
				q := r.w.Until(on, id, store.Executed)
				if q.Receipt == 0 {
					t.Errorf("%s was refused, and there is no receipt", e.name)
				}
			default:
				t.Errorf("%s: %v", e.name, err)
			}
		}

		// The last endorsement here, the withdrawal there.
		const rounds = 12
		for i := range rounds {
			items := r.w.Files(fmt.Sprint("last", i), 1)
			env := r.w.Sign("alice", "release", items)
			q, _, err := r.s[i%2].Submit(t.Context(), env, items)
			must(t, err)
			_, err = r.s[0].Endorse(t.Context(), r.w.Endorse("bob", env))
			must(t, err)
			e, last := endings[i%len(endings)], r.w.Endorse("carol", env)
			var wg sync.WaitGroup
			var completed error
			wg.Go(func() { completed = second(r.s[i%2].Endorse(t.Context(), last)) })
			err = e.do(r.s[1-i%2], env)
			wg.Wait()
			switch {
			case code(err) == "": // before or after the last endorsement, it counts
				if got, err := r.s[0].Get(t.Context(), q.ID); err != nil || got.State == store.Executed {
					t.Errorf("%s was in time, and it is executed", e.name)
				}
			case code(err) == "request-executing", code(err) == "request-closed":
				must(t, completed)
				r.w.Until(r.s[0], q.ID, store.Executed)
			default:
				t.Errorf("%s: %v", e.name, err)
			}
		}

		// What waits: endorsed by everybody, with a key that is suspended. When it is
		// resumed both replicas take everything up, while it is withdrawn.
		r.order(statement.KeySuspend)
		envs := make([][]byte, 3*rounds)
		ids := make([]statement.ID, len(envs))
		for i := range envs {
			items := r.w.Files(fmt.Sprint("waits", i), 1)
			envs[i] = r.w.Sign("alice", "release", items)
			ids[i] = r.w.ID(envs[i])
			_, _, err := r.s[0].Submit(t.Context(), envs[i], items)
			must(t, err)
			for _, who := range []string{"bob", "carol"} {
				_, err := r.s[i%2].Endorse(t.Context(), r.w.Endorse(who, envs[i]))
				must(t, err)
			}
		}
		for _, id := range ids {
			r.waiting(id)
		}
		used := r.w.Keys.Used()
		r.order(statement.KeyResume)
		r.w.Pass(10 * time.Second)
		var wg sync.WaitGroup
		for i := range envs {
			wg.Go(func() { race(ids[i], envs[i], endings[i%len(endings)], r.s[i%2], r.s[1-i%2]) })
		}
		wg.Wait()
		t.Logf("%d withdrawn in time, %d too late", won, lost)
		executed := 0
		for _, id := range ids {
			q, err := r.s[0].Get(t.Context(), id)
			must(t, err)
			if q.Sent {
				t.Errorf("%s is still said to be with the keeper", id)
			}
			if q.State == store.Executed {
				executed++
			}
		}
		if n := r.w.Keys.Used() - used; n != executed || executed != lost {
			t.Errorf("the key was used %d times for %d executed requests; %d withdrawals were too late", n, executed, lost)
		}
		honestLog(t, r.w, r.st, ids...)
	})
}

// waiting waits until a request has been refused for its key, and is nobody's.
func (r *racers) waiting(id statement.ID) {
	r.t.Helper()
	for range 6000 {
		q, err := r.s[0].Get(r.t.Context(), id)
		must(r.t, err)
		if q.State == store.Endorsed && q.Code == "key-suspended" && !q.Sent {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("request %s never waits for its key", id)
}

// What is endorsed and waits for its key is disapproved by whoever may do so, and
// nothing else is said of it; without a veto the others' quorum stands.
func TestDisapprovalOfWhatWaits(t *testing.T) {
	r := &racers{t: t, w: servertest.New(t)}
	r.st = r.w.Store("")
	s, _ := r.w.Server(r.st)
	r.s = [2]*server.Server{s, s}
	r.order(statement.KeySuspend)
	wait := func(name string, by ...string) []byte {
		t.Helper()
		items := r.w.Files(name, 1)
		env := r.w.Sign("alice", "release", items)
		_, _, err := s.Submit(t.Context(), env, items)
		must(t, err)
		for _, who := range by {
			_, err := s.Endorse(t.Context(), r.w.Endorse(who, env))
			must(t, err)
		}
		r.waiting(r.w.ID(env))
		return env
	}
	env := wait("one", "bob", "carol")
	wants(t, "another endorsement", second(s.Endorse(t.Context(), r.w.Endorse("dave", env))), "request-closed")
	wants(t, "the requester's word", second(s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "alice", env))), "endorsement-refused")
	wants(t, "a stranger's word", second(s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "ann", env))), "endorsement-refused")
	q, err := s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "dave", env))
	must(t, err)
	if q.State != store.Disapproved {
		t.Errorf("after a veto: %s", q.State)
	}
	two := wait("two", "bob", "carol")
	r.order(statement.KeyResume)
	r.w.Pass(10 * time.Second)
	r.w.Until(s, r.w.ID(two), store.Executed)
	wants(t, "after the execution", second(s.Endorse(t.Context(), r.w.Say(statement.Disapprove, "dave", two))), "request-closed")
	if q, err = s.Get(t.Context(), r.w.ID(env)); err != nil || q.State != store.Disapproved {
		t.Errorf("what was disapproved is %s, %v", q.State, err)
	}
	honestLog(t, r.w, r.st, r.w.ID(env), r.w.ID(two))
}

// silent is a keeper that is asked to sign and answers as it is told to.
type silent struct {
	keeper.Keeper
	mu    sync.Mutex
	err   error
	does  bool // it executes all the same
	asked int
}

func (k *silent) set(err error, does bool) { k.mu.Lock(); k.err, k.does = err, does; k.mu.Unlock() }

func (k *silent) Execute(ctx context.Context, o *keeper.Order) (*keeper.Outcome, error) {
	k.mu.Lock()
	err, does := k.err, k.does
	k.asked++
	k.mu.Unlock()
	if err == nil || does {
		out, kerr := k.Keeper.Execute(ctx, o)
		if err == nil {
			return out, kerr
		}
	}
	return nil, err
}

// A request whose order was lost on its way can be withdrawn only where it is
// certain that it never left.
func TestWithdrawalAfterAnError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		does bool
		code string // of the withdrawal
	}{
		{"never left", errors.Join(keeper.ErrUnreached, keeper.ErrUnavailable), false, ""},
		{"nothing is known", keeper.ErrUnavailable, false, "request-executing"},
		{"done, and the answer lost", keeper.ErrUnavailable, true, "request-executing"},
		{"not judged", keeper.ErrMalformed, false, ""},
		{"a clock that is behind", fmt.Errorf("keeper: %w", keeper.ErrClock), false, ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			w := servertest.New(t)
			k := &silent{Keeper: w.Keeper}
			st := w.Store("")
			s, stop := w.Server(st, func(x *server.Config) { x.Keeper = k })
			k.set(c.err, c.does)
			items := w.Files("app", 1)
			env := w.Sign("alice", "nightly", items)
			q, _, err := s.Submit(t.Context(), env, items)
			must(t, err)
			if q.State != store.Endorsed || q.Sent != (c.code != "") {
				t.Fatalf("after the error: %s, sent %v", q.State, q.Sent)
			}
			v, err := s.View(t.Context(), q, false)
			must(t, err)
			if v.Executing != q.Sent {
				t.Errorf("shown as executing: %v", v.Executing)
			}
			cancel := func() error {
				return second(s.Cancel(t.Context(), q.ID, "alice", cancelSig(t, "alice", q.ID)))
			}
			wants(t, "withdrawal", cancel(), c.code)
			if c.code == "" {
				if q, err = s.Get(t.Context(), q.ID); err != nil || q.State != store.Cancelled {
					t.Errorf("withdrawn: %s, %v", q.State, err)
				}
				return
			}
			// Its time passes: only the keeper knows what became of it.
			stop()
			w.Pass(25 * time.Hour)
			s, stop = w.Server(st, func(x *server.Config) { x.Keeper = k })
			defer stop()
			if due, err := st.Due(t.Context(), w.Now(), 10); err != nil || len(due) != 0 {
				t.Errorf("the server takes %v for expired, %v", due, err)
			}
			k.set(nil, false)
			if c.does {
				w.Until(s, q.ID, store.Executed)
			} else {
				w.Until(s, q.ID, store.Expired)
			}
			honestLog(t, w, st, q.ID)
		})
	}
}
