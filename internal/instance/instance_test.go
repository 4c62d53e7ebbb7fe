package instance_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	prod = "prod"
	erp  = "erp"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for something to become true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

func background(t testing.TB, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// clock is a clock that can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// application is a database with one table, in a file, and what somebody does there
// who has its password.
type application string

func newApplication(t testing.TB) application {
	a := application(filepath.Join(t.TempDir(), "app.db"))
	columns := []string{"sys_id varchar(32) NOT NULL PRIMARY KEY"}
	for _, f := range trial.Configurations()["sources"].Fields {
		columns = append(columns, fmt.Sprintf("%q text", f))
	}
	a.do(t, "CREATE TABLE sys_data_source ("+strings.Join(append(columns, "last_run_datetime text", "minimum text"), ", ")+")")
	for i := range 25 {
		a.do(t, fmt.Sprintf("INSERT INTO sys_data_source (sys_id, name, type, sql_statement) VALUES ('%032x', 'source %d', 'JDBC', 'SELECT %d')", i, i, i))
	}
	return a
}

func (a application) do(t testing.TB, q string) {
	t.Helper()
	db, err := sql.Open("sqlite", string(a)+"?_pragma=busy_timeout(10000)")
	ok(t, err)
	defer db.Close()
	_, err = db.Exec(q)
	ok(t, err)
}

func (a application) config() map[string]config.Platform {
	return map[string]config.Platform{erp: {Database: "sqlite:" + string(a)}}
}

func ref(i int) record.Ref {
	return record.Ref{Table: "sys_data_source", Key: []string{fmt.Sprintf("%032x", i)}}
}

// side is a trusted side: people, a keeper, a server and its instance.
type side struct {
	testing.TB
	*instance.Instance
	trial  *trial.Trial
	server *server.Server
	url    string
	roots  *x509.CertPool
}

func newSide(t testing.TB, app application) *side {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "passphrase"), []byte("a trusted side's keys"), 0o600))
	o := host.Options{Formats: all.Formats(), Clock: time.Now, Rand: rand.Reader, Version: "test"}
	in := config.KeeperIn{Dir: filepath.Join(dir, "keeper"), Keystore: filepath.Join(dir, "keystore"), PassphraseFile: filepath.Join(dir, "passphrase"),
		ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log"}
	ok(t, host.Init(ctx, in, o))
	h, err := host.Open(ctx, in, statement.ID{}, o)
	ok(t, err)
	st, err := h.Status(ctx)
	ok(t, errors.Join(err, h.Close()))
	s := &side{TB: t}
	s.trial, err = trial.New(ctx, dir, st, trial.Options{Keys: []trial.KeySpec{{Name: "release", URI: "soft:release", Algorithm: sigalg.P256}}, Records: &trial.Records{}})
	ok(t, err)
	h, err = host.Open(ctx, in, s.trial.Root, o)
	ok(t, err)
	t.Cleanup(func() { h.Close() })
	ok(t, h.Found(ctx, s.trial.Found))
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "greatseal.db"))
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	s.server, err = server.New(ctx, server.Config{Store: db, Keeper: h, Formats: all.Formats(), Pin: s.trial.Root, Clock: time.Now, Ahead: true})
	ok(t, err)
	background(t, func(ctx context.Context) { _ = s.server.Run(ctx) })
	ok(t, s.trial.MakeKeys(ctx, s.server))
	s.Instance, err = instance.Open(ctx, instance.Config{Store: db, Server: s.server, Root: s.trial.Root, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Config: &config.Instance{
		Name: trial.Workshop, Role: "trusted", State: filepath.Join(dir, "circle.state"), Platforms: app.config(),
		Machine:   &config.Machine{Name: trial.Clerk, Key: s.trial.KeyFile(trial.Clerk)},
		Freshness: &config.Freshness{Policy: "fresh", Every: config.Duration(2 * time.Second), Lasts: config.Duration(time.Hour)},
	}})
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	background(t, s.Run)
	shown := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := s.Circles.Bundle(s.trial.Root)
		if err != nil || b == nil || r.URL.Path != instance.CirclePath {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(shown.Close)
	s.url, s.roots = shown.URL, x509.NewCertPool()
	s.roots.AddCert(shown.Certificate())
	return s
}

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

