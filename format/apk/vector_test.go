package apk

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everySigner trusts the keys that a package claims: what is wrong with it then is not
// trust.
func everySigner(b []byte) format.Trust {
	// One key is always there: a package without signers is refused for what it is.
	t := format.Trust{Now: formattest.At, Keys: []crypto.PublicKey{ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))}}
	add := func(k crypto.PublicKey, err error) {
		if err == nil {
			t.Keys = append(t.Keys, k)
		}
	}
	r, err := open(artifact(b))
	if err != nil {
		return t
	}
	for _, i := range r.v1 {
		if k, _ := jarsig.KindOf(r.Entries[i].Name); k != jarsig.Block {
			continue
		}
		der, err := r.Content(i, 1<<20)
		if err != nil {
			continue
		}
		if sd, err := single.ParseCMS("test", der); err == nil {
			for _, c := range sd.Certificates {
				add(cms.PublicKey(c))
			}
		}
	}
	list, err := r.schemes()
	if err != nil {
		return t
	}
	for _, s := range list {
		for _, x := range s.signers {
			add(cms.PublicKey(x.certs[0]))
		}
	}
	return t
}

// The packages of apksig's own tests. vectors.txt has what apksigner 31 says of each,
// with the platform versions of its manifest ("accept", "reject"), from Android 9 on
// ("accept-28"), or that its Java lacks the algorithm ("no-algorithm"), and what we
// say. What it rejects in every way we must not accept.
func TestVectors(t *testing.T) {
	dir := filepath.Join(formattest.Judges(t), "lib", "apksig")
	path := filepath.Join("testdata", "vectors.txt")
	var out strings.Builder
	n, accepted := 0, 0
	for line := range strings.Lines(string(readFile(t, path))) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("line %q", line)
		}
		b, err := os.ReadFile(filepath.Join(dir, f[0]))
		if err != nil {
			t.Fatalf("%v: %s", err, judges)
		}
		n++
		now := "accept"
		if err := tryVerify(t, b, everySigner(b)); err != nil {
			now = "reject"
		} else {
			accepted++
			if f[1] == "reject" {
				t.Errorf("%s: accepted, and apksigner rejects it", f[0])
			}
		}
		fmt.Fprintf(&out, "%s %s %s\n", f[0], f[1], now)
		if now != f[2] && !*update {
			t.Errorf("%s: %s, was %s", f[0], now, f[2])
		}
		// Whatever it is, it is looked at without harm.
		_, _ = Format{}.Inspect(t.Context(), artifact(b))
		_, _ = Format{}.Plan(t.Context(), artifact(b), format.Params{"existing": "replace", "min-sdk": "18"})
	}
	if n < 300 || accepted < 90 {
		t.Errorf("%d packages, %d accepted", n, accepted)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Of the vectors, by name: what each attack must be refused for.
func TestNamedVectors(t *testing.T) {
	dir := filepath.Join(formattest.Judges(t), "lib", "apksig")
	for name, want := range map[string]error{
		"v2-stripped.apk":                                                 ErrStripped,
		"v2v3-signed-v3-block-stripped.apk":                               ErrMalformed,
		"v2-only-with-ecdsa-sha256-p256-digest-mismatch.apk":              ErrDigest,
		"v2-only-cert-and-public-key-mismatch.apk":                        ErrContradiction,
		"v2-only-signatures-and-digests-block-mismatch.apk":               ErrContradiction,
		"v2-only-no-certs-in-sig.apk":                                     ErrMalformed,
		"v2-only-two-signers-second-signer-no-sig.apk":                    nil,
		"v3-only-cert-and-public-key-mismatch.apk":                        ErrContradiction,
		"v3-only-with-rsa-pkcs1-sha512-8192-digest-mismatch.apk":          nil,
		"v1v2v3-with-rsa-2048-lineage-3-signers-invalid-lineage-attr.apk": sigalg.ErrSignature,
		"two-signers-second-signer-v2-broken.apk":                         nil,
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("%v: %s", err, judges)
		}
		err = tryVerify(t, b, everySigner(b))
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}
