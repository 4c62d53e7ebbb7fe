package road

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

func TestMain(m *testing.M) {
	if code, is := agent.Helper(os.Args); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

const (
	dev  = "dev"  // the trusted instance
	prod = "prod" // the protected one
	erp  = "erp"  // the application's database, on both
)

// Times that let a story be told in a minute.
const (
	pull  = time.Second      // a protected instance asks its trusted side
	fresh = 4 * time.Second  // between freshness statements
	lasts = 10 * time.Minute // a freshness statement
	most  = 90 * time.Second // anything that a test waits for
)

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for something to become true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(most)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logTo is the log of a part, shown with the test.
func logTo(t testing.TB, part string) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t, part}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testLog struct {
	t    testing.TB
	part string
}

func (l testLog) Write(p []byte) (int, error) {
	if testing.Verbose() {
		os.Stderr.WriteString(l.part + ": " + string(p))
	}
	return len(p), nil
}

// side is a trusted side: people, a keeper, a server on PostgreSQL, and the HTTPS that
// shows its circle.
type side struct {
	testing.TB
	trial    *trial.Trial
	server   *server.Server
	store    *store.SQL
	instance *instance.Instance
	url      string
	roots    *x509.CertPool // of url
	last     *trust.Statement
	id       statement.ID // of last
}

// configurations are those of the charter and the circle. Of data sources every field
// is signed that says where, as whom and how is connected.
func configurations() map[string]record.Configuration {
	return map[string]record.Configuration{
		"includes": {Version: 1, Table: "ecc_agent_script_include", Purpose: record.Queue, Fields: []string{"includes", "name", "script"}},
		"sources": {Version: 1, Table: "sys_data_source", Purpose: record.Queue, Condition: `type == "JDBC"`, Parameters: []string{"least"}, Fields: []string{
			"connection_url", "credential", "database_name", "database_port", "format", "instance_name", "jdbc_server", "last_run_database_field",
			"name", "properties", "query", "sql_statement", "table_name", "type"}},
	}
}

// newSide founds a deployment that signs records: two keys for them, one for the
// circle, one that says unattended that the circle is fresh. database is the server's,
// application the one whose records are signed.
func newSide(t testing.TB, database, application string) *side {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "passphrase"), []byte("the road to production"), 0o600))
	o := host.Options{Formats: all.Formats(), Clock: time.Now, Rand: rand.Reader, Version: "test"}
	in := config.KeeperIn{Dir: filepath.Join(dir, "keeper"), Keystore: filepath.Join(dir, "keystore"), PassphraseFile: filepath.Join(dir, "passphrase"),
		ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log"}
	ok(t, host.Init(ctx, in, o))
	h, err := host.Open(ctx, in, statement.ID{}, o)
	must(t, h, err)
	st, err := h.Status(ctx)
	ok(t, errors.Join(err, h.Close()))
	s := &side{TB: t}
	var keys []trial.KeySpec
	for _, n := range []string{"authors", "reviewers", "circle", "fresh"} {
		keys = append(keys, trial.KeySpec{Name: n, URI: key.URI("soft:" + n), Algorithm: sigalg.P256})
	}
	s.trial, err = trial.New(ctx, dir, st, trial.Options{Keys: keys})
	ok(t, err)
	s.amend()
	h, err = host.Open(ctx, in, s.trial.Root, o)
	must(t, h, err)
	t.Cleanup(func() { h.Close() })
	ok(t, h.Found(ctx, s.trial.Found))
	s.store, err = store.Open(ctx, database)
	ok(t, err)
	t.Cleanup(func() { s.store.Close() })
	s.server, err = server.New(ctx, server.Config{Store: s.store, Keeper: h, Formats: all.Formats(), Pin: s.trial.Root, Clock: time.Now, Ahead: true})
	ok(t, err)
	background(t, func(ctx context.Context) { _ = s.server.Run(ctx) })
	ok(t, s.trial.MakeKeys(ctx, s.server))

	log := logTo(t, dev)
	s.instance, err = instance.Open(ctx, instance.Config{Store: s.store, Server: s.server, Root: s.trial.Root, Clock: time.Now, Logger: log, Config: &config.Instance{
		Name: dev, Role: "trusted", State: filepath.Join(dir, "circle.state"), Platforms: map[string]config.Platform{erp: {Database: application}},
		Machine: &config.Machine{Name: "office", Key: s.trial.KeyFile("office")}, Freshness: &config.Freshness{Policy: "fresh", Every: config.Duration(fresh), Lasts: config.Duration(lasts)},
	}})
	ok(t, err)
	t.Cleanup(func() { s.instance.Close() })
	background(t, s.instance.Run)
	a, err := api.New(api.Config{Server: s.server, Store: s.store, Clock: time.Now, Logger: log, Version: "test", Instance: s.instance})
	ok(t, err)
	shown := httptest.NewTLSServer(a.Handler())
	t.Cleanup(func() { a.Stop(); shown.Close() })
	s.url, s.roots = shown.URL, x509.NewCertPool()
	s.roots.AddCert(shown.Certificate())
	return s
}

