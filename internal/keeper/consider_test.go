package keeper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// What was considered is not verified again, and is judged again.
func TestConsider(t *testing.T) {
	w := newWorld(t)
	w.config.Cache = quorum.NewCache(100)
	w.reopen()
	w.generate("release")
	before := w.config.Cache.Len()
	o := w.signOrder("release", plainItems(t, 2), "bob", "carol")
	part := quorum.Evidence{Request: o.Evidence.Request, Endorsements: o.Evidence.Endorsements[:1]}
	if err := w.k.Consider(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	if n := w.config.Cache.Len() - before; n != 2 {
		t.Errorf("%d signatures were checked ahead: want 2", n)
	}
	w.refusedWith(string(quorum.QuorumPending), &Order{Evidence: part, Items: o.Items})
	w.executed(o)
	if n := w.config.Cache.Len() - before; n != 3 {
		t.Errorf("%d signatures were checked in all: want 3", n)
	}
	// Considered in time, ordered too late.
	o = w.signOrder("release", plainItems(t, 1), "bob", "carol")
	if err := w.k.Consider(t.Context(), o.Evidence); err != nil {
		t.Fatal(err)
	}
	w.pass(90 * 24 * time.Hour)
	w.unused(func() { w.refusedWith(string(quorum.Expired), o) })
	w.sound()
}

// Whatever is shown to the keeper to be considered, complete or forged, by many at
// a time: no key is used, no receipt made, no byte of the ledger written, and an
// order is what it would have been.
func TestAttackConsider(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 2), "bob", "carol")
	forged := bytes.Clone(o.Evidence.Endorsements[1])
	forged = reenvelope(t, forged, func(e *statement.Envelope) { e.Signatures[0].Sig = flipLast(e.Signatures[0].Sig) })
	many := quorum.Evidence{Request: o.Evidence.Request}
	for range quorum.MaxEndorsements + 1 {
		many.Endorsements = append(many.Endorsements, o.Evidence.Endorsements[0])
	}
	shown := map[string]quorum.Evidence{
		"complete":    o.Evidence,
		"a generate":  w.order(w.request("alice", generateCommand("other", 90)), "bob", "carol").Evidence,
		"a suspend":   w.order(w.request("alice", keyCommand(statement.KeySuspend, "release")), "carol").Evidence,
		"a destroy":   w.order(w.request("alice", keyCommand(statement.KeyDestroy, "release")), "bob", "carol").Evidence,
		"forged":      {Request: o.Evidence.Request, Endorsements: [][]byte{o.Evidence.Endorsements[0], forged}},
		"nothing":     {},
		"garbage":     {Request: []byte("{}"), Endorsements: [][]byte{nil, {0}, []byte("x")}},
		"too many":    many,
		"not a word":  {Request: o.Evidence.Endorsements[0], Endorsements: [][]byte{o.Evidence.Request}},
		"of the size": {Request: bytes.Repeat([]byte{'x'}, maxConsidered)},
	}
	status := func() *Status {
		t.Helper()
		st, err := w.k.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	ledger := func() []byte {
		t.Helper()
		b, err := os.ReadFile(ledgerPath(w.config.Dir))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	st, bytesBefore := status(), ledger()
	w.unused(func() {
		var wg sync.WaitGroup
		for range 8 {
			for what, ev := range shown {
				wg.Go(func() {
					if err := w.k.Consider(t.Context(), ev); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				})
			}
		}
		wg.Wait()
		large := quorum.Evidence{Request: bytes.Repeat([]byte{'x'}, maxConsidered), Endorsements: [][]byte{{1}}}
		if err := w.k.Consider(t.Context(), large); !errors.Is(err, ErrLimit) {
			t.Errorf("too large: %v", err)
		}
	})
	if now := status(); now.Receipts != st.Receipts || now.LastReceipt != st.LastReceipt || now.Charter != st.Charter {
		t.Errorf("the keeper was %+v and is %+v", st, now)
	}
	if !bytes.Equal(ledger(), bytesBefore) {
		t.Error("the ledger has changed")
	}
	w.unused(func() {
		w.refusedWith(string(quorum.QuorumPending), &Order{Evidence: shown["forged"], Items: o.Items})
	})
	w.executed(o)
	w.sound()
}

// A flood holds up nobody: one consideration is under way, the others are sent
// away, and executions take no notice.
func TestAttackConsiderFlood(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 1), "bob", "carol")
	w.k.considering.Lock() // one that never ends
	n := w.k.c.Cache.Len()
	for range 1000 {
		if err := w.k.Consider(t.Context(), o.Evidence); err != nil {
			t.Fatal(err)
		}
	}
	if w.k.c.Cache.Len() != n {
		t.Error("a second consideration was begun")
	}
	w.executed(o)
	w.executed(w.order(w.request("alice", keyCommand(statement.KeySuspend, "release")), "carol"))
	w.k.considering.Unlock()
	w.sound()
}

// A keeper that does not work considers nothing.
func TestConsiderStopped(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 1), "bob")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.k.Consider(ctx, o.Evidence); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.pass(-48 * time.Hour)
	if err := w.k.Consider(t.Context(), o.Evidence); !errors.Is(err, ErrClock) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("clock set back: %v", err)
	}
	w.pass(48 * time.Hour)
	if err := w.k.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.k.Consider(t.Context(), o.Evidence); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
