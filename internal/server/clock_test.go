package server_test

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/tsp"
)

// What docs/operate/incidents.md says of a keeper whose clock was far ahead: it
// executes nothing before that time, and a copy of its ledger from before goes on
// if no receipt was given since, and only then.
func TestClockWasAhead(t *testing.T) {
	const ahead = 60 * 24 * time.Hour
	for _, receipt := range []bool{false, true} {
		w := servertest.New(t)
		st := w.Store("")
		s, stop := w.Server(st)
		sign := func(name string) statement.ID {
			t.Helper()
			items := w.Files(name, 1)
			r, _, err := s.Submit(t.Context(), w.Sign("alice", "nightly", items), items)
			must(t, err)
			return r.ID
		}
		before := sign("before")
		w.Until(s, before, store.Executed)
		path := filepath.Join(w.Config.Dir, "ledger")
		copied, err := os.ReadFile(path)
		must(t, err)

		w.Pass(ahead)
		sum := sha256.Sum256([]byte("x"))
		der, err := tsp.NewRequest(crypto.SHA256, sum[:], big.NewInt(1), nil, true).Marshal()
		must(t, err)
		_, err = w.Keeper.Timestamp(t.Context(), der)
		must(t, err)
		if receipt {
			w.Until(s, sign("ahead"), store.Executed)
		}
		w.Pass(-ahead)
		waits := sign("after")
		if r, err := s.Get(t.Context(), waits); err != nil || r.State != store.Endorsed {
			t.Fatalf("with a clock that is right again: %s, %v", r.State, err)
		}
		stop()

		must(t, w.Keeper.Close())
		must(t, os.WriteFile(path, copied, 0o600))
		w.Keeper, err = keeper.Open(t.Context(), w.Config)
		must(t, err)
		c := server.Config{Store: st, Keeper: w.Keeper, Formats: servertest.Formats(), Pin: w.Pin, Clock: w.Now}
		again, err := server.New(t.Context(), c)
		if receipt {
			if !errors.Is(err, keeper.ErrRollback) {
				t.Errorf("a copy that lacks a receipt: %v", err)
			}
			continue
		}
		must(t, err)
		w.Pass(10 * time.Second)
		must(t, again.Execute(t.Context(), waits))
		if r, err := again.Get(t.Context(), waits); err != nil || r.State != store.Executed {
			t.Errorf("with the copy: %s, %v", r.State, err)
		}
		s, stop = w.Server(st)
		honestLog(t, w, st, before, waits)
		stop()
	}
}
