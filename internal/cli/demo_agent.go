package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/sql"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/rejection"
)

// demoAgent is the demo's agent, with a folder of its own: a process on another
// host has nothing else.
type demoAgent struct {
	cfg   *agent.Config
	id    *agent.Identity
	line  *demoLine
	agent *agent.Agent
	state *statefile.File
	stop  context.CancelFunc
	done  chan error
}

// agentFiles writes what an operator writes: configuration and firewall.
func (d *demo) agentFiles() (*agent.Config, error) {
	dir := filepath.Join(d.dir, "agent")
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		return nil, err
	}
	rules := fmt.Sprintf("version: 1\nrules:\n  - {name: orders, action: accept, topics: [JDBC], instances: [%s], targets: [%q]}\n", demoPlant, d.target())
	if err := file.WriteFile(filepath.Join(dir, "firewall.yaml"), []byte(rules), 0o600); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("name: %s\ninstance: %s\nserver: %q\nserverCA: %q\nstate: %q\nfirewall: %q\nroots: [%s]\n", demoAgentName, demoPlant, d.estate.url,
		d.path("plant", "agents.crt"), filepath.Join(dir, "state"), filepath.Join(dir, "firewall.yaml"), d.people.Root)
	if err := file.WriteFile(d.agentConfig(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return agent.LoadConfig(d.agentConfig())
}

func (d *demo) agentConfig() string { return d.path("agent", "agent.yaml") }

// startAgent runs the agent, the first time or again.
func (d *demo) startAgent(ctx context.Context) (err error) {
	x := &demoAgent{done: make(chan error, 1)}
	defer func() {
		if err != nil && x.state != nil {
			x.state.Close()
		}
	}()
	if x.cfg, err = d.agentFiles(); err != nil {
		return err
	}
	if x.id, err = agent.OpenIdentity(x.cfg.State, x.cfg.Name); err != nil {
		return err
	}
	roots, err := readPool(x.cfg.ServerCA)
	if err != nil {
		return err
	}
	up, err := client.New(client.Config{URL: x.cfg.Server, Roots: roots, Certificate: x.id.Certificate, UserAgent: "greatseal-agent/" + Version})
	if err != nil {
		return err
	}
	x.line = &demoLine{Upstream: up, inject: make(chan agent.Job), ends: make(chan *rejection.Error, 1)}
	pins, err := x.cfg.Pins()
	if err != nil {
		return err
	}
	if x.state, err = statefile.Open(filepath.Join(x.cfg.State, "circle.state")); err != nil {
		return err
	}
	believed, err := circle.New(ctx, x.state, pins...)
	if err != nil {
		return err
	}
	x.agent, err = agent.Open(x.cfg, agent.Deps{Identity: x.id, Upstream: x.line, Belief: agent.NewBelief(believed),
		Executors: []exec.Executor{&sql.Executor{Resolver: net.DefaultResolver}}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Version: Version})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	x.stop = stop
	go func() {
		err := x.agent.Run(run)
		up.Close()
		x.done <- err
	}()
	d.estate.agent = x
	return nil
}

func (x *demoAgent) close() error {
	x.stop()
	err := <-x.done
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, x.agent.Close(), x.state.Close())
}

// enrolAgent is the administrator's part: the fingerprint that the agent's host shows
// is compared with the one that waits, and validated.
func (d *demo) enrolAgent(ctx context.Context) error {
	fp, err := d.estate.agent.id.Fingerprint()
	if err != nil {
		return err
	}
	d.result.Records.Agent = fp
	err = until(ctx, "the agent asks to be enrolled", func() (bool, error) {
		waiting, err := d.estate.plant.Queue.Enrolments(ctx, 10)
		return len(waiting) == 1, err
	})
	if err != nil {
		return err
	}
	if _, err := d.estate.plant.Queue.Validate(ctx, fp, "ann"); err != nil {
		return err
	}
	err = until(ctx, "the agent has its certificate", func() (bool, error) { return d.estate.agent.id.Certificate() != nil, nil })
	if err != nil {
		return err
	}
	d.say("   agent     %s, key %s…, validated by ann who compared the fingerprint; TLS with its own certificate", demoAgentName, fp[:16])
	d.say("             its firewall lets it reach %s and nothing else", d.target())
	return nil
}

