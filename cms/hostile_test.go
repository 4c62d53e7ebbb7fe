package cms_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Checking one signature with a key of a megabyte takes minutes, and whoever made
// the file chose the key: such a certificate must not be tried as an issuer.
func TestChainTriesNoHugeKey(t *testing.T) {
	root := cmstest.NewRoot(t)
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 20000))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n.SetBit(n, 20000, 1), 0, 1)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: root.Issue(t, "Huge", sigalg.P256).Certificate.Subject,
		NotBefore: root.Certificate.NotBefore, NotAfter: root.Certificate.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, root.Certificate, &rsa.PublicKey{N: n, E: 1<<31 - 1}, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	huge, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	// The leaf names the huge authority as its issuer.
	k := cmstest.NewKey(t, sigalg.RSA3072)
	issuer := &cmstest.Identity{Key: k, Certificate: &x509.Certificate{Subject: ca.Subject, PublicKey: k.Public()}}
	leaf := issuer.Issue(t, "leaf", sigalg.P256).Certificate
	_, err = cms.VerifyChain(leaf, []*x509.Certificate{huge}, cms.ChainOptions{Roots: root.Pool(), Usage: x509.ExtKeyUsageCodeSigning, At: cmstest.At})
	wantErr(t, cms.ErrChain, err)
	if strings.Contains(err.Error(), "candidate authority") {
		t.Fatalf("the huge key was used: %v", err)
	}
}

// The list of digest algorithms is signed by nobody: whatever stands in it and
// is no signer's digest could be anything, put there by anybody.
func TestNothingHidesAmongDigests(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	for name, digests := range map[string][]byte{
		"parameters":         seq(t, md5ID[2:], tagged(t, 4, []byte("anything at all"))),
		"parameters of ours": seq(t, sha256ID[2:], tagged(t, 4, []byte("anything at all"))),
		"nobody's digest":    sha512ID,
		"another identifier": seq(t, []byte{6, 9, 42, 3, 'h', 'i', 'd', 'd', 'e', 'n', '!'}),
		"twice":              sha256ID,
		"twice, with NULL":   seq(t, sha256ID[2:], []byte{5, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, set := range [][]byte{append(bytes.Clone(sha256ID), digests...), append(bytes.Clone(digests), sha256ID...)} {
				wantErr(t, cms.ErrAlgorithm, checkAll(forge(t, id, func(f *forged) { f.digests = set }), root.Pool()))
			}
		})
	}
}

// Object identifiers and certificates cost many times their size in memory, and
// again in every message that names them.
func TestLongIdentifiersAndCertificates(t *testing.T) {
	root := cmstest.NewRoot(t)
	id := root.Issue(t, "a", sigalg.P256)
	long := tagged(t, 6, bytes.Repeat([]byte{42}, 1000))
	for name, der := range map[string][]byte{
		"digest algorithm": forge(t, id, func(f *forged) { f.digests = append(bytes.Clone(f.digests), seq(t, long)...) }),
		"signer's digest":  forge(t, id, func(f *forged) { f.digest = seq(t, long) }),
		"signature's":      forge(t, id, func(f *forged) { f.alg = seq(t, long) }),
		"attribute": forge(t, id, func(f *forged) {
			f.attributes = sorted(append(f.attributes, seq(t, long, tagged(t, 0x31, der(t, 1))))...)
		}),
	} {
		_, err := cms.Parse(der)
		if err == nil || len(err.Error()) > 200 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	fat := root.Issue(t, "fat", sigalg.P256, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, cms.MaxCertificate)}}
	})
	d := parse(t, encode(t, cms.Content{Type: cms.OIDData, Bytes: content}, fat.Chain, sign(t, fat, spec(sigalg.ECDSASHA256, content))))
	if len(d.RawCertificates) != 1 || len(d.Certificates) != 0 {
		t.Errorf("a certificate of %d bytes is parsed", len(fat.Certificate.Raw))
	}
}
