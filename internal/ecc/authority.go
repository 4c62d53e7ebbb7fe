package ecc

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// authorityLife is how long the authority's own certificate is good. Agents do not
// ask for it: they are told apart by their keys.
const authorityLife = 20 * 365 * 24 * time.Hour

// Authority certifies the agents of one instance. Its key is the instance's own,
// never one of the keeper's.
type Authority struct {
	instance string
	cert     *x509.Certificate
	signer   crypto.Signer
	random   io.Reader
}

// OpenAuthority makes the authority of an instance from its key. The certificate is
// kept in the store, so that all replicas show the same one; it is believed only
// because the key has signed it.
func OpenAuthority(ctx context.Context, st Store, instance string, signer crypto.Signer, random io.Reader, now time.Time) (*Authority, error) {
	id, err := keyID(signer.Public())
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "agents of " + instance}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, SubjectKeyId: id[:20]}
	der, err := x509.CreateCertificate(random, t, t, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("ecc: authority: %w", err)
	}
	der, err = st.Secret(ctx, "agent authority "+hex.EncodeToString(id[:]), der)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ecc: authority: %w", err)
	}
	if got, err := keyID(cert.PublicKey); err != nil || got != id || cert.CheckSignatureFrom(cert) != nil {
		return nil, errors.New("ecc: authority: the certificate in the database is not that of the key")
	}
	return &Authority{instance: instance, cert: cert, signer: signer, random: random}, nil
}

// Certificate is the authority's own, DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Pool is for listeners: it holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue certifies a key, and returns the chain.
func (a *Authority) issue(name string, pub crypto.PublicKey, now time.Time, life time.Duration) (chain []byte, notAfter time.Time, err error) {
	serial, err := newSerial(a.random)
	if err != nil {
		return nil, notAfter, err
	}
	notAfter = now.Add(life).Truncate(time.Second)
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	// Not a name that opens anything but the routes of agents.
	u := &url.URL{Scheme: "greatseal-agent", Opaque: url.PathEscape(name)}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{u}, NotBefore: now.Add(-5 * time.Minute), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(a.random, t, a.cert, pub, a.signer)
	if err != nil {
		return nil, notAfter, fmt.Errorf("ecc: certificate: %w", err)
	}
	return append(der, a.cert.Raw...), notAfter, nil
}

func newSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("ecc: random: %w", err)
	}
	b[0] &= 0x7f
	b[15] |= 1
	return new(big.Int).SetBytes(b), nil
}

// keyID is SHA-256 of a SubjectPublicKeyInfo: the fingerprint that administrators
// compare.
func keyID(pub crypto.PublicKey) ([32]byte, error) {
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [32]byte{}, fmt.Errorf("ecc: key: %w", err)
	}
	return sha256.Sum256(b), nil
}

// Chain splits certificates that stand one after the other.
func Chain(der []byte) [][]byte {
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil
	}
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

// verify checks an agent's certificate.
func (a *Authority) verify(leaf *x509.Certificate, now time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// known remembers certificates that verified: that depends on the certificate and
// the time alone, never on what the database says of the agent.
type known struct {
	mu sync.Mutex
	m  map[[32]byte]span
}

type span struct {
	from, to time.Time
	key      [32]byte
}

const maxKnown = 1 << 14

func (k *known) check(a *Authority, leaf *x509.Certificate, now time.Time) ([32]byte, error) {
	sum := sha256.Sum256(leaf.Raw)
	k.mu.Lock()
	s, ok := k.m[sum]
	k.mu.Unlock()
	if ok && !now.Before(s.from) && !now.After(s.to) {
		return s.key, nil
	}
	if err := a.verify(leaf, now); err != nil {
		return [32]byte{}, err
	}
	id, err := keyID(leaf.PublicKey)
	if err != nil {
		return id, err
	}
	from, to := leaf.NotBefore, leaf.NotAfter
	if a.cert.NotAfter.Before(to) {
		to = a.cert.NotAfter
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil || len(k.m) >= maxKnown {
		k.m = map[[32]byte]span{}
	}
	k.m[sum] = span{from, to, id}
	return id, nil
}

// Keys are the instance's own two.
type Keys struct {
	Runtime   crypto.Signer // of orders
	Authority crypto.Signer // of agents' certificates
}

// The names of the keys in a provider.
const (
	RuntimeKey   = "runtime"
	AuthorityKey = "agent-authority"
)

// OpenKeys finds the instance's keys in a provider, and makes those that are
// missing where it can.
func OpenKeys(ctx context.Context, p key.Provider) (*Keys, error) {
	open := func(name string, k sigalg.Key, scheme sigalg.Scheme) (crypto.Signer, error) {
		uri := key.URI(p.Name() + ":" + name)
		x, err := p.Open(ctx, uri)
		if errors.Is(err, key.ErrNotFound) {
			g, ok := p.(key.Generator)
			if !ok {
				return nil, fmt.Errorf("ecc: key %s: %w", uri, err)
			}
			if x, err = g.Generate(ctx, uri, k); errors.Is(err, key.ErrExists) {
				x, err = p.Open(ctx, uri)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("ecc: key %s: %w", uri, err)
		}
		if x.Algorithm() != k {
			return nil, fmt.Errorf("ecc: key %s is %s, not %s", uri, x.Algorithm(), k)
		}
		return &signer{x, scheme}, nil
	}
	runtime, err := open(RuntimeKey, sigalg.Ed25519, sigalg.PureEd25519)
	if err != nil {
		return nil, err
	}
	authority, err := open(AuthorityKey, sigalg.P256, sigalg.ECDSASHA256)
	if err != nil {
		return nil, err
	}
	return &Keys{runtime, authority}, nil
}

// signer is a key as the standard library wants it, under its one scheme.
type signer struct {
	key    key.Key
	scheme sigalg.Scheme
}

func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

func (s *signer) Sign(_ io.Reader, input []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != s.scheme.Hash() {
		return nil, fmt.Errorf("ecc: the key signs under %s alone", s.scheme)
	}
	return s.key.Sign(context.Background(), s.scheme, input)
}
