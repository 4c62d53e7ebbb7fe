package keeper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// folder is a provider of keys that are files, for tests: what it holds survives
// the process, and it counts and fails as told.
type folder struct {
	dir   string
	uses  atomic.Int64 // of Sign, by keys other than the keeper's own
	mu    sync.Mutex
	fault func(sig []byte) []byte // what becomes of a signature
	fail  error                   // of Sign
	wait  chan struct{}           // Sign waits for it
	cache map[key.URI]*folderKey
}

func (f *folder) Name() string { return "test" }

func (f *folder) path(uri key.URI) string {
	return filepath.Join(f.dir, strings.TrimPrefix(string(uri), "test:"))
}

func (f *folder) Open(_ context.Context, uri key.URI) (key.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.cache[uri]; k != nil {
		return k, nil
	}
	b, err := os.ReadFile(f.path(uri))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", key.ErrNotFound, uri)
	}
	if err != nil {
		return nil, err
	}
	p, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, err
	}
	s := p.(crypto.Signer)
	a, err := sigalg.KeyOf(s.Public())
	if err != nil {
		return nil, err
	}
	k := &folderKey{f, uri, s, a}
	if f.cache == nil {
		f.cache = map[key.URI]*folderKey{}
	}
	f.cache[uri] = k
	return k, nil
}

func newPrivate(a sigalg.Key) (crypto.Signer, error) {
	switch a {
	case sigalg.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case sigalg.RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case sigalg.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case sigalg.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case sigalg.MLDSA65:
		return mldsa.GenerateKey(mldsa.MLDSA65())
	case sigalg.MLDSA87:
		return mldsa.GenerateKey(mldsa.MLDSA87())
	}
	_, p, err := ed25519.GenerateKey(rand.Reader)
	return p, err
}

func (f *folder) Generate(ctx context.Context, uri key.URI, a sigalg.Key) (key.Key, error) {
	p, err := newPrivate(a)
	if err != nil {
		return nil, err
	}
	b, err := x509.MarshalPKCS8PrivateKey(p)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(f.path(uri)); err == nil {
		return nil, key.ErrExists
	}
	tmp := f.path(uri) + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, f.path(uri)); err != nil {
		return nil, err
	}
	return f.Open(ctx, uri)
}

func (f *folder) Destroy(_ context.Context, uri key.URI) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cache, uri)
	if err := os.Remove(f.path(uri)); errors.Is(err, os.ErrNotExist) {
		return key.ErrNotFound
	} else if err != nil {
		return err
	}
	return nil
}

func (f *folder) Health(context.Context) error { return nil }
func (f *folder) Close() error                 { return nil }

type folderKey struct {
	f   *folder
	uri key.URI
	s   crypto.Signer
	a   sigalg.Key
}

func (k *folderKey) Public() crypto.PublicKey { return k.s.Public() }
func (k *folderKey) Algorithm() sigalg.Key    { return k.a }

func (k *folderKey) Sign(ctx context.Context, s sigalg.Scheme, input []byte) ([]byte, error) {
	if !s.Fits(k.a) {
		return nil, key.ErrScheme
	}
	if strings.HasPrefix(string(k.uri), "test:keeper-") {
		return k.s.Sign(rand.Reader, input, s.SignerOpts())
	}
	k.f.uses.Add(1)
	k.f.mu.Lock()
	fault, fail, wait := k.f.fault, k.f.fail, k.f.wait
	k.f.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	sig, err := k.s.Sign(rand.Reader, input, s.SignerOpts())
	if err == nil && fault != nil {
		sig = fault(sig)
	}
	return sig, err
}

// plain is a format without structure, for what does not depend on one: the
// message is the plan's content, and the time.
type plain struct{ format.Format }

func (plain) Name() string { return "plain" }

func (plain) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	if p.Format != "plain" || p.Version != 1 || len(p.Body) != 0 {
		return nil, errors.New("plain: not a plan of this format")
	}
	switch p.Param("act") {
	case "panic":
		panic("hostile plan")
	case "endless":
	case "scheme":
		id.Scheme = sigalg.RSAPKCS1SHA256
	default:
		if len(done) > 0 {
			return nil, nil
		}
	}
	return []format.ToBeSigned{{Scheme: id.Scheme, Message: fmt.Appendf(nil, "plain %x %d %d", p.Content, at.Unix(), len(done))}}, nil
}

