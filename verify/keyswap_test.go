//lint:file-ignore SA1019 the attack needs the arithmetic of the curve itself

package verify_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/verify"
	"github.com/greatseal-io/greatseal/verify/verifytest"
)

// For every ECDSA signature and every message there is a key under which the one
// is a signature over the other, and anybody can compute it. With a certificate
// for that key, which an authority issues to whoever asks, a signature that was
// authorised verifies over attributes that nobody has seen.
func TestSignatureUnderAnotherKey(t *testing.T) {
	d, r := apps(t)
	e := d.Evidence(r, 0)
	value := r.Signatures[0][0]
	root := cmstest.NewRoot(t)
	trust := format.Trust{Roots: root.Pool(), Now: cmstest.At}

	when, err := asn1.Marshal(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(program))
	spec := cms.SignerSpec{
		ContentType: cms.OIDData, ContentDigest: digest[:], Digest: crypto.SHA256, Scheme: sigalg.ECDSASHA256,
		Attributes: []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, when)},
	}
	message, err := spec.SignedAttributes()
	if err != nil {
		t.Fatal(err)
	}
	pub := keyFor(t, message, value)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "Mallory"}, NotBefore: cmstest.At.Add(-time.Hour), NotAfter: cmstest.At.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root.Certificate, pub, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p7s, err := cms.Encode(cms.Content{Type: cms.OIDData}, []*x509.Certificate{cert}, cms.SignerInfo{Spec: spec, Signature: value, Certificate: cert})
	if err != nil {
		t.Fatal(err)
	}
	file := verifytest.Artifact("app.bin", []byte(program))
	trust.Detached = p7s
	if _, err := d.FormatOf("cms").Verify(context.Background(), file, trust); err != nil {
		t.Fatal("the forger's tool does not work: ", err)
	}
	if _, err := verify.File(context.Background(), file, p7s, e, d.Root, trust, verifytest.Formats(), verify.Options{}); !errors.Is(err, verify.ErrFile) {
		t.Errorf("error %v", err)
	}
}

// keyFor is a public key under which value is a signature over message by ECDSA
// with SHA-256 on P-256: Q = (sR - zG) / r.
func keyFor(t *testing.T, message, value []byte) *ecdsa.PublicKey {
	t.Helper()
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(value, &sig); err != nil {
		t.Fatal(err)
	}
	c := elliptic.P256()
	p := c.Params()
	y := new(big.Int).Exp(sig.R, big.NewInt(3), p.P)
	y.Sub(y, new(big.Int).Mul(big.NewInt(3), sig.R)).Add(y, p.B).Mod(y, p.P)
	if y.ModSqrt(y, p.P) == nil {
		t.Fatal("r is no coordinate of a point: as likely as a collision")
	}
	h := sha256.Sum256(message)
	z := new(big.Int).SetBytes(h[:])
	z.Sub(p.N, z.Mod(z, p.N))
	sx, sy := c.ScalarMult(sig.R, y, sig.S.Bytes())
	zx, zy := c.ScalarBaseMult(z.Bytes())
	x, y := c.Add(sx, sy, zx, zy)
	x, y = c.ScalarMult(x, y, new(big.Int).ModInverse(sig.R, p.N).Bytes())
	return &ecdsa.PublicKey{Curve: c, X: x, Y: y}
}
