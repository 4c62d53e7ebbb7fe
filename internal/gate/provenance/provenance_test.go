package provenance_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/provenance"
	"github.com/greatseal-io/greatseal/statement"
)

// signer signs for another implementation of DSSE.
type signer struct{ crypto.Signer }

func (s signer) KeyID() (string, error) { return "any", nil }
func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	if _, ok := s.Public().(ed25519.PublicKey); ok {
		return s.Signer.Sign(rand.Reader, data, crypto.Hash(0))
	}
	d := sha256.Sum256(data)
	return s.Signer.Sign(rand.Reader, d[:], crypto.SHA256)
}

func sealed(t *testing.T, payloadType, payload string, by ...crypto.Signer) string {
	t.Helper()
	var ss []dsse.Signer
	for _, k := range by {
		ss = append(ss, signer{k})
	}
	s, err := dsse.NewEnvelopeSigner(ss...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.SignPayload(t.Context(), payloadType, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	inToto  = "application/vnd.in-toto+json"
	builder = "https://github.com/slsa-framework/builder@v2"
	source  = "git+https://github.com/example/app@refs/tags/v1"
)

func slsa1(digest, builder, source string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],"predicateType":"https://slsa.dev/provenance/v1",
"predicate":{"buildDefinition":{"buildType":"https://example.com/build","externalParameters":{"source":%q},"resolvedDependencies":[{"uri":%q}]},"runDetails":{"builder":{"id":%q}}}}`, digest, source, source, builder)
}

func slsa02(digest, builder, source string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"app","digest":{"sha256":%q}}],"predicateType":"https://slsa.dev/provenance/v0.2",
"predicate":{"builder":{"id":%q},"buildType":"https://example.com/build","invocation":{"configSource":{"uri":%q}},"materials":[{"uri":%q}]}}`, digest, builder, source, source)
}

