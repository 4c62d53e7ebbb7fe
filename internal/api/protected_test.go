package api_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json/v2"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/instance/keystore"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// plant is a protected instance that has heard nothing of its side yet.
func plant(t *testing.T) *api.Protected {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "server.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	must(t, os.WriteFile(filepath.Join(dir, "passphrase"), []byte("of the plant's keys"), 0o600))
	erp, err := sql.Open("sqlite", filepath.Join(dir, "erp.db"))
	must(t, err)
	_, err = erp.ExecContext(t.Context(), "CREATE TABLE sources (id TEXT PRIMARY KEY, sql_statement TEXT)")
	must(t, err)
	must(t, erp.Close())
	var root statement.ID
	_, err = rand.Read(root[:])
	must(t, err)
	i, err := instance.Open(t.Context(), instance.Config{Keys: keystore.Open, Store: db, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Config: &config.Instance{
		Name: "prod", Role: "protected", State: filepath.Join(dir, "circle.state"), Sides: []config.Side{{Root: root}},
		Platforms: map[string]config.Platform{"erp": {Database: "sqlite:" + filepath.Join(dir, "erp.db")}},
		Agents:    &config.Agents{Keystore: filepath.Join(dir, "keys"), PassphraseFile: filepath.Join(dir, "passphrase")},
	}})
	must(t, err)
	t.Cleanup(func() { must(t, i.Close()) })
	p, err := api.NewProtected(api.ProtectedConfig{Instance: i, Health: db.Health, Logger: slog.New(slog.DiscardHandler), Version: "test", Limits: api.Limits{PerSecond: 1e6, Burst: 1e6},
		Roles: config.Roles{Administrators: []string{"alice"}, Operators: []string{"olga"}, Auditors: []string{"audrey"}}})
	must(t, err)
	return p
}

func serveProtected(t *testing.T, p *api.Protected, l api.Listen) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() { done <- api.ServeProtected(ctx, p, l, func(a net.Addr) { ready <- a }) }()
	select {
	case a := <-ready:
		t.Cleanup(func() { cancel(); must(t, <-done) })
		return a.String()
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return ""
}

// problemOf calls a route and returns the status and the reason code.
func problemOf(t *testing.T, c *http.Client, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(r)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	var p struct {
		Code string `json:"code"`
	}
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
			t.Errorf("%s %s: %d is no problem: %.200s", method, url, res.StatusCode, b)
		}
	}
	return res.StatusCode, p.Code
}

