package attacks

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Whoever has the server says to the keeper what he likes, over its own
// connection, and gets nothing that was not endorsed, and nothing twice.
func TestAttackLyingServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	elsewhere := newWorld(t, options{})
	items := w.items("wanted")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	votes := w.everyone(env)

	// Of another deployment, with the same people's words from there: and people
	// of the same names, whose keys are others.
	foreign := elsewhere.ask("alice", "release", items)
	w.denied("evidence of another deployment", foreign, items, elsewhere.everyone(foreign)...)
	w.denied("endorsements of another deployment", env, items, elsewhere.everyone(env)...)
	w.denied("another deployment's, named as this one's", w.envelope(payloadOf(t, foreign), "alice"), items, elsewhere.everyone(foreign)...)

	// Endorsements that are none.
	w.denied("none", env, items)
	w.denied("the request itself", env, items, env, env, env)
	w.denied("one, many times", env, items, votes[0], votes[0], votes[0])
	w.denied("garbage", env, items, []byte("{}"), []byte("null"), nil)
	w.denied("a receipt", env, items, w.lastReceipt(), votes[0], votes[1])
	var many [][]byte
	for range quorum.MaxEndorsements + 1 {
		many = append(many, votes[0])
	}
	w.denied("too many", env, items, append(many, votes...)...)
	w.denied("a long one", env, items, votes[0], votes[1], bytes.Repeat([]byte("x"), statement.MaxPayload*2))
	if _, _, err := w.keeperSays(env, make([][]byte, statement.MaxItems+1), votes...); !errors.Is(err, keeper.ErrLimit) {
		t.Errorf("too many items: %v", err)
	}

	// In any order the same is granted, once.
	slices.Reverse(votes)
	first, out, err := w.keeperSays(env, items, votes...)
	check(t, err)
	if first.Outcome != statement.Executed {
		t.Fatalf("%s: %s", first.Code, first.Detail)
	}
	before := w.soft.used("soft:release")
	evil := w.items("not wanted")
	for what, again := range map[string]func() (*statement.Receipt, *keeper.Outcome, error){
		"replayed": func() (*statement.Receipt, *keeper.Outcome, error) { return w.keeperSays(env, items, votes...) },
		"re-ordered": func() (*statement.Receipt, *keeper.Outcome, error) {
			return w.keeperSays(env, items, votes[1], votes[2], votes[0])
		},
		"without endorsements": func() (*statement.Receipt, *keeper.Outcome, error) { return w.keeperSays(env, items) },
		"with other items":     func() (*statement.Receipt, *keeper.Outcome, error) { return w.keeperSays(env, evil, votes...) },
		"signed again by alice": func() (*statement.Receipt, *keeper.Outcome, error) {
			return w.keeperSays(w.envelope(payloadOf(t, env), "alice"), items, votes...)
		},
		"and by a stranger, too": func() (*statement.Receipt, *keeper.Outcome, error) {
			return w.keeperSays(w.envelope(payloadOf(t, env), "bob"), items, votes...)
		},
	} {
		_, got, err := again()
		if err != nil || !bytes.Equal(got.Receipt, out.Receipt) || !bytes.Equal(got.Signatures[0][0], out.Signatures[0][0]) {
			t.Errorf("%s: another answer than the first time: %v", what, err)
		}
	}
	if n := w.soft.used("soft:release") - before; n != 0 {
		t.Errorf("the key was used %d times more", n)
	}

	// The log lacks the endorsements that the keeper was shown: it says so.
	w.published()
	report := w.judgeLog(verify.LogOptions{})
	if len(report.Problems) != 1 || report.Problems[0].Code != verify.ProblemUnauthorised {
		t.Errorf("found is %v", report.Problems)
	}
	w.broken = true

	// Checkpoints only ever extend the last one.
	st := w.status()
	head, err := w.server.ParseCheckpoint(st.Checkpoint)
	check(t, err)
	root := head.Root()
	fork := root
	fork[0] ^= 1
	for what, e := range map[string]*keeper.Extension{
		"a fork":          {Size: head.Size(), Root: fork[:]},
		"a longer fork":   {Size: head.Size() + 1, Root: fork[:], Consistency: [][]byte{fork[:]}},
		"shorter":         {Size: head.Size() - 1, Root: fork[:]},
		"empty":           {Size: 0, Root: bytes.Repeat([]byte{0}, 32)},
		"of no size":      {Size: -1, Root: root[:]},
		"of a huge size":  {Size: audit.MaxSize, Root: root[:]},
		"without a proof": {Size: head.Size() + 1, Root: root[:]},
	} {
		if note, err := w.keeper.Checkpoint(w.ctx, e); err == nil {
			t.Errorf("%s: the keeper signed %q", what, note)
		}
	}
	if note, err := w.keeper.Checkpoint(w.ctx, &keeper.Extension{Size: head.Size(), Root: root[:], Consistency: [][]byte{}}); err != nil || !bytes.Equal(note, st.Checkpoint) {
		t.Errorf("the same again: %v", err)
	}
	// Founding again changes nothing.
	if err := w.keeper.Found(w.ctx, elsewhere.people.Found); !errors.Is(err, keeper.ErrFounded) {
		t.Errorf("founded again: %v", err)
	}
}

