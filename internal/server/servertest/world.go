// Package servertest is a deployment in a test's folder: a real keeper with keys
// in memory, a charter, and servers on a database of the test's choice.
package servertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/blob"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// Memory is a provider whose keys are in memory: they outlive the keeper, not the
// test.
type Memory struct {
	mu   sync.Mutex
	keys map[key.URI]*memoryKey
	Uses int // of keys other than the keeper's own
}

type memoryKey struct {
	m   *Memory
	own bool
	s   crypto.Signer
	a   sigalg.Key
}

// Name implements key.Provider.
func (m *Memory) Name() string { return "test" }

// Open implements key.Provider.
func (m *Memory) Open(_ context.Context, uri key.URI) (key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.keys[uri]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %s", key.ErrNotFound, uri)
}

// Generate implements key.Generator.
func (m *Memory) Generate(ctx context.Context, uri key.URI, a sigalg.Key) (key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[uri] != nil {
		return nil, key.ErrExists
	}
	k := &memoryKey{m: m, a: a, own: uri == "test:keeper-receipts" || uri == "test:keeper-log"}
	var err error
	switch a {
	case sigalg.P256:
		k.s, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case sigalg.Ed25519:
		_, k.s, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, key.ErrScheme
	}
	if err != nil {
		return nil, err
	}
	if m.keys == nil {
		m.keys = map[key.URI]*memoryKey{}
	}
	m.keys[uri] = k
	return k, nil
}

// Destroy implements key.Destroyer.
func (m *Memory) Destroy(_ context.Context, uri key.URI) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[uri] == nil {
		return key.ErrNotFound
	}
	delete(m.keys, uri)
	return nil
}

// Health implements key.Provider.
func (m *Memory) Health(context.Context) error { return nil }

// Close implements key.Provider.
func (m *Memory) Close() error { return nil }

// Used is how often keys other than the keeper's own were used.
func (m *Memory) Used() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Uses
}

func (k *memoryKey) Public() crypto.PublicKey { return k.s.Public() }
func (k *memoryKey) Algorithm() sigalg.Key    { return k.a }

func (k *memoryKey) Sign(_ context.Context, s sigalg.Scheme, input []byte) ([]byte, error) {
	if !s.Fits(k.a) {
		return nil, key.ErrScheme
	}
	if !k.own {
		k.m.mu.Lock()
		k.m.Uses++
		k.m.mu.Unlock()
	}
	return k.s.Sign(rand.Reader, input, s.SignerOpts())
}

// Start is the time at which worlds begin.
var Start = time.Now().UTC().Truncate(time.Second)

// World is a deployment.
type World struct {
	testing.TB
	Dir     string
	Keys    *Memory
	Config  keeper.Config
	Keeper  *keeper.Local
	Charter *charter.Charter
	Pin     statement.ID
	Blobs   *blob.Folder

	mu    sync.Mutex
	ahead time.Duration
	nonce int
}

// Formats are those that keeper and servers of a world know.
func Formats() []format.Format { return []format.Format{cmsfile.New(), pe.New()} }

// New makes a keeper that is founded and has its keys. change may make something
// else of the charter.
//
// The people are alice and ann, who request; bob, carol and dave, officers; xena,
// whose credential is an X.509 key. The machines are "ci", which alice owns, and
// the inspector "gate". The policies are release (two officers), single (one),
// nightly (unattended) and checked (gate and one officer, artifacts uploaded).
func New(tb testing.TB, change ...func(*charter.Charter)) *World {
	tb.Helper()
	w := &World{TB: tb, Dir: tb.TempDir(), Keys: &Memory{}}
	w.Config = keeper.Config{
		Dir: filepath.Join(w.Dir, "keeper"), Providers: map[string]key.Provider{"test": w.Keys}, Formats: Formats(),
		ReceiptKey: "test:keeper-receipts", LogKey: "test:keeper-log", Clock: w.Now, Rand: rand.Reader, Version: "test",
	}
	ctx := context.Background()
	w.must(keeper.Init(ctx, w.Config))
	w.openKeeper()
	st, err := w.Keeper.Status(ctx)
	w.must(err)
	w.Charter = Charter(st.ReceiptKey, st.LogKey)
	for _, f := range change {
		f(w.Charter)
	}
	payload, err := charter.Encode(w.Charter)
	w.must(err)
	w.Pin = statement.IDOf(payload)
	w.Config.Pin = w.Pin
	w.RestartKeeper()
	w.must(w.Keeper.Found(ctx, w.Seal(payload, "bob", "carol")))
	tb.Cleanup(func() { w.Keeper.Close() })
	for _, k := range []string{"release", "tsa"} {
		req := w.Request("bob", statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: k, Subject: "CN=" + k + ",O=Example Ltd", SelfSignedDays: 90}})
		out, err := w.Keeper.Execute(ctx, &keeper.Order{Evidence: quorum.Evidence{Request: req, Endorsements: [][]byte{w.Endorse("carol", req)}}})
		w.must(err)
		rc, _, err := receipt.Verify(st.ReceiptKey, out.Receipt)
		w.must(err)
		if rc.Outcome != statement.Executed {
			tb.Fatalf("key %s: %s", k, rc.Detail)
		}
	}
	w.Blobs, err = blob.Open(filepath.Join(w.Dir, "blobs"))
	w.must(err)
	return w
}

