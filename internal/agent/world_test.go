package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

func TestMain(m *testing.M) {
	if code, is := Helper(os.Args); is {
		os.Exit(code)
	}
	if path := os.Getenv("AGENT_TEST_SEEN"); path != "" {
		beginUntilKilled(path)
	}
	os.Exit(m.Run())
}

const agentName = "agent-1"

// world is an instance, its authors and one agent on its host.
type world struct {
	*testing.T
	author *agenttest.Author
	key    ed25519.PrivateKey // of the instance
	up     *memory
	belief *belief
	spy    *spy
	dir    string
	cfg    *Config
	log    *bytes.Buffer
	logMu  sync.Mutex

	mu    sync.Mutex
	clock time.Time
}

// belief is a Belief that tests change.
type belief struct {
	mu    sync.Mutex
	trust *record.Trust
	keys  []crypto.PublicKey
	stale error
	n     byte
}

func (b *belief) Apply(_ context.Context, bundle []byte, _ time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if string(bundle) == "revoke" {
		t := *b.trust
		c, err := x509.ParseCertificate(t.Anchors[0].Certificate)
		if err != nil {
			return err
		}
		t.Revocations = []record.Revocation{{Fingerprint: record.Fingerprint(c.Raw)}}
		b.trust = &t
		b.n++
	}
	return nil
}

func (b *belief) At(string, time.Time) (*Believed, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale != nil {
		return nil, b.stale
	}
	return &Believed{Digest: [32]byte{b.n}, RuntimeKeys: b.keys, Records: b.trust}, nil
}

func (b *belief) Until(time.Time) time.Time { return time.Time{} }

// spy is an executor that notes what it ran.
type spy struct {
	mu    sync.Mutex
	ran   []*exec.Work
	block chan struct{} // when not nil, Run waits for it
	pages [][]byte
}

func (*spy) Topics() []string                      { return []string{"SOAPProbe", "SSHCommand"} }
func (*spy) Needs(*exec.Work) (*exec.Needs, error) { return &exec.Needs{}, nil }
func (s *spy) Run(ctx context.Context, w *exec.Work, _ *firewall.Grant, out exec.Output) (exec.Result, error) {
	s.mu.Lock()
	s.ran = append(s.ran, w)
	block, pages := s.block, s.pages
	s.mu.Unlock()
	for _, p := range pages {
		if err := out.Write(ctx, exec.JSON, p); err != nil {
			return exec.Result{}, err
		}
	}
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return exec.Result{}, exec.Stopped(ctx, ctx.Err())
		}
	}
	return exec.Result{Rows: 7}, nil
}

func (s *spy) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ran)
}

// memory is an Upstream in memory.
type memory struct {
	mu          sync.Mutex
	down        bool
	queue       []Job
	more        chan struct{}
	started     []Lease
	pages       map[string]map[int]Page
	outcomes    map[string]Outcome
	refusals    map[string]*rejection.Error
	attachments map[string][]byte
	bundles     [][]byte
	pulse       Pulse
	enrolments  []Enrolment
	enrolled    func(*Enrolment) *Enrolled
	lost        map[string]bool
	wants       []Want
	changed     chan struct{}
	late        func(call string) // what comes to pass before the answer
}

func newMemory() *memory {
	return &memory{more: make(chan struct{}, 1), pages: map[string]map[int]Page{}, outcomes: map[string]Outcome{}, refusals: map[string]*rejection.Error{},
		attachments: map[string][]byte{}, lost: map[string]bool{}, changed: make(chan struct{}, 1000)}
}

func (m *memory) do(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return ErrUnreachable
	}
	defer nudge(m.changed)
	return f()
}

func (m *memory) Enrol(_ context.Context, e *Enrolment) (r *Enrolled, err error) {
	return r, m.do(func() error {
		m.enrolments = append(m.enrolments, *e)
		r = m.enrolled(e)
		return nil
	})
}

func (m *memory) Heartbeat(context.Context, *Beat) (p *Pulse, err error) {
	return p, m.do(func() error { x := m.pulse; p = &x; return nil })
}

func (m *memory) Lease(ctx context.Context, w *Want) (out []Job, err error) {
	for {
		err := m.do(func() error {
			m.wants = append(m.wants, *w)
			var left []Job
			for _, j := range m.queue {
				if len(out) < w.Max && slices.Contains(w.Topics, j.Topic) && (w.Only == "" || w.Only == j.Priority) {
					out = append(out, j)
				} else {
					left = append(left, j)
				}
			}
			m.queue = left
			return nil
		})
		if err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.more:
		case <-time.After(20 * time.Millisecond):
			return nil, nil
		}
	}
}

