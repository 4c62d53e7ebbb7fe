package threats

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	sqlexec "github.com/greatseal-io/greatseal/internal/agent/exec/sql"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// word stands in every value of these tests, and nowhere else: where it turns up in a
// log or a refusal, a value has leaked.
const word = "c4nary"

const (
	agentName = "agent-1"
	sources   = "sys_data_source"
	light     = "sys_data_source_light"
	props     = "sys_properties"
	includes  = "ecc_agent_script_include"
	files     = "ecc_agent_script_file"
	probe     = "JDBCProbe"
	script    = "JavascriptProbe"
	command   = "Command"
)

func TestMain(m *testing.M) {
	if code, is := agent.Helper(os.Args); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// configurations are those that the charter has, and every circle of these tests.
func configurations() map[string]record.Configuration {
	source := []string{"connection_url", "database_name", "database_port", "format", "instance_name", "jdbc_server", "last_run_database_field", "properties", "query", "sql_statement", "table_name"}
	without := func(field string) []string {
		return slices.DeleteFunc(slices.Clone(source), func(f string) bool { return f == field })
	}
	return map[string]record.Configuration{
		"sources":  {Version: 2, Table: sources, Purpose: record.Queue, Condition: `active != "false"`, Fields: source, Attachments: true, Parameters: []string{"name", "since"}},
		"loose":    {Version: 1, Table: light, Purpose: record.Queue, Fields: without("database_name"), Parameters: []string{"name"}},
		"deploy":   {Version: 1, Table: sources, Purpose: "deploy", Fields: source, Attachments: true, Parameters: []string{"name"}},
		"props":    {Version: 1, Table: props, Purpose: record.Queue, Fields: []string{"name", "value"}},
		"names":    {Version: 1, Table: props, Purpose: record.Queue, Fields: []string{"name"}},
		"includes": {Version: 1, Table: includes, Purpose: record.Queue, Fields: []string{"includes", "name", "script"}, Attachments: true, Parameters: []string{"name", "who"}},
		"files":    {Version: 1, Table: files, Purpose: record.Queue, Fields: []string{"attachment", "language", "script", "use_attachment"}, Attachments: true, Parameters: []string{"who"}},
	}
}

// usual is the configuration under which a table's records are signed.
func usual(table string) string {
	return map[string]string{sources: "sources", light: "loose", includes: "includes", files: "files", "sys_script_include": "script-includes", "sys_script": "business-rules"}[table]
}

// world is a trusted side with its officers, an author, a protected instance, and one
// agent on its host.
type world struct {
	*testing.T
	side     *circletest.Side
	author   *formattest.Signer
	instance ed25519.PrivateKey // the protected instance's runtime key
	up       *upstream
	dir      string
	shop     string // the database of the data sources
	cfg      *agent.Config
	scripts  bool

	versions []circle.Update
	circle   *circle.Circle
	agent    *agent.Agent
	stop     func()

	mu    sync.Mutex
	clock time.Time
	log   bytes.Buffer
	jobs  int
}

// options say what is not as usual.
type options struct {
	scripts   bool // the agent has executors of scripts
	heartbeat time.Duration
	publish   func(*trust.Statement)
	idle      bool // the agent is not started
}

const rules = `version: 1
rules:
  - {name: files, action: accept, topics: [JDBC], targets: [%q]}
  - {name: scripts, action: accept, topics: [COMMAND, JAVASCRIPT]}
`

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	side := circletest.New(t, func(c *charter.Charter) { c.Records.Configurations = configurations() })
	w := &world{T: t, side: side, author: recordtest.NewSigner(t, sigalg.P256), instance: circletest.Key("runtime"), up: newUpstream(), dir: dir, scripts: o.scripts, shop: filepath.Join(dir, word+".db")}
	w.publish(func(n *trust.Statement) {
		n.Configurations = configurations()
		n.Anchors = []record.Anchor{anchor("authors", w.author)}
		n.TimestampRoots = [][]byte{w.author.Root.Root.Raw}
		if o.publish != nil {
			o.publish(n)
		}
	})
	w.clock = side.Now.Add(time.Minute)
	w.fill(w.shop, word+"-honest")
	w.fill(filepath.Join(dir, "vault-"+word+".db"), word+"-vault")
	w.must(os.WriteFile(filepath.Join(dir, "firewall.yaml"), fmt.Appendf(nil, rules, dir+"/*"), 0o600))
	w.must(os.Mkdir(w.path("state"), 0o700))
	text := fmt.Sprintf("name: %s\ninstance: %s\nstate: %s\nfirewall: %s\nroots: [%s]\njobs: 4\nreserve: 1\n", agentName, circletest.Protected, w.path("state"), w.path("firewall.yaml"), side.Root)
	if o.heartbeat > 0 {
		text += "heartbeat: " + o.heartbeat.String() + "\n"
	}
	w.cfg, err = agent.ParseConfig([]byte(text))
	w.must(err)
	if !o.idle {
		w.start()
	}
	return w
}

