package keeper

import (
	"bytes"
	"testing"

	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// A server in the same process may share the cache of verified signatures: what
// it has verified is used, and nothing else is believed.
func TestAttackSharedCache(t *testing.T) {
	w := newWorld(t)
	w.config.Cache = quorum.NewCache(100)
	w.reopen()
	w.generate("release")
	items := plainItems(t, 2)
	o := w.signOrder("release", items, "bob", "carol")

	judged, grant := w.chain.Judge(o.Evidence, w.clock(), quorum.Options{Cache: w.config.Cache})
	if grant == nil {
		t.Fatalf("the server's judgement: %+v", judged)
	}
	known := w.config.Cache.Len()

	// The same words with another signature, and for another request, are not
	// what was verified.
	forged := *o
	forged.Evidence.Endorsements = [][]byte{o.Evidence.Endorsements[0], reenvelope(t, o.Evidence.Endorsements[1], func(e *statement.Envelope) {
		e.Signatures[0].Sig = flipLast(e.Signatures[0].Sig)
	})}
	other := w.signOrder("release", plainItems(t, 3))
	other.Evidence.Endorsements = o.Evidence.Endorsements
	known++ // the other request itself is genuine
	w.unused(func() {
		w.refusedWith(string(quorum.QuorumPending), &forged)
		w.refusedWith(string(quorum.QuorumPending), &Order{Evidence: other.Evidence, Items: plainItems(t, 3)})
	})
	if n := w.config.Cache.Len(); n != known {
		t.Errorf("the cache knows %d signatures: want %d", n, known)
	}

	w.executed(o)
	if n := w.config.Cache.Len(); n != known {
		t.Errorf("the cache knows %d signatures after the execution: want %d", n, known)
	}
	w.sound()
}

// A keeper that is given no cache has one of its own.
func TestOwnCache(t *testing.T) {
	w := newWorld(t)
	a := w.k.c.Cache
	w.reopen()
	if a == nil || w.k.c.Cache == nil || a == w.k.c.Cache {
		t.Errorf("caches %p and %p of two keepers", a, w.k.c.Cache)
	}
}

func reenvelope(t *testing.T, b []byte, change func(e *statement.Envelope)) []byte {
	t.Helper()
	e, err := statement.DecodeEnvelope(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	change(e)
	out, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