// Charter is the charter of New, for a keeper with these keys.
func Charter(receipts, log []byte) *charter.Charter {
	text := base64.StdEncoding.EncodeToString
	officers := func(n int) *charter.Node { return &charter.Node{Group: "officers", Need: n} }
	rule := func(q *charter.Node) charter.Rule {
		return charter.Rule{Requesters: []string{"dev", "builds"}, Quorum: q, Veto: []string{"officers"}}
	}
	policy := func(r charter.Rule) charter.Policy {
		return charter.Policy{Key: "release", Formats: []string{"cms", "pe"}, Rule: r}
	}
	checked := policy(rule(&charter.Node{Need: 2, Of: []charter.Node{{Group: "gates", Need: 1}, *officers(1)}}))
	checked.Upload = true
	checked.Rule.Veto = []string{"officers", "gates"}
	command := func(n int) charter.Rule {
		return charter.Rule{Requesters: []string{"officers"}, Quorum: officers(n)}
	}
	c := &charter.Charter{
		Deployment: "test", Version: 1, Created: Start.Add(-time.Hour),
		Keeper: charter.Keeper{Receipts: text(receipts), Log: "log.example.com/test", LogKey: text(log)},
		People: map[string]charter.Person{"xena": {Credentials: []charter.Credential{charter.CredentialOf(credentialtest.X509("xena").Credential())}}},
		Machines: map[string]charter.Machine{
			"ci":   {Owner: "alice", Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH("ci").Credential())}},
			"gate": {Inspector: true, Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH("gate").Credential())}},
		},
		Groups: map[string]charter.Group{
			"dev": {Members: []string{"alice", "ann", "xena"}}, "builds": {Members: []string{"ci"}},
			"officers": {Members: []string{"bob", "carol", "dave"}}, "gates": {Members: []string{"gate"}},
		},
		Keys: map[string]charter.Key{
			"release": {URI: "test:release", Algorithm: sigalg.P256},
			"tsa":     {URI: "test:tsa", Algorithm: sigalg.P256},
		},
		Policies: map[string]charter.Policy{
			"release": policy(rule(officers(2))), "single": policy(rule(officers(1))), "checked": checked,
			"nightly": policy(charter.Rule{Requesters: []string{"dev", "builds"}, Unattended: true}),
		},
		Commands: map[statement.CommandName]charter.Rule{
			statement.KeyGenerate: command(1), statement.KeySuspend: command(1), statement.KeyResume: command(1), statement.CharterReplace: command(2),
		},
		Timestamping: &charter.Timestamping{Key: "tsa", Policy: "1.3.6.1.4.1.99999.1", Accuracy: charter.Duration(time.Second)},
	}
	for _, n := range []string{"alice", "ann", "bob", "carol", "dave"} {
		c.People[n] = charter.Person{Credentials: []charter.Credential{charter.CredentialOf(credentialtest.SSH(n).Credential())}}
	}
	return c
}

func (w *World) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Now is the time in the world: the true one and what has passed besides.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().UTC().Add(w.ahead)
}

// Pass lets time pass.
func (w *World) Pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

func (w *World) openKeeper() {
	w.Helper()
	k, err := keeper.Open(context.Background(), w.Config)
	w.must(err)
	w.Keeper = k
}

// RestartKeeper closes the keeper and opens it again.
func (w *World) RestartKeeper() {
	w.Helper()
	w.must(w.Keeper.Close())
	w.openKeeper()
}

