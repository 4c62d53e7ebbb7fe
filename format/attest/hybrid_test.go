package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/greatseal-io/greatseal/format"
	dsseformat "github.com/greatseal-io/greatseal/format/dsse"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// One envelope, a classical and a post-quantum signature: another house's verifier
// wants both of them.
func TestOracleHybrid(t *testing.T) {
	verdicts := formattest.Judge(t, "hybrid", "go-securesystemslib 0.11.1, 2 of 2 keys")
	verdicts.Note = "DSSE with ML-DSA-65 beside each; it has no ML-DSA of its own: the value is checked by Go's crypto/mldsa"
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.Ed25519} {
		quantum := formattest.Identity(t, sigalg.MLDSA65)
		s := formattest.Identity(t, kind).And(quantum)
		b := sign(t, s, nil)
		check := func(b []byte) (ours, theirErr error) {
			tr := s.Trust()
			tr.Detached = b
			_, ours = New().Verify(t.Context(), format.BytesArtifact("app.tar", []byte(text)), tr)
			var verifiers []dsse.Verifier
			for i, id := range s.Signers() {
				name, err := dsseformat.KeyID(id.Public)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 && kind != sigalg.RSA3072 { // its RSA is PSS alone
					verifiers = append(verifiers, theirs(t, name, id.Public))
				} else {
					verifiers = append(verifiers, oracle{name, id.Public, id.Scheme})
				}
			}
			both, err := dsse.NewMultiEnvelopeVerifier(2, verifiers...)
			if err != nil {
				t.Fatal(err)
			}
			var e dsse.Envelope
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			_, theirErr = both.Verify(t.Context(), &e)
			return ours, theirErr
		}
		ours, theirErr := check(b)
		if ours != nil {
			t.Fatal(ours)
		}
		verdicts.Accepts(string(kind)+" and ml-dsa-65", string(kind)+"+ml-dsa-65", theirErr)
		var e dsse.Envelope
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		for i := range e.Signatures {
			value, err := base64.StdEncoding.DecodeString(e.Signatures[i].Sig)
			if err != nil {
				t.Fatal(err)
			}
			value[len(value)/2] ^= 1
			bad := bytes.Replace(b, []byte(e.Signatures[i].Sig), []byte(base64.StdEncoding.EncodeToString(value)), 1)
			ours, theirErr := check(bad)
			verdicts.Rejects(string(kind)+": one of two altered", ours, theirErr)
		}
	}
}
