package road

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// site is a protected instance with a listener for agents.
type site struct {
	testing.TB
	dir      string
	root     statement.ID // of the trusted side
	store    *store.SQL
	instance *instance.Instance
	front    *front
	certs    *config.Certs
	roots    *x509.CertPool
	wrap     func(name string, u agent.Upstream) agent.Upstream // of what an agent speaks to; nil: nothing
}

// newSite opens a protected instance on PostgreSQL that pins s, and pulls its circle.
func newSite(t testing.TB, s *side, database, application string) *site {
	t.Helper()
	ctx := t.Context()
	p := &site{TB: t, dir: t.TempDir(), root: s.trial.Root}
	var err error
	p.store, err = store.Open(ctx, database)
	ok(t, err)
	t.Cleanup(func() { p.store.Close() })
	ok(t, os.WriteFile(p.path("passphrase"), []byte("the end of the road"), 0o600))
	p.certs, p.roots = serverCert(t, p.dir)
	p.instance, err = instance.Open(ctx, instance.Config{Keys: keystore.Open, Store: p.store, TLS: s.tls, Clock: time.Now, Logger: logTo(t, prod), Config: &config.Instance{
		Name: prod, Role: "protected", State: p.path("circle.state"), Platforms: map[string]config.Platform{erp: {Database: application}},
		Sides:  []config.Side{{Root: s.trial.Root, URL: s.url, TLS: &config.TLS{}, Every: config.Duration(pull)}},
		Agents: &config.Agents{Keystore: p.path("keys"), PassphraseFile: p.path("passphrase"), Listen: "127.0.0.1:0", Cert: p.path("cert.pem"), Key: p.path("key.pem"), Heartbeat: config.Duration(time.Second)},
	}})
	ok(t, err)
	t.Cleanup(func() { p.instance.Close() })
	background(t, p.instance.Run)
	p.front = newFront(t, p.serve(p.instance.Queue))
	return p
}

func (p *site) path(name string) string { return filepath.Join(p.dir, name) }

// serve serves agents from a queue, and returns its address.
func (p *site) serve(q *ecc.Service) string {
	p.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(p, err)
	background(p, func(ctx context.Context) {
		if err := agents.Serve(ctx, ln, q, p.certs, logTo(p, "agents"), agents.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e4}, "test"); err != nil {
			p.Error(err)
		}
	})
	return ln.Addr().String()
}

// believes waits for the instance to have pulled a version of the circle.
func (p *site) believes(version uint64) {
	p.Helper()
	until(p, fmt.Sprintf("the protected instance believes circle %d", version), func() bool {
		st := p.instance.Circles.Status()
		_, err := p.instance.Circles.Trusted()
		return err == nil && st[0].Version == version
	})
}

// serverCert is a key and a certificate for 127.0.0.1, in files.
func serverCert(t testing.TB, dir string) (*config.Certs, *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: prod}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	ok(t, err)
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	ok(t, err)
	files := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	ok(t, os.WriteFile(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), 0o600))
	certs, err := config.ReadCerts(&files, logTo(t, "certs"))
	ok(t, err)
	parsed, err := x509.ParseCertificate(der)
	ok(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return certs, pool
}

// front passes connections on to whichever listener is behind it now.
type front struct {
	addr string

	mu    sync.Mutex
	back  string
	conns map[net.Conn]bool
}

func newFront(t testing.TB, back string) *front {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	f := &front{addr: ln.Addr().String(), back: back, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { ln.Close(); f.to("") })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go f.pass(c)
		}
	}()
	return f
}

func (f *front) pass(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	back := f.back
	f.conns[c] = true
	f.mu.Unlock()
	defer func() { f.mu.Lock(); delete(f.conns, c); f.mu.Unlock() }()
	b, err := net.Dial("tcp", back)
	if err != nil {
		return
	}
	defer b.Close()
	go func() { _, _ = b.(*net.TCPConn).ReadFrom(c); b.Close() }()
	_, _ = c.(*net.TCPConn).ReadFrom(b)
}

// to changes what is behind, and cuts the connections that there are.
func (f *front) to(back string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.back = back
	for c := range f.conns {
		c.Close()
	}
}

// tap is a way to the instance on which what was leased can come again.
type tap struct {
	agent.Upstream

	mu     sync.Mutex
	seen   []agent.Job
	replay []agent.Job
	more   chan struct{}
}

