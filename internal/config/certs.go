package config

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
)

// CertsPoll is how often [Certs.Follow] looks at the files where nobody says
// otherwise.
const CertsPoll = 5 * time.Second

// Certs are the certificate files of a listener or a client, read again when they
// change. Files that are no good are reported, and what was there before stays. It
// is safe for concurrent use.
type Certs struct {
	files   TLS
	log     *slog.Logger
	current atomic.Pointer[Identity]
	seen    [32]byte // of the files as they were looked at last; of Follow alone
}

// Identity is what the files held when they were read together. The caller does not
// change it.
type Identity struct {
	Pair tls.Certificate
	CA   *x509.CertPool // nil without a file
}

// ReadCerts reads the files for the first time.
func ReadCerts(t *TLS, log *slog.Logger) (*Certs, error) {
	c := &Certs{files: *t, log: log}
	id, sum, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(id)
	c.seen = sum
	return c, nil
}

// Now is what was read last.
func (c *Certs) Now() *Identity { return c.current.Load() }

// read reads the files. The sum is that of their contents, and of what was
// unreadable.
func (c *Certs) read() (*Identity, [32]byte, error) {
	h := sha256.New()
	var errs []error
	load := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("config: tls: %w", err))
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
		return nil, sum, fmt.Errorf("config: tls: %s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	id := &Identity{Pair: pair}
	if c.files.CA != "" {
		id.CA = x509.NewCertPool()
		if !id.CA.AppendCertsFromPEM(ca) {
			return nil, sum, fmt.Errorf("config: tls: ca: %s holds no certificate", c.files.CA)
		}
	}
	return id, sum, nil
}

// Follow looks at the files until ctx ends. One goroutine does so at a time.
func (c *Certs) Follow(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		id, sum, err := c.read()
		if sum == c.seen {
			continue
		}
		c.seen = sum
		if err != nil {
			c.log.Error("the new certificate files are no good: those read before stay", "error", err)
			continue
		}
		c.current.Store(id)
		c.log.Info("new certificate files are in use", "subject", id.Pair.Leaf.Subject.String(), "until", id.Pair.Leaf.NotAfter)
	}
}
