package appx

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const visualStudioName = "PostalCode=ralph, T=ralph, OU=ralph, O=ralph, STREET=ralph, S=ralph, L=ralph, C=CC, SERIALNUMBER=1234, CN=ralph"

// relic, which looks at the block map and the publisher too, takes what we sign:
// packages with a catalogue of code that the same key signed before. And we take what
// it signed.
func TestOracleAppXRelic(t *testing.T) {
	v := formattest.Judge(t, Name, "relic 8.2.0")
	j := authenticodetest.New(t)
	judge := formattest.Program(t, "relic", "run make judges")
	relic := func(b []byte) error {
		path := filepath.Join(t.TempDir(), "a.appx")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := formattest.RunJudge(t, judge, "verify", "--no-trust-chain", path) // osslsigncode judges chains
		return err
	}
	ours := func(b []byte) error {
		_, err := Format{}.Verify(t.Context(), format.BytesArtifact("a.appx", b), j.Trust())
		return err
	}
	long := strings.Repeat("a long content ", 10_000)
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := j.Signer(t, kind, visualStudio)
		member, err := cat.NewMember(t.Context(), format.BytesArtifact("x", []byte(long)), crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		catalogue, err := cat.Create([]*cat.Member{member}, nil, cmstest.At)
		if err != nil {
			t.Fatal(err)
		}
		catalogue = s.Seal(t, cat.Format{}, "CodeIntegrity.cat", catalogue, nil)
		entries := []made{{name: "x", content: long}, {name: entryIntegrity, content: string(catalogue), unmapped: true}, {name: entryManifest, content: manifest(visualStudioName), deflate: true}}
		for name, b := range map[string][]byte{
			"plain":           build(t, crypto.SHA256, types, entries...),
			"as Windows does": wide(t, build(t, crypto.SHA256, types, entries...)),
		} {
			what := string(kind) + " " + name
			signed := s.Seal(t, Format{}, "a.appx", b, nil)
			if err := ours(signed); err != nil {
				t.Errorf("%s: we do not accept ours: %v", what, err)
			}
			v.Accepts(what, string(kind), relic(signed))
			for where, at := range map[string]int{"content": bytes.Index(signed, []byte("long")), "time in the directory": bytes.Index(signed, []byte("PK\x01\x02")) + 12} {
				bad := bytes.Clone(signed)
				bad[at] ^= 1
				v.Rejects(what+" "+where, ours(bad), relic(bad))
			}
		}
		// Catalogues of ours, for which relic wants the package's own certificate.
		programs := append([]made{{name: "a.exe", content: program(long)}}, entries[:1]...)
		programs = append(programs, entries[2])
		for name, c := range map[string]struct {
			b      []byte
			params format.Params
		}{
			"programs":                  {build(t, crypto.SHA256, types, programs...), nil},
			"programs, as Windows does": {wide(t, build(t, crypto.SHA256, types, programs...)), nil},
			"a block map made anew":     {pack(t, append(programs, made{name: "in/b.exe", content: program("x"), deflate: true})...), format.Params{"block-map": "rebuild"}},
			"a catalogue made anew":     {sample(t), format.Params{"existing": "replace", "code-integrity": "renew"}},
		} {
			what := string(kind) + " " + name
			signed := s.Seal(t, Format{}, "a.appx", c.b, c.params)
			if err := ours(signed); err != nil {
				t.Errorf("%s: we do not accept ours: %v", what, err)
			}
			v.Accepts(what, string(kind), relic(signed))
			for where, at := range map[string]int{"catalogue": bytes.Index(signed, catalogueOf(t, signed)) + 300, "directory": bytes.Index(signed, []byte("PK\x01\x02")) + 12} {
				bad := bytes.Clone(signed)
				bad[at] ^= 1
				v.Rejects(what+" "+where, ours(bad), relic(bad))
			}
		}
		v.Rejects(string(kind)+": a block map that is wrong", ours(wrong(t, j, s)), relic(wrong(t, j, s)))
	}
	theirs := format.BytesArtifact("App1.appx", sample(t))
	r, err := Format{}.Inspect(t.Context(), theirs)
	if err != nil || len(r.Signatures) != 1 || r.Signatures[0].Signer == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	trust := format.Trust{Roots: x509.NewCertPool(), Now: formattest.At}
	trust.Roots.AddCert(r.Signatures[0].Signer)
	if r, err = (Format{}).Verify(t.Context(), theirs, trust); err == nil {
		if f := (format.Fact{Name: "version", Value: "1.0.3.0"}); r.Facts[2] != f {
			t.Errorf("fact %v: want %v", r.Facts[2], f)
		}
	}
	v.Takes("a package by Visual Studio", err)
}

// wrong is a package with a wrong block map, which osslsigncode signs.
func wrong(t *testing.T, j *authenticodetest.Judge, s *authenticodetest.Signer) []byte {
	t.Helper()
	m := manifest(visualStudioName)
	return j.Sign(t, s, "a.appx", pack(t, made{name: "a", content: "x"}, made{name: entryManifest, content: m}, made{name: entryTypes, content: types, deflate: true},
		made{name: entryBlockMap, content: `<BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" HashMethod="http://www.w3.org/2001/04/xmlenc#sha256"/>`}))
}