// Each role may do what the configuration says, and nobody else anything: over real
// mutual TLS, in HTTP/2 and 1.1.
func TestRightsOnProtectedInstances(t *testing.T) {
	p, ca, other := plant(t), newAuthority(t), newAuthority(t)
	ca.issue("server", nil, nil)
	people := map[string]func(*x509.Certificate){
		"alice": named("greatseal:alice"), "olga": named("greatseal:olga"), "audrey": named("greatseal:audrey"), "mallory": named("greatseal:mallory"),
		"nobody": nil, "twofold": named("greatseal:alice", "greatseal:olga"), "agent": named("greatseal-agent:alice"), "web": named("https://alice"),
	}
	for n, c := range people {
		ca.issue(n, c, nil)
	}
	other.issue("stranger", named("greatseal:alice"), nil)
	addr := serveProtected(t, p, api.Listen{Address: "127.0.0.1:0", TLS: &config.TLS{Cert: ca.path("server.pem"), Key: ca.path("server.key"), CA: ca.path("ca.pem")}})
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := func(a *authority, name string, h2 bool) *http.Client {
		cfg := &tls.Config{RootCAs: roots}
		if name != "" {
			pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
			must(t, err)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: h2}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}

	const read, submit, admin = "audrey olga alice", "olga alice", "alice"
	routes := []struct{ method, path, body, who string }{
		{"GET", "/instance", "", read},
		{"GET", "/circle", "", read},
		{"GET", "/records/tables?platform=erp", "", read},
		{"GET", "/records/scan", "", read},
		{"GET", "/records/scan.csv", "", read},
		{"GET", "/records/findings", "", read},
		{"GET", "/records/explain?table=a&key=1", "", read},
		{"GET", "/records/trusted?table=a&key=1", "", read},
		{"POST", "/records/may-enforce", "", read},
		{"GET", "/security-jobs", "", read},
		{"GET", "/update-sets", "", read},
		{"GET", "/update-sets/0/compare", "", read},
		{"GET", "/agents", "", read},
		{"GET", "/queue/jobs", "", read},
		{"POST", "/records/export", `{"platform":"erp","records":[]}`, submit},
		{"POST", "/queue/jobs", `{"jobs":[]}`, submit},
		{"POST", "/circle", "", admin},
		{"POST", "/records/import?platform=erp", "", admin},
		{"POST", "/update-sets?platform=erp", "", admin},
		{"POST", "/update-sets/0/preview", "", admin},
		{"POST", "/update-sets/0/decide", `{"decisions":{}}`, admin},
		{"POST", "/update-sets/0/commit", "", admin},
		{"POST", "/agents/x/invalidate", `{"reason":"x"}`, admin},
		{"POST", "/security-jobs", `{}`, admin},
	}
	for _, h2 := range []bool{false, true} {
		for name := range people {
			c := client(ca, name, h2)
			for _, x := range routes {
				headers := []string{}
				if x.body == "" && x.method == "POST" {
					headers = []string{"Content-Type", "application/octet-stream"}
				}
				st, code := problemOf(t, c, x.method, "https://"+addr+"/v1"+x.path, x.body, headers...)
				may := strings.Contains(" "+x.who+" ", " "+name+" ")
				refused := code == "scope" || code == "certificate" || code == "unauthorized"
				switch {
				case x.path == "/security-jobs" && may:
					if st != 403 || code != "forbidden" {
						t.Errorf("%s asks for a signature: %d %s", name, st, code)
					}
				case may && (refused || st == 404 && code == "no-such-route" || st >= 500):
					t.Errorf("%s, %s %s: %d %s", name, x.method, x.path, st, code)
				case !may && !refused:
					t.Errorf("%s may do it: %s %s: %d %s", name, x.method, x.path, st, code)
				}
			}
		}
	}
	if st, code := problemOf(t, client(nil, "", false), "GET", "https://"+addr+"/v1/instance", ""); st != 401 {
		t.Errorf("without a certificate: %d %s", st, code)
	}
	if res, err := client(other, "stranger", false).Get("https://" + addr + "/v1/instance"); err == nil {
		res.Body.Close()
		t.Errorf("a certificate of somebody else's authority: %d", res.StatusCode)
	}
}