func payloadOf(t testing.TB, envelope []byte) []byte {
	t.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	check(t, err)
	return e.Payload
}

func (w *world) lastReceipt() []byte {
	w.Helper()
	outs, err := w.keeper.Receipts(w.ctx, w.status().Receipts, 1)
	check(w, err)
	return outs[0].Receipt
}

// A server that keeps a disapproval from the keeper gets its signature; what it
// has shown to others gives it away, for the log holds the disapproval.
func TestAttackHiddenDisapproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	items := w.items("disapproved")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	w.endorse(env, "bob", "carol")
	if _, err := w.server.Endorse(w.ctx, w.verdict("dave", env, statement.Disapprove, "no")); err != nil {
		t.Fatal(err)
	}
	rc, _, err := w.keeperSays(env, items, w.everyone(env)...)
	check(t, err)
	if rc.Outcome != statement.Executed {
		t.Fatalf("the keeper knows more than it was shown: %s", rc.Code)
	}
	w.published()
	var codes []verify.ProblemCode
	for _, p := range w.judgeLog(verify.LogOptions{}).Problems {
		codes = append(codes, p.Code)
	}
	if !slices.Contains(codes, verify.ProblemUnauthorised) {
		t.Errorf("found is %v", codes)
	}
	w.broken = true
}

// An old charter does not come back: not as a successor, not with an older
// ledger, and those whom it named have nothing to say any more.
func TestAttackOldCharter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	first, err := charter.Encode(w.people.Charter)
	check(t, err)
	founded := w.ref
	ledger := filepath.Join(w.dir, "keeper", "ledger")
	oldLedger, err := os.ReadFile(ledger)
	check(t, err)
	var oldDB []byte
	w.halt()
	db, _ := cutSQLite(w.o.dsn)
	_, err = w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	check(t, err)
	oldDB, err = os.ReadFile(db)
	check(t, err)
	w.start()

	bob := w.people.People["bob"]
	erin := w.join("erin", credentialtest.SSH("erin"))
	w.replace(func(c *charter.Charter) { // bob leaves, erin comes
		delete(c.People, "bob")
		c.People["erin"] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(erin.Signer.Credential())}}
		c.Groups["release"] = charter.Group{Members: []string{"alice", "erin"}}
	})
	w.people.People["bob"] = bob
	items := w.items("of old")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	w.refused("bob, who has left", w.endorsement("bob", env))
	w.denied("bob, who has left", env, items, w.everyone(env)...)
	byBob := w.ask("alice", "release", items)
	req, _ := decode[statement.Request](t, byBob)
	req.Requester, req.Charter = "bob", founded
	payload, err := statement.Encode(req)
	check(t, err)
	if _, _, err := w.server.Submit(w.ctx, w.envelope(payload, "bob"), items); err == nil {
		t.Error("a request of bob's, who has left, was taken")
	}
	w.denied("bob asks under the charter that knew him", w.envelope(payload, "bob"), items, w.endorsement("erin", env))

	// The old one as successor, with its own number or the next.
	for what, p := range map[string][]byte{"version 1 again": first, "a version left out": func() []byte {
		_, b := w.next(func(c *charter.Charter) { c.Version++ })
		return b
	}(), "of another predecessor": func() []byte {
		_, b := w.next(func(c *charter.Charter) { c.Previous = founded.ID })
		return b
	}()} {
		env := w.request("alice", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: p}})
		rc, _, err := w.keeperSays(env, nil, w.endorsement("carol", env), w.endorsement("dave", env))
		check(t, err)
		if rc.Outcome != statement.Refused || rc.Code != "charter-invalid" {
			t.Errorf("%s: %s %s", what, rc.Outcome, rc.Code)
		}
	}
	if st := w.status(); st.Charter != w.ref {
		t.Fatalf("charter %d is in force", st.Charter.Version)
	}
	w.published()
	seen := w.judgeLog(verify.LogOptions{})

	// The keeper's ledger is set back to the old charter: the server holds newer
	// receipts, shows them, and the keeper stops for good.
	w.halt()
	w.closeKeeper()
	newLedger, err := os.ReadFile(ledger)
	check(t, err)
	check(t, os.WriteFile(ledger, oldLedger, 0o600))
	w.openKeeper()
	if err := w.tryStart(); !errors.Is(err, keeper.ErrRollback) {
		t.Fatalf("with an old ledger: %v", err)
	}
	w.stoppedFor("rolled back", env, items)

	// The database is set back as well: those two agree, and a stranger who has
	// seen the log before does not.
	w.closeKeeper()
	check(t, os.WriteFile(ledger, oldLedger, 0o600))
	check(t, w.db.Close()) // with the last connection goes the write-ahead log
	check(t, os.WriteFile(db, oldDB, 0o600))
	w.openKeeper()
	w.db = openDB(t, w.o.dsn)
	w.start()
	w.published()
	r, err := verify.Log(w.ctx, servertest.LogSource(w.store, w.people.Found), w.people.Root, verify.LogOptions{OldHead: []byte(seen.Checkpoint)})
	check(t, err)
	if r.OK() || !slices.ContainsFunc(r.Problems, func(p verify.Problem) bool { return p.Code == verify.ProblemRollback }) {
		t.Errorf("everything is set back, and found is %v", r.Problems)
	}
	// And so does somebody who kept a receipt.
	w.halt()
	w.closeKeeper()
	check(t, os.WriteFile(ledger, newLedger, 0o600))
	w.openKeeper()
	late := w.lastReceipt()
	w.closeKeeper()
	check(t, os.WriteFile(ledger, oldLedger, 0o600))
	w.openKeeper()
	if err := w.keeper.Observe(w.ctx, late); !errors.Is(err, keeper.ErrRollback) {
		t.Errorf("shown a receipt that it does not have: %v", err)
	}
	w.stoppedFor("rolled back", env, items)
}