// serveAgents is the plant's listener for agents.
func (d *demo) serveAgents(ctx context.Context) error {
	files := &config.TLS{Cert: d.path("plant", "agents.crt"), Key: d.path("plant", "agents.key")}
	if err := demoCertificate(files); err != nil {
		return err
	}
	certs, err := config.ReadCerts(files, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e := d.estate
	e.url = "https://" + ln.Addr().String()
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- agents.Serve(serving, ln, e.plant.Queue, certs, slog.New(slog.DiscardHandler), agents.Limits{}, Version)
	}()
	e.closer = append(e.closer, func() error { stop(); return <-done })
	return nil
}

// demoCertificate makes a key and a certificate of its own for loopback.
func demoCertificate(to *config.TLS) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: demoPlant}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return errors.Join(
		file.WriteFile(to.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		file.WriteFile(to.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

// demoLine is the agent's line to its instance, and somebody who sits on it: what the
// thief of an instance delivers comes out of it like everything else.
type demoLine struct {
	agent.Upstream
	inject chan agent.Job
	ends   chan *rejection.Error // of what was injected; nil: it ran

	mu   sync.Mutex
	last *agent.Job // that the instance delivered
}

// stolen marks the leases of jobs that no instance has handed out.
const stolen = "stolen"

func (l *demoLine) Lease(ctx context.Context, w *agent.Want) ([]agent.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		jobs []agent.Job
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		jobs, err := l.Upstream.Lease(ctx, w)
		got <- answer{jobs, err}
	}()
	var a answer
	var added []agent.Job
	select {
	case a = <-got:
	case j := <-l.inject:
		cancel()
		added = []agent.Job{j}
		a = <-got
		a.err = nil
	}
	if n := len(a.jobs); n > 0 {
		l.mu.Lock()
		l.last = &a.jobs[n-1]
		l.mu.Unlock()
	}
	return append(a.jobs, added...), a.err
}

func (l *demoLine) Start(ctx context.Context, x agent.Lease) error {
	if x.Token == stolen {
		return nil
	}
	return l.Upstream.Start(ctx, x)
}

func (l *demoLine) Progress(ctx context.Context, x agent.Lease, p agent.Progress) (time.Time, error) {
	if x.Token == stolen {
		return time.Now().Add(time.Minute), nil
	}
	return l.Upstream.Progress(ctx, x, p)
}

func (l *demoLine) Result(ctx context.Context, x agent.Lease, p agent.Page) error {
	if x.Token == stolen {
		return nil
	}
	return l.Upstream.Result(ctx, x, p)
}

func (l *demoLine) Finish(ctx context.Context, x agent.Lease, o agent.Outcome) error {
	if x.Token == stolen {
		return l.end(ctx, nil)
	}
	return l.Upstream.Finish(ctx, x, o)
}

func (l *demoLine) Reject(ctx context.Context, x agent.Lease, r *rejection.Error) error {
	if x.Token == stolen {
		return l.end(ctx, r)
	}
	return l.Upstream.Reject(ctx, x, r)
}

func (l *demoLine) end(ctx context.Context, r *rejection.Error) error {
	select {
	case l.ends <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deliver hands the agent a job and says how it refused it; nil: it ran.
func (l *demoLine) deliver(ctx context.Context, j agent.Job) (*rejection.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	j.Lease.Token, j.Until = stolen, time.Now().Add(time.Minute)
	select {
	case l.inject <- j:
	case <-ctx.Done():
		return nil, errors.New("the agent asks for no work")
	}
	select {
	case r := <-l.ends:
		return r, nil
	case <-ctx.Done():
		return nil, errors.New("the agent neither ran nor refused a job")
	}
}
