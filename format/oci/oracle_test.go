package oci

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// sigstore-js judges bundles; registries, cosign and notation are package
// registry's.
func TestOracleOCIbySigstoreJS(t *testing.T) {
	program := formattest.Program(t, "sigstore_verify", "make judges")
	v := formattest.Judge(t, Name, "@sigstore/verify 3.1.1")
	v.Note = "verifies only: bundles that others made come from cosign"
	for _, kind := range []sigalg.Key{sigalg.P256, sigalg.RSA3072, sigalg.Ed25519} {
		s := formattest.Identity(t, kind)
		dir := t.TempDir()
		write := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		key := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		for _, m := range []string{image, index} {
			judge := func(bundle []byte) error {
				out, err := formattest.RunJudge(t, program, key, write("bundle.json", bundle))
				if err == nil && !strings.Contains(out, signPredicate) {
					err = errors.New("another statement: " + out)
				}
				return err
			}
			what := fmt.Sprintf("%s, %d bytes", kind, len(m))
			good := sign(t, m, s, FormCosign)
			v.Accepts(what, string(kind), judge(good))
			at := bytes.LastIndex(good, []byte(`"sig":"`)) + 30
			bad := bytes.Clone(good)
			bad[at] = map[bool]byte{true: 'B', false: 'A'}[good[at] == 'A']
			_, err := verify(t, m, bad, s.Trust())
			v.Rejects(what, err, judge(bad))
		}
	}
}
