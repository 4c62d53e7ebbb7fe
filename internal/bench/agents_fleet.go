package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
	grecord "github.com/greatseal-io/greatseal/record"
)

const (
	benchTopic    = "JDBCProbe"
	benchInstance = "prod"
)

// oneRecord is an ecc.Source of one record.
type oneRecord struct{ item order.Item }

func (o oneRecord) Records(context.Context, []ecc.Ask) ([]order.Item, error) {
	return []order.Item{o.item}, nil
}

func (o oneRecord) Attachment(context.Context, grecord.Ref, grecord.Attachment) (io.ReadCloser, error) {
	return nil, store.ErrNotFound
}

// replica is one process's part of an instance: a service, a store, a listener.
type replica struct {
	svc   *ecc.Service
	store *store.SQL
	url   string
	http  *http.Server
	stop  context.CancelFunc
	ended chan struct{}
	dead  atomic.Bool
	once  sync.Once
	err   error
}

// kill ends a replica as a crash would: its connections are cut and its database is
// gone, in the middle of whatever it does.
func (r *replica) kill() {
	r.once.Do(func() {
		r.dead.Store(true)
		r.err = errors.Join(r.http.Close(), r.store.Close())
		r.stop()
		<-r.ended
	})
}

// benchAgent is one agent: a key, a certificate, and connections of its own.
type benchAgent struct {
	f       *fleet
	name    string
	cluster string
	key     crypto.Signer
	chain   [][]byte
	clients []*client.Client // one for each replica
	doomed  atomic.Bool      // dies over the next job that it begins
	dead    atomic.Bool
	stop    context.CancelFunc
}

// fleet is an instance with two replicas, and its agents.
type fleet struct {
	replicas []*replica
	agents   []*benchAgent
	clusters []string
	runtime  crypto.PublicKey
	item     order.Item
	roots    *x509.CertPool
	jobs     tracks
	failed   chan error // what no agent should meet
	wg       sync.WaitGroup
	cancel   context.CancelFunc
}

func (f *fleet) asked() []ecc.Ask { return []ecc.Ask{{Ref: f.item.Ref, Purpose: grecord.Queue}} }

// alive is a replica that was not killed.
func (f *fleet) alive() *replica {
	for _, r := range f.replicas {
		if !r.dead.Load() {
			return r
		}
	}
	return f.replicas[0]
}

func randomID() (string, error) {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	return hex.EncodeToString(b), err
}

func newFleet(ctx context.Context, dir, dsn string, n int) (f *fleet, err error) {
	f = &fleet{jobs: tracks{m: map[string]*track{}}, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	f.item = order.Item{Ref: grecord.Ref{Table: "sys_data_source", Key: []string{"9c573169c611228700193229fff72400"}}, Fields: map[string]string{"sql_statement": "SELECT 1"}}
	pub, runtime, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return f, err
	}
	f.runtime = pub
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, err
	}
	certs, roots, err := fleetCert(dir)
	if err != nil {
		return f, err
	}
	f.roots = roots
	for range 2 {
		st, err := store.Open(ctx, dsn)
		if err != nil {
			return f, err
		}
		r := &replica{store: st, ended: make(chan struct{})}
		a, err := ecc.OpenAuthority(ctx, st, benchInstance, authority, rand.Reader, time.Now())
		if err != nil {
			return f, errors.Join(err, st.Close())
		}
		r.svc, err = ecc.New(ecc.Config{Store: st, Source: oneRecord{f.item}, Instance: benchInstance, Runtime: runtime, Authority: a, Clock: time.Now,
			Times: ecc.Times{Begin: beginTime, Run: runTime, Heartbeat: time.Minute}, Limits: ecc.Limits{Waiting: int64(n) + 1}})
		if err != nil {
			return f, errors.Join(err, st.Close())
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return f, errors.Join(err, st.Close())
		}
		many := agents.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e6}
		r.url, r.http = "https://"+ln.Addr().String(), &http.Server{Handler: agents.NewHandler(r.svc, slog.New(slog.DiscardHandler), many, "bench"), TLSConfig: agents.TLSConfig(r.svc, certs),
			ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
		run, stop := context.WithCancel(context.WithoutCancel(ctx))
		r.stop = stop
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.http.ServeTLS(ln, "", "") }) // ends when it is closed
		wg.Go(func() { _ = r.svc.Run(run) })              // ends with run
		go func() { wg.Wait(); close(r.ended) }()
		f.replicas = append(f.replicas, r)
	}
	for i := range n {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return f, err
		}
		cluster := fmt.Sprintf("cluster-%d", i/clusterOf%max(1, n/clusterOf))
		a := &benchAgent{f: f, name: fmt.Sprintf("agent-%d", i), cluster: cluster, key: k}
		for _, r := range f.replicas {
			c, err := client.New(client.Config{URL: r.url, Roots: roots, UserAgent: "bench", Certificate: a.certificate})
			if err != nil {
				return f, err
			}
			a.clients = append(a.clients, c)
		}
		f.agents = append(f.agents, a)
	}
	return f, nil
}

// fleetCert is a certificate for 127.0.0.1.
func fleetCert(dir string) (*config.Certs, *x509.CertPool, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: benchInstance}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err1 := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	pk, err2 := x509.MarshalPKCS8PrivateKey(k)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	files := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	err1 = os.WriteFile(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	err2 = os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), 0o600)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	certs, err := config.ReadCerts(&files, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return certs, pool, nil
}