// stoppedFor wants the keeper to execute nothing, also after a restart.
func (w *world) stoppedFor(why string, env []byte, items [][]byte) {
	w.Helper()
	for range 2 {
		if st := w.status(); !strings.Contains(st.Stopped, why) {
			w.Errorf("stopped is %q: want %q", st.Stopped, why)
		}
		if _, _, err := w.keeperSays(env, items); !errors.Is(err, keeper.ErrStopped) {
			w.Errorf("a keeper that has stopped: %v", err)
		}
		w.closeKeeper()
		w.openKeeper()
	}
}

// A ledger that is cut, or old, is found when the server starts, and also when it
// went on meanwhile and has as many receipts as before.
func TestAttackLedgerRolledBack(t *testing.T) {
	t.Parallel()
	for _, grows := range []bool{false, true} {
		w := newWorld(t, options{})
		path := filepath.Join(w.dir, "keeper", "ledger")
		w.sign(w.items("one"))
		w.published()
		old, err := os.ReadFile(path)
		check(t, err)
		n := w.status().Receipts
		env := w.sign(w.items("two"))
		w.published()
		items := w.items("two")
		w.halt()
		w.closeKeeper()
		check(t, os.WriteFile(path, old, 0o600))
		w.openKeeper()
		if grows {
			// The keeper serves somebody else before the server is back: under the
			// number of the receipt that is lost stands another one.
			for i := range 2 {
				items := w.items("three", strings.Repeat("x", i))
				_, rc := w.unattended(items)
				if rc.Number != n+1+uint64(i) {
					t.Fatalf("receipt %d", rc.Number)
				}
			}
		}
		if err := w.tryStart(); !errors.Is(err, keeper.ErrRollback) {
			t.Fatalf("went on %v: %v", grows, err)
		}
		w.stoppedFor("rolled back", env, items)
	}
	// The server runs all the while: the first answer under a number that it has
	// already gives the keeper away.
	w := newWorld(t, options{idle: true})
	path := filepath.Join(w.dir, "keeper", "ledger")
	old, err := os.ReadFile(path)
	check(t, err)
	items := w.items("one")
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	w.endorse(env, "bob", "carol", "scanner")
	check(t, w.server.Execute(w.ctx, id))
	w.await(id, store.Executed)
	w.hang()
	check(t, w.local.Close())
	check(t, os.WriteFile(path, old, 0o600))
	w.openKeeper()
	again, err := server.New(w.ctx, func() server.Config { c := w.config(); c.Keeper = quiet{w.keeper}; return c }())
	check(t, err)
	items = w.items("nightly build")
	nightly, err := w.nightlyRequest(items)
	check(t, err)
	if _, _, err := again.Submit(w.ctx, nightly, items); err != nil {
		t.Fatal(err)
	}
	err = again.Execute(w.ctx, idOf(t, nightly))
	if r, e := again.Get(w.ctx, idOf(t, nightly)); e != nil || r.State == store.Executed {
		t.Errorf("a receipt under a number that was given before was taken: %s, %v", r.State, err)
	}
	if st := w.status(); !strings.Contains(st.Stopped, "rolled back") {
		t.Errorf("stopped is %q", st.Stopped)
	}
	w.halt()
}

