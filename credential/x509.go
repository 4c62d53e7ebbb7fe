package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/sigalg"
)

// X509 is a public key as certificates carry it. The zero value verifies nothing.
type X509 struct {
	pub  crypto.PublicKey
	spki []byte
}

func parseX509(text string) (*X509, error) {
	if strings.Contains(text, "-----BEGIN") {
		return parsePEM(text)
	}
	der, err := decodeBase64(base64.StdEncoding, text)
	if err != nil {
		return nil, refuse("x509: %w: want the public key in base64 on one line, or a PEM certificate", err)
	}
	return parseSPKI(der)
}

func parsePEM(text string) (*X509, error) {
	block, rest := pem.Decode([]byte(text))
	// pem.Decode looks for a block anywhere: what is around it would go unread.
	if block == nil || !strings.HasPrefix(text, "-----BEGIN") || len(bytes.TrimSpace(rest)) != 0 {
		return nil, refuse("x509: want exactly one PEM block and nothing around it")
	}
	if strings.Contains(block.Type, "PRIVATE KEY") {
		return nil, refuse("x509: this is a private key: give the certificate, and keep the key to yourself")
	}
	if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
		return nil, refuse("x509: PEM block %.40q: want CERTIFICATE, without headers", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, refuse("x509: %w", err)
	}
	return parseSPKI(cert.RawSubjectPublicKeyInfo)
}

func parseSPKI(der []byte) (*X509, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, refuse("x509: %w", err)
	}
	if err := checkKey(pub); err != nil {
		return nil, refuse("x509: %w", err)
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, der) {
		return nil, refuse("x509: public key is not in its canonical encoding")
	}
	return &X509{pub: pub, spki: bytes.Clone(der)}, nil
}

// NewX509 is the credential of a public key: *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey. The error wraps [ErrCredential].
func NewX509(pub crypto.PublicKey) (*X509, error) {
	if err := checkKey(pub); err != nil {
		return nil, refuse("x509: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, refuse("x509: %w", err)
	}
	return parseSPKI(der)
}

// Kind implements [Credential].
func (c *X509) Kind() Kind { return KindX509 }

// ID implements [Credential].
func (c *X509) ID() ID {
	if c.pub == nil {
		return ""
	}
	h := sha256.Sum256(c.spki)
	return ID("x509:" + hex.EncodeToString(h[:]))
}

// Text implements [Credential].
func (c *X509) Text() string { return base64.StdEncoding.EncodeToString(c.spki) }

// Describe implements [Credential].
func (c *X509) Describe() string {
	if c.pub == nil {
		return "x509 (no key)"
	}
	return "x509 " + describeKey(c.pub) + " " + strings.TrimPrefix(string(c.ID()), "x509:")
}

func describeKey(pub crypto.PublicKey) string {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", p.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + p.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}

// Hardware implements [Credential]: the public key does not tell, so it is false.
func (c *X509) Hardware() bool { return false }

// Public is the public key.
func (c *X509) Public() crypto.PublicKey { return c.pub }

// X509SignedData is what the key of an [X509] signs so that the signature,
// wrapped by [EncodeX509Signature], verifies over message for p.
func X509SignedData(p Purpose, message []byte) ([]byte, error) {
	if !p.Valid() {
		return nil, fmt.Errorf("credential: unknown purpose %.20q", string(p))
	}
	return append([]byte("greatseal x509 "+string(p)+"\n"), message...), nil
}

// EncodeX509Signature wraps raw, a signature under s over [X509SignedData]. It
// checks only that s is known.
func EncodeX509Signature(s sigalg.Scheme, raw []byte) ([]byte, error) {
	if !s.Valid() {
		return nil, fmt.Errorf("credential: unknown scheme %.40q", string(s))
	}
	b := append([]byte{byte(len(s))}, s...)
	return append(b, raw...), nil
}

// Verify implements [Credential].
func (c *X509) Verify(p Purpose, message, sig []byte) error {
	switch {
	case c.pub == nil:
		return refuseSig("x509: no key")
	case len(sig) > MaxSignature:
		return refuseSig("x509: %d bytes: want at most %d", len(sig), MaxSignature)
	case len(sig) < 1 || len(sig) < 1+int(sig[0]):
		return refuseSig("x509: cut short")
	}
	n := 1 + int(sig[0])
	scheme := sigalg.Scheme(sig[1:n])
	if !scheme.Valid() {
		return refuseSig("x509: unknown scheme %.40q", string(scheme))
	}
	data, err := X509SignedData(p, message)
	if err != nil {
		return refuseSig("x509: %w", err)
	}
	if err := sigalg.Verify(c.pub, scheme, data, sig[n:]); err != nil {
		return refuseSig("x509: %w", err)
	}
	return nil
}
