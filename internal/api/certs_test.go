package api_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
)

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// Certificates and the clients' authority are replaced while the server runs; what
// is no good is reported and changes nothing; open connections go on.
func TestCertificatesReplaced(t *testing.T) {
	var log logged
	s := newSite(t, func(c *api.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	a, b := newAuthority(t), newAuthority(t)
	for _, x := range []*authority{a, b} {
		x.issue("server", nil, nil)
		x.issue("alice", named("greatseal:alice"), nil)
	}
	files := &config.TLS{Cert: a.path("live.pem"), Key: a.path("live.key"), CA: a.path("clients.pem")}
	put := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to+".new", content, 0o600))
		must(t, os.Rename(to+".new", to))
	}
	put(a.path("server.pem"), files.Cert)
	put(a.path("server.key"), files.Key)
	put(a.path("ca.pem"), files.CA)
	addr, _ := s.serve(t, api.Listen{Address: "127.0.0.1:0", TLS: files, Poll: 5 * time.Millisecond})

	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	roots.AddCert(b.cert)
	client := func(of *authority) *http.Client {
		t.Helper()
		c := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		pair, err := tls.LoadX509KeyPair(of.path("alice.pem"), of.path("alice.key"))
		must(t, err)
		// Shown whatever the server asks for, as somebody would who has lost it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		tr := &http.Transport{TLSClientConfig: c}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	get := func(c *http.Client) (by *authority, reused bool, err error) {
		t.Helper()
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}),
			"GET", "https://"+addr+"/v1/status", nil)
		must(t, err)
		resp, err := c.Do(r)
		if err != nil {
			return nil, reused, err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("status %d, %v", resp.StatusCode, err)
		}
		if resp.TLS.PeerCertificates[0].CheckSignatureFrom(b.cert) == nil {
			return b, reused, nil
		}
		return a, reused, nil
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 12000 {
			if ok() {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("never: %s", what)
	}
	open := client(a)
	if by, _, err := get(open); err != nil || by != a {
		t.Fatalf("at first: %v", err)
	}
	const bad, used = "no good", "are in use"
	for n, f := range []func(){
		func() { must(t, os.WriteFile(files.Key, []byte("garbage"), 0o600)) },
		func() { put(b.path("server.key"), files.Key) }, // of another certificate
		func() { must(t, os.Remove(files.CA)) },
		func() { must(t, os.WriteFile(files.CA, nil, 0o600)) },
	} {
		f()
		until("an error", func() bool { return log.count(bad) > n })
		if by, _, err := get(client(a)); err != nil || by != a {
			t.Errorf("bad files %d: %v", n, err)
		}
	}
	if log.count(used) != 0 {
		t.Error("bad files are said to be in use")
	}
	if log.count("PRIVATE KEY") != 0 {
		t.Error("a key in the log")
	}
	put(a.path("ca.pem"), files.CA)
	put(b.path("server.pem"), files.Cert)
	until("the new certificate", func() bool { return log.count(used) > 0 })
	until("the new certificate", func() bool { by, _, err := get(client(a)); return err == nil && by == b })

	kept := client(a)
	_, _, err := get(kept)
	must(t, err)
	put(b.path("ca.pem"), files.CA)
	until("the new authority", func() bool { by, _, err := get(client(b)); return err == nil && by == b })
	if _, _, err := get(client(a)); err == nil {
		t.Error("a client of the old authority still gets in")
	}
	for what, c := range map[string]*http.Client{"from the beginning": open, "from before the new authority": kept} {
		if _, reused, err := get(c); err != nil || !reused {
			t.Errorf("the connection %s was dropped: reused %v, %v", what, reused, err)
		}
		c.CloseIdleConnections()
		if _, _, err := get(c); err == nil {
			t.Errorf("a session %s is resumed past its authority", what)
		}
	}
}