func anchor(name string, s *formattest.Signer) record.Anchor {
	return record.Anchor{Name: name, Certificate: s.Root.Root.Raw, Purposes: []string{record.Wildcard, "deploy", record.Queue}}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// fill makes a database with one row.
func (w *world) fill(path, value string) {
	w.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	w.must(err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE orders (n TEXT, v TEXT); INSERT INTO orders VALUES ('one', ?), ('two', ?)", value, value+"-two")
	w.must(err)
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// pass moves the agent's clock.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// Write takes the agent's log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// publish makes the next version of the circle; the quorum agrees to it.
func (w *world) publish(edit func(*trust.Statement)) {
	w.Helper()
	w.versions = append(w.versions, w.side.Publish(edit))
	w.offer(w.side.Bundle(w.versions...))
}

// offer is what the instance hands on from now on.
func (w *world) offer(bundles ...*circle.Bundle) {
	w.Helper()
	var all [][]byte
	for _, b := range bundles {
		e, err := b.Encode()
		w.must(err)
		all = append(all, e)
	}
	w.up.set(func() { w.up.bundles = all })
}

// pull has the agent take up what is offered, and returns when it has done so: its
// loop begins the second pull after the end of the first.
func (w *world) pull() {
	w.Helper()
	for range 2 {
		before := 0
		w.up.set(func() { before = w.up.pulls })
		w.agent.PullCircle()
		w.until("the pull", func() bool { return w.up.pulls > before })
	}
}

// until waits until f, under the instance's lock, is true.
func (w *world) until(what string, f func() bool) {
	w.Helper()
	for range 6000 {
		ok := false
		w.up.set(func() { ok = f() })
		if ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Fatalf("%s: it does not happen\n%s", what, w.logged())
}

// reopen reads the circle that the state folder holds.
func (w *world) reopen() (*circle.Circle, error) {
	kept, err := statefile.Open(filepath.Join(w.cfg.State, "circle"))
	if err != nil {
		return nil, err
	}
	defer kept.Close()
	return circle.New(w.Context(), kept, w.side.Root)
}

// start runs the agent over what its state folder holds.
func (w *world) start() {
	w.Helper()
	kept, err := statefile.Open(filepath.Join(w.cfg.State, "circle"))
	w.must(err)
	w.circle, err = circle.New(w.Context(), kept, w.side.Root)
	w.must(err)
	id, err := agent.OpenIdentity(w.cfg.State, w.cfg.Name)
	w.must(err)
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	executors := []exec.Executor{&sqlexec.Executor{Resolver: net.DefaultResolver}}
	if w.scripts {
		executors, err = agent.Executors(w.Context(), w.cfg, nil, net.DefaultResolver, log)
		w.must(err)
	}
	a, err := agent.Open(w.cfg, agent.Deps{Identity: id, Upstream: w.up, Belief: agent.NewBelief(w.circle), Executors: executors, Log: log, Now: w.now, Version: "test"})
	w.must(err)
	w.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	before := 0
	w.up.set(func() { before = w.up.pulls })
	go func() { done <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
		if err := errors.Join(a.Close(), kept.Close()); err != nil {
			w.Error(err)
		}
	})
	w.Cleanup(w.stop)
	w.until("the first pull", func() bool { return w.up.pulls > before })
}

func (w *world) restart() {
	w.Helper()
	w.stop()
	w.start()
}

const query = "SELECT v FROM orders WHERE n = :name -- " + word

// source is a data source whose statement asks for a name.
func (w *world) source() *record.Record {
	return &record.Record{Ref: record.Ref{Table: sources, Key: []string{"5001"}}, Fields: map[string]string{"format": "sqlite", "database_name": w.shop, "sql_statement": query}}
}

func asked() map[string]string { return map[string]string{"name": "one"} }

// honest is the page of an honest run of source.
const honest = `{"columns":[{"name":"v","type":"TEXT"}],"rows":[["` + word + `-honest"]]}`

// include is a script of the agent's.
func include(name, needs, text string) *record.Record {
	r := &record.Record{Ref: record.Ref{Table: includes, Key: []string{"inc-" + name}}, Fields: map[string]string{"name": name, "script": text}}
	if needs != "" {
		r.Fields["includes"] = needs
	}
	return r
}

// signing is how an author signs a record, unless a test says otherwise.
func (w *world) signing(r *record.Record, id string) recordtest.Signing {
	w.Helper()
	c, ok := configurations()[id]
	if !ok {
		if c, ok = record.Predefined()[id]; !ok {
			w.Fatalf("no configuration is called %q", id)
		}
	}
	return recordtest.Signing{Signer: w.author, ID: id, Configuration: c, Issuer: circletest.Trusted}
}

// sign signs a record under its table's configuration.
func (w *world) sign(r *record.Record, change ...func(*recordtest.Signing)) []record.Signature {
	w.Helper()
	return w.signUnder(usual(r.Ref.Table), r, change...)
}

func (w *world) signUnder(id string, r *record.Record, change ...func(*recordtest.Signing)) []record.Signature {
	w.Helper()
	g := w.signing(r, id)
	for _, f := range change {
		f(&g)
	}
	return g.Sign(w.T, r)
}

func revision(n uint64) func(*recordtest.Signing) {
	return func(g *recordtest.Signing) { g.Revision, g.At = n, recordtest.At.Add(time.Duration(n)*time.Minute) }
}

func by(s *formattest.Signer) func(*recordtest.Signing) {
	return func(g *recordtest.Signing) { g.Signer = s }
}

// delivery is what the instance asks for. Its zero values are those of an honest job.
type delivery struct {
	topic  string
	record *record.Record
	sigs   []record.Signature // nil: the author's
	others []agent.Item
	params map[string]string
	order  func(*order.Order)
	key    ed25519.PrivateKey
	after  func(*agent.Job)
}

func (w *world) item(r *record.Record) agent.Item {
	w.Helper()
	return agent.Item{Record: *recordtest.Copy(r), Signatures: w.sign(r)}
}

func id() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

// job makes the delivery of a real order.
func (w *world) job(d delivery) agent.Job {
	w.Helper()
	if d.record == nil {
		d.record = w.source()
		if d.params == nil {
			d.params = asked()
		}
	}
	if d.topic == "" {
		d.topic = map[string]string{sources: probe, light: probe, files: command}[d.record.Ref.Table]
		if d.topic == "" {
			d.topic = script
		}
	}
	if d.sigs == nil {
		d.sigs = w.sign(d.record)
	}
	if d.key == nil {
		d.key = w.instance
	}
	o := w.order(d.topic, d.record, d.params)
	if d.order != nil {
		d.order(o)
	}
	j := agent.Job{Order: w.signed(o, d.key), Topic: d.topic, Records: append([]agent.Item{{Record: *recordtest.Copy(d.record), Signatures: d.sigs}}, d.others...)}
	j = w.lease(j)
	if d.after != nil {
		d.after(&j)
	}
	return j
}

func (w *world) order(topic string, r *record.Record, params map[string]string) *order.Order {
	w.Helper()
	sum, err := order.Content(r)
	w.must(err)
	nonce := make([]byte, order.NonceSize)
	_, _ = rand.Read(nonce)
	return &order.Order{Version: order.Version, ID: id(), Attempt: 1, Instance: circletest.Protected, Agent: agentName, Topic: topic, Name: "nightly", Priority: order.Standard,
		Records: []order.Record{{Ref: r.Ref, Purpose: record.Queue, Digest: sum}}, Params: maps.Clone(params),
		IssuedAt: w.now().Unix(), Expires: w.now().Add(5 * time.Minute).Unix(), Nonce: nonce}
}

// signed signs an order as the instance would, and one that it would not as well.
func (w *world) signed(o *order.Order, key ed25519.PrivateKey) []byte {
	w.Helper()
	b, err := format.Encode(o)
	w.must(err)
	kid, err := order.KeyID(key.Public())
	w.must(err)
	e, err := format.Encode(&order.Signed{Order: b, KeyID: kid, Signature: ed25519.Sign(key, order.Message(b))})
	w.must(err)
	return e
}

// lease is the same job under a lease of its own.
func (w *world) lease(j agent.Job) agent.Job {
	w.jobs++
	j.Lease = agent.Lease{Job: fmt.Sprintf("%032x", w.jobs), Attempt: 1, Token: "t"}
	j.Until, j.Priority = w.now().Add(24*time.Hour), agent.Standard
	return j
}

// runs does a job that is in order, and returns its rows.
func (w *world) runs(d delivery) string {
	w.Helper()
	return w.jobRuns(w.job(d))
}

func (w *world) jobRuns(j agent.Job) string {
	w.Helper()
	e := w.up.put(w.T, j)[0]
	if e.rejected != nil || e.outcome.Error != "" || e.outcome.ExitCode != 0 || e.started != 1 {
		w.Fatalf("what is honest does not run: %v %+v", e.rejected, e.outcome)
	}
	return output(e)
}

func output(e *ending) string {
	var b strings.Builder
	for _, p := range e.pages {
		b.Write(p.Body)
	}
	return b.String()
}

// plain runs the honest data source.
func (w *world) plain(t *testing.T) {
	t.Helper()
	if got := w.runs(delivery{}); got != honest {
		t.Fatalf("%q", got)
	}
}

// refused brings a hostile delivery, and holds what must be so of it.
func (w *world) refused(t *testing.T, d delivery, code rejection.Code, subject string) {
	t.Helper()
	w.jobRefused(t, w.job(d), code, subject)
}

func (w *world) jobRefused(t *testing.T, j agent.Job, code rejection.Code, subject string) {
	t.Helper()
	w.judged(t, w.up.put(w.T, j)[0], j, code, subject, 0)
}

// judged holds the end of a refused job; starts is how often the instance was told
// that it starts.
func (w *world) judged(t *testing.T, e *ending, j agent.Job, code rejection.Code, subject string, starts int) {
	t.Helper()
	if e.rejected == nil {
		t.Fatalf("it ran: %+v %s", e.outcome, output(e))
	}
	if e.started != starts || len(e.pages) > 0 {
		t.Errorf("it was started %d times, with %d pages", e.started, len(e.pages))
	}
	if !errors.Is(e.rejected, &rejection.Error{Code: code, Subject: subject}) {
		t.Errorf("%v, want %s(%s)", e.rejected, code, subject)
	}
	own, err := agent.Explain(w.cfg.State, j.Lease.Job)
	if err != nil || len(own) != 1 || *own[0].Reason != *e.rejected {
		t.Errorf("the agent's own file says %+v, %v", own, err)
	}
	text := w.logged()
	if !strings.Contains(text, "code="+string(e.rejected.Code)) || !strings.Contains(text, "job="+j.Lease.Job) {
		t.Errorf("the log does not say %s", e.rejected.Code)
	}
	w.silent(t, e.rejected, own)
}

// silent holds that no value is in the log, in a refusal, or in the agent's file.
func (w *world) silent(t *testing.T, said ...any) {
	t.Helper()
	b, err := json.Marshal(said)
	w.must(err)
	for _, text := range []string{string(b), w.logged()} {
		for line := range strings.Lines(text) {
			if strings.Contains(strings.ToLower(line), word) {
				t.Errorf("a value leaks: %s", line)
			}
		}
	}
}

// reroot signs a signed root again, changed, with a key of the caller's.
func (w *world) reroot(sigs []record.Signature, change func(*record.SignedRoot), sign func(message []byte) []byte) []record.Signature {
	w.Helper()
	out := slices.Clone(sigs)
	r, err := record.DecodeSignedRoot(out[0].Root)
	w.must(err)
	change(r)
	if sign != nil {
		m, err := r.Message()
		w.must(err)
		r.Signature = sign(m)
	}
	out[0].Root, err = format.Encode(r)
	w.must(err)
	return out
}

// as has a signer's certificates stand on the root, and his key sign it.
func (w *world) as(sigs []record.Signature, s *formattest.Signer) []record.Signature {
	w.Helper()
	return w.reroot(sigs, func(r *record.SignedRoot) {
		r.Certificates, r.Scheme = nil, string(s.Scheme)
		for _, c := range s.Chain {
			r.Certificates = append(r.Certificates, c.Raw)
		}
	}, func(m []byte) []byte { return s.Sign(w.T, m) })
}

// revoke ends the belief in a certificate or a key: in what is not provably older
// than since, and in everything where that is not given.
func revoke(der []byte, compromised bool, since ...time.Time) func(*trust.Statement) {
	return func(n *trust.Statement) {
		r := record.Revocation{Fingerprint: record.Fingerprint(der), Since: time.Time{}.UTC(), Compromised: compromised}
		if len(since) > 0 {
			r.Since = since[0]
		}
		n.Revocations = append(n.Revocations, r)
		slices.SortFunc(n.Revocations, func(a, b record.Revocation) int { return strings.Compare(a.Fingerprint, b.Fingerprint) })
	}
}

// stamps believes the timestamps of a signer's authority.
func stamps(n *trust.Statement, s *formattest.Signer) {
	n.TimestampRoots = append(n.TimestampRoots, s.Root.Root.Raw)
	slices.SortFunc(n.TimestampRoots, func(a, b []byte) int {
		return strings.Compare(record.Fingerprint(a), record.Fingerprint(b))
	})
}

func leaf(s *formattest.Signer) *x509.Certificate { return s.Chain[0] }
