package ecc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

type site struct {
	*ecc.Service
	st    *store.SQL
	inst  *ecctest.Instance
	clock *clock
}

func newSite(t *testing.T, change func(*ecc.Config)) *site {
	t.Helper()
	s := &site{st: openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "g.db")), inst: ecctest.New(t), clock: &clock{t: time.Now().Truncate(time.Second)}}
	t.Cleanup(func() { s.st.Close() })
	s.Service = s.inst.Replica(t, s.st, func(c *ecc.Config) {
		c.Clock = s.clock.now
		if change != nil {
			change(c)
		}
	})
	return s
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v: want %v", err, want)
	}
}

func must(t *testing.T, err error) { t.Helper(); ecctest.Must(t, 0, err) }

func want() ecc.Want { return ecc.Want{Topics: []string{"JDBCProbe", "Command"}, Max: 10} }

func (s *site) submit(t *testing.T, j ecc.Job) string {
	t.Helper()
	if j.Topic == "" {
		j.Topic = "JDBCProbe"
	}
	if j.Records == nil {
		j.Records = ecctest.Ask()
	}
	ids, err := s.Submit(t.Context(), j)
	return ecctest.Must(t, ids, err)[0]
}

func (s *site) next(t *testing.T, id *ecctest.Identity) []ecc.Work {
	t.Helper()
	w, err := s.Next(t.Context(), id.Peer(t, s.Service), want())
	return ecctest.Must(t, w, err)
}

// sweep makes the service look after leases once.
func (s *site) sweep(t *testing.T) {
	t.Helper()
	now := s.clock.now()
	_, err := s.st.SweepWork(t.Context(), now, now.Add(-s.Times().Down), s.Limits().Attempts)
	must(t, err)
}

func TestInvariant4OrdersAreMadeWhenHandedOut(t *testing.T) {
	s := newSite(t, nil)
	a := ecctest.Agent(t, s.Service, "mid-1")
	id := s.submit(t, ecc.Job{Agent: "mid-1", Name: "nightly", Params: map[string]string{"limit": "10"}})
	s.clock.add(100 * time.Hour) // the agent was away
	works := s.next(t, a)
	if len(works) != 1 || works[0].Lease.Job != id {
		t.Fatalf("%+v", works)
	}
	v := &order.Verifier{Instance: "prod", Agent: "mid-1"}
	v.Keys = append(v.Keys, s.inst.Runtime.Public())
	signed, err := order.DecodeSigned(works[0].Delivery.Order)
	must(t, err)
	got, err := v.Verify(signed, s.clock.now())
	must(t, err)
	o := got.Order()
	if o.ID != id || o.Attempt != 1 || o.Params["limit"] != "10" || o.Name != "nightly" || o.Expires-o.IssuedAt != 300 || o.Records[0].Purpose != record.Queue {
		t.Fatalf("%+v", o)
	}
	named, _, err := got.Open(&works[0].Delivery)
	must(t, err)
	if named[0].Fields["script"] != "return 1" {
		t.Fatalf("%+v", named)
	}
	v.Agent = "mid-2"
	_, err = v.Verify(signed, s.clock.now())
	wantErr(t, err, &rejection.Error{Code: rejection.WrongAgent})
}

