// Package client speaks to a Greatseal server.
//
// Invariants:
//
//  1. Nothing that a server says is believed: what matters is checked by the
//     caller against signatures (statement, receipt, quorum, audit, verify).
//  2. A token or session leaves this process only towards the configured server,
//     over TLS, a Unix socket or loopback, and stands in no error.
//  3. Answers are bounded; redirects are not followed.
//  4. A call is repeated only where a repetition cannot do it twice.
//  5. A login shows no token: one that has ended does not stand in its way.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/verify"
)

// Config says which server, and as whom.
type Config struct {
	Server    string // https://HOST[:PORT], http://LOOPBACK:PORT, unix:PATH
	CA        string // PEM file of roots; empty: the system's
	Cert, Key string // client certificate and its key, PEM files; optional
	Token     string // bearer token or session; see SetToken
	Agent     string // of the User-Agent header
	Attempts  int    // of a call that can be repeated; 0: 6
}

// Client is one server. It is safe for concurrent use.
type Client struct {
	origin   string // without a slash at the end
	host     string
	http     *http.Client
	agent    string
	attempts int
	document int64 // bytes of one evidence document
	sleep    func(ctx context.Context, d time.Duration) error
	session  *session
}

// NewWith is New with another transport, for callers that bring their own.
func NewWith(c Config, t http.RoundTripper) (*Client, error) {
	cl, err := New(c)
	if err == nil {
		cl.http.Transport = t
	}
	return cl, err
}

// New makes a client; it connects on the first call.
func New(c Config) (*Client, error) {
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  5 * time.Minute, // a submission is executed before it is answered
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	cl := &Client{agent: c.Agent, attempts: c.Attempts, document: 2 * verify.MaxEvidence, session: &session{token: c.Token}, sleep: sleep}
	if cl.agent == "" {
		cl.agent = "greatseal"
	}
	if cl.attempts <= 0 {
		cl.attempts = 6
	}
	cl.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if path, ok := strings.CutPrefix(c.Server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("client: server: unix:%s: want an absolute path", path)
		}
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
		cl.origin, cl.host = "http://localhost", "localhost"
		return cl, nil
	}
	u, err := url.Parse(c.Server)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("client: server: want https://HOST, http://127.0.0.1:PORT or unix:PATH")
	}
	switch {
	case u.Scheme == "http" && loopback(u.Hostname()):
		t.Proxy = nil
	case u.Scheme == "https":
		if t.TLSClientConfig, err = tlsConfig(c); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("client: server %s: plain http is for this machine only: use https", c.Server)
	}
	cl.origin, cl.host = u.Scheme+"://"+u.Host, u.Host
	return cl, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func tlsConfig(c Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("client: ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("client: ca: %s holds no certificate", c.CA)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("client: want both of cert and key, or none")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("client: certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
