package operations_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/console/operations"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	prod = "prod"
	erp  = "erp"
	rows = 5
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

// application is a database with one table, and what somebody does there who has its
// password.
type application string

func newApplication(t testing.TB) application {
	a := application(filepath.Join(t.TempDir(), "app.db"))
	columns := []string{"sys_id varchar(32) NOT NULL PRIMARY KEY"}
	for _, f := range trial.Configurations()["sources"].Fields {
		columns = append(columns, fmt.Sprintf("%q text", f))
	}
	a.do(t, "CREATE TABLE sys_data_source ("+strings.Join(append(columns, "last_run_datetime text", "minimum text"), ", ")+")")
	for i := range rows {
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

// tamper writes what nobody has signed.
func (a application) tamper(t testing.TB, i int) {
	t.Helper()
	a.do(t, "UPDATE sys_data_source SET sql_statement = 'DROP TABLE '||hex(randomblob(4)) WHERE sys_id = '"+ref(i).Key[0]+"'")
}

func (a application) config() map[string]config.Platform {
	return map[string]config.Platform{erp: {Database: "sqlite:" + string(a)}}
}

func ref(i int) record.Ref {
	return record.Ref{Table: "sys_data_source", Key: []string{fmt.Sprintf("%032x", i)}}
}

// side is a trusted side: people, a keeper, a server, its instance, and its console.
type side struct {
	*webtest.Bench
	*instance.Instance
	trial  *trial.Trial
	server *server.Server
	store  *store.SQL
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
	s := &side{}
	s.trial, err = trial.New(ctx, dir, st, trial.Options{Keys: []trial.KeySpec{{Name: "release", URI: "soft:release", Algorithm: sigalg.P256}}, Records: &trial.Records{}})
	ok(t, err)
	h, err = host.Open(ctx, in, s.trial.Root, o)
	ok(t, err)
	t.Cleanup(func() { h.Close() })
	ok(t, h.Found(ctx, s.trial.Found))
	s.store = openStore(t)
	s.server, err = server.New(ctx, server.Config{Store: s.store, Keeper: h, Formats: all.Formats(), Pin: s.trial.Root, Clock: time.Now, Ahead: true})
	ok(t, err)
	background(t, func(ctx context.Context) { _ = s.server.Run(ctx) })
	ok(t, s.trial.MakeKeys(ctx, s.server))
	s.Instance, err = instance.Open(ctx, instance.Config{Store: s.store, Server: s.server, Root: s.trial.Root, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Config: &config.Instance{
		Name: trial.Workshop, Role: "trusted", State: filepath.Join(dir, "circle.state"), Platforms: app.config(),
		Machine:   &config.Machine{Name: trial.Clerk, Key: s.trial.KeyFile(trial.Clerk)},
		Freshness: &config.Freshness{Policy: "fresh", Every: config.Duration(2 * time.Second), Lasts: config.Duration(time.Hour)},
	}})
	ok(t, err)
	t.Cleanup(func() { s.Instance.Close() })
	background(t, s.Instance.Run)
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
	s.Bench = webtest.Of(t, web.Config{Server: s.server, Store: s.store}, operations.Area(s.Instance, s.store))
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
	until(s, "freshness is signed, unattended", func() bool { return !s.Circles.Status()[0].FreshUntil.IsZero() })
}

// job waits until a security job has a state.
func (s *side) job(id string, state records.State) *records.View {
	s.Helper()
	var v *records.View
	until(s, "the job is "+string(state), func() bool {
		var err error
		v, err = s.Jobs.Get(s.Context(), id)
		ok(s, err)
		if v.State != state && v.State.Final() {
			s.Fatalf("%+v", v)
		}
		return v.State == state
	})
	return v
}

// site is a protected instance and its console, to which callers say who they are in a
// header: what their certificate says is the listener's to tell.
type site struct {
	*webtest.Bench
	*instance.Instance
	store *store.SQL
}

const whoHeader = "X-Who"

// newSite opens a protected instance that believes s, without running it.
func newSite(t testing.TB, s *side, app application) *site {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "passphrase"), []byte("a protected instance's own"), 0o600))
	p := &site{store: openStore(t)}
	var err error
	p.Instance, err = instance.Open(t.Context(), instance.Config{Store: p.store, Keys: keystore.Open, TLS: func(*config.TLS) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.roots}, nil
	},
		Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Config: &config.Instance{
			Name: prod, Role: "protected", State: filepath.Join(dir, "circle.state"), Platforms: app.config(),
			Sides:  []config.Side{{Root: s.trial.Root, URL: s.url, TLS: &config.TLS{}, Every: config.Duration(time.Second)}},
			Agents: &config.Agents{Keystore: filepath.Join(dir, "keys"), PassphraseFile: filepath.Join(dir, "passphrase")},
		}})
	ok(t, err)
	t.Cleanup(func() { p.Instance.Close() })
	p.Bench = webtest.Of(t, web.Config{Store: p.store, Name: prod, Identify: func(r *http.Request) (*web.Person, error) {
		switch who := r.Header.Get(whoHeader); who {
		case "olga":
			return &web.Person{Name: who, Roles: []web.Role{web.Operator}}, nil
		case "audrey":
			return &web.Person{Name: who, Roles: []web.Role{web.Auditor}}, nil
		case "ruth":
			return &web.Person{Name: who, Roles: []web.Role{web.Requester, web.Endorser}}, nil
		}
		return nil, web.Problemf(401, "unauthorized", "", "a client certificate is wanted")
	}}, operations.Area(p.Instance, p.store))
	return p
}

func (p *site) as(name string) *webtest.Browser {
	b := p.Browser()
	b.Header.Set(whoHeader, name)
	return b
}

func openStore(t testing.TB) *store.SQL {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}
