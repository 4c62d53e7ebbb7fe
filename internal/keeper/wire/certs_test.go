package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/greatseal-io/greatseal/internal/keeper"
)

// Certificates and authorities are replaced on both sides while they run: the
// connection that is open goes on, each new one gets what there is then.
func TestCertificatesReplaced(t *testing.T) {
	old, young := newAuthority(t), newAuthority(t)
	sides := func(a *authority) (server, client *tls.Config) {
		return &tls.Config{Certificates: []tls.Certificate{a.issue(t, "keeper", x509.ExtKeyUsageServerAuth)}, ClientCAs: a.pool},
			&tls.Config{Certificates: []tls.Certificate{a.issue(t, "server", x509.ExtKeyUsageClientAuth)}, RootCAs: a.pool, ServerName: "keeper"}
	}
	var srv, cli atomic.Pointer[tls.Config]
	s0, c0 := sides(old)
	srv.Store(s0)
	cli.Store(c0)
	addr := serveTCP(t, Server{Keeper: &fake{}, Names: []string{"server"}, TLSNow: srv.Load})
	k := dial(t, Config{Network: "tcp", Address: addr, TLSNow: cli.Load})
	works := func(what string) {
		t.Helper()
		if _, err := k.Status(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	cut := func() {
		t.Helper()
		c := k.(caller).transport.(*client)
		c.mu.Lock()
		conn := c.conn
		c.mu.Unlock()
		conn.end(keeper.ErrUnavailable)
	}
	works("at first")
	s1, c1 := sides(young)
	srv.Store(s1)
	works("on the connection from before")
	cut()
	if _, err := k.Status(t.Context()); !errors.Is(err, keeper.ErrUnavailable) || !errors.Is(err, keeper.ErrUnreached) {
		t.Errorf("with the certificate from before: %v", err)
	}
	cli.Store(c1)
	works("with the new certificate")
	// What is enforced is enforced of what comes later, too.
	for what, c := range map[string]*tls.Config{
		"without a certificate":       {RootCAs: young.pool, ServerName: "keeper"},
		"without looking at the peer": {Certificates: c1.Certificates, InsecureSkipVerify: true},
		"another authority's":         c0,
	} {
		cli.Store(c)
		cut()
		if _, err := k.Status(t.Context()); !errors.Is(err, keeper.ErrUnreached) {
			t.Errorf("%s: %v", what, err)
		}
		cli.Store(c1)
		works("again")
	}
	srv.Store(&tls.Config{Certificates: s1.Certificates}) // names without an authority
	cut()
	if _, err := k.Status(t.Context()); err == nil {
		t.Error("a listener without an authority lets somebody in")
	}
}
