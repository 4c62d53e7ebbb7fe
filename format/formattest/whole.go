package formattest

import (
	"crypto"
	"crypto/x509"
	"os"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// attach goes the whole way: plan, sign every round, attach.
func attach(tb testing.TB, f format.Format, a format.Artifact, s *Signer, p format.Params) *format.Patch {
	tb.Helper()
	plan, err := f.Plan(tb.Context(), a, p)
	if err != nil {
		tb.Fatal(err)
	}
	patch, err := f.Attach(tb.Context(), a, plan, s.Identity, At, SignAll(tb, f, plan, s, At))
	if err != nil {
		tb.Fatal(err)
	}
	return patch
}

// Detach makes the signature file of a.
func Detach(tb testing.TB, f format.Format, a format.Artifact, s *Signer, p format.Params) []byte {
	tb.Helper()
	return attach(tb, f, a, s, p).Sidecar.Data
}

// Seal makes of a the file with its signature inside.
func Seal(tb testing.TB, f format.Format, a format.Artifact, s *Signer, p format.Params) []byte {
	tb.Helper()
	return Apply(tb, a, attach(tb, f, a, s, p))
}

// Apply makes the file that a patch of a gives.
func Apply(tb testing.TB, a format.Artifact, p *format.Patch) []byte {
	tb.Helper()
	out, err := p.Bytes(a)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Check verifies a signature file with trust in its signer.
func Check(tb testing.TB, f format.Format, a format.Artifact, side []byte, s *Signer) error {
	tb.Helper()
	t := s.Trust()
	t.Detached = side
	_, err := f.Verify(tb.Context(), a, t)
	return err
}

// Frozen trusts the public key of golden files, a SubjectPublicKeyInfo in DER.
func Frozen(tb testing.TB, path string) format.Trust {
	tb.Helper()
	der, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		tb.Fatal(err)
	}
	return format.Trust{Keys: []crypto.PublicKey{pub}, Now: At}
}