func (m *memory) answer(call string) {
	m.mu.Lock()
	late := m.late
	m.mu.Unlock()
	if late != nil {
		late(call)
	}
}

func (m *memory) Start(_ context.Context, l Lease) error {
	defer m.answer("start")
	return m.do(func() error {
		if m.lost[l.Job] {
			return ErrLost
		}
		m.started = append(m.started, l)
		return nil
	})
}

func (m *memory) Progress(_ context.Context, l Lease, _ Progress) (time.Time, error) {
	return recordtest.At.Add(24 * time.Hour), m.do(func() error {
		if m.lost[l.Job] {
			return ErrLost
		}
		return nil
	})
}

func (m *memory) Result(_ context.Context, l Lease, p Page) error {
	return m.do(func() error {
		if m.lost[l.Job] {
			return ErrLost
		}
		if m.pages[l.Job] == nil {
			m.pages[l.Job] = map[int]Page{}
		}
		if old, ok := m.pages[l.Job][p.Number]; ok && !bytes.Equal(old.Body, p.Body) {
			return errors.New("another page with that number")
		}
		m.pages[l.Job][p.Number] = p
		return nil
	})
}

func (m *memory) Finish(_ context.Context, l Lease, o Outcome) error {
	return m.do(func() error { m.outcomes[l.Job] = o; return nil })
}

func (m *memory) Reject(_ context.Context, l Lease, r *rejection.Error) error {
	return m.do(func() error { m.refusals[l.Job] = r; return nil })
}

func (m *memory) CircleBundle(context.Context) (b [][]byte, err error) {
	return b, m.do(func() error { b = m.bundles; return nil })
}

func (m *memory) Attachment(_ context.Context, _ Lease, _ record.Ref, a record.Attachment) (r io.ReadCloser, err error) {
	defer m.answer("attachment")
	return r, m.do(func() error { r = io.NopCloser(bytes.NewReader(m.attachments[a.Name])); return nil })
}

func (m *memory) put(j Job) {
	m.mu.Lock()
	m.queue = append(m.queue, j)
	m.mu.Unlock()
	nudge(m.more)
}

func (m *memory) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// wait waits until f is true of m.
func (w *world) wait(what string, f func(*memory) bool) {
	w.Helper()
	deadline := time.After(time.Minute)
	for {
		w.up.mu.Lock()
		ok := f(w.up)
		w.up.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.up.changed:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			w.logMu.Lock()
			defer w.logMu.Unlock()
			w.Fatalf("%s: it does not happen\n%s", what, w.log)
		}
	}
}

const rulesText = `version: 1
rules:
  - {name: spy, action: accept, topics: [SOAPProbe, SSHCommand], instances: [%s]}
  - {name: scripts, action: accept, topics: [COMMAND, JAVASCRIPT]}
  - {name: files, action: accept, topics: [JDBC], targets: [%q]}
`

