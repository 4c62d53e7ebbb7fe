package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

const certsPoll = 5 * time.Second

// certs are the certificate files of a listener, read again when they change.
// Connections that are open go on as they were made; new ones get what was read
// last. Files that are no good are reported, and what was there before stays.
type certs struct {
	files    *config.TLS
	required bool // clients show a certificate
	log      *slog.Logger
	current  atomic.Pointer[tls.Config]
	seen     [32]byte // of the files as they were looked at last; of follow alone
}

func newCerts(t *config.TLS, required bool, log *slog.Logger) (*certs, error) {
	c := &certs{files: t, required: required, log: log}
	cfg, sum, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(cfg)
	c.seen = sum
	return c, nil
}

// config is what a listener serves with.
func (c *certs) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.current.Load(), nil
	}}
}

// read reads the files. The sum is that of their contents, and of what was
// unreadable.
func (c *certs) read() (*tls.Config, [32]byte, error) {
	h := sha256.New()
	var errs []error
	load := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("api: tls: %w", err))
			fmt.Fprintf(h, "%v", err)
		}
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
		return b
	}
	cert, key := load(c.files.Cert), load(c.files.Key)
	var ca []byte
	if c.files.CA != "" {
		ca = load(c.files.CA)
	}
	sum := [32]byte(h.Sum(nil))
	if len(errs) > 0 {
		return nil, sum, errors.Join(errs...)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, sum, fmt.Errorf("api: tls: %s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	// Without tickets: a session is not resumed past the authority that vouched
	// for it.
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true}
	if c.files.CA == "" {
		return cfg, sum, nil
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(ca) {
		return nil, sum, fmt.Errorf("api: tls: ca: %s holds no certificate", c.files.CA)
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if c.required {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, sum, nil
}

// follow looks at the files until ctx ends.
func (c *certs) follow(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.look()
		}
	}
}

// look reads the files if they have changed since the last look.
func (c *certs) look() {
	cfg, sum, err := c.read()
	if sum == c.seen {
		return
	}
	c.seen = sum
	if err != nil {
		c.log.Error("the new certificate files are no good: those read before stay", "error", err)
		return
	}
	c.current.Store(cfg)
	leaf := cfg.Certificates[0].Leaf
	c.log.Info("new certificate files are in use", "subject", leaf.Subject.String(), "until", leaf.NotAfter)
}
