package format

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/greatseal-io/greatseal/sigalg"
)

// A digest in the place of a message is what the scheme would have hashed, and
// nothing else passes for one.
func TestToBeSigned(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("content"))
	whole := ToBeSigned{Scheme: sigalg.ECDSASHA256, Message: []byte("content")}
	digest := ToBeSigned{Scheme: sigalg.ECDSASHA256, Digest: sum[:]}
	if string(whole.Input()) != string(digest.Input()) {
		t.Error("inputs differ")
	}
	sig, err := k.Sign(rand.Reader, digest.Input(), digest.Scheme.SignerOpts())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []ToBeSigned{whole, digest} {
		if err := x.Verify(k.Public(), sig); err != nil {
			t.Error(err)
		}
	}
	for name, x := range map[string]ToBeSigned{
		"nothing":           {Scheme: sigalg.ECDSASHA256},
		"both":              {Scheme: sigalg.ECDSASHA256, Message: []byte("content"), Digest: sum[:]},
		"short digest":      {Scheme: sigalg.ECDSASHA256, Digest: sum[:31]},
		"other hash":        {Scheme: sigalg.ECDSASHA384, Digest: sum[:]},
		"digest, no hash":   {Scheme: sigalg.PureEd25519, Digest: sum[:]},
		"no scheme":         {Message: []byte("content")},
		"scheme of nothing": {Scheme: "none", Digest: sum[:]},
	} {
		if x.Check() == nil || x.Verify(k.Public(), sig) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := sigalg.VerifyDigest(k.Public(), sigalg.ECDSASHA256, sum[:31], sig); err == nil {
		t.Error("a short digest is verified")
	}
}
