package cms

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ChainOptions are what a chain must lead to. All fields are required: there is
// no default root, usage or time.
type ChainOptions struct {
	Roots *x509.CertPool
	// Usage is x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageTimeStamping …; the
	// leaf must name it. anyExtendedKeyUsage and a leaf without usages do not do.
	Usage x509.ExtKeyUsage
	// At is when every certificate of the chain must be valid.
	At time.Time
}

var oidBasicKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// maxRSA is the size of the largest RSA key, in bits, that an intermediate is tried
// with: the largest that package sigalg takes. The work of a verification grows
// with its square, and whoever embeds a certificate chooses it.
const maxRSA = 16384

// VerifyChain builds the chains from leaf over intermediates, which come from
// anywhere, to a root. Chains with a certificate below the root that is signed
// with MD5 or SHA-1 or has an RSA key under 2048 bits do not count, and RSA keys
// over 16384 bits are not tried. The error wraps ErrChain. Revocation is not
// looked at.
func VerifyChain(leaf *x509.Certificate, intermediates []*x509.Certificate, o ChainOptions) ([][]*x509.Certificate, error) {
	if leaf == nil {
		return nil, fmt.Errorf("%w: no leaf", ErrChain)
	}
	if o.Roots == nil || o.At.IsZero() {
		return nil, errors.New("cms: verify chain: roots and time must be given")
	}
	if o.Usage == x509.ExtKeyUsageAny || !slices.Contains(leaf.ExtKeyUsage, o.Usage) {
		return nil, fmt.Errorf("%w: certificate %q is not for the wanted usage", ErrChain, leaf.Subject)
	}
	hasUsage := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidBasicKeyUsage) })
	if hasUsage && leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return nil, fmt.Errorf("%w: certificate %q is not for signatures", ErrChain, leaf.Subject)
	}
	pool := x509.NewCertPool()
	for i, c := range intermediates {
		if i == MaxCertificates {
			return nil, fmt.Errorf("%w: more than %d intermediate certificates", ErrLimit, MaxCertificates)
		}
		if c == nil {
			continue
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
			continue
		}
		pool.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: o.Roots, Intermediates: pool, CurrentTime: o.At, KeyUsages: []x509.ExtKeyUsage{o.Usage},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	var why error
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool {
		// A leaf that is a root itself has nothing below it, but is looked at too.
		for _, c := range chain[:max(1, len(chain)-1)] {
			if err := weak(c); err != nil {
				why = err
				return true
			}
		}
		return false
	})
	if len(chains) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrChain, why)
	}
	return chains, nil
}

func weak(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return fmt.Errorf("certificate %q is signed with %v", c.Subject, c.SignatureAlgorithm)
	}
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		return fmt.Errorf("certificate %q has an RSA key of %d bits", c.Subject, k.N.BitLen())
	}
	return nil
}
