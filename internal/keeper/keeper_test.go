package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/tsp"
)

func leafHashes(items [][]byte) []merkle.Hash {
	var hs []merkle.Hash
	for _, it := range items {
		hs = append(hs, format.Leaf(it))
	}
	return hs
}

func TestSign(t *testing.T) {
	w := newWorld(t)
	w.generate("release", "nightly")
	for _, policy := range []string{"release", "nightly"} {
		items := plainItems(t, 50)
		o := w.signOrder(policy, items, "bob", "carol")
		before := w.provider.uses.Load()
		r, out := w.executed(o)
		w.checkSignatures(r, out, items)
		if n := w.provider.uses.Load() - before; n != 50 {
			t.Errorf("%d uses of the key for 50 items", n)
		}
		if policy == "release" && len(r.Endorsements) != 2 {
			t.Errorf("endorsements counted: %v", r.Endorsements)
		}
		if len(out.Chain) != 1 || r.Signed.Chain == "" {
			t.Errorf("no certificate in the outcome")
		}
	}
	w.sound()
}

func TestSignRSA(t *testing.T) {
	w := newWorld(t)
	w.generate("rsa")
	items := plainItems(t, 3)
	r, out := w.executed(w.signOrder("rsa", items))
	w.checkSignatures(r, out, items)
}

// Invariant 3: asking again returns the receipt, before and after a restart, also
// with other evidence, and the key rests.
func TestAttackReplayedEvidence(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	items := plainItems(t, 5)
	o := w.signOrder("release", items, "bob", "carol")
	_, out := w.executed(o)
	uses, size := w.provider.uses.Load(), w.k.ledger.Size()
	for range 3 {
		_, again := w.executed(o)
		if !reflect.DeepEqual(out, again) {
			t.Fatal("the outcome differs")
		}
	}
	bare := &Order{Evidence: quorum.Evidence{Request: o.Evidence.Request}}
	if _, again := w.executed(bare); !reflect.DeepEqual(out, again) {
		t.Fatal("the outcome differs")
	}
	w.reopen()
	w.pass(48 * time.Hour)
	if _, again := w.executed(o); !reflect.DeepEqual(out, again) {
		t.Fatal("the outcome differs after a restart")
	}
	if w.provider.uses.Load() != uses || w.k.ledger.Size() != size {
		t.Error("the key was used, or the ledger grew")
	}
}

// Many at once with one request: one execution.
func TestSameRequestAtOnce(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 3), "bob", "carol")
	before := w.provider.uses.Load()
	var wg sync.WaitGroup
	outs := make([]*Outcome, 20)
	for i := range outs {
		wg.Go(func() { _, outs[i] = w.executed(o) })
	}
	wg.Wait()
	for _, out := range outs {
		if !reflect.DeepEqual(out, outs[0]) {
			t.Fatal("outcomes differ")
		}
	}
	if n := w.provider.uses.Load() - before; n != 3 {
		t.Errorf("%d uses of the key for 3 items", n)
	}
	w.sound()
}

// Different requests at once: receipts without a gap, also when some fail.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.generate("release", "nightly")
	var orders []*Order
	for i := range 60 {
		items := plainItems(t, 1+i%3)
		switch i % 4 {
		case 0:
			orders = append(orders, w.signOrder("release", items, "bob"))
		case 1:
			o := w.signOrder("nightly", items)
			o.Items = o.Items[:len(o.Items)-1]
			orders = append(orders, o)
		default:
			orders = append(orders, w.signOrder("nightly", items))
		}
	}
	var wg sync.WaitGroup
	for i, o := range orders {
		wg.Go(func() {
			r, _ := w.do(o)
			if want := i%4 > 1; (r.Outcome == statement.Executed) != want {
				t.Errorf("order %d: %s %s", i, r.Outcome, r.Code)
			}
		})
	}
	wg.Wait()
	w.sound()
	w.reopen()
	w.sound()
}