// Loopback is everybody's on the machine, and every web page's whose name leads to
// it: without TLS a Unix socket alone lets somebody in.
func TestNobodyOnLoopback(t *testing.T) {
	p := plant(t)
	srv := httptest.NewServer(p)
	defer srv.Close()
	for _, headers := range [][]string{{}, {"Host", "rebound.example"}, {"Host", "rebound.example", "Origin", "http://rebound.example", "Sec-Fetch-Site", "same-origin"}, {"X-Forwarded-For", "192.0.2.1"}} {
		for _, x := range []struct{ method, path, body string }{{"GET", "/v1/instance", ""}, {"POST", "/v1/records/may-enforce", ""}, {"POST", "/v1/agents/x/invalidate", `{"reason":"x"}`}} {
			if st, code := problemOf(t, srv.Client(), x.method, srv.URL+x.path, x.body, headers...); st != 403 {
				t.Errorf("%v, %s %s: %d %s", headers, x.method, x.path, st, code)
			}
		}
	}
	for _, l := range []api.Listen{{Address: "127.0.0.1:0"}, {Address: "localhost:0", TLS: &config.TLS{Cert: "c", Key: "k"}}} {
		err := api.ServeProtected(t.Context(), p, l, func(net.Addr) { t.Errorf("it listens on %s", l.Address) })
		if err == nil || !strings.Contains(err.Error(), "Unix socket") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

func TestUnixSocketOfProtectedInstance(t *testing.T) {
	dir, err := os.MkdirTemp("", "gs") // short: the path of a socket is limited
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	serveProtected(t, plant(t), api.Listen{Address: "unix:" + path})
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer c.CloseIdleConnections()
	if st, code := problemOf(t, c, "GET", "http://local/v1/instance", ""); st != 200 {
		t.Errorf("%d %s", st, code)
	}
	if st, code := problemOf(t, c, "POST", "http://local/v1/agents/x/invalidate", `{"reason":"x"}`); st != 404 {
		t.Errorf("%d %s", st, code)
	}
	// A proxy that ends TLS in front of the socket would make everybody an administrator.
	if st, _ := problemOf(t, c, "GET", "http://local/v1/instance", "", "X-Forwarded-For", "192.0.2.1"); st != 403 {
		t.Errorf("through a proxy: %d", st)
	}
	if st, _ := problemOf(t, c, "POST", "http://local/v1/agents/x/invalidate", `{"reason":"x"}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); st != 403 {
		t.Errorf("from a page: %d", st)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may open the socket: %v, %v", st.Mode(), err)
	}
}

// Pages are for whoever comes over TLS, and a caller is somebody with a certificate of a
// role: neither loopback nor a header makes one.
func TestPagesWithoutTLS(t *testing.T) {
	p := plant(t)
	p.Show(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a page is served without TLS") }))
	srv := httptest.NewServer(p)
	defer srv.Close()
	for _, path := range []string{"/console/", "/console/records", "/"} {
		for _, headers := range [][]string{{}, {"X-Forwarded-Proto", "https"}, {"Accept", "text/html"}} {
			if st, code := problemOf(t, srv.Client(), "GET", srv.URL+path, "", headers...); st != 404 || code != "no-such-route" {
				t.Errorf("%s: %d %s", path, st, code)
			}
		}
	}
}

func TestCaller(t *testing.T) {
	p, ca := plant(t), newAuthority(t)
	call := func(change func(*x509.Certificate)) *http.Request {
		r := httptest.NewRequest("GET", "https://prod.example/console/", nil)
		r.TLS = &tls.ConnectionState{}
		if change == nil {
			return r
		}
		ca.issue("somebody", change, nil)
		pair, err := tls.LoadX509KeyPair(ca.path("somebody.pem"), ca.path("somebody.key"))
		must(t, err)
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		must(t, err)
		r.TLS.VerifiedChains = [][]*x509.Certificate{{leaf, ca.cert}}
		return r
	}
	for name, runs := range map[string]bool{"alice": true, "olga": true, "audrey": false} {
		got, can, refused := p.Caller(call(named("greatseal:" + name)))
		if got != name || can != runs || refused != nil {
			t.Errorf("%s: %s, %t, %+v", name, got, can, refused)
		}
	}
	socket := httptest.NewRequest("GET", "http://local/console/", nil)
	socket.RemoteAddr = "@"
	for what, x := range map[string]struct {
		r      *http.Request
		status int
	}{
		"without TLS":         {socket, 401},
		"without certificate": {call(nil), 401},
		"of no role":          {call(named("greatseal:mallory")), 403},
		"of two names":        {call(named("greatseal:alice", "greatseal:olga")), 401},
		"an agent":            {call(named("greatseal-agent:alice")), 401},
	} {
		if name, runs, refused := p.Caller(x.r); name != "" || runs || refused == nil || refused.Status != x.status || refused.Code == "" || refused.Detail == "" {
			t.Errorf("%s: %q, %t, %+v", what, name, runs, refused)
		}
	}
}