// world is a deployment in a test's folder.
type world struct {
	testing.TB
	dir      string
	now      time.Time
	mu       sync.Mutex
	provider *folder
	c        *charter.Charter
	founding []byte
	pin      statement.ID
	k        *Local
	config   Config
	chain    *quorum.Chain
	nonce    int
}

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func person(name string) charter.Person {
	return charter.Person{Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH(name).Credential())}}
}

// configIn is the configuration of the keeper in a test's folder.
func configIn(dir string, now func() time.Time) (Config, *folder) {
	f := &folder{dir: filepath.Join(dir, "keys")}
	return Config{
		Dir: filepath.Join(dir, "keeper"), Providers: map[string]key.Provider{"test": f},
		Formats:    []format.Format{plain{}, formattest.TwoRounds()},
		ReceiptKey: "test:keeper-receipts", LogKey: "test:keeper-log",
		Clock: now, Rand: rand.Reader, Version: "test",
	}, f
}

// charterFor is the charter of the tests, for a keeper with these keys.
func charterFor(receipts, log []byte) *charter.Charter {
	two := charter.Rule{Requesters: []string{"dev", "officers"}, Quorum: &charter.Node{Group: "officers", Need: 2}}
	one := charter.Rule{Requesters: []string{"dev", "officers"}, Quorum: &charter.Node{Group: "officers", Need: 1}}
	pol := func(k string, rule charter.Rule) charter.Policy {
		return charter.Policy{Key: k, Formats: []string{"pe", "plain", "two-rounds", "unknown"}, Rule: rule}
	}
	alone := charter.Rule{Requesters: []string{"dev"}, Unattended: true}
	c := &charter.Charter{
		Deployment: "test", Version: 1, Created: start.Add(-time.Hour),
		Keeper: charter.Keeper{Receipts: keyText(receipts), Log: "log.example.com/test", LogKey: keyText(log)},
		People: map[string]charter.Person{},
		Groups: map[string]charter.Group{"dev": {Members: []string{"alice", "ann"}}, "officers": {Members: []string{"bob", "carol", "dave"}}},
		Keys: map[string]charter.Key{
			"release": {URI: "test:release", Algorithm: sigalg.P256},
			"nightly": {URI: "test:nightly", Algorithm: sigalg.Ed25519},
			"rsa":     {URI: "test:rsa", Algorithm: sigalg.RSA3072},
			"tsa":     {URI: "test:tsa", Algorithm: sigalg.P256},
		},
		Policies: map[string]charter.Policy{
			"release": pol("release", two), "nightly": pol("nightly", alone), "rsa": pol("rsa", alone), "fast": pol("release", alone),
		},
		Commands: map[statement.CommandName]charter.Rule{
			statement.KeyGenerate: one, statement.KeyImportCert: one, statement.KeySuspend: one,
			statement.KeyResume: two, statement.KeyDestroy: two, statement.CharterReplace: two,
		},
		Timestamping: &charter.Timestamping{Key: "tsa", Policy: "1.3.6.1.4.1.99999.1", Accuracy: charter.Duration(time.Second)},
	}
	for _, n := range []string{"alice", "ann", "bob", "carol", "dave"} {
		c.People[n] = person(n)
	}
	return c
}