// A refused request may be asked again with better evidence; the same refusal gives
// the same receipt.
func TestRefusedThenExecuted(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	items := plainItems(t, 1)
	o := w.signOrder("release", items, "bob")
	first := w.refusedWith("quorum-pending", o)
	again := w.refusedWith("quorum-pending", o)
	w.reopen()
	after := w.refusedWith("quorum-pending", o)
	if first.Number != again.Number || first.Number != after.Number {
		t.Errorf("the same refusal has receipts %d, %d, %d", first.Number, again.Number, after.Number)
	}
	o.Evidence.Endorsements = append(o.Evidence.Endorsements, w.say(statement.Endorse, "carol", o.Evidence.Request))
	r, out := w.executed(o)
	w.checkSignatures(r, out, items)
	w.sound()
}

func TestFormatWithTwoRounds(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	f := formattest.TwoRounds()
	art := format.BytesArtifact("hello.txt", []byte("two rounds\nhello"))
	p, err := f.Plan(context.Background(), art, nil)
	if err != nil {
		t.Fatal(err)
	}
	items := [][]byte{encodeItem(t, p, "hello.txt")}
	o := w.order(w.request("alice", w.signCommand("nightly", items, "two-rounds")))
	o.Items = items
	r, out := w.executed(o)
	if len(out.Signatures[0]) != 2 {
		t.Fatalf("%d signatures", len(out.Signatures[0]))
	}
	st := w.k.state("nightly")
	id := format.Identity{Scheme: r.Signed.Scheme, Public: st.pub}
	if _, err := f.Attach(context.Background(), art, p, id, r.Time, []format.Signature{{Value: out.Signatures[0][0]}, {Value: out.Signatures[0][1]}}); err != nil {
		t.Error(err)
	}
}

