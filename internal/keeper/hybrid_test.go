package keeper

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// several is plain with room for more than one key: each signs the same message.
type several struct{ plain }

func (several) Name() string { return "several" }
func (several) MaxKeys() int { return format.MaxKeys }

func (several) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	q := *p
	q.Format = "plain"
	if len(done) > 0 {
		return nil, nil
	}
	var out []format.ToBeSigned
	for i, one := range id.Signers() {
		tbs, err := plain{}.Assemble(&q, one, at, nil)
		if err != nil {
			return nil, err
		}
		tbs[0].Key = i
		out = append(out, tbs...)
	}
	return out, nil
}

func severalItem(t *testing.T, name string) []byte {
	p := &format.Plan{Format: "several", Version: 1, Digest: "sha256", Size: 3, Content: make([]byte, 32), Body: []byte{}}
	copy(p.Content, name)
	return encodeItem(t, p, name)
}

func newHybrid(t *testing.T) *world {
	w := newWorld(t, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Also, p.Formats = []string{"quantum"}, []string{"plain", "several"}
		c.Keys["quantum"] = charter.Key{URI: "test:quantum", Algorithm: sigalg.MLDSA65}
		c.Policies["release"] = p
	})
	w.config.Formats = append(w.config.Formats, several{})
	w.reopen()
	return w
}

func (w *world) severalOrder(items [][]byte) *Order {
	w.Helper()
	o := w.order(w.request("alice", w.signCommand("release", items, "several")), "bob", "carol")
	o.Items = items
	return o
}

// checkKeys verifies every signature with the key that the receipt names for it.
func (w *world) checkKeys(r *statement.Receipt, out *Outcome, items [][]byte, keys ...string) {
	w.Helper()
	uses := r.Signed.Keys()
	if len(uses) != len(keys) || len(out.Also) != len(keys)-1 || len(out.Signatures) != len(items) {
		w.Fatalf("%d keys in the receipt, %d further chains, %d signatures", len(uses), len(out.Also), len(out.Signatures))
	}
	chains := append([][][]byte{out.Chain}, out.Also...)
	for i, it := range items {
		_, p, err := format.DecodeItem(it)
		if err != nil {
			w.Fatal(err)
		}
		if len(out.Signatures[i]) != len(keys) {
			w.Fatalf("item %d: %d signatures", i, len(out.Signatures[i]))
		}
		for k, name := range keys {
			st := w.k.state(name)
			if uses[k].Key != name || uses[k].Chain != chainDigest(chains[k]) || len(chains[k]) == 0 {
				w.Fatalf("key %d is %s in the receipt, with the certificates %s", k, uses[k].Key, uses[k].Chain)
			}
			tbs, err := several{}.Assemble(p, format.Identity{Scheme: uses[k].Scheme}, r.Time, nil)
			if err != nil {
				w.Fatal(err)
			}
			if err := sigalg.Verify(st.pub, uses[k].Scheme, tbs[0].Message, out.Signatures[i][k]); err != nil {
				w.Fatalf("item %d, key %s: %v", i, name, err)
			}
		}
	}
}

// Invariant 3, of several keys: asking again returns the outcome, before and after a
// restart, and no key is used.
func TestHybridReplay(t *testing.T) {
	w := newHybrid(t)
	w.generate("release", "quantum")
	items := [][]byte{severalItem(t, "one"), severalItem(t, "two")}
	o := w.severalOrder(items)
	before := w.provider.uses.Load()
	r, out := w.executed(o)
	w.checkKeys(r, out, items, "release", "quantum")
	if n := w.provider.uses.Load() - before; n != 4 {
		t.Errorf("two keys were used %d times for two items", n)
	}
	before = w.provider.uses.Load()
	for range 2 {
		if _, again := w.executed(o); !reflect.DeepEqual(out, again) {
			t.Fatal("the outcome differs")
		}
		outs, err := w.k.Receipts(context.Background(), r.Number, 1)
		if err != nil || len(outs) != 1 || !reflect.DeepEqual(out, outs[0]) {
			t.Fatalf("receipt %d read back differs, %v", r.Number, err)
		}
		w.reopen()
	}
	if n := w.provider.uses.Load() - before; n != 0 {
		t.Errorf("keys were used %d times to say it again", n)
	}
	w.sound()
}