// envelope signs a payload as somebody.
func envelope(tb testing.TB, payload []byte, names ...string) []byte {
	tb.Helper()
	e := statement.Envelope{Payload: payload}
	for _, n := range names {
		s := credentialtest.SSH(n)
		sig, err := s.Sign(context.Background(), credential.Statement, statement.PAE(payload))
		if err != nil {
			tb.Fatal(err)
		}
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	b, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// newWorld makes a keeper that is founded. change may make something else of the
// charter.
func newWorld(tb testing.TB, change ...func(*charter.Charter)) *world {
	tb.Helper()
	w := &world{TB: tb, dir: tb.TempDir(), now: start}
	if err := os.Mkdir(filepath.Join(w.dir, "keys"), 0o700); err != nil {
		tb.Fatal(err)
	}
	w.config, w.provider = configIn(w.dir, w.clock)
	if err := Init(context.Background(), w.config); err != nil {
		tb.Fatal(err)
	}
	w.open()
	st, err := w.k.Status(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	w.c = charterFor(st.ReceiptKey, st.LogKey)
	for _, f := range change {
		f(w.c)
	}
	payload, err := charter.Encode(w.c)
	if err != nil {
		tb.Fatal(err)
	}
	w.founding = envelope(tb, payload, "bob", "carol")
	w.pin = statement.IDOf(payload)
	w.config.Pin = w.pin
	w.reopen()
	if err := w.k.Found(context.Background(), w.founding); err != nil {
		tb.Fatal(err)
	}
	if w.chain, err = quorum.NewChain(&w.pin, w.founding); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.k.Close() })
	return w
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) pass(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.now = w.now.Add(d) }

func (w *world) open() {
	w.Helper()
	k, err := Open(context.Background(), w.config)
	if err != nil {
		w.Fatal(err)
	}
	w.k = k
}

func (w *world) reopen() {
	w.Helper()
	if err := w.k.Close(); err != nil {
		w.Fatal(err)
	}
	w.open()
}

func (w *world) ref() statement.CharterRef {
	st, err := w.k.Status(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return st.Charter
}

// request is a request of somebody's for a command.
func (w *world) request(who string, c statement.Command, change ...func(*statement.Request)) []byte {
	w.Helper()
	w.nonce++
	r := statement.Request{Deployment: "test", Charter: w.ref(), Requester: who, Command: c,
		Created: w.clock(), Expires: w.clock().Add(24 * time.Hour), Nonce: fmt.Sprintf("%032x", w.nonce)}
	for _, f := range change {
		f(&r)
	}
	payload, err := statement.Encode(r)
	if err != nil {
		w.Fatal(err)
	}
	return envelope(w, payload, who)
}

func requestID(tb testing.TB, request []byte) statement.ID {
	tb.Helper()
	e, err := statement.DecodeEnvelope(request)
	if err != nil {
		tb.Fatal(err)
	}
	return e.ID()
}

// say is an endorser's verdict.
func (w *world) say(v statement.Verdict, who string, request []byte) []byte {
	w.Helper()
	payload, err := statement.Encode(statement.Endorsement{Deployment: "test", Request: requestID(w, request), Endorser: who, Verdict: v,
		Created: w.clock(), Expires: w.clock().Add(24 * time.Hour)})
	if err != nil {
		w.Fatal(err)
	}
	return envelope(w, payload, who)
}

// order is a request with endorsements.
func (w *world) order(request []byte, endorsers ...string) *Order {
	w.Helper()
	o := &Order{Evidence: quorum.Evidence{Request: request}}
	for _, n := range endorsers {
		o.Evidence.Endorsements = append(o.Evidence.Endorsements, w.say(statement.Endorse, n, request))
	}
	return o
}

func plainItem(tb testing.TB, name, act string) []byte {
	tb.Helper()
	p := &format.Plan{Format: "plain", Version: 1, Digest: "sha256", Size: 3, Content: bytes.Repeat([]byte{byte(len(name))}, 32), Body: []byte{}}
	copy(p.Content, name)
	if act != "" {
		p.Params = []format.Fact{{Name: "act", Value: act}}
	}
	return encodeItem(tb, p, name)
}

func encodeItem(tb testing.TB, p *format.Plan, name string) []byte {
	tb.Helper()
	enc, err := p.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := (&format.Item{Plan: enc, Name: name}).Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func plainItems(tb testing.TB, n int) [][]byte {
	var items [][]byte
	for i := range n {
		items = append(items, plainItem(tb, fmt.Sprintf("file-%d", i), ""))
	}
	return items
}

// signCommand is a command to sign items under a policy.
func (w *world) signCommand(policy string, items [][]byte, formats ...string) statement.Command {
	w.Helper()
	root, err := format.ItemsRoot(items)
	if err != nil {
		w.Fatal(err)
	}
	if formats == nil {
		formats = []string{"plain"}
	}
	return statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: policy, Key: w.c.Policies[policy].Key,
		Formats: formats, Count: len(items), Items: root.String()}}
}

// signOrder is alice's order under a policy, with endorsements.
func (w *world) signOrder(policy string, items [][]byte, endorsers ...string) *Order {
	w.Helper()
	o := w.order(w.request("alice", w.signCommand(policy, items)), endorsers...)
	o.Items = items
	return o
}

func keyCommand(name statement.CommandName, k string) statement.Command {
	return statement.Command{Name: name, Key: &statement.KeyArgs{Key: k}}
}

func generateCommand(k string, days int) statement.Command {
	return statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: k, Subject: "CN=Example,O=Example Ltd,C=CH", SelfSignedDays: days}}
}