// background runs something until the test ends.
func background(t testing.TB, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// amend makes of a trial's charter one that signs records, and has it founded anew.
// The machine that asks is alice's.
func (s *side) amend() {
	s.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	ok(s, err)
	block, err := ssh.MarshalPrivateKey(priv, "office")
	ok(s, err)
	ok(s, os.WriteFile(s.trial.KeyFile("office"), pem.EncodeToMemory(block), 0o600))
	_ = pub
	signer, err := sshagent.File(s.trial.KeyFile("office"), nil)
	ok(s, err)
	c := s.trial.Charter
	c.Machines["office"] = charter.Machine{Owner: "alice", Credentials: []charter.Credential{charter.CredentialOf(signer.Credential())}}
	c.Groups["offices"] = charter.Group{Members: []string{"office"}}
	both := &charter.Node{Need: 2, Of: []charter.Node{{Group: "release", Need: 1}, {Group: "security", Need: 1}}}
	c.Policies = map[string]charter.Policy{
		"circle": {Key: "circle", Formats: []string{"circle"}, Purposes: []string{record.Circle}, Rule: charter.Rule{Requesters: []string{"officers"}, Quorum: &charter.Node{Group: "officers", Need: 2}}},
		"fresh":  {Key: "fresh", Formats: []string{"circle"}, Purposes: []string{record.Freshness}, Rule: charter.Rule{Requesters: []string{"offices"}, Unattended: true}},
	}
	for _, k := range []string{"authors", "reviewers"} {
		c.Policies[k] = charter.Policy{Key: k, Formats: []string{"records"}, Purposes: []string{record.Queue}, Rule: charter.Rule{Requesters: []string{"offices"}, Quorum: both, Veto: []string{"security"}}}
	}
	c.Records = &charter.Records{Instance: dev, Configurations: configurations()}
	payload, err := charter.Encode(c)
	ok(s, err)
	s.trial.Root = charter.ID(payload)
	env := &statement.Envelope{Payload: payload}
	for _, n := range []string{"alice", "carol", "dave"} {
		by := s.trial.People[n].Signer
		sig, err := by.Sign(s.Context(), credential.Statement, statement.PAE(payload))
		ok(s, err)
		env.Signatures = append(env.Signatures, statement.Signature{KeyID: string(by.Credential().ID()), Sig: sig})
	}
	s.trial.Found, err = env.Encode()
	ok(s, err)
}

// endorse has people look at a request and agree to it.
func (s *side) endorse(id statement.ID, who ...string) {
	s.Helper()
	r, err := s.server.Get(s.Context(), id)
	ok(s, err)
	env, err := statement.DecodeEnvelope(r.Envelope)
	ok(s, err)
	req, err := statement.Decode[statement.Request](env.Payload)
	ok(s, err)
	for _, n := range who {
		b, err := s.trial.People[n].Endorsement(s.Context(), &req, id, statement.Endorse, "", 0, nil)
		ok(s, err)
		_, err = s.server.Endorse(s.Context(), b)
		ok(s, err)
	}
}

// certificates are those that sign records: of a key's own, and of its authority.
func (s *side) certificates(name string) (leaf, authority *x509.Certificate) {
	s.Helper()
	k, err := s.server.Key(s.Context(), name)
	ok(s, err)
	leaf, err = x509.ParseCertificate(k.Chain[0])
	ok(s, err)
	authority, err = x509.ParseCertificate(k.Chain[1])
	ok(s, err)
	return leaf, authority
}

// publish has two officers agree to the next version of the circle; runtime is the key
// that signs the work orders of the protected instance.
func (s *side) publish(runtime []byte, edit ...func(*trust.Statement)) {
	s.Helper()
	ctx := s.Context()
	now := time.Now().UTC().Truncate(time.Second)
	n := &trust.Statement{
		Deployment: s.trial.Charter.Deployment, Version: 1, Created: now, Expires: now.AddDate(0, 0, 90), Freshness: 3600,
		Instances:      map[string]trust.Instance{dev: {Role: trust.Trusted}, prod: {Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{runtime}}},
		Configurations: configurations(),
	}
	_, ca := s.certificates("authors")
	n.Anchors = []record.Anchor{{Name: "authority", Certificate: ca.Raw, Purposes: []string{record.Queue}}}
	if s.last != nil {
		n.Version, n.Previous = s.last.Version+1, s.id
		n.Revocations = slices.Clone(s.last.Revocations)
	}
	for _, e := range edit {
		e(n)
	}
	payload, err := n.Encode()
	ok(s, err)
	f := circleformat.New()
	art := format.BytesArtifact("circle.json", payload)
	plan, err := f.Plan(ctx, art, nil)
	ok(s, err)
	office := &records.Office{Server: s.server, Author: s.trial.People["alice"]}
	id, err := office.Submit(ctx, records.Ask{Policy: "circle", Purpose: record.Circle, Plan: plan, Name: "circle.json"})
	ok(s, err)
	s.endorse(id, "carol")
	if _, err := office.Executed(ctx, id); !errors.Is(err, records.ErrWaiting) {
		s.Fatalf("one officer of two: %v", err)
	}
	s.endorse(id, "dave")
	var x *records.Executed
	until(s, "the circle is signed", func() bool {
		x, err = office.Executed(ctx, id)
		if err != nil && !errors.Is(err, records.ErrWaiting) {
			s.Fatal(err)
		}
		return err == nil
	})
	patch, err := f.Attach(ctx, art, plan, x.Identity, x.At, []format.Signature{x.Signature})
	ok(s, err)
	b := &circle.Bundle{Root: s.trial.Root, Circles: []circle.Update{{Statement: patch.Sidecar.Data, Evidence: x.Evidence}}}
	ok(s, s.instance.Circles.Apply(ctx, b))
	s.last, s.id = n, trust.ID(payload)
	until(s, "freshness is signed, unattended", func() bool {
		for _, st := range s.instance.Circles.Status() {
			if st.Known && st.Version == n.Version && !st.FreshUntil.IsZero() {
				return true
			}
		}
		return false
	})
}

// sign makes a security job, has its quorum endorse it, and returns it when it is done.
func (s *side) sign(sp *records.Spec) *records.View {
	s.Helper()
	ctx := s.Context()
	v, err := s.instance.Jobs.Create(ctx, sp, "bob")
	ok(s, err)
	endorsed := false
	until(s, "job "+sp.Name+" is done", func() bool {
		if v, err = s.instance.Jobs.Get(ctx, v.ID); err != nil {
			s.Fatal(err)
		}
		if v.State == records.Failed || v.State == records.Cancelled {
			s.Fatalf("job %s is %s: %s", sp.Name, v.State, v.Error)
		}
		if v.Request != "" && v.State == records.Waiting && !endorsed {
			id, err := statement.ParseID(v.Request)
			ok(s, err)
			s.endorse(id, "bob", "dave")
			endorsed = true
		}
		return v.State == records.Done
	})
	if !endorsed {
		s.Fatal("the job was done without its quorum")
	}
	return v
}

// tls is what a protected instance trusts of this side's server: its certificate. What
// it says is judged by its evidence.
func (s *side) tls(*config.TLS) (*tls.Config, error) {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.roots}, nil
}