func TestKeyLife(t *testing.T) {
	w := newWorld(t)
	items := plainItems(t, 1)
	w.refusedWith("key-not-generated", w.signOrder("nightly", items))
	w.refusedWith("key-not-generated", w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob"))
	r, _ := w.executed(w.order(w.request("alice", generateCommand("nightly", 30)), "bob"))
	if r.Key.State != Active || len(r.Key.Chain) != 1 {
		t.Errorf("generated: %+v", r.Key)
	}
	csr, err := x509.ParseCertificateRequest(r.Key.Request)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.String() != "CN=Example,O=Example Ltd,C=CH" {
		t.Errorf("certificate request of %v, %v", csr.Subject, err)
	}
	w.refusedWith("key-exists", w.order(w.request("alice", generateCommand("nightly", 0)), "bob"))
	w.executed(w.signOrder("nightly", items))
	w.refusedWith("key-not-suspended", w.order(w.request("alice", keyCommand(statement.KeyResume, "nightly")), "bob", "carol"))
	w.executed(w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob"))
	w.refusedWith("key-suspended", w.signOrder("nightly", items))
	w.reopen()
	w.refusedWith("key-suspended", w.signOrder("nightly", items))
	w.refusedWith("key-suspended", w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob"))
	w.refusedWith("quorum-pending", w.order(w.request("alice", keyCommand(statement.KeyResume, "nightly")), "bob"))
	w.executed(w.order(w.request("alice", keyCommand(statement.KeyResume, "nightly")), "bob", "carol"))
	w.executed(w.signOrder("nightly", items))
	w.executed(w.order(w.request("alice", keyCommand(statement.KeyDestroy, "nightly")), "bob", "carol"))
	w.refusedWith("key-destroyed", w.signOrder("nightly", items))
	w.refusedWith("key-exists", w.order(w.request("alice", generateCommand("nightly", 0)), "bob"))
	w.refusedWith("key-destroyed", w.order(w.request("alice", keyCommand(statement.KeyResume, "nightly")), "bob", "carol"))
	if _, err := os.Stat(w.provider.path("test:nightly")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key is still there")
	}
	w.reopen()
	w.refusedWith("key-destroyed", w.signOrder("nightly", items))
	w.sound()
	st, err := w.k.Status(context.Background())
	if err != nil || len(st.Keys) != 4 || st.Keys[0].Name != "nightly" || st.Keys[0].State != Destroyed || st.Keys[1].State != PreActivation {
		t.Errorf("status %+v, %v", st.Keys, err)
	}
}

func TestGenerateEveryAlgorithm(t *testing.T) {
	w := newWorld(t, func(c *charter.Charter) {
		for _, a := range []sigalg.Key{sigalg.P384, sigalg.MLDSA65, sigalg.MLDSA87} {
			c.Keys[string(a)] = charter.Key{URI: key.URI("test:of-" + a), Algorithm: a}
		}
		k := c.Keys["rsa"]
		k.Scheme = sigalg.RSAPSSSHA384
		c.Keys["rsa"] = k
	})
	for name, ck := range w.c.Keys {
		r, _ := w.executed(w.order(w.request("alice", generateCommand(name, 10)), "bob"))
		csr, err := x509.ParseCertificateRequest(r.Key.Request)
		if err != nil || csr.CheckSignature() != nil {
			t.Errorf("%s: certificate request: %v", ck.Algorithm, err)
			continue
		}
		leaf, err := x509.ParseCertificate(r.Key.Chain[0])
		if err != nil || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil {
			t.Errorf("%s: certificate: %v", ck.Algorithm, err)
		}
		if a, err := sigalg.KeyOf(leaf.PublicKey); err != nil || a != ck.Algorithm {
			t.Errorf("%s: certified key is %s, %v", ck.Algorithm, a, err)
		}
	}
}

// replacement is an order for the next charter.
func (w *world) replacement(change func(*charter.Charter), endorsers ...string) *Order {
	w.Helper()
	next, err := charter.Next(w.c, w.ref(), w.clock())
	if err != nil {
		w.Fatal(err)
	}
	change(next)
	payload, err := charter.Encode(next)
	if err != nil {
		w.Fatal(err)
	}
	return w.order(w.request("alice", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}), endorsers...)
}

func TestCharterReplace(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly", "release")
	items := plainItems(t, 1)
	pending := w.signOrder("nightly", items)
	w.pass(time.Minute)
	drop := func(c *charter.Charter) {
		c.Keys = map[string]charter.Key{"release": c.Keys["release"], "tsa": c.Keys["tsa"]}
		c.Policies = map[string]charter.Policy{"release": c.Policies["release"]}
	}
	w.refusedWith("quorum-pending", w.replacement(drop, "bob"))
	o := w.replacement(drop, "bob", "dave")
	r, _ := w.executed(o)
	if r.Next == nil || r.Next.Version != 2 || r.Next.ID == r.Charter.ID || w.ref() != *r.Next {
		t.Fatalf("in force: %+v, receipt %+v", w.ref(), r.Next)
	}
	w.refusedWith("policy-unknown", pending)
	w.reopen()
	if w.ref() != *r.Next {
		t.Fatal("the charter went back")
	}
	w.refusedWith("policy-unknown", pending)
	b, err := w.k.Chain(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := quorum.DecodeChain(&w.pin, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, head := ch.Head(); head != *r.Next {
		t.Error("the chain that is handed out ends elsewhere")
	}
	w.executed(w.signOrder("release", items, "bob", "carol"))
	w.sound()
}

// Invariant 4: no version is skipped, repeated or forked, and the keeper's own keys
// and the log's name stay.
func TestAttackCharterForks(t *testing.T) {
	w := newWorld(t)
	w.pass(time.Minute)
	same := func(*charter.Charter) {}
	old := w.replacement(same, "bob", "carol") // made under version 1
	w.refusedWith("charter-invalid", w.replacement(func(c *charter.Charter) { c.Version++ }, "bob", "carol"))
	w.refusedWith("charter-invalid", w.replacement(func(c *charter.Charter) { c.Previous[0] ^= 1 }, "bob", "carol"))
	w.refusedWith("charter-invalid", w.replacement(func(c *charter.Charter) { c.Deployment = "other" }, "bob", "carol"))
	w.refusedWith("keeper-mismatch", w.replacement(func(c *charter.Charter) { c.Keeper.Receipts = keyText(bytes.Repeat([]byte{1}, 32)) }, "bob", "carol"))
	w.refusedWith("keeper-mismatch", w.replacement(func(c *charter.Charter) { c.Keeper.LogKey = keyText(bytes.Repeat([]byte{1}, 32)) }, "bob", "carol"))
	w.refusedWith("keeper-mismatch", w.replacement(func(c *charter.Charter) { c.Keeper.Log += "/renamed" }, "bob", "carol"))
	w.refusedWith("keeper-mismatch", w.replacement(func(c *charter.Charter) {
		c.Keys = map[string]charter.Key{"release": c.Keys["release"], "nightly": c.Keys["nightly"], "rsa": c.Keys["rsa"], "tsa": c.Keys["tsa"],
			"own": {URI: "test:keeper-receipts", Algorithm: sigalg.Ed25519}}
	}, "bob", "carol"))
	if w.ref().Version != 1 {
		t.Fatal("a charter came into force")
	}
	w.executed(w.replacement(func(c *charter.Charter) {
		c.People["dave"] = charter.Person{Name: "Dave", Credentials: c.People["dave"].Credentials}
	}, "bob", "carol"))
	w.refusedWith("charter-invalid", old)
	if w.ref().Version != 2 {
		t.Fatal("the charter went back")
	}
	if err := w.k.Found(context.Background(), w.founding); err != nil || w.ref().Version != 2 {
		t.Errorf("founding again with the same: %v", err)
	}
}

func TestFoundRefuses(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t, func(c *charter.Charter) { c.Created = c.Created.Add(time.Second) })
	if err := w.k.Found(context.Background(), other.founding); !errors.Is(err, ErrFounded) {
		t.Errorf("another charter: %v", err)
	}
	dir := t.TempDir()
	os.Mkdir(dir+"/keys", 0o700)
	c, _ := configIn(dir, w.clock)
	if err := Init(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	try := func(pin statement.ID, env []byte, want error) {
		t.Helper()
		c.Pin = pin
		k, err := Open(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		if _, err := k.Execute(context.Background(), &Order{Evidence: quorum.Evidence{Request: w.request("alice", generateCommand("rsa", 0))}}); !errors.Is(err, ErrNotFounded) {
			t.Errorf("executes without a charter: %v", err)
		}
		if err := k.Found(context.Background(), env); !errors.Is(err, want) {
			t.Errorf("found: %v, want %v", err, want)
		}
		if st, err := k.Status(context.Background()); err != nil || st.Charter.Version != 0 {
			t.Errorf("founded: %+v, %v", st, err)
		}
	}
	try(statement.ID{}, w.founding, ErrPin)    // nothing pinned
	try(other.pin, w.founding, ErrPin)         // another one pinned
	try(w.pin, w.founding, ErrMalformed)       // of another keeper
	try(w.pin, []byte("{}"), ErrMalformed)     // garbage
	try(w.pin, w.founding[:900], ErrMalformed) // cut short
	if err := Init(context.Background(), c); err == nil {
		t.Error("init over a keeper")
	}
	w.k.Close()
	c = w.config
	c.Pin = other.pin
	if _, err := Open(context.Background(), c); !errors.Is(err, ErrPin) {
		t.Errorf("opened with another pin: %v", err)
	}
}

// A ledger that is lost is not made anew with the same keys.
func TestAttackLedgerMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.k.Close()
	if err := os.Remove(ledgerPath(w.config.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := Init(context.Background(), w.config); err == nil {
		t.Error("init made a second ledger for the same keys")
	}
}

// leaves is a log of n entries.
func logOf(n int) (audit.Tree, []tlog.Hash) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(ix []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range ix {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for i := range n {
		hs, err := tlog.StoredHashes(int64(i), fmt.Appendf(nil, "entry %d", i), reader)
		if err != nil {
			panic(err)
		}
		hashes = append(hashes, hs...)
	}
	if n == 0 {
		return audit.EmptyTree(), nil
	}
	root, err := tlog.TreeHash(int64(n), reader)
	if err != nil {
		panic(err)
	}
	return audit.Tree{Size: int64(n), Root: root}, hashes
}

func extend(old, size int) *Extension {
	t, hashes := logOf(size)
	e := &Extension{Size: t.Size, Root: t.Root[:]}
	if old > 0 && old < size {
		p, err := tlog.ProveTree(int64(size), int64(old), tlog.HashReaderFunc(func(ix []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range ix {
				out = append(out, hashes[i])
			}
			return out, nil
		}))
		if err != nil {
			panic(err)
		}
		for _, h := range p {
			e.Consistency = append(e.Consistency, h[:])
		}
	}
	return e
}

func TestCheckpoint(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	v, err := audit.NewVerifier("log.example.com/test", w.k.log.pub)
	if err != nil {
		t.Fatal(err)
	}
	old := 0
	for _, n := range []int{3, 3, 8, 9, 300} {
		e := extend(old, n)
		note, err := w.k.Checkpoint(ctx, e)
		if err != nil {
			t.Fatalf("%d to %d: %v", old, n, err)
		}
		h, err := audit.ParseCheckpoint(note, "log.example.com/test", v)
		if err != nil || h.Size() != int64(n) || h.Root() != [32]byte(e.Root) {
			t.Fatalf("%d: %v", n, err)
		}
		size := w.k.ledger.Size()
		again, err := w.k.Checkpoint(ctx, &Extension{Size: e.Size, Root: e.Root})
		if err != nil || !bytes.Equal(again, note) || w.k.ledger.Size() != size {
			t.Fatalf("the same tree: %v", err)
		}
		st, _ := w.k.Status(ctx)
		if !bytes.Equal(st.Checkpoint, note) {
			t.Fatal("status has another checkpoint")
		}
		old = n
		w.reopen()
	}
	fork := extend(0, 300)
	fork.Root[0] ^= 1
	bad := extend(300, 310)
	bad.Consistency[0][0] ^= 1
	short := extend(300, 310)
	short.Consistency = short.Consistency[1:]
	for what, e := range map[string]*Extension{
		"smaller": extend(0, 299), "fork of the same size": fork, "wrong proof": bad, "short proof": short,
		"no proof": {Size: 310, Root: extend(0, 310).Root}, "from another size": extend(8, 310), "empty": extend(0, 0),
	} {
		if _, err := w.k.Checkpoint(ctx, e); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, e := range map[string]*Extension{
		"negative": {Size: -1, Root: make([]byte, 32)}, "short root": {Size: 400, Root: make([]byte, 31)},
		"short hash": {Size: 400, Root: make([]byte, 32), Consistency: [][]byte{{1}}},
	} {
		if _, err := w.k.Checkpoint(ctx, e); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.k.Checkpoint(ctx, extend(300, 310)); err != nil {
		t.Errorf("after the attacks: %v", err)
	}
}

func stampRequest(t *testing.T, data string) []byte {
	t.Helper()
	d := sha256.Sum256([]byte(data))
	der, err := tsp.NewRequest(5, d[:], nil, nil, true).Marshal() // crypto.SHA256
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestTimestamp(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if _, err := w.k.Timestamp(ctx, stampRequest(t, "x")); !errors.Is(err, ErrTimestamp) {
		t.Errorf("without a key: %v", err)
	}
	w.generate("tsa")
	serials := map[string]bool{}
	for i := range 5 {
		if i == 3 {
			w.reopen()
		}
		der, err := w.k.Timestamp(ctx, stampRequest(t, "x"))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := tsp.ParseResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		if !tok.Info.Time.Equal(w.clock()) || tok.Info.Accuracy.Seconds != 1 || tok.Info.Policy.String() != "1.3.6.1.4.1.99999.1" {
			t.Errorf("info %+v", tok.Info)
		}
		if s := tok.Info.Serial.String(); serials[s] {
			t.Errorf("serial %s twice", s)
		} else {
			serials[s] = true
		}
	}
	if der, err := w.k.Timestamp(ctx, []byte("garbage")); err != nil {
		t.Error(err)
	} else if _, err := tsp.ParseResponse(der); err == nil {
		t.Error("garbage was stamped")
	}
	w.pass(-3 * time.Second)
	if _, err := w.k.Timestamp(ctx, stampRequest(t, "x")); !errors.Is(err, ErrClock) {
		t.Errorf("clock went back: %v", err)
	}
	w.pass(4 * time.Second)
	w.executed(w.order(w.request("alice", keyCommand(statement.KeySuspend, "tsa")), "bob"))
	if _, err := w.k.Timestamp(ctx, stampRequest(t, "x")); !errors.Is(err, ErrTimestamp) {
		t.Errorf("suspended: %v", err)
	}
}

func TestClockBackwards(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	o := w.signOrder("nightly", plainItems(t, 1))
	w.pass(-61 * time.Second)
	w.errorIs(ErrClock, o)
	if st, err := w.k.Status(context.Background()); err != nil || st.Stopped == "" {
		t.Errorf("status does not say so: %v", err)
	}
	w.reopen()
	w.errorIs(ErrClock, o)
	w.pass(10 * time.Second)
	w.executed(o)
}

// The law changes while a long execution runs: it is begun again, under the new law.
func TestSuspendStopsWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	suspend := w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob")
	gate := make(chan struct{}, 1000)
	w.provider.mu.Lock()
	w.provider.wait = gate
	w.provider.mu.Unlock()
	w.k.c.Limits.Workers = 2
	o := w.signOrder("nightly", plainItems(t, 50))
	got := make(chan *statement.Receipt)
	before := w.provider.uses.Load()
	go func() { r, _ := w.do(o); got <- r }()
	for range 10 { // of fifty
		gate <- struct{}{}
	}
	for w.provider.uses.Load() < before+10 {
		time.Sleep(time.Millisecond)
	}
	w.executed(suspend)
	if r := <-got; r.Code != "key-suspended" {
		t.Errorf("what ran: %s %s", r.Outcome, r.Code)
	}
	w.sound()
}

// A device that hangs does not keep its key from being suspended.
func TestSuspendWhileTheDeviceHangs(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	suspend := w.order(w.request("alice", keyCommand(statement.KeySuspend, "nightly")), "bob")
	w.provider.mu.Lock()
	w.provider.wait = make(chan struct{}) // for ever
	w.provider.mu.Unlock()
	o := w.signOrder("nightly", plainItems(t, 1))
	got := make(chan *statement.Receipt)
	before := w.provider.uses.Load()
	go func() { r, _ := w.do(o); got <- r }()
	for w.provider.uses.Load() == before {
		time.Sleep(time.Millisecond)
	}
	w.executed(suspend)
	if r := <-got; r.Code != "key-suspended" {
		t.Errorf("what hung: %s %s", r.Outcome, r.Code)
	}
	w.sound()
}

// Who gives up waiting leaves the request to be asked again.
func TestCallerGivesUp(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	w.provider.mu.Lock()
	w.provider.wait = make(chan struct{})
	w.provider.mu.Unlock()
	o := w.signOrder("nightly", plainItems(t, 2))
	ctx, cancel := context.WithCancel(context.Background())
	before := w.provider.uses.Load()
	done := make(chan error)
	go func() { _, err := w.k.Execute(ctx, o); done <- err }()
	for w.provider.uses.Load() == before {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.provider.mu.Lock()
	w.provider.wait = nil
	w.provider.mu.Unlock()
	w.executed(o)
	w.sound()
}