// quiet is a keeper that nobody has shown anything when the server starts, as if
// it had been exchanged later.
type quiet struct{ keeper.Keeper }

func (q quiet) Observe(ctx context.Context, receipt []byte) error {
	st, err := q.Status(ctx)
	if err != nil || st.Receipts < 5 {
		return err // while the server starts
	}
	return q.Keeper.Observe(ctx, receipt)
}

// nightlyRequest asks under the policy that needs nobody.
func (w *world) nightlyRequest(items [][]byte) ([]byte, error) {
	var named [][]byte
	for i := range items {
		it, _, err := format.DecodeItem(items[i])
		if err != nil {
			return nil, err
		}
		it.Name = "nightly-" + it.Name
		b, err := it.Encode()
		if err != nil {
			return nil, err
		}
		named = append(named, b)
	}
	copy(items, named)
	return w.ask("alice", "nightly", items), nil
}

// unattended has the keeper execute a request that needs nobody.
func (w *world) unattended(items [][]byte) ([]byte, *statement.Receipt) {
	w.Helper()
	env, err := w.nightlyRequest(items)
	check(w, err)
	out, err := w.keeper.Execute(w.ctx, &keeper.Order{Evidence: quorum.Evidence{Request: env, Endorsements: [][]byte{}}, Items: items})
	check(w, err)
	rc, _ := decode[statement.Receipt](w, out.Receipt)
	if rc.Outcome != statement.Executed {
		w.Fatalf("%s: %s", rc.Code, rc.Detail)
	}
	return env, &rc
}

// A plan that no file can have is refused when it is handed in, and by the keeper
// even when everybody has endorsed it.
func TestAttackPlanStructure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	_, plan := w.item("pe", "setup.exe", string(trial.Program()))
	for what, change := range map[string]func(p *format.Plan){
		"a content of another length": func(p *format.Plan) { p.Content = append(p.Content, 0) },
		"a fact that is not so":       func(p *format.Plan) { p.Facts[0].Value += ", harmless" },
		"facts left out":              func(p *format.Plan) { p.Facts = nil },
		"an option that was not used": func(p *format.Plan) {
			for i := range p.Params {
				if p.Params[i].Name == "page-hashes" {
					p.Params[i].Value = "true"
				}
			}
		},
		"another size":                 func(p *format.Plan) { p.Size++ },
		"a size that cannot be":        func(p *format.Plan) { p.Size = 1 << 40 },
		"a body cut short":             func(p *format.Plan) { p.Body = p.Body[:len(p.Body)-1] },
		"a body with more behind":      func(p *format.Plan) { p.Body = append(p.Body, 0) },
		"no body":                      func(p *format.Plan) { p.Body = nil },
		"another version":              func(p *format.Plan) { p.Version++ },
		"another hash":                 func(p *format.Plan) { p.Digest = "sha512"; p.Content = append(p.Content, p.Content...) },
		"parameters left out":          func(p *format.Plan) { p.Params = nil },
		"a parameter twice":            func(p *format.Plan) { p.Params = append(p.Params, p.Params[0]) },
		"a digest where a file was":    func(p *format.Plan) { p.Format = "cms" },
		"a file's as an attestation's": func(p *format.Plan) { p.Format = "dsse" },
		"a format that nobody knows":   func(p *format.Plan) { p.Format = "raw" },
	} {
		bad := *plan
		bad.Content, bad.Body = bytes.Clone(plan.Content), bytes.Clone(plan.Body)
		bad.Params, bad.Facts = slices.Clone(plan.Params), slices.Clone(plan.Facts)
		change(&bad)
		b, err := format.Encode(&bad)
		check(t, err)
		item, err := (&format.Item{Plan: b, Name: "setup.exe", Claims: []format.Fact{}}).Encode()
		if err != nil {
			continue // not even a requester's tool writes it
		}
		items := [][]byte{item}
		root, err := format.ItemsRoot(items)
		check(t, err)
		name := bad.Format
		if name == "raw" {
			name = "pe" // the policy would refuse the word
		}
		env := w.request("alice", statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: "release", Key: "release", Formats: []string{name}, Count: 1, Items: root.String()}})
		if _, _, err := w.server.Submit(w.ctx, env, items); err == nil {
			t.Errorf("%s: the server took it", what)
		}
		w.denied(what, env, items, w.everyone(env)...)
	}
}

