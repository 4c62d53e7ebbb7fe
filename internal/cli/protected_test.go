package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

// protectedServer runs a protected instance with agents as "greatseal server" does.
func protectedServer(t *testing.T, dir, listen, more string) string {
	t.Helper()
	for name, text := range map[string]string{
		"passphrase": "the plant's own keys",
		"server.yaml": fmt.Sprintf(`listen: %s
database: sqlite:%[2]s/server.db
instance:
  name: prod
  role: protected
  state: %[2]s/circle.state
  sides:
    - root: 0101010101010101010101010101010101010101010101010101010101010101
  roles: {administrators: [alice], operators: [olga], auditors: [audrey]}
  agents: {listen: '127.0.0.1:0', cert: %[2]s/agents.crt, key: %[2]s/agents.key, keystore: %[2]s/keys, passphrase_file: %[2]s/passphrase}
%[3]s`, listen, dir, more),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.ReadServer(filepath.Join(dir, "server.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() { done <- runServer(ctx, c, slog.New(slog.DiscardHandler), func(a net.Addr) { ready <- a }) }()
	select {
	case a := <-ready:
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return a.String()
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	return ""
}

func issueIn(t *testing.T, dir string, names ...string) {
	t.Helper()
	now := time.Now()
	key, ca, err := newCA(now)
	if err == nil {
		err = writePair(filepath.Join(dir, "ca"), key, ca)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		k := connecting{name: n, now: now}
		if n == "server" || n == "agents" {
			k.ips = []string{"127.0.0.1"}
		}
		if err := k.issue(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConsoleOfProtectedInstance: whoever has a certificate with a role sees the pages,
// in one listener with the API, and nobody else does.
func TestConsoleOfProtectedInstance(t *testing.T) {
	dir := t.TempDir()
	issueIn(t, dir, "server", "agents", "alice", "olga", "audrey", "mallory")
	addr := protectedServer(t, dir, "127.0.0.1:0", fmt.Sprintf("tls: {cert: %[1]s/server.crt, key: %[1]s/server.key, ca: %[1]s/ca.crt}\n", dir))
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	get := func(name, path string, headers ...string) (*http.Response, string) {
		t.Helper()
		cfg := &tls.Config{RootCAs: roots}
		if name != "" {
			pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/html")
		for i := 0; i < len(headers); i += 2 {
			if headers[i] == "Host" {
				r.Host = headers[i+1]
			}
			r.Header.Set(headers[i], headers[i+1])
		}
		c := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(b)
	}
	for _, name := range []string{"alice", "olga", "audrey"} {
		for path, has := range map[string]string{"/console/records": "Whom it believes", "/console/agents": "no agent has been let in", "/console/queue": "no jobs", "/console/rejections": "nothing was refused"} {
			res, body := get(name, path)
			if res.StatusCode != 200 || !strings.Contains(body, has) || !strings.Contains(body, name) || !strings.Contains(body, "prod") || res.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s, %s: %d %.300s", name, path, res.StatusCode, body)
			}
			if !strings.Contains(res.Header.Get("Content-Security-Policy"), "script-src 'self'") {
				t.Errorf("%s: %s", path, res.Header.Get("Content-Security-Policy"))
			}
		}
		for path, to := range map[string]string{"/": "/console/", "/console": "/console/", "/console/": "/console/records"} {
			if res, _ := get(name, path); res.StatusCode/100 != 3 || res.Header.Get("Location") != to {
				t.Errorf("%s: %d to %q", path, res.StatusCode, res.Header.Get("Location"))
			}
		}
	}
	for name, status := range map[string]int{"": 401, "mallory": 403} {
		for _, path := range []string{"/console/", "/console/records", "/console/agents", "/console/none"} {
			if res, body := get(name, path); res.StatusCode != status || strings.Contains(body, "Whom it believes") {
				t.Errorf("%q, %s: %d %.200s", name, path, res.StatusCode, body)
			}
		}
	}
	// The API is where it was, and says nothing in HTML.
	if res, body := get("olga", "/v1/instance", "Accept", "application/json"); res.StatusCode != 200 || !strings.HasPrefix(body, "{") {
		t.Errorf("the API: %d %.200s", res.StatusCode, body)
	}
	if res, _ := get("olga", "/", "Accept", "application/json"); res.StatusCode != 404 {
		t.Errorf("/ for programs: %d", res.StatusCode)
	}
	if res, _ := get("olga", "/console/login"); res.StatusCode != 404 {
		t.Errorf("there is a page to sign in: %d", res.StatusCode)
	}
	if res, _ := get("olga", "/console/records", "Host", "evil.example"); res.StatusCode != 421 {
		t.Errorf("another name: %d", res.StatusCode)
	}
	if res, body := get("olga", "/console/records", "Sec-Fetch-Site", "same-origin"); res.StatusCode != 200 {
		t.Errorf("%d %.200s", res.StatusCode, body)
	}
}

// TestNoPagesOnSocket: whoever opens the socket is not somebody in a browser.
func TestNoPagesOnSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "gs") // short: the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	issueIn(t, dir, "agents")
	path := filepath.Join(dir, "s")
	protectedServer(t, dir, "unix:"+path, "")
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer c.CloseIdleConnections()
	for p, status := range map[string]int{"/console/": 404, "/console/records": 404, "/": 404, "/v1/instance": 200} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost"+p, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/html, application/json")
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%s: %d", p, res.StatusCode)
		}
	}
}

// TestConsoleOfProtectedInstanceIsOff: "console: {off: true}" is no pages.
func TestConsoleOfProtectedInstanceIsOff(t *testing.T) {
	c, err := openProtectedConsole(&config.Server{Console: config.Console{Off: true}}, nil, nil, nil, nil)
	if c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
	// What says nothing there is not taken.
	for _, x := range []config.Console{{WithoutCertificate: true}, {Roles: config.ConsoleRoles{Auditor: []string{"audrey"}}}, {Roles: config.ConsoleRoles{Operator: []string{"olga"}}}} {
		if c, err := openProtectedConsole(&config.Server{Console: x}, nil, nil, nil, nil); c != nil || err == nil {
			t.Errorf("%+v is taken", x)
		}
	}
}