func TestSubmitRefuses(t *testing.T) {
	s := newSite(t, nil)
	ecctest.Agent(t, s.Service, "mid-1")
	for name, change := range map[string]func(*ecc.Job){
		"nobody":       func(j *ecc.Job) { j.Agent = "" },
		"both":         func(j *ecc.Job) { j.Cluster = "c" },
		"no records":   func(j *ecc.Job) { j.Records = []ecc.Ask{} },
		"wild card":    func(j *ecc.Job) { j.Records[0].Purpose = record.Wildcard },
		"long name":    func(j *ecc.Job) { j.Name = strings.Repeat("x", 121) },
		"control":      func(j *ecc.Job) { j.Name = "a\nb" },
		"topic":        func(j *ecc.Job) { j.Topic = "../x" },
		"expired":      func(j *ecc.Job) { j.Expires = s.clock.now() },
		"large":        func(j *ecc.Job) { j.Params = map[string]string{"x": strings.Repeat("x", 1<<20)} },
		"id":           func(j *ecc.Job) { j.ID = "x" },
		"long source":  func(j *ecc.Job) { j.Source = strings.Repeat("x", 300) },
		"hostile name": func(j *ecc.Job) { j.Agent = "mid-1'; DROP TABLE agents; --" },
	} {
		j := ecc.Job{Agent: "mid-1", Topic: "JDBCProbe", Records: ecctest.Ask()}
		change(&j)
		if _, err := s.Submit(t.Context(), ecc.Job{Agent: "mid-1", Topic: "JDBCProbe", Records: ecctest.Ask()}, j); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if l, err := s.Jobs(t.Context(), store.QueueFilter{}); err != nil || len(l) != 0 {
		t.Fatalf("%d jobs of submissions that were refused, %v", len(l), err)
	}
}

func TestEverybodyHasACopy(t *testing.T) {
	s := newSite(t, nil)
	var agents []*ecctest.Identity
	for _, n := range []string{"mid-1", "mid-2", "mid-3"} {
		agents = append(agents, ecctest.Agent(t, s.Service, n))
	}
	must(t, s.Invalidate(t.Context(), "mid-3", "", "admin"))
	parent := s.submit(t, ecc.Job{Agent: ecc.Everybody})
	for _, a := range agents[:2] {
		works := s.next(t, a)
		if len(works) != 1 || works[0].Lease.Job != ecc.CopyID(parent, a.Name) {
			t.Fatalf("%s: %+v", a.Name, works)
		}
	}
	// The same submission again makes no other copies.
	_, err := s.Submit(t.Context(), ecc.Job{ID: parent, Agent: ecc.Everybody, Topic: "JDBCProbe", Records: ecctest.Ask()})
	must(t, err)
	l, err := s.Jobs(t.Context(), store.QueueFilter{Parent: parent})
	must(t, err)
	if len(l) != 2 {
		t.Fatalf("%d copies", len(l))
	}
}

// An agent waits, and hears of work that another replica takes in.
func TestWorkWakesWhoeverWaits(t *testing.T) {
	s := newSite(t, nil)
	a := ecctest.Agent(t, s.Service, "mid-1")
	must(t, s.PutCluster(t.Context(), store.AgentCluster{Name: "c", Mode: store.ClusterBalance, Members: []string{"mid-1"}}))
	for _, j := range []ecc.Job{{Agent: "mid-1"}, {Cluster: "c"}} {
		got := make(chan []ecc.Work)
		go func() {
			w := want()
			w.Wait = time.Minute
			works, err := s.Next(context.Background(), a.Peer(t, s.Service), w)
			if err != nil {
				t.Error(err)
			}
			got <- works
		}()
		time.Sleep(20 * time.Millisecond)
		id := s.submit(t, j)
		if works := <-got; len(works) != 1 || works[0].Lease.Job != id {
			t.Fatalf("%+v", works)
		}
	}
	other := s.inst.Replica(t, s.st, func(c *ecc.Config) { quick(c); c.Clock = s.clock.now })
	ecctest.Run(t, other)
	got := make(chan []ecc.Work)
	go func() {
		w := want()
		w.Wait = time.Minute
		works, err := other.Next(context.Background(), a.Peer(t, other), w)
		if err != nil {
			t.Error(err)
		}
		got <- works
	}()
	time.Sleep(20 * time.Millisecond)
	id := s.submit(t, ecc.Job{Agent: "mid-1"})
	if works := <-got; len(works) != 1 || works[0].Lease.Job != id {
		t.Fatalf("%+v", works)
	}
}

func TestFailover(t *testing.T) {
	s := newSite(t, nil)
	first, second := ecctest.Agent(t, s.Service, "mid-1"), ecctest.Agent(t, s.Service, "mid-2")
	beat := func(a *ecctest.Identity) {
		t.Helper()
		p, err := s.Heartbeat(t.Context(), a.Peer(t, s.Service), ecc.Beat{})
		if must(t, err); !slices.Equal(p.Clusters, []string{"c"}) {
			t.Fatalf("%+v", p)
		}
	}
	must(t, s.PutCluster(t.Context(), store.AgentCluster{Name: "c", Mode: store.ClusterFailover, Members: []string{"mid-1", "mid-2"}}))
	beat(first)
	beat(second)
	s.clock.add(2 * time.Second) // who is up is remembered for a second
	s.submit(t, ecc.Job{Cluster: "c"})
	if works := s.next(t, second); len(works) != 0 {
		t.Fatalf("the second has work while the first is up: %+v", works)
	}
	works := s.next(t, first)
	if len(works) != 1 {
		t.Fatal("the first has none")
	}
	lost := works[0]
	// The first goes down before it begins.
	s.clock.add(s.Times().Down)
	beat(second)
	s.sweep(t)
	if works = s.next(t, second); len(works) != 1 || works[0].Lease.Job != lost.Lease.Job || works[0].Lease.Attempt != 2 {
		t.Fatalf("%+v", works)
	}
	if _, err := s.Start(t.Context(), second.Peer(t, s.Service), works[0].Lease); err != nil {
		t.Fatal(err)
	}
	_, err := s.Start(t.Context(), first.Peer(t, s.Service), lost.Lease)
	wantErr(t, err, ecc.ErrLost)
	// It is up again, and the first again.
	beat(first)
	s.clock.add(2 * time.Second)
	s.submit(t, ecc.Job{Cluster: "c"})
	if works := s.next(t, second); len(works) != 0 {
		t.Fatalf("%+v", works)
	}
	if works := s.next(t, first); len(works) != 1 {
		t.Fatalf("%+v", works)
	}
}

// Invariant 5: what an agent does is done under its own certificate and lease.
func TestInvariant5ForeignAgents(t *testing.T) {
	s := newSite(t, nil)
	ctx := t.Context()
	a, b := ecctest.Agent(t, s.Service, "mid-1"), ecctest.Agent(t, s.Service, "mid-2")
	s.inst.Source.Put("script", "1", map[string]string{"script": "x"}, map[string][]byte{"f": []byte("file")})
	s.submit(t, ecc.Job{Agent: "mid-1"})
	w := s.next(t, a)[0]
	pa, pb := a.Peer(t, s.Service), b.Peer(t, s.Service)
	item := w.Delivery.Records[0]
	calls := map[string]func(*ecc.Peer, ecc.Lease) error{
		"start":    func(p *ecc.Peer, l ecc.Lease) error { _, err := s.Start(ctx, p, l); return err },
		"progress": func(p *ecc.Peer, l ecc.Lease) error { _, _, err := s.Progress(ctx, p, l); return err },
		"page":     func(p *ecc.Peer, l ecc.Lease) error { return s.Page(ctx, p, l, 0, "text/plain", []byte("x")) },
		"finish":   func(p *ecc.Peer, l ecc.Lease) error { return s.Finish(ctx, p, l, ecc.Outcome{}) },
		"reject": func(p *ecc.Peer, l ecc.Lease) error {
			return s.Reject(ctx, p, l, rejection.New(rejection.SigMissing, "", ""))
		},
		"attachment": func(p *ecc.Peer, l ecc.Lease) error {
			r, err := s.Attachment(ctx, p, l, item.Ref, item.Attachments[0])
			if err == nil {
				r.Close()
			}
			return err
		},
	}
	for name, call := range calls {
		wantErr(t, call(pb, w.Lease), ecc.ErrLost)
		for _, forge := range []func(*ecc.Lease){func(l *ecc.Lease) { l.Attempt++ }, func(l *ecc.Lease) { l.Token = strings.Repeat("0", 32) }, func(l *ecc.Lease) { l.Job = strings.Repeat("0", 32) }} {
			l := w.Lease
			forge(&l)
			if err := call(pa, l); !errors.Is(err, ecc.ErrLost) && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s under a forged lease: %v", name, err)
			}
		}
		for _, l := range []ecc.Lease{{}, {Job: "x", Attempt: 1, Token: w.Lease.Token}, {Job: w.Lease.Job, Attempt: 0, Token: w.Lease.Token}, {Job: w.Lease.Job, Attempt: 1, Token: ""}} {
			wantErr(t, call(pa, l), ecc.ErrMalformed)
		}
	}
	r, err := s.Attachment(ctx, pa, w.Lease, item.Ref, item.Attachments[0])
	must(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "file" {
		t.Fatalf("%q, %v", got, err)
	}
	_, err = s.Attachment(ctx, pa, w.Lease, record.Ref{Table: "secrets", Key: []string{"1"}}, item.Attachments[0])
	wantErr(t, err, store.ErrNotFound)
	_, err = s.Start(ctx, pa, w.Lease)
	must(t, err)

	// Invalidated: at once, on peers that were told before too.
	must(t, s.Invalidate(ctx, "mid-1", "stolen", "admin"))
	_, err = s.Peer(ctx, a.Leaf(t))
	wantErr(t, err, ecc.ErrInvalidated)
	s.submit(t, ecc.Job{Agent: "mid-1"})
	works, err := s.Next(ctx, pa, want())
	if err != nil || len(works) != 0 {
		t.Fatalf("%+v, %v", works, err)
	}
	// Its key is spent, also for another name.
	for _, name := range []string{"mid-1", "mid-9"} {
		again := &ecctest.Identity{Name: name, Key: a.Key}
		e, err := s.Enrol(ctx, ecc.Enrolment{Name: name, Request: again.Request(t)})
		if err == nil && e.State != store.EnrolmentRefused {
			t.Fatalf("%s: %+v", name, e)
		}
		if _, err := s.Validate(ctx, again.Fingerprint(t), "admin"); err == nil {
			t.Fatal("a spent key is validated")
		}
	}
}

func TestInvariant5Certificates(t *testing.T) {
	s := newSite(t, nil)
	ctx := t.Context()
	a, b := ecctest.Agent(t, s.Service, "mid-1"), ecctest.Agent(t, s.Service, "mid-2")
	if p := a.Peer(t, s.Service); p.Name() != "mid-1" {
		t.Fatal(p.Name())
	}
	// A certificate of the agent's key and name by somebody else's authority.
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agents of prod"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mid-1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, a.Key.Public(), other)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	_, err = s.Peer(ctx, c)
	wantErr(t, err, ecc.ErrInvalidated)
	// One by the right authority, over mid-2's key, that says mid-1.
	authority, err := x509.ParseCertificate(s.Authority().Certificate())
	must(t, err)
	for _, x := range []struct {
		name string
		key  *ecctest.Identity
		use  x509.ExtKeyUsage
	}{{"mid-1", b, x509.ExtKeyUsageClientAuth}, {"mid-1", a, x509.ExtKeyUsageServerAuth}, {"mid-1", ecctest.NewIdentity(t, "x"), x509.ExtKeyUsageClientAuth}} {
		leaf.Subject.CommonName, leaf.ExtKeyUsage = x.name, []x509.ExtKeyUsage{x.use}
		der, err = x509.CreateCertificate(rand.Reader, leaf, authority, x.key.Key.Public(), s.inst.Authority)
		must(t, err)
		c, err = x509.ParseCertificate(der)
		must(t, err)
		_, err = s.Peer(ctx, c)
		wantErr(t, err, ecc.ErrInvalidated)
	}
	_, err = s.Peer(ctx, authority)
	wantErr(t, err, ecc.ErrInvalidated)
	_, err = s.Peer(ctx, nil)
	wantErr(t, err, ecc.ErrInvalidated)
	// openssl agrees on the chain.
	dir := t.TempDir()
	for i, name := range []string{"leaf", "ca"} {
		must(t, os.WriteFile(filepath.Join(dir, name+".der"), a.Chain[i], 0o600))
		out, err := exec.Command("openssl", "x509", "-inform", "der", "-in", filepath.Join(dir, name+".der"), "-out", filepath.Join(dir, name+".pem")).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl: %v: %s", err, out)
		}
	}
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "leaf.pem")).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	// Renewed before its end, and expired after it.
	p, err := s.Heartbeat(ctx, a.Peer(t, s.Service), ecc.Beat{})
	must(t, err)
	if len(p.Renewed) != 0 {
		t.Fatal("a fresh certificate was renewed")
	}
	s.clock.add(s.Times().Certificate - time.Hour)
	p, err = s.Heartbeat(ctx, a.Peer(t, s.Service), ecc.Beat{})
	must(t, err)
	if len(p.Renewed) != 2 {
		t.Fatal("not renewed")
	}
	s.clock.add(2 * time.Hour)
	_, err = s.Peer(ctx, a.Leaf(t))
	wantErr(t, err, ecc.ErrInvalidated)
	a.Chain = p.Renewed
	a.Peer(t, s.Service)
}

