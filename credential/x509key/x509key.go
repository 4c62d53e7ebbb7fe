// Package x509key signs with the private keys of X.509 certificates: machines
// sign with the key of their TLS client certificate.
//
// Invariants:
//
//  1. A key file is read only when nobody but its owner has any right to it.
//  2. The key belongs to the certificate, or there is no signer.
//  3. Every signature is verified with its credential before it is returned.
//  4. No error contains key material.
//
// A caller may not conclude that the certificate is valid or trusted: its dates
// and issuer are not looked at.
package x509key

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/internal/keyfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What callers branch on.
var (
	ErrMismatch  = errors.New("x509key: the key does not belong to the certificate")
	ErrEncrypted = errors.New("x509key: the key file is encrypted")
)

// signer is as safe for concurrent use as its key; those of File are.
type signer struct {
	key    crypto.Signer
	cred   *credential.X509
	scheme sigalg.Scheme
}

// New returns a signer that signs with key: RSA by PSS with SHA-256, P-256, P-384
// and P-521 by ECDSA with the hash of their strength, Ed25519.
func New(key crypto.Signer) (credential.Signer, error) {
	if key == nil {
		return nil, errors.New("x509key: no key")
	}
	cred, err := credential.NewX509(key.Public())
	if err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	return signer{key: key, cred: cred, scheme: scheme(cred.Public())}, nil
}

func scheme(pub crypto.PublicKey) sigalg.Scheme {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return sigalg.RSAPSSSHA256
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return sigalg.ECDSASHA256
		case elliptic.P384():
			return sigalg.ECDSASHA384
		}
		return sigalg.ECDSASHA512
	case ed25519.PublicKey:
		return sigalg.PureEd25519
	}
	return ""
}

// File returns a signer from a PEM certificate file (a chain may follow the
// certificate) and its PEM key file (PKCS #8, PKCS #1 or SEC 1), which may be the
// same file. The key file must belong to its owner alone (mode 0600).
func File(certPath, keyPath string) (credential.Signer, error) {
	text, err := keyfile.ReadPublic(certPath)
	if err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	defer clear(text) // it may be the key file, too
	cert, err := leaf(text)
	if err != nil {
		return nil, fmt.Errorf("x509key: %s: %w", certPath, err)
	}
	secret, err := keyfile.Read(keyPath)
	if err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	defer clear(secret)
	key, err := parseKey(secret)
	if err != nil {
		return nil, fmt.Errorf("x509key: %s: %w", keyPath, err)
	}
	s, err := New(key)
	if err != nil {
		return nil, err
	}
	if s.Credential().Text() != cert.Text() {
		return nil, fmt.Errorf("%w: %s, %s", ErrMismatch, keyPath, certPath)
	}
	return s, nil
}

// leaf is the credential of the first certificate in text.
func leaf(text []byte) (credential.Credential, error) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return nil, errors.New("no PEM certificate")
		}
		if b.Type == "CERTIFICATE" {
			return credential.Parse(credential.KindX509, string(pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})))
		}
	}
}

// parseKey reads the one private key in text. Certificates and curve parameters,
// which tools put beside it, are skipped.
func parseKey(text []byte) (crypto.Signer, error) {
	var found *pem.Block
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		defer clear(b.Bytes)
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		if found != nil {
			return nil, errors.New("more than one private key")
		}
		found = b
	}
	if found == nil {
		return nil, errors.New("no PEM private key")
	}
	if found.Type == "ENCRYPTED PRIVATE KEY" || found.Headers["DEK-Info"] != "" {
		return nil, fmt.Errorf("%w: machines need it in the clear, protected by its permissions: openssl pkey -in FILE -out FILE", ErrEncrypted)
	}
	var key any
	var err error
	switch found.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(found.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(found.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(found.Bytes)
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("this is an SSH key: want PKCS #8, PKCS #1 or SEC 1")
	default:
		return nil, fmt.Errorf("PEM block %.40q: want PKCS #8, PKCS #1 or SEC 1", found.Type)
	}
	if err != nil {
		// What the parser says may quote numbers of the key.
		return nil, errors.New("private key is malformed")
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T cannot sign", key)
	}
	return s, nil
}

// Credential implements [credential.Signer].
func (s signer) Credential() credential.Credential { return s.cred }

// Sign implements [credential.Signer].
func (s signer) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	data, err := credential.X509SignedData(p, message)
	if err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	raw, err := s.key.Sign(rand.Reader, s.scheme.Input(data), s.scheme.SignerOpts())
	if err != nil {
		return nil, fmt.Errorf("x509key: sign: %w", err)
	}
	sig, err := credential.EncodeX509Signature(s.scheme, raw)
	if err != nil {
		return nil, fmt.Errorf("x509key: %w", err)
	}
	if err := s.cred.Verify(p, message, sig); err != nil {
		return nil, fmt.Errorf("x509key: the key's signature is not usable: %w", err)
	}
	return sig, nil
}