// All or nothing: a key that is suspended, missing or faulty lets no other key's
// signature out; the refusal comes before any key is used where it can.
func TestAttackHybridHalf(t *testing.T) {
	w := newHybrid(t)
	w.generate("release")
	items := [][]byte{severalItem(t, "one")}
	before := w.provider.uses.Load()
	w.refusedWith(string(KeyNotGenerated), w.severalOrder(items))
	if n := w.provider.uses.Load() - before; n != 0 {
		t.Errorf("a key was used %d times before the other one was there", n)
	}
	w.generate("quantum")
	for _, name := range []string{"quantum", "release"} {
		w.executed(w.order(w.request("alice", keyCommand(statement.KeySuspend, name)), "bob"))
		before = w.provider.uses.Load()
		o := w.severalOrder(items)
		w.refusedWith(string(KeySuspended), o)
		if n := w.provider.uses.Load() - before; n != 0 {
			t.Errorf("%s is suspended: keys were used %d times", name, n)
		}
		w.executed(w.order(w.request("alice", keyCommand(statement.KeyResume, name)), "bob", "carol"))
		r, out := w.executed(o)
		w.checkKeys(r, out, items, "release", "quantum")
	}
	w.provider.mu.Lock()
	w.provider.fault = func(sig []byte) []byte {
		if len(sig) == 3309 { // ML-DSA-65
			sig[7] ^= 1
		}
		return sig
	}
	w.provider.mu.Unlock()
	w.refusedWith(string(KeyFaulty), w.severalOrder(items))
	w.provider.mu.Lock()
	w.provider.fault = nil
	w.provider.mu.Unlock()
	// A format of one key signs nothing under a policy of two.
	w.refusedWith(string(PlanInvalid), w.signOrder("release", plainItems(t, 1), "bob", "carol"))
	w.executed(w.order(w.request("alice", keyCommand(statement.KeyDestroy, "quantum")), "bob", "carol"))
	before = w.provider.uses.Load()
	w.refusedWith(string(KeyDestroyed), w.severalOrder(items))
	if n := w.provider.uses.Load() - before; n != 0 {
		t.Errorf("keys were used %d times", n)
	}
	w.sound()
}

// The keys are those of the law at execution: what was endorsed under a policy of
// two keys is signed by the one that the policy in force has, and its receipt names
// that charter; what was endorsed under one is signed by both.
func TestHybridPolicyChanges(t *testing.T) {
	w := newHybrid(t)
	w.generate("release", "quantum")
	replace := func(also []string) {
		t.Helper()
		next, err := charter.Next(w.c, w.ref(), w.clock())
		if err != nil {
			t.Fatal(err)
		}
		p := next.Policies["release"]
		p.Also = also
		next.Policies["release"] = p
		payload, err := charter.Encode(next)
		if err != nil {
			t.Fatal(err)
		}
		w.executed(w.order(w.request("alice", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}), "bob", "carol"))
		w.c = next
	}
	items := [][]byte{severalItem(t, "one")}
	both := w.severalOrder(items)
	replace(nil)
	one := w.severalOrder(items)
	r, out := w.executed(both)
	w.checkKeys(r, out, items, "release")
	if r.Charter != w.ref() {
		t.Errorf("the receipt names charter %d", r.Charter.Version)
	}
	replace([]string{"quantum"})
	r, out = w.executed(one)
	w.checkKeys(r, out, items, "release", "quantum")
	if r.Charter != w.ref() {
		t.Errorf("the receipt names charter %d", r.Charter.Version)
	}
	w.sound()
}

// Signatures of every key count against the limit, before any key is used.
func TestHybridResultTooLarge(t *testing.T) {
	w := newHybrid(t)
	w.generate("release", "quantum")
	w.config.Limits.Result = 2 * 3309
	w.reopen()
	before := w.provider.uses.Load()
	w.refusedWith(string(ResultTooLarge), w.severalOrder([][]byte{severalItem(t, "one"), severalItem(t, "two")}))
	if n := w.provider.uses.Load() - before; n != 0 {
		t.Errorf("keys were used %d times", n)
	}
}

// A ledger whose record of several keys has one is refused.
func TestHybridRecordIsStrict(t *testing.T) {
	b, err := format.Encode(hybridRecord{Signatures: [][][]byte{{{1}}}, Chains: [][][]byte{{{2}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeResult(recHybrid, b); err == nil {
		t.Error("one key")
	}
	if _, err := decodeResult(recOutcome, b); err == nil {
		t.Error("read as the result of one key")
	}
}
