package cms_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
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