// Lease hands out what is replayed before anything else.
func (u *tap) Lease(ctx context.Context, w *agent.Want) ([]agent.Job, error) {
	take := func() []agent.Job {
		u.mu.Lock()
		defer u.mu.Unlock()
		out := u.replay
		u.replay = nil
		return out
	}
	if l := take(); l != nil {
		return l, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-u.more:
			cancel()
		case <-ctx.Done():
		}
	}()
	l, err := u.Upstream.Lease(ctx, w)
	if again := take(); again != nil {
		return append(again, l...), nil
	}
	u.mu.Lock()
	u.seen = append(u.seen, l...)
	u.mu.Unlock()
	return l, err
}

// again replays an order that the agent was given, as it was.
func (u *tap) again(t testing.TB, job string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, j := range u.seen {
		if j.Lease.Job == job {
			j.Until = time.Now().Add(time.Minute)
			u.replay = append(u.replay, j)
			select {
			case u.more <- struct{}{}:
			default:
			}
			return
		}
	}
	t.Fatalf("job %s was never leased", job)
}

// worker is an agent that runs.
type worker struct {
	name   string
	state  string
	id     *agent.Identity
	client *client.Client
	tap    *tap
}

// work starts a real agent: its own key, circle, firewall, over mutual TLS. It waits for
// nobody.
func (p *site) work(name, firewall string, executors func(*agent.Config) []exec.Executor) *worker {
	p.Helper()
	dir, err := filepath.EvalSymlinks(p.TempDir())
	ok(p, err)
	w := &worker{name: name, state: filepath.Join(dir, "state")}
	ok(p, os.MkdirAll(w.state, 0o700))
	rules := filepath.Join(dir, "firewall.yaml")
	ok(p, os.WriteFile(rules, []byte(firewall), 0o600))
	cfg, err := agent.ParseConfig(fmt.Appendf(nil, "name: %s\ninstance: %s\nserver: https://%s\nstate: %s\nfirewall: %s\nroots: [%s]\njobs: 4\nreserve: 1\nheartbeat: 1s\ncircle: %s\n",
		name, prod, p.front.addr, w.state, rules, p.root, polling))
	ok(p, err)
	w.id, err = agent.OpenIdentity(w.state, name)
	ok(p, err)
	w.client, err = client.New(client.Config{URL: cfg.Server, Roots: p.roots, UserAgent: "test", Certificate: func() *tls.Certificate { return w.id.Certificate() }})
	ok(p, err)
	f, err := statefile.Open(filepath.Join(w.state, "circle.state"))
	ok(p, err)
	c, err := circle.New(p.Context(), f, p.root)
	ok(p, err)
	w.tap = &tap{Upstream: w.client, more: make(chan struct{}, 1)}
	var up agent.Upstream = w.tap
	if p.wrap != nil {
		up = p.wrap(name, up)
	}
	a, err := agent.Open(cfg, agent.Deps{Identity: w.id, Upstream: up, Belief: agent.NewBelief(c), Executors: executors(cfg), Log: logTo(p, name), Now: time.Now, Version: "test"})
	ok(p, err)
	p.Cleanup(func() {
		if err := errors.Join(a.Close(), f.Close()); err != nil {
			p.Error(err)
		}
		w.client.Close()
	})
	background(p, func(ctx context.Context) {
		if err := a.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.Errorf("agent %s: %v", name, err)
		}
	})
	return w
}

// polling is how often an agent pulls the circle of trust.
const polling = 2 * time.Second

// validate waits for agents to ask, and has an administrator compare fingerprints.
func (p *site) validate(ws ...*worker) {
	p.Helper()
	for _, w := range ws {
		print, err := w.id.Fingerprint()
		ok(p, err)
		until(p, w.name+" asks to be enrolled", func() bool {
			_, err = p.instance.Queue.Validate(p.Context(), print, "ann")
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				p.Fatal(err)
			}
			return err == nil
		})
	}
	for _, w := range ws {
		until(p, w.name+" is enrolled", func() bool { return w.id.Certificate() != nil })
	}
}

// ended waits for a job to end.
func (p *site) ended(id string) *store.QueueRecord {
	p.Helper()
	var r *store.QueueRecord
	until(p, "job "+id+" ends", func() bool {
		var err error
		r, err = p.instance.Queue.Job(p.Context(), id)
		ok(p, err)
		return r.State == store.QueueProcessed || r.State == store.QueueError
	})
	return r
}

// pages are what a job brought, one after the other.
func (p *site) pages(id string) []byte {
	p.Helper()
	l, err := p.instance.Queue.Results(p.Context(), id, 0, 100)
	ok(p, err)
	var b bytes.Buffer
	for _, r := range l {
		b.Write(r.Payload)
	}
	return b.Bytes()
}