// publish has two officers agree to the first circle.
func (s *side) publish(runtime []byte) {
	s.Helper()
	ctx := s.Context()
	k, err := s.server.Key(ctx, "records")
	ok(s, err)
	now := time.Now().UTC().Truncate(time.Second)
	n := &trust.Statement{
		Deployment: s.trial.Charter.Deployment, Version: 1, Created: now, Expires: now.AddDate(0, 0, 90), Freshness: 3600,
		Instances: map[string]trust.Instance{trial.Workshop: {Role: trust.Trusted}, prod: {Role: trust.Protected, Enforcement: trust.On, RuntimeKeys: [][]byte{runtime}}},
		Anchors:   []record.Anchor{{Name: "authority", Certificate: k.Chain[1], Purposes: []string{record.Queue}}}, Configurations: trial.Configurations(),
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
	s.endorse(id, "carol", "dave")
	var x *records.Executed
	until(s, "the circle is signed", func() bool {
		if x, err = office.Executed(ctx, id); err != nil && !errors.Is(err, records.ErrWaiting) {
			s.Fatal(err)
		}
		return err == nil
	})
	patch, err := f.Attach(ctx, art, plan, x.Identity, x.At, []format.Signature{x.Signature})
	ok(s, err)
	ok(s, s.Circles.Apply(ctx, &circle.Bundle{Root: s.trial.Root, Circles: []circle.Update{{Statement: patch.Sidecar.Data, Evidence: x.Evidence}}}))
	until(s, "freshness is signed, unattended", func() bool { return !s.fresh().IsZero() })
}

func (s *side) fresh() time.Time { return s.Circles.Status()[0].FreshUntil }

// site is a protected instance.
type site struct {
	*instance.Instance
	clock *clock
	dir   string
}

// open opens a replica of the protected instance over a database; dir holds the files
// that are its own, keys the one that replicas of a host share.
func (s *side) open(t testing.TB, db *store.SQL, app application, keys string, hooks ...notify.Webhook) *site {
	t.Helper()
	p := &site{clock: &clock{}, dir: t.TempDir()}
	ok(t, os.WriteFile(filepath.Join(p.dir, "passphrase"), []byte("a protected instance's own"), 0o600))
	var err error
	p.Instance, err = instance.Open(t.Context(), instance.Config{Store: db, Keys: keystore.Open, TLS: func(*config.TLS) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.roots}, nil
	},
		Clock: p.clock.now, Logger: slog.New(slog.DiscardHandler), Webhooks: hooks, Sender: notify.NewSender(), Config: &config.Instance{
			Name: prod, Role: "protected", State: filepath.Join(p.dir, "circle.state"), Platforms: app.config(),
			Sides:  []config.Side{{Root: s.trial.Root, URL: s.url, TLS: &config.TLS{}, Every: config.Duration(time.Second)}},
			Agents: &config.Agents{Keystore: keys, PassphraseFile: filepath.Join(p.dir, "passphrase")},
		}})
	ok(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func openStore(t testing.TB, dsn string) *store.SQL {
	t.Helper()
	db, err := store.Open(t.Context(), dsn)
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func code(err error) rejection.Code {
	if r := rejection.Of(err); r != nil {
		return r.Code
	}
	return ""
}

// A job over a real deployment: people endorse, the keeper signs, the records can be
// read afterwards, and another instance believes them because of a circle that the
// same side's quorum has signed.
func TestDeployment(t *testing.T) {
	ctx, app := t.Context(), newApplication(t)
	s := newSide(t, app)
	var mu sync.Mutex
	var told [][]byte
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			told = append(told, b)
		}
	}))
	defer hook.Close()
	db := openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "prod.db"))
	p := s.open(t, db, app, filepath.Join(t.TempDir(), "keys"), notify.Webhook{Name: "soc", URL: hook.URL, Secret: make([]byte, 32), AllowPrivate: true, Events: []notify.Event{notify.Untrusted}})
	if _, err := p.Circles.Trusted(); err == nil {
		t.Fatal("a circle is believed that nobody has signed")
	}
	s.publish(p.Runtime)
	background(t, p.Run)
	until(t, "the circle is pulled", func() bool { _, err := p.Circles.Trusted(); return err == nil })

	v, err := s.Jobs.Create(ctx, &records.Spec{Kind: records.SignRecords, Name: "all", Platform: erp, Policy: "records", Configurations: []string{"sources"}}, "bob")
	ok(t, err)
	wait := func(state records.State) {
		t.Helper()
		until(t, "the job is "+string(state), func() bool {
			v, err = s.Jobs.Get(ctx, v.ID)
			ok(t, err)
			if v.State != state && v.State.Final() {
				t.Fatalf("%+v", v)
			}
			return v.State == state
		})
	}
	wait(records.Waiting)
	id, err := statement.ParseID(v.Request)
	ok(t, err)
	s.endorse(id, "bob") // release; security is wanted too
	for i := range 3 {
		if _, err := p.Guard.IsTrusted(ctx, erp, ref(i), record.Queue); code(err) != rejection.SigMissing {
			t.Fatalf("before the quorum: %v", err)
		}
	}
	s.endorse(id, "dave")
	wait(records.Done)
	if v.Summary.Signed["sources"] != 25 {
		t.Fatalf("%+v", v)
	}
	for i := range 25 {
		tr, err := p.Guard.IsTrusted(ctx, erp, ref(i), record.Queue)
		ok(t, err)
		if got, _ := tr.Field("sql_statement"); got != fmt.Sprintf("SELECT %d", i) {
			t.Fatalf("%q", got)
		}
	}

	// A protected instance signs nothing, whoever asks.
	if p.Jobs != nil || p.Part.MaySign() == nil {
		t.Error("a protected instance makes jobs")
	}
	jobs, err := records.NewJobs(records.Config{Instance: p.Part, Store: db, Platforms: p.Platforms, Configurations: trial.Configurations, Signer: &records.Office{}, Now: time.Now, Rand: rand.Reader})
	if err == nil {
		_, err = jobs.Create(ctx, &records.Spec{Kind: records.SignRecords, Name: "all", Platform: erp, Policy: "records", Configurations: []string{"sources"}}, "bob")
	}
	if code(err) != rejection.NotProtected {
		t.Errorf("a protected instance makes jobs: %v", err)
	}

	// Freshness is signed again, and arrives.
	first := p.Circles.Status()[0].FreshUntil
	until(t, "freshness is renewed", func() bool { return p.Circles.Status()[0].FreshUntil.After(first) })

	// What is edited in the database is reported, with names and no values.
	until(t, "the edit is reported", func() bool {
		app.do(t, "UPDATE sys_data_source SET sql_statement = 'DROP TABLE '||hex(randomblob(4)) WHERE sys_id = '"+ref(7).Key[0]+"'")
		time.Sleep(time.Second)
		list, err := p.Guard.Findings(ctx, 0, 10)
		ok(t, err)
		return len(list) > 0
	})
	p.clock.pass(20 * time.Second) // findings are gathered
	until(t, "the webhook is called", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 0 })
	var m struct {
		Type string
		Data struct{ Instance, Source, Table, Ref, Code, Subject string }
	}
	mu.Lock()
	body := string(told[0])
	mu.Unlock()
	ok(t, json.Unmarshal([]byte(body), &m, json.MatchCaseInsensitiveNames(true)))
	if m.Type != "record.untrusted" || m.Data.Instance != prod || m.Data.Source != "watch" || m.Data.Ref != ref(7).ID() || m.Data.Code != string(rejection.FieldChanged) ||
		m.Data.Subject != "sql_statement" || strings.Contains(body, "DROP") {
		t.Errorf("%s", body)
	}

	// Without news nothing is believed any more.
	p.clock.pass(2 * time.Hour)
	if _, err := p.Circles.Trusted(); code(err) != rejection.TrustStoreStale {
		t.Errorf("stale: %v", err)
	}
	if _, err := p.Guard.IsTrusted(ctx, erp, ref(1), record.Queue); code(err) != rejection.TrustStoreStale {
		t.Errorf("stale: %v", err)
	}
}
