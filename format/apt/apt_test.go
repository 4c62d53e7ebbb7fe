package apt

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

const release = `Origin: Example
Label: Example
Suite: stable
Codename: crag
Date: Fri, 02 Jan 2026 03:04:05 UTC
Valid-Until: Fri, 09 Jan 2026 03:04:05 UTC
Architectures: all amd64
Components: main
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages
 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad        3 main/binary-all/Packages
`

func sign(t testing.TB, content string, s *formattest.Signer, p format.Params) (file, side []byte) {
	t.Helper()
	a := format.BytesArtifact("Release", []byte(content))
	plan, err := New().Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	if patch.Sidecar != nil {
		return []byte(content), patch.Sidecar.Data
	}
	if file, err = patch.Bytes(a); err != nil {
		t.Fatal(err)
	}
	return file, nil
}

func check(t testing.TB, file, side []byte, s *formattest.Signer) error {
	t.Helper()
	tr := s.Trust()
	tr.Detached = side
	_, err := New().Verify(t.Context(), format.BytesArtifact("Release", file), tr)
	return err
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		key      sigalg.Key
		output   string
		unsigned []string
	}{
		{sigalg.RSA3072, inRelease, []string{"Size", "Facts", "Body"}},
		{sigalg.Ed25519, inRelease, []string{"Size", "Facts", "Body"}},
		{sigalg.P256, releaseGPG, []string{"Facts"}},
	} {
		t.Run(string(c.key)+" "+c.output, func(t *testing.T) {
			t.Parallel()
			formattest.Run(t, New(), formattest.Case{
				Artifact: []byte(release), Other: []byte(strings.Replace(release, "Codename: crag", "Codename: crab", 1)), Name: "Release",
				Params: format.Params{"output": c.output}, Signer: formattest.Identity(t, c.key), Unsigned: c.unsigned,
				Refused: []format.Params{{"output": "Release"}, {"key-version": "6"}, {"digest": "sha1"}},
			})
		})
	}
}

func TestReadsOnce(t *testing.T) {
	big := release + strings.Repeat(" e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n", 60000)
	for _, o := range []string{inRelease, releaseGPG} {
		formattest.Reads(t, New(), format.BytesArtifact("Release", []byte(big)), format.Params{"output": o})
	}
}

// What would pass for a Release file, and what apt would read otherwise than others.
func TestNotARelease(t *testing.T) {
	rep := func(old, new string) string {
		if !strings.Contains(release, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(release, old, new, 1)
	}
	for name, content := range map[string]string{
		"empty":                        "",
		"MD5 alone":                    rep("SHA256:", "MD5Sum:"),
		"no entries":                   release[:strings.Index(release, " e3b0")],
		"no date":                      rep("Date: ", "Data: "),
		"a date that nobody can read":  rep("Fri, 02 Jan 2026 03:04:05 UTC", "soon"),
		"valid until before its date":  rep("Fri, 09 Jan", "Thu, 01 Jan"),
		"a second paragraph":           release + "\nSuite: evil\n",
		"a paragraph with white space": rep("Suite:", " \nSuite:"),
		"a field twice":                rep("Suite: stable\n", "Suite: stable\nsuite: evil\n"),
		"a path that climbs":           rep("main/binary-all", "../../etc"),
		"an absolute path":             rep("main/binary-all", "/etc"),
		"a path that is not clean":     rep("main/binary-all", "main//binary-all"),
		"a short digest":               rep("e3b0", "e3"),
		"a negative size":              rep("        3 main", " -3 main"),
		"a continuation first":         " x\n" + release,
		"a zero byte":                  rep("Origin: E", "Origin: \x00"),
		"no field":                     rep("Origin: ", "Origin "),
		"a field that is an option":    rep("Origin: ", "-Origin: "),
	} {
		for _, o := range []string{inRelease, releaseGPG} {
			if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), format.Params{"output": o}); err == nil {
				t.Errorf("%s, %s: a plan is made", name, o)
			}
		}
	}
	if _, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(rep("stable", "stable "))), nil); err == nil {
		t.Error("white space that InRelease does not protect")
	}
}

