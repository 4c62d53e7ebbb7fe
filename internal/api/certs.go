package api

import (
	"crypto/tls"

	"github.com/greatseal-io/greatseal/internal/config"
)

// tlsConfig is what a listener serves with: each connection gets the files as they
// were read last, and those that are open go on as they were made. required says
// that clients show a certificate.
func tlsConfig(c *config.Certs, required bool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		id := c.Now()
		// Without tickets: a session is not resumed past the authority that vouched
		// for it.
		t := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.Pair}, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true}
		if id.CA == nil {
			return t, nil
		}
		t.ClientCAs, t.ClientAuth = id.CA, tls.VerifyClientCertIfGiven
		if required {
			t.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return t, nil
	}}
}