// One endorsement is for one list of items: no second list has its root, not with
// inner nodes of the tree as items, and none stands under two requests.
func TestAttackTwoPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	items := w.items("one", "two", "three", "four")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	votes := w.everyone(env)
	evil := w.items("evil")
	leaves := make([][]byte, len(items))
	for i := range items {
		l := format.Leaf(items[i])
		leaves[i] = l[:]
	}
	left, err := merkle.Root(merkle.Items, []merkle.Hash{merkle.Hash(leaves[0]), merkle.Hash(leaves[1])})
	check(t, err)
	right, err := merkle.Root(merkle.Items, []merkle.Hash{merkle.Hash(leaves[2]), merkle.Hash(leaves[3])})
	check(t, err)
	for what, list := range map[string][][]byte{
		"one more":                append(slices.Clone(items), evil[0]),
		"one exchanged":           {items[0], evil[0], items[2], items[3]},
		"one twice":               {items[0], items[0], items[2], items[3]},
		"the last twice":          {items[0], items[1], items[2], items[3], items[3]},
		"one left out":            items[:3],
		"leaves for items":        leaves,
		"inner nodes for items":   {left[:], right[:]},
		"both halves in one":      {bytes.Join(items[:2], nil), bytes.Join(items[2:], nil)},
		"another order":           {items[1], items[0], items[2], items[3]},
		"an empty one in between": {items[0], {}, items[1], items[2], items[3]},
	} {
		w.denied(what, env, list, votes...)
		if root, err := format.ItemsRoot(list); err == nil {
			c := w.signCommand("release", items)
			if root.String() == c.Sign.Items {
				t.Errorf("%s: the same root", what)
			}
		}
	}
	// A request that says one root and another count.
	c := w.signCommand("release", items)
	c.Sign.Count = 2
	lie := w.request("alice", c)
	w.denied("another count", lie, items, w.everyone(lie)...)
	w.denied("another count, and as many items", lie, items[:2], w.everyone(lie)...)
	w.endorse(env, "bob", "carol", "scanner")
	w.await(idOf(t, env), store.Executed)
}

// A certificate is only taken for its own key, however many agree.
func TestAttackCertificateSwapped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	st := w.status()
	chains, keys := map[string][][]byte{}, map[string][]byte{}
	for _, k := range st.Keys {
		chains[k.Name], keys[k.Name] = k.Chain, k.PublicKey
	}
	_, mine, err := newCertificate(w)
	check(t, err)
	for what, chain := range map[string][][]byte{
		"of another key":          chains["other"],
		"of the attacker's key":   {mine},
		"the authority's first":   {chains["release"][1], chains["release"][0]},
		"the leaf twice":          {chains["release"][0], chains["release"][0]},
		"another authority's":     {chains["release"][0], mine},
		"with a byte behind":      {append(bytes.Clone(chains["release"][0]), 0), chains["release"][1]},
		"none":                    {},
		"a public key, bare":      {keys["release"]},
		"its signature destroyed": {flip(chains["release"][0]), chains["release"][1]},
	} {
		args := statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: "release", Chain: chain}}
		if args.Check() != nil {
			continue
		}
		env := w.request("alice", args)
		rc, _, err := w.keeperSays(env, nil, w.endorsement("carol", env))
		check(t, err)
		if rc.Outcome != statement.Refused || rc.Code != "certificate-invalid" {
			t.Errorf("%s: %s %s", what, rc.Outcome, rc.Code)
		}
	}
	for _, k := range w.status().Keys {
		if !slices.EqualFunc(k.Chain, chains[k.Name], bytes.Equal) {
			t.Errorf("key %s has another certificate than before", k.Name)
		}
	}
}

func flip(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }

// newCertificate is a key of the attacker's own with a certificate for it.
func newCertificate(w *world) (any, []byte, error) {
	k := newAuthenticator(w.T).key
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Trial release", Organization: []string{"Trial"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	return k, der, err
}
