package nuget

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// real are packages that others made.
func real(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, n := range []string{"Newtonsoft.Json.6.0.8.nupkg", "NUnit.2.6.4.nupkg"} {
		b, err := os.ReadFile(filepath.Join("/usr/share/nupkg", n))
		if err != nil {
			t.Fatalf("%v: apt-get install nupkg-newtonsoft.json.6.0.8 nupkg-nunit.2.6.4", err)
		}
		out[n] = b
	}
	return out
}

// A script of ours in another language, and the CMS of openssl, judge
// packages of Debian that an author, a repository, and both signed.
func TestOracleNuGet(t *testing.T) {
	version, err := cmstest.OpenSSL(t, "version")
	if err != nil {
		t.Fatal(err)
	}
	v := formattest.Judge(t, Name, "openssl cms, "+strings.Join(strings.Fields(version)[:2], " ")+", and a script of ours in Python")
	v.Note = "NuGet itself is nowhere to be had here, and nothing else signs packages: the script stands in for it, and there are no signatures by others"
	python := formattest.Program(t, "python3", "apt-get install python3")
	root := cmstest.NewRoot(t)
	dir := t.TempDir()
	_, _, roots := root.Issue(t, "root's file", sigalg.P256).WriteFiles(t, dir, "x")
	judge := func(b []byte) error {
		path := filepath.Join(dir, "a.nupkg")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := formattest.RunJudge(t, python, filepath.Join("testdata", "judge.py"), path, roots, strconv.FormatInt(cmstest.At.Unix(), 10))
		if err == nil && strings.TrimSpace(out) != "ok" {
			err = errors.New(out)
		}
		return err
	}
	ours := func(b []byte) error {
		_, err := Format{}.Verify(t.Context(), art(b), format.Trust{Roots: root.Pool(), TimestampRoots: root.Pool(), Now: cmstest.At})
		return err
	}
	sign := func(id *cmstest.Identity, scheme sigalg.Scheme, b []byte, params format.Params) []byte {
		t.Helper()
		who := format.Identity{Scheme: scheme, Public: id.Key.Public(), Chain: id.Chain}
		p, err := Format{}.Plan(t.Context(), art(b), params)
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := Format{}.Assemble(p, who, cmstest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := Format{}.Attach(t.Context(), art(b), p, who, cmstest.At, []format.Signature{{Value: id.SignInput(t, scheme, tbs[0].Input())}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := patch.Bytes(art(b))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	a, r := root.Authority(t, "Authors").Issue(t, "Author", sigalg.RSA3072), root.Authority(t, "Repositories").Issue(t, "Repository", sigalg.RSA4096)
	for name, b := range real(t) {
		if err := judge(b); err == nil {
			t.Errorf("%s: the judge takes a package without a signature", name)
		}
		by := sign(a, sigalg.RSAPKCS1SHA256, b, nil)
		for what, c := range map[string]struct {
			b   []byte
			key sigalg.Key
		}{
			"author":     {by, sigalg.RSA3072},
			"repository": {sign(r, sigalg.RSAPKCS1SHA512, b, format.Params{"type": repository, "service-index": index, "digest": "sha512"}), sigalg.RSA4096},
			"both":       {sign(r, sigalg.RSAPKCS1SHA384, by, byRepository), sigalg.RSA4096},
		} {
			what = name + ", " + what
			if err := ours(c.b); err != nil {
				t.Errorf("%s: we do not accept ours: %v", what, err)
			}
			v.Accepts(what, string(c.key), judge(c.b))
			p, err := open(art(c.b))
			if err != nil {
				t.Fatal(err)
			}
			for where, at := range map[string]int{"content": int(p.end) / 2, "directory": int(p.z.Directory) + 12, "signature": int(p.end) + 30 + len(entrySignature) + len(p.p7s)/2} {
				bad := bytes.Clone(c.b)
				bad[at] ^= 1
				v.Rejects(what+" "+where, ours(bad), judge(bad))
			}
		}
	}
}