// Seal signs a payload as somebody.
func (w *World) Seal(payload []byte, names ...string) []byte {
	w.Helper()
	e := statement.Envelope{Payload: payload}
	for _, n := range names {
		s := Signer(n)
		sig, err := s.Sign(context.Background(), credential.Statement, statement.PAE(payload))
		w.must(err)
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	b, err := e.Encode()
	w.must(err)
	return b
}

// Signer signs as somebody of the charter.
func Signer(name string) credential.Signer {
	if name == "xena" {
		return credentialtest.X509(name)
	}
	return credentialtest.SSH(name)
}

// Request is a request of somebody's for a command.
func (w *World) Request(who string, c statement.Command, change ...func(*statement.Request)) []byte {
	w.Helper()
	st, err := w.Keeper.Status(context.Background())
	w.must(err)
	w.mu.Lock()
	w.nonce++
	n := w.nonce
	w.mu.Unlock()
	now := statement.Seconds(w.Now())
	r := statement.Request{Deployment: "test", Charter: st.Charter, Requester: who, Command: c, Created: now, Expires: now.Add(24 * time.Hour), Nonce: fmt.Sprintf("%032x", n)}
	for _, f := range change {
		f(&r)
	}
	payload, err := statement.Encode(r)
	w.must(err)
	return w.Seal(payload, who)
}

// Item plans bytes with the format "cms" and encodes the item.
func (w *World) Item(name string, content []byte) []byte {
	w.Helper()
	f := cmsfile.New()
	params, err := format.Params{}.Check(f)
	w.must(err)
	p, err := f.Plan(context.Background(), format.BytesArtifact(name, content), params)
	w.must(err)
	enc, err := p.Encode()
	w.must(err)
	b, err := (&format.Item{Plan: enc, Name: name, Claims: []format.Fact{{Name: "version", Value: "1.2.3"}}}).Encode()
	w.must(err)
	return b
}

// Sign is a request to sign items, which are of the format "cms", under a policy.
func (w *World) Sign(who, policy string, items [][]byte, change ...func(*statement.Request)) []byte {
	w.Helper()
	root, err := format.ItemsRoot(items)
	w.must(err)
	return w.Request(who, statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{Policy: policy, Key: "release", Formats: []string{"cms"}, Count: len(items), Items: root.String()}}, change...)
}

// Files are items of n small files, told apart by name.
func (w *World) Files(name string, n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, w.Item(fmt.Sprintf("%s-%d.bin", name, i), Content(name, i)))
	}
	return out
}

// Content is what is in file i of Files.
func Content(name string, i int) []byte { return fmt.Appendf(nil, "content of %s %d\n", name, i) }

// ID is the ID of a statement in its envelope.
func (w *World) ID(envelope []byte) statement.ID {
	w.Helper()
	e, err := statement.DecodeEnvelope(envelope)
	w.must(err)
	return e.ID()
}

// Say is somebody's verdict on a request.
func (w *World) Say(v statement.Verdict, who string, request []byte, change ...func(*statement.Endorsement)) []byte {
	w.Helper()
	now := statement.Seconds(w.Now())
	e := statement.Endorsement{Deployment: "test", Request: w.ID(request), Endorser: who, Verdict: v, Created: now, Expires: now.Add(24 * time.Hour)}
	for _, f := range change {
		f(&e)
	}
	payload, err := statement.Encode(e)
	w.must(err)
	return w.Seal(payload, who)
}

// Endorse is somebody's endorsement of a request.
func (w *World) Endorse(who string, request []byte) []byte {
	w.Helper()
	return w.Say(statement.Endorse, who, request)
}

// Store opens a database; "" is a new SQLite file.
func (w *World) Store(dsn string) store.Store {
	w.Helper()
	if dsn == "" {
		f, err := os.MkdirTemp(w.Dir, "db")
		w.must(err)
		dsn = "sqlite:" + filepath.Join(f, "greatseal.db")
	}
	s, err := store.Open(context.Background(), dsn)
	w.must(err)
	w.Cleanup(func() { s.Close() })
	return s
}

// Server starts a server on a store; stop ends it, at the latest when the test
// ends. change may make something else of its configuration.
func (w *World) Server(s store.Store, change ...func(*server.Config)) (srv *server.Server, stop func()) {
	w.Helper()
	c := server.Config{Store: s, Keeper: w.Keeper, Formats: Formats(), Blobs: w.Blobs, Pin: w.Pin, Clock: w.Now}
	for _, f := range change {
		f(&c)
	}
	srv, err := server.New(context.Background(), c)
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); srv.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	w.Cleanup(stop)
	return srv, stop
}

// Until waits for a request to reach a state.
func (w *World) Until(s *server.Server, id statement.ID, want store.State) *store.Request {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := s.Get(ctx, id)
	for err == nil && r.State != want {
		if ctx.Err() != nil || !r.State.Open() {
			w.Fatalf("request %s is %s (%s %s), not %s", id, r.State, r.Code, r.Detail, want)
		}
		r, err = s.Await(ctx, id, r.Revision)
	}
	w.must(err)
	return r
}