func TestInvariant6Enrolment(t *testing.T) {
	s := newSite(t, func(c *ecc.Config) { c.Limits.Waiting, c.Limits.PerName = 3, 2 })
	ctx := t.Context()
	x := ecctest.NewIdentity(t, "mid-1")
	enrol := func(i *ecctest.Identity, name string) (*ecc.Enrolled, error) {
		return s.Enrol(ctx, ecc.Enrolment{Name: name, Request: i.Request(t)})
	}
	e, err := enrol(x, "mid-1")
	must(t, err)
	if e.State != store.EnrolmentWaiting || len(e.Certificates) != 0 || e.Fingerprint != x.Fingerprint(t) {
		t.Fatalf("%+v", e)
	}
	_, err = enrol(x, "mid-2") // the request names mid-1
	wantErr(t, err, ecc.ErrMalformed)
	b := x.Request(t)
	b[len(b)-1] ^= 1
	_, err = s.Enrol(ctx, ecc.Enrolment{Name: "mid-1", Request: b})
	wantErr(t, err, ecc.ErrMalformed)
	for _, bad := range []ecc.Enrolment{{Name: "../x"}, {Name: "mid-1", Request: []byte("x")}, {Name: "mid-1", Request: make([]byte, 1<<20)}, {Name: "mid-1", Request: x.Request(t), Topics: []string{"a b"}}, {Name: "mid-1", Request: x.Request(t), Version: strings.Repeat("x", 100)}} {
		if _, err := s.Enrol(ctx, bad); err == nil {
			t.Errorf("%.60v is accepted", bad)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, err = enrol(&ecctest.Identity{Name: "mid-1", Key: weak}, "mid-1")
	wantErr(t, err, ecc.ErrMalformed)
	// Others who call themselves so: the fingerprint tells them apart.
	thief := ecctest.NewIdentity(t, "mid-1")
	_, err = enrol(thief, "mid-1")
	must(t, err)
	_, err = enrol(ecctest.NewIdentity(t, "mid-1"), "mid-1")
	wantErr(t, err, ecc.ErrTooMany)
	_, err = enrol(ecctest.NewIdentity(t, "mid-3"), "mid-3")
	must(t, err)
	_, err = enrol(ecctest.NewIdentity(t, "mid-4"), "mid-4")
	wantErr(t, err, ecc.ErrTooMany)
	for _, f := range []string{"", "00", strings.Repeat("0", 63) + "g"} {
		_, err = s.Validate(ctx, f, "admin")
		wantErr(t, err, ecc.ErrMalformed)
	}
	_, err = s.Validate(ctx, strings.Repeat("0", 64), "admin")
	wantErr(t, err, store.ErrNotFound)
	_, err = s.Validate(ctx, strings.ToUpper(x.Fingerprint(t)), "admin")
	must(t, err)
	_, err = s.Validate(ctx, x.Fingerprint(t), "admin")
	wantErr(t, err, store.ErrConflict)
	must(t, s.Refuse(ctx, thief.Fingerprint(t), "admin"))
	if e, err = enrol(thief, "mid-1"); err != nil || e.State != store.EnrolmentRefused || len(e.Certificates) != 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := s.Validate(ctx, thief.Fingerprint(t), "admin"); err == nil {
		t.Fatal("who was refused is validated")
	}
	if e, err = enrol(x, "mid-1"); err != nil || e.State != store.EnrolmentValidated || len(e.Certificates) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
}

func TestRekey(t *testing.T) {
	s := newSite(t, nil)
	ctx := t.Context()
	a, b := ecctest.Agent(t, s.Service, "mid-1"), ecctest.Agent(t, s.Service, "mid-2")
	must(t, s.AskRekey(ctx, "mid-1"))
	if p, err := s.Heartbeat(ctx, a.Peer(t, s.Service), ecc.Beat{}); err != nil || !p.Rekey {
		t.Fatalf("%+v, %v", p, err)
	}
	fresh := ecctest.NewIdentity(t, "mid-1")
	p := a.Peer(t, s.Service)
	_, err := s.Rekey(ctx, p, ecctest.NewIdentity(t, "mid-2").Request(t))
	wantErr(t, err, ecc.ErrMalformed)
	_, err = s.Rekey(ctx, p, (&ecctest.Identity{Name: "mid-1", Key: b.Key}).Request(t))
	wantErr(t, err, ecc.ErrMalformed)
	_, err = s.Rekey(ctx, p, a.Request(t))
	wantErr(t, err, ecc.ErrMalformed)
	e, err := s.Rekey(ctx, p, fresh.Request(t))
	must(t, err)
	again, err := s.Rekey(ctx, p, fresh.Request(t)) // the answer was lost
	must(t, err)
	if len(again.Certificates) != 2 || !slices.Equal(again.Certificates[0], e.Certificates[0]) {
		t.Fatal("another certificate")
	}
	a.Peer(t, s.Service) // still good
	fresh.Chain = e.Certificates
	if p := fresh.Peer(t, s.Service); p.Name() != "mid-1" {
		t.Fatal(p.Name())
	}
	_, err = s.Peer(ctx, a.Leaf(t))
	wantErr(t, err, ecc.ErrInvalidated)
	if p, err := s.Heartbeat(ctx, fresh.Peer(t, s.Service), ecc.Beat{}); err != nil || p.Rekey {
		t.Fatalf("%+v, %v", p, err)
	}
}

// What cannot be delivered ends with its reason, or is tried again.
func TestUndeliverable(t *testing.T) {
	s := newSite(t, nil)
	a := ecctest.Agent(t, s.Service, "mid-1")
	missing := s.submit(t, ecc.Job{Agent: "mid-1", Records: []ecc.Ask{{Ref: record.Ref{Table: "script", Key: []string{"9"}}, Purpose: record.Queue}}})
	good := s.submit(t, ecc.Job{Agent: "mid-1"})
	if works := s.next(t, a); len(works) != 1 || works[0].Lease.Job != good {
		t.Fatalf("%+v", works)
	}
	if r, err := s.Job(t.Context(), missing); err != nil || r.State != store.QueueError || r.ErrorString != "RECORD_MISSING" {
		t.Fatalf("%+v, %v", r, err)
	}
	later := s.submit(t, ecc.Job{Agent: "mid-1"})
	s.inst.Source.Err = errors.New("the database is away")
	if works := s.next(t, a); len(works) != 0 {
		t.Fatalf("%+v", works)
	}
	s.inst.Source.Err = nil
	s.clock.add(s.Times().Begin)
	s.sweep(t)
	var ids []string
	for _, w := range s.next(t, a) {
		ids = append(ids, w.Lease.Job)
	}
	if !slices.Contains(ids, later) {
		t.Fatalf("%v", ids)
	}
	s.inst.Source.Err = rejection.New(rejection.RecordMismatch, "script", "")
	refused := s.submit(t, ecc.Job{Agent: "mid-1"})
	s.next(t, a)
	if r, err := s.Job(t.Context(), refused); err != nil || r.ErrorString != "RECORD_MISMATCH(script)" {
		t.Fatalf("%+v, %v", r, err)
	}
	// Nobody else would hear of it: it stands among the rejections, and in the log.
	list, err := s.Rejections(t.Context(), "", refused, 0, 10)
	if err != nil || len(list) != 1 || list[0].Code != "RECORD_MISMATCH" || list[0].Subject != "script" {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestResultsAreLimited(t *testing.T) {
	s := newSite(t, func(c *ecc.Config) { c.Limits.Page, c.Limits.Result = 10, 15 })
	ctx := t.Context()
	a := ecctest.Agent(t, s.Service, "mid-1")
	id := s.submit(t, ecc.Job{Agent: "mid-1"})
	w := s.next(t, a)[0]
	p := a.Peer(t, s.Service)
	_, err := s.Start(ctx, p, w.Lease)
	must(t, err)
	wantErr(t, s.Page(ctx, p, w.Lease, 0, "text/plain", make([]byte, 11)), ecc.ErrTooLarge)
	must(t, s.Page(ctx, p, w.Lease, 0, "text/plain", make([]byte, 10)))
	wantErr(t, s.Page(ctx, p, w.Lease, 1, "text/plain", make([]byte, 6)), ecc.ErrTooLarge)
	must(t, s.Page(ctx, p, w.Lease, 1, "text/plain", make([]byte, 5)))
	wantErr(t, s.Page(ctx, p, w.Lease, 2, "text\nplain", nil), ecc.ErrMalformed)
	wantErr(t, s.Page(ctx, p, w.Lease, -1, "text/plain", nil), ecc.ErrMalformed)
	wantErr(t, s.Finish(ctx, p, w.Lease, ecc.Outcome{Pages: 2, Facts: make([]byte, 5000)}), ecc.ErrTooLarge)
	must(t, s.Finish(ctx, p, w.Lease, ecc.Outcome{Pages: 2, Error: "line one\nlevel=info forged\u202e"}))
	r, err := s.Job(ctx, id)
	must(t, err)
	if strings.ContainsAny(r.ErrorString, "\n\u202e") {
		t.Fatalf("%q", r.ErrorString)
	}
	pages, err := s.Results(ctx, id, 0, 10)
	must(t, err)
	if len(pages) != 2 || pages[1].ContentType != "text/plain" {
		t.Fatalf("%+v", pages)
	}
	must(t, s.Taken(ctx, pages[0].ID, ""))
	wantErr(t, s.Taken(ctx, pages[0].ID, ""), store.ErrConflict)
	if _, err := s.Job(ctx, pages[0].ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatal("a page is shown as a job")
	}
}

// The instance's keys live in a provider, and survive it.
func TestKeysOfTheInstance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instance.keys")
	p, err := soft.Create(path, []byte("a passphrase for this test"))
	must(t, err)
	ctx := t.Context()
	one, err := ecc.OpenKeys(ctx, p)
	must(t, err)
	must(t, p.Close())
	p, err = soft.Open(path, []byte("a passphrase for this test"))
	must(t, err)
	defer p.Close()
	two, err := ecc.OpenKeys(ctx, p)
	must(t, err)
	if !one.Runtime.Public().(ed25519.PublicKey).Equal(two.Runtime.Public()) || !one.Authority.Public().(*ecdsa.PublicKey).Equal(two.Authority.Public()) {
		t.Fatal("other keys")
	}
	st := openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "g.db"))
	defer st.Close()
	a, err := ecc.OpenAuthority(ctx, st, "prod", two.Authority, rand.Reader, time.Now())
	must(t, err)
	b, err := ecc.OpenAuthority(ctx, st, "prod", two.Authority, rand.Reader, time.Now())
	must(t, err)
	if !slices.Equal(a.Certificate(), b.Certificate()) {
		t.Fatal("replicas show different authorities")
	}
	inst := ecctest.New(t)
	s, err := ecc.New(ecc.Config{Store: st, Source: inst.Source, Instance: "prod", Runtime: two.Runtime, Authority: a, Clock: time.Now})
	must(t, err)
	id := ecctest.Agent(t, s, "mid-1")
	_, err = s.Submit(ctx, ecc.Job{Agent: "mid-1", Topic: "JDBCProbe", Records: ecctest.Ask()})
	must(t, err)
	works, err := s.Next(ctx, id.Peer(t, s), want())
	must(t, err)
	signed, err := order.DecodeSigned(works[0].Delivery.Order)
	must(t, err)
	v := &order.Verifier{Instance: "prod", Agent: "mid-1"}
	v.Keys = append(v.Keys, two.Runtime.Public())
	if _, err := v.Verify(signed, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	inst := ecctest.New(t)
	st := openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "g.db"))
	defer st.Close()
	a, err := ecc.OpenAuthority(t.Context(), st, "prod", inst.Authority, rand.Reader, time.Now())
	must(t, err)
	for name, change := range map[string]func(*ecc.Config){
		"store":    func(c *ecc.Config) { c.Store = nil },
		"source":   func(c *ecc.Config) { c.Source = nil },
		"runtime":  func(c *ecc.Config) { c.Runtime = inst.Authority },
		"instance": func(c *ecc.Config) { c.Instance = "" },
		"sender":   func(c *ecc.Config) { c.Webhooks = []notify.Webhook{{}} },
		"webhook":  func(c *ecc.Config) { c.Webhooks, c.Sender = []notify.Webhook{{}}, notify.NewSender() },
	} {
		cfg := ecc.Config{Store: st, Source: inst.Source, Instance: "prod", Runtime: inst.Runtime, Authority: a, Clock: time.Now}
		change(&cfg)
		if _, err := ecc.New(cfg); err == nil {
			t.Errorf("%s is not missed", name)
		}
	}
	other := ecctest.New(t)
	if _, err := ecc.OpenAuthority(t.Context(), st, "prod", other.Authority, rand.Reader, time.Now()); err != nil {
		t.Fatal(err) // another key has a certificate of its own
	}
}
