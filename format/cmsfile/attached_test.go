package cmsfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func TestAttached(t *testing.T) {
	formattest.Run(t, New(), formattest.Case{
		Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "file",
		Params: format.Params{"content": "attached"}, Signer: formattest.Identity(t, sigalg.P256),
		Refused: []format.Params{{"content": "inside"}},
		// As for detached ones; but Attach refuses a file of another size or content.
		Unsigned: []string{"Size"},
	})
	s := formattest.Identity(t, sigalg.P256)
	for _, content := range []string{text, ""} {
		p7m := sign(t, []byte(content), s, format.Params{"content": "attached"}, true)
		r, err := New().Verify(t.Context(), format.BytesArtifact("file.p7m", p7m), s.Trust())
		if err != nil || r.Signatures[0].Time.IsZero() {
			t.Errorf("%q alone: %+v, %v", content, r, err)
		}
		if !New().Detect(format.BytesArtifact("x", p7m)) {
			t.Errorf("%q: not detected", content)
		}
		targets, err := Format{}.Unstamped(t.Context(), nil, p7m)
		if err != nil || len(targets) != 0 {
			t.Errorf("%q: %v, %v", content, targets, err)
		}
	}
	a := format.BytesArtifact("file", []byte(text))
	plan, err := New().Plan(t.Context(), a, format.Params{"content": "attached"})
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, New(), plan, s, formattest.At)
	if _, err := New().Attach(t.Context(), format.BytesArtifact("file", []byte("any file at al1\n")), plan, s.Identity, formattest.At, sigs); !errors.Is(err, cms.ErrDigest) {
		t.Errorf("another file of the same size is put inside: %v", err)
	}
	if _, err := New().Plan(t.Context(), format.BytesArtifact("large", make([]byte, MaxAttached+1)), format.Params{"content": "attached"}); err == nil {
		t.Error("a file too large to be held in memory")
	}
	for name, spoil := range map[string]func(p *format.Plan){
		"version 1 with the option":    func(p *format.Plan) { p.Version = 1 },
		"version 2 without the option": func(p *format.Plan) { p.Params = p.Params[1:] },
		"version 2, detached":          func(p *format.Plan) { p.Params[0].Value = "detached" },
		"version 2 of a large file":    func(p *format.Plan) { p.Size = MaxAttached + 1 },
	} {
		p, err := New().Plan(t.Context(), a, format.Params{"content": "attached"})
		if err != nil {
			t.Fatal(err)
		}
		spoil(p)
		if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// openssl cms judges ours, detached and attached, and is the peer.
func TestOracleCMS(t *testing.T) {
	version, err := cmstest.OpenSSL(t, "version")
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, "openssl cms, "+strings.Join(strings.Fields(version)[:2], " "))
	v.Note = "before 3.5 it knows no ML-DSA, and no Ed25519 with the SHA-512 of RFC 8419: vectors made by 3.5 are tests of package cms"
	file, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(file)
	bad[len(bad)/2] ^= 1
	const at = "1767225600"
	for _, scheme := range []sigalg.Scheme{sigalg.RSAPKCS1SHA256, sigalg.RSAPSSSHA384, sigalg.ECDSASHA256, sigalg.ECDSASHA384} {
		kind := map[bool]sigalg.Key{true: sigalg.RSA3072, false: sigalg.P256}[scheme.Fits(sigalg.RSA3072)]
		if scheme == sigalg.ECDSASHA384 {
			kind = sigalg.P384
		}
		root := cmstest.NewRoot(t)
		key := root.Issue(t, "Signer", kind)
		id := format.Identity{Scheme: scheme, Public: key.Key.Public(), Chain: key.Chain}
		trust := format.Trust{Roots: root.Pool(), Now: formattest.At}
		dir := t.TempDir()
		cert, private, rootFile := key.WriteFiles(t, dir, "signer")
		write := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		for _, how := range []string{detached, attached} {
			what := string(scheme) + " " + how
			a := format.BytesArtifact("sh", file)
			plan, err := New().Plan(t.Context(), a, format.Params{"content": how, "digest": digestOption(scheme), "signing-time": "true"})
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := New().Assemble(plan, id, formattest.At, nil)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := New().Attach(t.Context(), a, plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, scheme, tbs[0].Input())}})
			if err != nil {
				t.Fatal(err)
			}
			judge := func(sig, content []byte) error {
				args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", write("sig", sig), "-CAfile", rootFile, "-purpose", "any", "-attime", at, "-out", filepath.Join(dir, "out")}
				if how == detached {
					args = append(args, "-content", write("content", content))
				}
				if _, err := cmstest.OpenSSL(t, args...); err != nil {
					return err
				}
				if out, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || !bytes.Equal(out, content) {
					t.Errorf("%s: openssl takes out another file", what)
				}
				return nil
			}
			v.Accepts(what, string(kind), judge(patch.Sidecar.Data, file))
			trust.Detached = patch.Sidecar.Data
			if _, err := New().Verify(t.Context(), a, trust); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			sig := patch.Sidecar.Data
			if how == attached {
				sig = bytes.Replace(sig, file, bad, 1)
			}
			trust.Detached = sig
			_, err = New().Verify(t.Context(), format.BytesArtifact("sh", bad), trust)
			v.Rejects(what, err, judge(sig, bad))

			args := []string{"cms", "-sign", "-binary", "-md", digestOption(scheme), "-outform", "DER", "-signer", cert, "-inkey", private, "-in", write("theirs", file), "-out", filepath.Join(dir, "theirs.p7s")}
			if how == attached {
				args = append(args, "-nodetach")
			}
			if scheme.PSS() {
				args = append(args, "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest")
			}
			if _, err := cmstest.OpenSSL(t, args...); err != nil {
				t.Fatal(err)
			}
			if trust.Detached, err = os.ReadFile(filepath.Join(dir, "theirs.p7s")); err != nil {
				t.Fatal(err)
			}
			_, err = New().Verify(t.Context(), a, trust)
			v.Takes(what, err)
		}
	}
}