// Values are shown as apt reads them, over several lines too; none is left out.
func TestFactsOfSeveralLines(t *testing.T) {
	for name, c := range map[string][2]string{
		"several lines": {"Suite: stable\n evil\n", "{suite stable evil}"},
		"no first line": {"Suite:\n evil\n", "{suite evil}"},
		"too long":      {"Suite: stable\n" + strings.Repeat(" x"+strings.Repeat("y", 500)+"\n", 5), "{suite (too long to show)}"},
		"direction":     {"Suite: \u202estable\n", "{suite ?stable}"},
		"keys":          {"Suite: stable\nSigned-By: A\n", "{signed-by A}"},
	} {
		content := strings.Replace(release, "Suite: stable\n", c[0], 1)
		for _, o := range []string{inRelease, releaseGPG} {
			p, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(content)), format.Params{"output": o})
			if err != nil || !strings.Contains(fmt.Sprint(p.Facts), c[1]) {
				t.Errorf("%s: %v, %v", name, p, err)
			}
		}
	}
}

// A signed InRelease with something around it: apt once read what stood before or after
// the signed part (CVE-2013-1051 and its like).
func TestTextAroundTheSignedPart(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	good, _ := sign(t, release, s, nil)
	if err := check(t, good, nil, s); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{
		"before":                     "Suite: evil\n" + string(good),
		"before, empty line":         "\n" + string(good),
		"after":                      string(good) + "Suite: evil\n",
		"twice":                      string(good) + string(good),
		"a header":                   strings.Replace(string(good), "Hash: SHA256\n", "Hash: SHA256\nSuite: evil\n", 1),
		"between text and armour":    strings.Replace(string(good), "-----BEGIN PGP SIGNATURE", "\nSuite: evil\n-----BEGIN PGP SIGNATURE", 1),
		"armour header":              strings.Replace(string(good), "SIGNATURE-----\n\n", "SIGNATURE-----\nSuite\n\n", 1),
		"without the signature":      release,
		"a message inside a message": strings.Replace(string(good), "Origin", "-----BEGIN PGP SIGNED MESSAGE-----\nOrigin", 1),
	} {
		if check(t, []byte(b), nil, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New().Plan(t.Context(), format.BytesArtifact("f", good), nil); err == nil {
		t.Error("an InRelease is planned again")
	}
}

func TestRemoveAndExtract(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good, _ := sign(t, release, s, nil)
	a := format.BytesArtifact("InRelease", good)
	p, err := Format{}.Remove(t.Context(), a, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := p.Bytes(a); err != nil || string(b) != release {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := (Format{}).Extract(t.Context(), a, 0); err != nil {
		t.Error(err)
	}
	if _, err := (Format{}).Extract(t.Context(), format.BytesArtifact("f", []byte(release)), 0); !errors.Is(err, format.ErrUnsigned) {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{"Release": {[]byte(release), true}, "InRelease": {good, true}, "text": {[]byte("Date: today\nSuite: x\n"), false}, "empty": {nil, false}} {
		if got := New().Detect(format.BytesArtifact("f", c.b)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if r, err := New().Inspect(t.Context(), a); err != nil || len(r.Signatures) != 1 || len(r.Facts) < 8 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Frozen: plans and messages of version 1 stay good.
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	for _, o := range []string{inRelease, releaseGPG} {
		plan, err := New().Plan(t.Context(), format.BytesArtifact("f", []byte(release)), format.Params{"output": o})
		if err != nil {
			t.Fatal(err)
		}
		enc, err := plan.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := New().Assemble(plan, format.Identity{Scheme: sigalg.PureEd25519, Public: ed25519.PublicKey(bytes.Repeat([]byte{1}, 32))}, formattest.At, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "plan %x\nmessage %x\n", enc, tbs[0].Message)
	}
	path := filepath.Join("testdata", "plans.txt")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		b, _ := sign(t, release, formattest.Identity(t, sigalg.Ed25519), nil)
		if err := os.WriteFile(filepath.Join("testdata", "InRelease"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%v\n%s", err, got.Bytes())
	}
}

func FuzzRelease(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "InRelease"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(release))
	s := formattest.Identity(f, sigalg.Ed25519)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := format.BytesArtifact("f", b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if check(t, b, nil, s) == nil {
			t.Fatal("accepted by a key that signed nothing")
		}
		if p, err := New().Plan(t.Context(), a, nil); err == nil {
			patch, err := New().Attach(t.Context(), a, p, s.Identity, formattest.At, formattest.SignAll(t, New(), p, s, formattest.At))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := patch.Bytes(a)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(t, signed, nil, s); err != nil {
				t.Fatalf("%v: %q", err, signed)
			}
		}
	})
}
