package api_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json/v2"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// site is an API in front of a world's server, over loopback.
type site struct {
	*servertest.World
	api   *api.API
	srv   *server.Server
	store store.Store
	http  *httptest.Server
}

func newSite(t *testing.T, change ...func(*api.Config)) *site {
	t.Helper()
	return siteOf(t, servertest.New(t), change...)
}

func siteOf(t *testing.T, w *servertest.World, change ...func(*api.Config)) *site {
	t.Helper()
	s := &site{World: w, store: w.Store("")}
	s.srv, _ = w.Server(s.store)
	c := api.Config{Server: s.srv, Store: s.store, Clock: w.Now, Version: "test", Admins: []string{"dave"}, Uploads: true, Formats: []string{"pe", "cms"},
		Limits: api.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e6}}
	for _, f := range change {
		f(&c)
	}
	var err error
	if s.api, err = api.New(c); err != nil {
		t.Fatal(err)
	}
	s.http = httptest.NewServer(s.api.Handler())
	t.Cleanup(func() { s.api.Stop(); s.http.Close() })
	return s
}

// as is a client of somebody's, with a session; "" is nobody.
func (s *site) as(t *testing.T, name string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Server: s.http.URL, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if name != "" {
		if _, err := c.Login(t.Context(), "test", name, servertest.Signer(name)); err != nil {
			t.Fatalf("login of %s: %v", name, err)
		}
	}
	return c
}

// token makes a bearer token.
func (s *site) token(t *testing.T, principal string, scopes ...string) string {
	t.Helper()
	tok, err := s.as(t, "dave").CreateToken(t.Context(), wire.NewToken{Principal: principal, Scopes: scopes, Expires: s.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return tok.Secret
}

// answer is what came back of a raw call.
type answer struct {
	*http.Response
	body []byte
	wire.Problem
}

// raw makes a call as it is; headers are pairs.
func (s *site) raw(t *testing.T, method, path string, body []byte, headers ...string) answer {
	t.Helper()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.http.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.http.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	a := answer{Response: resp}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), wire.ProblemJSON) && len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &a.Problem, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%s %s: problem %q: %v", method, path, a.body, err)
		}
		if a.Problem.Status != resp.StatusCode {
			t.Errorf("%s %s: status %d, problem says %d", method, path, resp.StatusCode, a.Problem.Status)
		}
	}
	return a
}

func code(err error) string {
	type coded interface{ ReasonCode() string }
	for e := err; e != nil; {
		if c, ok := e.(coded); ok {
			return c.ReasonCode()
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			return e.Error()
		}
		e = u.Unwrap()
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, what string, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Errorf("%s: %v (%q), want %q", what, err, code(err), want)
	}
}

// authority issues certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), n: 1}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	must(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue makes name.pem and name.key.
func (a *authority) issue(name string, change func(*x509.Certificate), key any) {
	a.t.Helper()
	a.n++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(tmpl)
	}
	if key == nil {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	pub := key.(crypto.Signer).Public()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	must(a.t, err)
	a.write(name+".pem", "CERTIFICATE", der)
	b, err := x509.MarshalPKCS8PrivateKey(key)
	must(a.t, err)
	a.write(name+".key", "PRIVATE KEY", b)
}

func named(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, u := range uris {
			p, err := url.Parse(u)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, p)
		}
	}
}

// serve serves the API on a listener until the test ends.
func (s *site) serve(t *testing.T, l api.Listen) (address string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan net.Addr, 1)
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, s.api, l, func(a net.Addr) { ready <- a }) }()
	var err error
	ended := false
	stop = func() error {
		if !ended {
			ended = true
			cancel()
			err = <-done
		}
		return err
	}
	t.Cleanup(func() { stop() })
	select {
	case a := <-ready:
		return a.String(), stop
	case err := <-done:
		ended = true
		t.Fatal(err)
	}
	return "", nil
}