// do executes an order and returns its verified receipt.
func (w *world) do(o *Order) (*statement.Receipt, *Outcome) {
	w.Helper()
	out, err := w.k.Execute(context.Background(), o)
	if err != nil {
		w.Fatal(err)
	}
	r, _, err := w.k.ownReceipt(out.Receipt)
	if err != nil {
		w.Fatal(err)
	}
	return r, out
}

func (w *world) executed(o *Order) (*statement.Receipt, *Outcome) {
	w.Helper()
	r, out := w.do(o)
	if r.Outcome != statement.Executed {
		w.Fatalf("%s: refused: %s: %s", r.Command, r.Code, r.Detail)
	}
	return r, out
}

// refusedWith fails unless the order is refused with this code by a receipt, and no
// signature leaves.
func (w *world) refusedWith(code string, o *Order) *statement.Receipt {
	w.Helper()
	r, out := w.do(o)
	if r.Outcome != statement.Refused || r.Code != code {
		w.Fatalf("%s %s %s (%s): want refused %s", r.Command, r.Outcome, r.Code, r.Detail, code)
	}
	if len(out.Signatures) != 0 || r.Signed != nil {
		w.Fatalf("%s: a refusal with signatures", code)
	}
	return r
}

// errorIs fails unless the order ends in an error and the ledger did not grow.
func (w *world) errorIs(want error, o *Order) {
	w.Helper()
	size := w.k.ledger.Size()
	_, err := w.k.Execute(context.Background(), o)
	if !errors.Is(err, want) {
		w.Fatalf("error %v: want %v", err, want)
	}
	if w.k.ledger.Size() != size {
		w.Fatalf("error %v: the ledger grew", err)
	}
}

func (w *world) generate(names ...string) {
	w.Helper()
	for _, n := range names {
		w.executed(w.order(w.request("alice", generateCommand(n, 30)), "bob"))
	}
}

// sound checks every promise that the ledger makes of itself.
func (w *world) sound() {
	w.Helper()
	checkSound(w, w.k)
}

func checkSound(tb testing.TB, k *Local) {
	tb.Helper()
	st, err := k.Status(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	seen := map[statement.ID]bool{}
	prev := statement.ID{}
	n := uint64(0)
	for {
		outs, err := k.Receipts(context.Background(), n+1, 7)
		if err != nil {
			tb.Fatal(err)
		}
		if len(outs) == 0 {
			break
		}
		for _, o := range outs {
			r, id, err := k.ownReceipt(o.Receipt)
			if err != nil {
				tb.Fatal(err)
			}
			if n++; r.Number != n || r.Previous != prev {
				tb.Fatalf("receipt %d after %d: the chain is broken", r.Number, n-1)
			}
			prev = id
			if r.Outcome == statement.Executed {
				if seen[r.Request] {
					tb.Fatalf("receipt %d: its request was executed twice", r.Number)
				}
				seen[r.Request] = true
			}
		}
	}
	if st.Receipts != n || st.LastReceipt != prev {
		tb.Fatalf("status says %d receipts, there are %d", st.Receipts, n)
	}
}

// checkSignatures verifies what an executed order to sign plain items gave.
func (w *world) checkSignatures(r *statement.Receipt, out *Outcome, items [][]byte) {
	w.Helper()
	st := w.k.state(r.Signed.Key)
	if len(out.Signatures) != len(items) {
		w.Fatalf("%d signatures of %d items", len(out.Signatures), len(items))
	}
	for i, it := range items {
		_, p, err := format.DecodeItem(it)
		if err != nil {
			w.Fatal(err)
		}
		tbs, err := plain{}.Assemble(p, format.Identity{Scheme: r.Signed.Scheme}, r.Time, nil)
		if err != nil || len(out.Signatures[i]) != 1 {
			w.Fatal(len(out.Signatures[i]), err)
		}
		if err := sigalg.Verify(st.pub, r.Signed.Scheme, tbs[0].Message, out.Signatures[i][0]); err != nil {
			w.Fatalf("item %d: %v", i, err)
		}
	}
	root, err := format.SignaturesRoot(leafHashes(items), out.Signatures)
	if err != nil || root.String() != r.Signed.Signatures {
		w.Fatalf("root of the signatures: %v, %v", root, err)
	}
	if spki := sha256.Sum256(st.spki); r.Signed.PublicKey != hex.EncodeToString(spki[:]) {
		w.Fatal("the receipt names another key")
	}
}
