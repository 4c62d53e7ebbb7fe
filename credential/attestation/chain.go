package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"
)

// rooted reports why the chain, leaf first, ends in none of the roots at a time; nil:
// it ends in one.
func rooted(chain, roots []*x509.Certificate, at time.Time) error {
	if len(roots) == 0 {
		return errors.New("no roots are given for its maker's certificate")
	}
	if at.IsZero() { // x509 would ask a clock
		return errors.New("no time is given for its maker's certificate")
	}
	// A certificate that is itself given is trusted as it is (section 7.1 step 24),
	// within its time.
	if slices.ContainsFunc(roots, func(r *x509.Certificate) bool { return r.Equal(chain[0]) }) {
		if at.Before(chain[0].NotBefore) || at.After(chain[0].NotAfter) {
			return errors.New("its maker's certificate was not valid then")
		}
		return nil
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, r := range roots {
		o.Roots.AddCert(r)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return errors.New("its maker's certificate was not valid then")
		}
		return errors.New("its certificate ends in none of the roots")
	}
	return nil
}

// ParseRoot reads one root: a certificate in PEM, and nothing else.
func ParseRoot(text string) (*x509.Certificate, error) {
	b, rest := pem.Decode([]byte(text))
	if b == nil || b.Type != "CERTIFICATE" || len(b.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 || !bytes.HasPrefix([]byte(text), []byte("-----BEGIN ")) {
		return nil, refuse("root: want one certificate in PEM")
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, refuse("root: %w", err)
	}
	if err := checkKey(c.PublicKey); err != nil {
		return nil, refuse("root: %w", err)
	}
	return c, nil
}

// RootText is the one form in which a root is written.
func RootText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
