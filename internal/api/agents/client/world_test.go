package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// site is an instance that agents reach over TLS.
type site struct {
	svc   *ecc.Service
	st    *store.SQL
	inst  *ecctest.Instance
	url   string
	roots *x509.CertPool
}

func must(t testing.TB, err error) { t.Helper(); ecctest.Must(t, 0, err) }

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v: want %v", err, want)
	}
}

// serverCert is a key and a certificate for 127.0.0.1, in files.
func serverCert(t testing.TB) (*config.Certs, *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "instance"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	must(t, err)
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	dir := t.TempDir()
	files := config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	must(t, os.WriteFile(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), 0o600))
	certs, err := config.ReadCerts(&files, slog.New(slog.DiscardHandler))
	must(t, err)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool.AddCert(parsed)
	return certs, pool
}

func newSite(t testing.TB, dsn string, change func(*ecc.Config)) *site {
	t.Helper()
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(t.TempDir(), "g.db")
	}
	st, err := store.Open(context.Background(), dsn)
	must(t, err)
	s := &site{st: st, inst: ecctest.New(t)}
	t.Cleanup(func() { st.Close() })
	s.svc = s.inst.Replica(t, st, change)
	ecctest.Run(t, s.svc)
	certs, pool := serverCert(t)
	s.roots = pool
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.url = "https://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- agents.Serve(ctx, ln, s.svc, certs, nil, agents.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e4}, "test")
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is an agent's; a nil identity has no certificate.
func (s *site) client(t testing.TB, id *ecctest.Identity) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: s.url, Roots: s.roots, UserAgent: "test", Certificate: func() *tls.Certificate {
		if id == nil {
			return nil
		}
		return id.TLS()
	}})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func (s *site) agent(t testing.TB, name string) (*client.Client, *ecctest.Identity) {
	t.Helper()
	id := ecctest.Agent(t, s.svc, name)
	return s.client(t, id), id
}

func (s *site) submit(t testing.TB, j ecc.Job) string {
	t.Helper()
	j.Topic, j.Records = "JDBCProbe", ecctest.Ask()
	ids, err := s.svc.Submit(context.Background(), j)
	return ecctest.Must(t, ids, err)[0]
}

func want(wait time.Duration) *agent.Want {
	return &agent.Want{Topics: []string{"JDBCProbe"}, Max: 10, Wait: wait}
}

// administration serves the administrators' routes; the header "Who" names who calls.
func (s *site) administration(t testing.TB, rights map[string][]agents.Right) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	c := huma.DefaultConfig("test", "1")
	c.DocsPath, c.OpenAPIPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	api := humago.New(mux, c)
	agents.MountAdmin(api, s.svc, nil, func(r *http.Request, right agents.Right) (string, error) {
		who := r.Header.Get("Who")
		for _, x := range rights[who] {
			if x == right {
				return who, nil
			}
		}
		return "", errors.New("no")
	})
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return h
}
