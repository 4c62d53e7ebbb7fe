package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// cosign judges envelopes, and the statements in them, over a real program.
func TestOracleDSSEbyCosign(t *testing.T) {
	cosign := formattest.Program(t, "cosign", "make judges")
	v := formattest.Judge(t, Name, "cosign 3.0.2")
	v.Note = "its own envelopes differ in spelling from the one that is read here, and are refused"
	file, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
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
		key := write("key.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		for _, p := range []struct{ name, predicate, kind string }{{"provenance", provenant, ProvenanceType}, {"CycloneDX", cyclone, CycloneDXType}, {"SPDX", spdx2, SPDXType}} {
			what := string(kind) + " " + p.name
			a := format.BytesArtifact("sh", file)
			plan, err := New().Plan(t.Context(), a, format.Params{"predicate": p.predicate})
			if err != nil {
				t.Fatal(err)
			}
			patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
			if err != nil {
				t.Fatal(err)
			}
			judge := func(b, envelope []byte) error {
				c := exec.CommandContext(t.Context(), cosign, "verify-blob-attestation", "--key", key, "--type", p.kind, "--new-bundle-format=false",
					"--insecure-ignore-tlog=true", "--signature", write("envelope", envelope), write("sh", b))
				c.Env = append(os.Environ(), "HOME="+dir)
				if out, err := c.CombinedOutput(); err != nil {
					return errors.New(string(out))
				}
				return nil
			}
			v.Accepts(what, string(kind), judge(file, patch.Sidecar.Data))
			trust := s.Trust()
			trust.Detached = patch.Sidecar.Data
			bad := bytes.Clone(file)
			bad[len(bad)/2] ^= 1
			_, err = New().Verify(t.Context(), format.BytesArtifact("sh", bad), trust)
			v.Rejects(what+", another file", err, judge(bad, patch.Sidecar.Data))

			payload := payloadOf(t, patch.Sidecar.Data)
			enc := base64.StdEncoding.EncodeToString
			trust.Detached = bytes.Replace(patch.Sidecar.Data, []byte(enc(payload)), []byte(enc(bytes.Replace(payload, []byte(`"name":"sh"`), []byte(`"name":"su"`), 1))), 1)
			_, err = New().Verify(t.Context(), a, trust)
			v.Rejects(what+", another statement", err, judge(file, trust.Detached))
		}
	}
}