func tables() map[string][]string {
	return map[string][]string{
		"sys_data_source":          {"connection_url", "database_name", "database_port", "format", "jdbc_server", "last_run_database_field", "properties", "query", "sql_statement", "table_name"},
		"ecc_agent_script_include": {"includes", "name", "script"},
		"ecc_agent_script_file":    {"attachment", "language", "script", "use_attachment"},
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, author: agenttest.NewAuthor(t, tables(), "name", "script"), key: priv, up: newMemory(), spy: &spy{}, dir: dir, log: &bytes.Buffer{}, clock: recordtest.At.Add(time.Hour)}
	w.belief = &belief{trust: w.author.Trust(), keys: []crypto.PublicKey{pub}}
	w.up.enrolled = func(e *Enrolment) *Enrolled {
		return &Enrolled{State: EnrolValidated, Certificates: [][]byte{certify(t, e, agentName)}}
	}
	w.rules(fmt.Sprintf(rulesText, recordtest.Protected, dir+"/*"))
	w.cfg, err = ParseConfig(fmt.Appendf(nil, "name: %s\ninstance: %s\nstate: %s\nfirewall: %s\nroots: [%x]\njobs: 4\nreserve: 1\n", agentName, recordtest.Protected, filepath.Join(dir, "state"), filepath.Join(dir, "firewall.yaml"), sha256.Sum256(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(w.cfg.State, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) rules(text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "firewall.yaml"), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// certify is the instance's authority.
func certify(t *testing.T, e *Enrolment, name string) []byte {
	t.Helper()
	req, err := x509.ParseCertificateRequest(e.Request)
	if err != nil || req.CheckSignature() != nil {
		t.Errorf("request: %v", err)
		return nil
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	_ = pub
	if err != nil {
		t.Error(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, req.PublicKey, priv)
	if err != nil {
		t.Error(err)
	}
	return der
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) setNow(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = t
}

type lockedLog struct{ w *world }

func (l lockedLog) Write(p []byte) (int, error) {
	l.w.logMu.Lock()
	defer l.w.logMu.Unlock()
	return l.w.log.Write(p)
}

// start runs the agent; stop ends it at once, as a shutdown does.
func (w *world) start(executors ...exec.Executor) (a *Agent, stop func()) {
	w.Helper()
	id, err := OpenIdentity(w.cfg.State, w.cfg.Name)
	if err != nil {
		w.Fatal(err)
	}
	a, err = Open(w.cfg, Deps{Identity: id, Upstream: w.up, Belief: w.belief, Executors: append(executors, w.spy), Log: slog.New(slog.NewTextHandler(lockedLog{w}, nil)), Now: w.now, Version: "test"})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
		if err := a.Close(); err != nil {
			w.Error(err)
		}
	})
	w.Cleanup(stop)
	return a, stop
}

func (w *world) all() []exec.Executor {
	w.Helper()
	e, err := Executors(w.Context(), w.cfg, nil, net.DefaultResolver, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// request is what the instance asks; the zero values are a good job of the spy.
type request struct {
	topic   string
	records []*record.Record
	others  []*record.Record
	params  map[string]string
	change  func(*order.Order)
	key     ed25519.PrivateKey
	sigs    map[int][]record.Signature // in place of the author's
	after   func(*Job)                 // what happens to the job after the order was signed
}

func id() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

func source(sql string) *record.Record {
	return agenttest.Record("sys_data_source", "s1", map[string]string{"format": "postgresql", "jdbc_server": "db.example", "database_name": "shop", "sql_statement": sql})
}

func (w *world) job(r request) Job {
	w.Helper()
	if r.topic == "" {
		r.topic = "SOAPProbe"
	}
	if r.records == nil {
		r.records = []*record.Record{source("SELECT 1")}
	}
	if r.key == nil {
		r.key = w.key
	}
	o := &order.Order{Version: order.Version, ID: id(), Attempt: 1, Instance: recordtest.Protected, Agent: agentName, Topic: r.topic, Name: "test", Priority: order.Standard,
		Params: maps.Clone(r.params), IssuedAt: w.now().Unix(), Expires: w.now().Add(5 * time.Minute).Unix(), Nonce: make([]byte, order.NonceSize)}
	j := Job{Until: w.now().Add(time.Minute), Topic: r.topic, Priority: Standard}
	for i, rec := range slices.Concat(r.records, r.others) {
		sigs, ok := r.sigs[i]
		if !ok {
			sigs = w.author.Sign(w.T, rec)
		}
		j.Records = append(j.Records, Item{Record: *rec, Signatures: sigs})
		if i < len(r.records) {
			sum, err := order.Content(rec)
			if err != nil {
				w.Fatal(err)
			}
			o.Records = append(o.Records, order.Record{Ref: rec.Ref, Purpose: record.Queue, Digest: sum})
		}
	}
	if r.change != nil {
		r.change(o)
	}
	s, err := order.Sign(o, r.key)
	if err != nil {
		w.Fatal(err)
	}
	if j.Order, err = s.Encode(); err != nil {
		w.Fatal(err)
	}
	j.Lease = Lease{Job: o.ID, Attempt: uint32(o.Attempt), Token: "t"}
	if r.after != nil {
		r.after(&j)
	}
	return j
}

// refusal is why a job was refused; nil: it ran.
func (w *world) refusal(j Job) *rejection.Error {
	w.Helper()
	w.up.put(j)
	w.wait("the end of "+j.Lease.Job, func(m *memory) bool {
		_, ran := m.outcomes[j.Lease.Job]
		return ran || m.refusals[j.Lease.Job] != nil
	})
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	return w.up.refusals[j.Lease.Job]
}
