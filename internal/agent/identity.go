package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Identity is an agent's key pair and, once an administrator has validated it, its
// certificate. Both are in one file of the state folder, replaced as a whole, so that
// a key never stands beside another key's certificate.
type Identity struct {
	name string
	path string

	mu    sync.Mutex
	key   crypto.Signer
	chain [][]byte
	leaf  *x509.Certificate
}

const identityFile = "identity.pem"

// OpenIdentity reads the key, or makes it at the first start.
func OpenIdentity(dir, name string) (*Identity, error) {
	id := &Identity{name: name, path: filepath.Join(dir, identityFile)}
	b, err := os.ReadFile(id.path)
	if errors.Is(err, os.ErrNotExist) {
		if id.key, err = newKey(); err != nil {
			return nil, err
		}
		return id, id.save(id.key, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if st, err := os.Stat(id.path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("agent: %s: others than its owner may use it (chmod 0600)", id.path)
	}
	return id, id.parse(b)
}

func newKey() (crypto.Signer, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return k, nil
}

func (id *Identity) parse(b []byte) error {
	bad := fmt.Errorf("agent: %s is damaged: remove it, and enrol again", id.path)
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return bad
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return bad
	}
	var ok bool
	if id.key, ok = k.(crypto.Signer); !ok {
		return bad
	}
	for block, rest = pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		id.chain = append(id.chain, block.Bytes)
	}
	if len(id.chain) > 0 {
		if id.leaf, err = fits(id.key, id.name, id.chain); err != nil {
			return err
		}
	}
	return nil
}

// fits reads a chain's leaf, and refuses one that is not this key's and this agent's.
func fits(key crypto.Signer, name string, chain [][]byte) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("agent: certificate: %w", err)
	}
	pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("agent: the certificate is for another key")
	}
	if leaf.Subject.CommonName != name {
		return nil, errors.New("agent: the certificate is for another name")
	}
	return leaf, nil
}

func (id *Identity) save(key crypto.Signer, chain [][]byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	for _, c := range chain {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c}); err != nil {
			return err
		}
	}
	return writeFile(id.path, b.Bytes())
}

// Name is the agent's name.
func (id *Identity) Name() string { return id.name }

// Certificate is what a client shows in mutual TLS; nil: there is none yet. It may be
// another one at the next call.
func (id *Identity) Certificate() *tls.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf == nil {
		return nil
	}
	return &tls.Certificate{Certificate: id.chain, PrivateKey: id.key, Leaf: id.leaf}
}

// Fingerprint is SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal: what
// an administrator compares before validating.
func (id *Identity) Fingerprint() (string, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	b, err := x509.MarshalPKIXPublicKey(id.key.Public())
	if err != nil {
		return "", fmt.Errorf("agent: %w", err)
	}
	return fingerprint(b), nil
}

// expires is when the certificate ends; zero: there is none.
func (id *Identity) expires() time.Time {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf == nil {
		return time.Time{}
	}
	return id.leaf.NotAfter
}

// renew takes up a certificate over the same key.
func (id *Identity) renew(chain [][]byte) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.take(id.key, chain)
}

func (id *Identity) take(key crypto.Signer, chain [][]byte) error {
	if len(chain) == 0 || len(chain) > 8 {
		return errors.New("agent: want 1 to 8 certificates")
	}
	leaf, err := fits(key, id.name, chain)
	if err != nil {
		return err
	}
	if err := id.save(key, chain); err != nil {
		return err
	}
	id.key, id.chain, id.leaf = key, chain, leaf
	return nil
}

// enrol asks once. With rekey it makes a new key, which is taken up only with its
// certificate.
func (id *Identity) enrol(ctx context.Context, up Upstream, e Enrolment) (*Enrolled, error) {
	id.mu.Lock()
	key := id.key
	id.mu.Unlock()
	if e.Rekey {
		var err error
		if key, err = newKey(); err != nil {
			return nil, err
		}
	}
	req, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id.name}}, key)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	e.Name, e.Request, e.OS, e.Arch = id.name, req, runtime.GOOS, runtime.GOARCH
	r, err := up.Enrol(ctx, &e)
	if err != nil {
		return nil, err
	}
	if r.State == EnrolValidated {
		id.mu.Lock()
		defer id.mu.Unlock()
		return r, id.take(key, r.Certificates)
	}
	return r, nil
}