func TestProvenance(t *testing.T) {
	_, good, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, evil, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("the program")
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(content)
	digest := hex.EncodeToString(h[:])
	folder := t.TempDir()
	now := time.Now()
	c := provenance.Config{Claim: "provenance", Folder: folder, Wait: time.Hour, Clock: func() time.Time { return now },
		Builders: []provenance.Builder{
			{ID: builder, Keys: []crypto.PublicKey{good.Public(), second.Public()}, Sources: []string{"https://github.com/example/*"}, BuildTypes: []string{"https://example.com/build"}},
			{ID: "https://example.com/evil", Keys: []crypto.PublicKey{evil.Public()}, Sources: []string{"https://github.com/evil/**"}},
		}}
	p, err := provenance.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(claim string) (check.Opinion, error) {
		f := &check.File{Request: &statement.Request{Created: now}, Item: &format.Item{Name: "app"}, Plan: &format.Plan{Size: int64(len(content))}, Path: path}
		if claim != "" {
			f.Item.Claims = []format.Fact{{Name: "provenance", Value: claim}}
		}
		return p.File(t.Context(), f)
	}
	ok := slsa1(digest, builder, source)
	other := strings.Repeat("ab", 32)
	for _, x := range []struct{ what, claim, want string }{
		{"version 1", sealed(t, inToto, ok, good), ""},
		{"version 0.2", sealed(t, inToto, slsa02(digest, builder, source), good), ""},
		{"second key, ECDSA", sealed(t, inToto, ok, second), ""},
		{"in base64", base64.StdEncoding.EncodeToString([]byte(sealed(t, inToto, ok, good))), ""},
		{"in base64, another key", base64.StdEncoding.EncodeToString([]byte(sealed(t, inToto, ok, evil))), "not signed by a key of builder"},
		{"another's signature beside", sealed(t, inToto, ok, evil, good), ""},
		{"another key", sealed(t, inToto, ok, evil), "not signed by a key of builder"},
		{"another builder's key", sealed(t, inToto, slsa1(digest, "https://example.com/evil", source), evil), "source"},
		{"unknown builder", sealed(t, inToto, slsa1(digest, "https://example.com/else", source), good), "is not configured"},
		{"builder that begins alike", sealed(t, inToto, slsa1(digest, builder+".1", source), good), "is not configured"},
		{"another file", sealed(t, inToto, slsa1(other, builder, source), good), "another file"},
		{"another source", sealed(t, inToto, slsa1(digest, builder, "git+https://github.com/evil/app"), good), "source"},
		{"source below", sealed(t, inToto, slsa1(digest, builder, "https://github.com/example/app/evil"), good), "source"},
		{"source with dots", sealed(t, inToto, slsa1(digest, builder, "https://github.com/example/../evil"), good), "plainly"},
		{"source of another host", sealed(t, inToto, slsa1(digest, builder, "https://github.com.evil.example/example/app"), good), "source"},
		{"source in the user's part", sealed(t, inToto, slsa1(digest, builder, "https://github.com/example@evil.example/app"), good), "source"},
		{"no source", sealed(t, inToto, slsa1(digest, builder, ""), good), "no source"},
		{"two sources, one wrong", sealed(t, inToto, strings.Replace(ok, `"source":`, `"repository":"https://github.com/evil/app","source":`, 1), good), "source"},
		{"another build type", sealed(t, inToto, strings.Replace(ok, "com/build", "com/else", 1), good), "build type"},
		{"another payload type", sealed(t, "text/plain", ok, good), "is of type"},
		{"another predicate", sealed(t, inToto, strings.Replace(ok, "provenance/v1", "verification_summary/v1", 1), good), "not SLSA provenance"},
		{"member twice", sealed(t, inToto, strings.Replace(ok, `"subject":`, `"subject":[],"subject":`, 1), good), "cannot be read"},
		{"no signature", `{"payload":"e30=","payloadType":"` + inToto + `","signatures":[]}`, "0 signatures"},
		{"no envelope", `[]`, "no DSSE envelope"},
		{"altered payload", strings.Replace(sealed(t, inToto, ok, good), `"payload":"ey`, `"payload":"IHs`, 1), "does not count"},
	} {
		o, err := ask(x.claim)
		if err != nil || o.Endorse != (x.want == "") || !strings.Contains(o.Reason, x.want) {
			t.Errorf("%s: %v %q %v, want %q", x.what, o.Endorse, o.Reason, err, x.want)
		}
	}

	// Missing provenance is waited for, then disapproved.
	if o, err := ask(""); err == nil {
		t.Errorf("nothing there yet: %+v", o)
	}
	lines := sealed(t, inToto, slsa1(other, builder, source), good) + "\n\n" + sealed(t, inToto, ok, good) + "\n"
	kept := filepath.Join(folder, digest+".intoto.jsonl")
	if err := os.WriteFile(kept, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := ask(""); err != nil || !o.Endorse || o.Reason != "built by "+builder+" from "+source {
		t.Errorf("in the folder: %+v %v", o, err)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	c.Wait, c.Clock = time.Minute, func() time.Time { return now.Add(2 * time.Minute) }
	if p, err = provenance.New(c); err != nil {
		t.Fatal(err)
	}
	if o, err := ask(""); err != nil || o.Endorse || o.Reason != "there is no provenance for it" {
		t.Errorf("never there: %+v %v", o, err)
	}
}

func TestConfiguration(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := provenance.Builder{ID: "b", Keys: []crypto.PublicKey{pub}, Sources: []string{"https://x"}}
	for what, c := range map[string]provenance.Config{
		"no place":    {Builders: []provenance.Builder{b}},
		"no builders": {Claim: "p"},
		"no folder":   {Folder: "/nonexistent", Builders: []provenance.Builder{b}},
		"no keys":     {Claim: "p", Builders: []provenance.Builder{{ID: "b", Sources: b.Sources}}},
		"no sources":  {Claim: "p", Builders: []provenance.Builder{{ID: "b", Keys: b.Keys}}},
		"no id":       {Claim: "p", Builders: []provenance.Builder{{Keys: b.Keys, Sources: b.Sources}}},
		"no key":      {Claim: "p", Builders: []provenance.Builder{{ID: "b", Keys: []crypto.PublicKey{"key"}, Sources: b.Sources}}},
	} {
		c.Clock = time.Now
		if _, err := provenance.New(c); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := provenance.ReadKey(path); err == nil {
		t.Error("a private key was taken for a public one")
	}
}