// enrol has every agent ask for its certificate, an administrator validate its
// fingerprint, and the agent fetch it; then makes the clusters.
func (f *fleet) enrol(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, a := range f.agents {
		g.Go(func() error { return a.enrol(gctx, i%len(f.replicas)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	members := map[string][]string{}
	for _, a := range f.agents {
		if members[a.cluster] == nil {
			f.clusters = append(f.clusters, a.cluster)
		}
		members[a.cluster] = append(members[a.cluster], a.name)
	}
	for _, c := range f.clusters {
		if err := f.replicas[0].svc.PutCluster(ctx, store.AgentCluster{Name: c, Mode: store.ClusterBalance, Members: members[c]}); err != nil {
			return err
		}
	}
	return nil
}

func (a *benchAgent) certificate() *tls.Certificate {
	if len(a.chain) == 0 {
		return nil
	}
	return &tls.Certificate{Certificate: a.chain, PrivateKey: a.key}
}

func (a *benchAgent) enrol(ctx context.Context, at int) error {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.name}}, a.key)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		return err
	}
	e := &agent.Enrolment{Name: a.name, Request: csr, Version: "bench", Topics: []string{benchTopic}}
	if _, err := a.clients[at].Enrol(ctx, e); err != nil {
		return err
	}
	sum := sha256.Sum256(spki)
	if _, err := a.f.replicas[at].svc.Validate(ctx, hex.EncodeToString(sum[:]), "bench"); err != nil {
		return err
	}
	got, err := a.clients[at].Enrol(ctx, e)
	if err != nil {
		return err
	}
	if got.State != agent.EnrolValidated {
		return fmt.Errorf("bench: %s is %s", a.name, got.State)
	}
	a.chain = got.Certificates
	return nil
}

// start lets all agents live.
func (f *fleet) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	for i, a := range f.agents {
		life, stop := context.WithCancel(ctx)
		a.stop = stop
		f.wg.Go(func() { a.live(life, i%len(f.replicas)) })
	}
}

// fail keeps the first thing that should not be.
func (f *fleet) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

func (f *fleet) close() error {
	if f.cancel != nil {
		f.cancel()
	}
	f.wg.Wait()
	for _, a := range f.agents {
		for _, c := range a.clients {
			c.Close()
		}
	}
	var errs []error
	for _, r := range f.replicas {
		r.kill()
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// kill ends an agent's process: its calls and connections are cut.
func (a *benchAgent) kill() {
	a.dead.Store(true)
	a.stop()
	for _, c := range a.clients {
		c.Close()
	}
}

// live is an agent at work, first at one replica and then at whichever answers.
func (a *benchAgent) live(ctx context.Context, at int) {
	// anywhere makes a call at a replica that answers.
	anywhere := func(f func(agent.Upstream) error) error {
		for {
			err := f(a.clients[at])
			if !errors.Is(err, agent.ErrUnreachable) || ctx.Err() != nil {
				return err
			}
			at = (at + 1) % len(a.clients)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	v := &order.Verifier{Instance: benchInstance, Keys: []crypto.PublicKey{a.f.runtime}, Agent: a.name, Clusters: []string{a.cluster}}
	for ctx.Err() == nil {
		var jobs []agent.Job
		err := anywhere(func(u agent.Upstream) (err error) {
			jobs, err = u.Lease(ctx, &agent.Want{Topics: []string{benchTopic}, Max: 1, Wait: 30 * time.Second})
			return err
		})
		for _, j := range jobs {
			if err == nil {
				err = a.do(ctx, v, &j, anywhere)
			}
		}
		if err != nil && ctx.Err() == nil {
			a.f.fail(fmt.Errorf("bench: %s: %w", a.name, err))
			return
		}
	}
}

// do is one job: verified, begun, run, brought.
func (a *benchAgent) do(ctx context.Context, v *order.Verifier, j *agent.Job, anywhere func(func(agent.Upstream) error) error) error {
	signed, err := order.DecodeSigned(j.Order)
	if err != nil {
		return err
	}
	verified, err := v.Verify(signed, time.Now())
	if err != nil {
		return err
	}
	d := &order.Delivery{Order: j.Order}
	for i := range j.Records {
		d.Records = append(d.Records, order.ItemOf(&j.Records[i].Record, j.Records[i].Signatures))
	}
	if _, _, err := verified.Open(d); err != nil {
		return err
	}
	err = anywhere(func(u agent.Upstream) error { return u.Start(ctx, j.Lease) })
	if errors.Is(err, agent.ErrLost) {
		return nil // another's now
	}
	if err != nil {
		return err
	}
	if a.doomed.Load() {
		a.kill() // begun, and not run
		return nil
	}
	a.f.jobs.run(j.Lease.Job)
	page := agent.Page{Number: 0, Type: "application/json", Body: []byte(`{"rows":[[1]]}`)}
	err = anywhere(func(u agent.Upstream) error { return u.Result(ctx, j.Lease, page) })
	if err == nil {
		err = anywhere(func(u agent.Upstream) error {
			return u.Finish(ctx, j.Lease, agent.Outcome{Pages: 1, Rows: 1, Digest: sha256.Sum256(page.Body), Started: time.Now(), Ended: time.Now()})
		})
	}
	if err == nil {
		a.f.jobs.finish(j.Lease.Job)
	}
	return err
}
