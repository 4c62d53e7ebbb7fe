// Package cmstest makes certificates and signatures for tests of signatures.
// Its keys are made anew in every run and protect nothing.
package cmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/sigalg"
)

// At is a time when all certificates of this package are valid.
var At = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// Identity is a key with its certificate.
type Identity struct {
	Key         crypto.Signer
	Kind        sigalg.Key
	Certificate *x509.Certificate
	// Chain is the certificate and what it was issued by, root excluded.
	Chain []*x509.Certificate
	Root  *x509.Certificate
}

// RSA keys are slow to make: one of each size serves a whole test binary.
var (
	rsa3072 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 3072)) })
	rsa4096 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 4096)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// NewKey makes a key.
func NewKey(tb testing.TB, kind sigalg.Key) crypto.Signer {
	tb.Helper()
	switch kind {
	case sigalg.RSA3072:
		return rsa3072()
	case sigalg.RSA4096:
		return rsa4096()
	case sigalg.P256:
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case sigalg.P384:
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case sigalg.Ed25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return must(k, err)
	case sigalg.MLDSA65:
		return must(mldsa.GenerateKey(mldsa.MLDSA65()))
	case sigalg.MLDSA87:
		return must(mldsa.GenerateKey(mldsa.MLDSA87()))
	}
	tb.Fatalf("cmstest: unknown kind of key %q", kind)
	return nil
}

// NewRoot makes a root authority with a P-256 key.
func NewRoot(tb testing.TB) *Identity {
	tb.Helper()
	return NewRootOf(tb, sigalg.P256)
}

// NewRootOf makes a root authority with a key of the kind.
func NewRootOf(tb testing.TB, kind sigalg.Key) *Identity {
	tb.Helper()
	t := template("Test Root", 1)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	key := NewKey(tb, kind)
	cert := create(tb, t, t, key.Public(), key)
	return &Identity{Key: key, Kind: kind, Certificate: cert, Root: cert}
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Greatseal Tests"}},
		NotBefore:    time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func create(tb testing.TB, t, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// Authority issues an intermediate authority.
func (i *Identity) Authority(tb testing.TB, name string) *Identity {
	tb.Helper()
	return i.Issue(tb, name, sigalg.P256, func(t *x509.Certificate) {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
		t.ExtKeyUsage = nil
	})
}

// Issue makes a leaf for code signing; change may make something else of it.
func (i *Identity) Issue(tb testing.TB, name string, kind sigalg.Key, change ...func(*x509.Certificate)) *Identity {
	tb.Helper()
	serial := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))
	t := template(name, 1)
	t.SerialNumber = serial.Add(serial, big.NewInt(2))
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	t.SubjectKeyId = serial.Bytes()
	for _, c := range change {
		c(t)
	}
	key := NewKey(tb, kind)
	cert := create(tb, t, i.Certificate, key.Public(), i.Key)
	return &Identity{
		Key: key, Kind: kind, Certificate: cert, Root: i.Root,
		Chain: append([]*x509.Certificate{cert}, i.Chain...),
	}
}

// IssueTSA makes a leaf for time-stamping: its usage is critical and the only
// one (RFC 3161 section 2.3).
func (i *Identity) IssueTSA(tb testing.TB, name string, kind sigalg.Key) *Identity {
	tb.Helper()
	return i.Issue(tb, name, kind, TimeStamping)
}

// TimeStamping turns a template into one of a time-stamping authority.
func TimeStamping(t *x509.Certificate) {
	t.ExtKeyUsage = nil
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
		Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})),
	})
}

// Pool holds the root.
func (i *Identity) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.Root)
	return p
}

// Sign signs message under scheme.
func (i *Identity) Sign(tb testing.TB, scheme sigalg.Scheme, message []byte) []byte {
	tb.Helper()
	return i.SignInput(tb, scheme, scheme.Input(message))
}

// SignInput signs what a key is handed: see sigalg.Scheme.Input.
func (i *Identity) SignInput(tb testing.TB, scheme sigalg.Scheme, input []byte) []byte {
	tb.Helper()
	sig, err := i.Key.Sign(rand.Reader, input, scheme.SignerOpts())
	if err != nil {
		tb.Fatal(err)
	}
	return sig
}

// WriteFiles writes NAME.pem, NAME.key and root.pem into dir for programs.
func (i *Identity) WriteFiles(tb testing.TB, dir, name string) (cert, key, root string) {
	tb.Helper()
	write := func(name, typ string, ders ...[]byte) string {
		var out []byte
		for _, der := range ders {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, out, 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		tb.Fatal(err)
	}
	var chain [][]byte
	for _, c := range i.Chain {
		chain = append(chain, c.Raw)
	}
	return write(name+".pem", "CERTIFICATE", chain...), write(name+".key", "PRIVATE KEY", pkcs8), write("root.pem", "CERTIFICATE", i.Root.Raw)
}

// OpenSSL runs openssl and gives what it wrote to both outputs.
func OpenSSL(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		tb.Fatal("openssl is needed: apt-get install openssl")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("openssl %v: %w: %s", args, err, out)
	}
	return string(out), err
}
