package swupdate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the golden files anew")

func artifact(b []byte) format.Artifact { return format.BytesArtifact("image.swu", b) }

// file is one file of an archive.
type file struct{ name, data string }

func archive(crc bool, files ...file) []byte {
	var b []byte
	for _, f := range files {
		b = append(b, encodeEntry(f.name, []byte(f.data), crc)...)
	}
	return append(b, encodeEntry(trailerName, nil, crc)...)
}

// describe is a sw-description for files.
func describe(files ...file) string {
	s := "software = {\n version = \"1.2\";\n hardware-compatibility: [ \"1.0\" ];\n images: (\n"
	for i, f := range files {
		if i > 0 {
			s += ",\n"
		}
		s += fmt.Sprintf("  { filename = \"%s\"; device = \"/dev/null\"; sha256 = \"%x\"; }", f.name, sha256.Sum256([]byte(f.data)))
	}
	return s + " );\n}\n"
}

func small(data string) []byte {
	f := file{"rootfs.img", data}
	return archive(true, file{descriptionName, describe(f)}, f)
}

func sign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) ([]byte, error) {
	t.Helper()
	plan, err := New().Plan(t.Context(), artifact(b), p)
	if err != nil {
		return nil, err
	}
	if _, err := New().Assemble(plan, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	patch, err := New().Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, formattest.SignAll(t, New(), plan, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

func mustSign(t testing.TB, b []byte, s *formattest.Signer, p format.Params) []byte {
	t.Helper()
	out, err := sign(t, b, s, p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var raw = format.Params{"signature": "raw"}

// openField says whether byte i stands in a field that nobody signs.
func openField(t *testing.T, b []byte, i int) bool {
	for off := int64(0); off < int64(len(b)); {
		e, err := readEntry(artifact(b), off)
		if err != nil {
			t.Fatal(err)
		}
		at := (int64(i) - off - fieldsAt) / 8
		if int64(i) >= off+fieldsAt && at < fields {
			return at != fieldSize && at != fieldName && at != fieldCheck
		}
		off = e.end
	}
	return false
}

func TestConformance(t *testing.T) {
	for name, c := range map[string]formattest.Case{
		"cms": {Artifact: small("data"), Other: small("dat4"), Signer: formattest.Identity(t, sigalg.P256)},
		"raw": {Artifact: small("data"), Other: small("dat4"), Signer: formattest.Identity(t, sigalg.RSA3072).With(sigalg.RSAPSSSHA256), Params: raw},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name = "image.swu"
			c.Refused = []format.Params{{"digest": "sha1"}, {"signature": "gpg"}, {"replace": "yes"}, {"signing-time": "now"}}
			// The archive around sw-description: Attach compares it with the file.
			c.Unsigned = []string{"Size", "Body"}
			c.Open = func(b []byte, i int) bool { return openField(t, b, i) }
			formattest.Run(t, New(), c)
		})
	}
}

func TestReadsOnce(t *testing.T) {
	formattest.Reads(t, New(), artifact(small(string(make([]byte, 8<<20)))), nil)
}

func TestGolden(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(small("data")), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v: got %x want %x", err, got, want)
	}
	if f := plan.Facts; len(f) != 4 || f[0] != (format.Fact{Name: "version", Value: `"1.2"`}) || !strings.HasPrefix(f[2].Value, "rootfs.img sha256=") {
		t.Errorf("facts %v", f)
	}
}

// Invariant 3, and an archive that SWUpdate and others would read differently.
func TestRefusedArchives(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	f, g := file{"rootfs.img", "data"}, file{"evil.sh", "evil"}
	d := file{descriptionName, describe(f)}
	good := archive(true, d, f)
	mixed := append(append(encodeEntry(d.name, []byte(d.data), true), encodeEntry(f.name, []byte(f.data), false)...), encodeEntry(trailerName, nil, true)...)
	directory := bytes.Replace(good, []byte("000081A4"), []byte("000041ED"), 1)
	for name, b := range map[string][]byte{
		"file that is not described":       archive(true, d, f, g),
		"described file that is not there": archive(true, file{descriptionName, describe(f, g)}, f),
		"file that stands twice":           archive(true, d, f, f),
		"second sw-description":            archive(true, d, f, d),
		"sw-description later":             archive(true, f, d),
		"signature later":                  archive(true, d, f, file{signatureName, "sig"}),
		"other content":                    archive(true, d, file{f.name, "dat4"}),
		"path":                             archive(true, file{descriptionName, describe(file{"../x", "data"})}, file{"../x", "data"}),
		"checksum":                         bytes.Replace(good, []byte("data"), []byte("dtaa"), 1),
		"two formats":                      mixed,
		"directory":                        directory,
		"behind the trailer":               append(bytes.Clone(good), good...),
		"no trailer":                       good[:len(good)-124],
		"old format":                       bytes.Replace(good, []byte("070702"), []byte("070707"), 1),
		"odd end":                          append(bytes.Clone(good), 0),
	} {
		if _, err := sign(t, b, s, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := sign(t, append(bytes.Clone(good), make([]byte, 64)...), s, nil); err != nil {
		t.Errorf("zeros at the end: %v", err)
	}
}

// What is behind the signed sw-description is held against it when verifying too.
func TestTampered(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	f := file{"rootfs.img", "data"}
	d := file{descriptionName, describe(f)}
	for form, signer := range map[string]*formattest.Signer{"cms": s, "raw": s.With(sigalg.RSAPKCS1SHA256)} {
		signed := mustSign(t, archive(false, d, f), signer, format.Params{"signature": form})
		im, err := openHead(artifact(signed))
		if err != nil {
			t.Fatal(err)
		}
		sig := file{signatureName, string(im.signature)}
		if _, err := New().Verify(t.Context(), artifact(archive(false, d, sig, f)), s.Trust()); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{
			"another image": archive(false, d, sig, file{f.name, "dat4"}), "no image": archive(false, d, sig), "one more": archive(false, d, sig, f, file{"evil.sh", "evil"}),
			"another description":  archive(false, file{d.name, strings.Replace(d.data, "1.2", "1.3", 1)}, sig, f),
			"signature at the end": archive(false, d, f, sig), "two signatures": archive(false, d, sig, sig, f), "cut signature": archive(false, d, file{sig.name, sig.data[:len(sig.data)-1]}, f),
		} {
			if _, err := New().Verify(t.Context(), artifact(b), s.Trust()); err == nil {
				t.Errorf("%s, %s: accepted", form, name)
			}
		}
		if _, err := sign(t, signed, s, nil); !errors.Is(err, ErrSigned) {
			t.Errorf("%v", err)
		}
		other := formattest.Identity(t, sigalg.P256)
		again := mustSign(t, signed, other, format.Params{"replace": "true"})
		if _, err := New().Verify(t.Context(), artifact(again), other.Trust()); err != nil {
			t.Error(err)
		}
		if bytes.Count(again, []byte(signatureName)) != 1 {
			t.Error("the first signature stayed")
		}
	}
}

func TestDescriptions(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	good := map[string]string{
		"libconfig":      "# c\nsoftware: { /* c */ version = \"1\"; n = 0x10L; b = true; f = [1, 2]; files: ( { filename = \"a\"; sha256 = \"" + sum + "\" } ); } // end\n",
		"json":           `{"software": {"version": "1", "files": [{"filename": "a", "sha256": "` + sum + `", "n": -1.5e3, "x": null}]}}`,
		"twice the same": "s = { a: ( { filename = \"a\"; sha256 = \"" + sum + "\" } ); b: ( { sha256 = \"" + sum + "\"; filename = \"a\" } ); }",
		"text in parts":  "s = { description = \"a\" \"b\"; a: ( { filename = \"a\"; sha256 = \"" + sum + "\" }, ); }",
	}
	for name, s := range good {
		if d, err := parseDescription([]byte(s)); err != nil || len(d.files) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "no file": "software = { version = \"1\"; }", "no digest": "s = { filename = \"a\"; }", "short digest": "s = { filename = \"a\"; sha256 = \"ab\"; }",
		"variable": "s = { filename = \"a\"; sha256 = \"@a\"; }", "upper case": "s = { filename = \"a\"; sha256 = \"" + strings.ToUpper(sum) + "\"; }",
		"two digests": "s = { a: ( { filename = \"a\"; sha256 = \"" + sum + "\" }, { filename = \"a\"; sha256 = \"" + strings.Repeat("00", 32) + "\" } ); }",
		"name twice":  "s = { filename = \"a\"; filename = \"b\"; sha256 = \"" + sum + "\"; }", "include": "@include \"x\"\n" + good["libconfig"],
		"joined name": "s = { filename = \"a\" \"b\"; sha256 = \"" + sum + "\"; }", "escaped name": "s = { filename = \"\\x61\"; sha256 = \"" + sum + "\"; }",
		"number as a name": "s = { filename = 1; sha256 = \"" + sum + "\"; }", "open group": "s = { filename = \"a\"; sha256 = \"" + sum + "\";", "open text": "s = { a = \"b; }",
		"open comment": "/* " + good["libconfig"], "behind": good["libconfig"] + "}", "json with a comment": "{ # c\n" + good["json"][1:], "json twice": good["json"] + good["json"],
		"deep": strings.Repeat("a = { ", 100),
	} {
		if _, err := parseDescription([]byte(s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is run is shown beside the files, and what is not shown is counted.
func TestFacts(t *testing.T) {
	for name, c := range map[string][2]string{
		"libconfig": {"embedded-script = \"os.execute()\"; postinstallcmd = \"/bin/sh\";", `{embedded-script "os.execute()"} {postinstallcmd "/bin/sh"}`},
		"many":      {"a = ( " + strings.Repeat("{ version = \"1\"; }, ", 70) + "); embedded-script = \"x\";", `{embedded-script "x"} {version "1.2"} {hardware-compatibility [ "1.0" ]} {more 6 versions, descriptions and scripts}`},
		"long":      {"embedded-script = \"" + strings.Repeat("x", 1000) + "\";", "x… (1002 bytes)}"},
	} {
		text := strings.Replace(describe(file{"rootfs.img", "x"}), "{\n", "{\n"+c[0]+"\n", 1)
		d, err := parseDescription([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if got := fmt.Sprint(d.facts()); !strings.Contains(got, c[1]) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestSchemesAndTime(t *testing.T) {
	plan, err := New().Plan(t.Context(), artifact(small("data")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Assemble(plan, formattest.Identity(t, sigalg.P256).Identity, time.Time{}, nil); err == nil {
		t.Error("no time is signed")
	}
	for _, k := range []sigalg.Key{sigalg.Ed25519, sigalg.P384} {
		if _, err := New().Assemble(plan, formattest.Identity(t, k).Identity, formattest.At, nil); err == nil {
			t.Errorf("%s with SHA-256 is signed", k)
		}
	}
	if _, err := sign(t, small("data"), formattest.Identity(t, sigalg.P256), raw); err == nil {
		t.Error("a raw signature by ECDSA is made")
	}
}

func TestListAndDetect(t *testing.T) {
	var got []string
	err := New().(format.Lister).List(t.Context(), artifact(small("data")), func(e format.Entry) error {
		got = append(got, fmt.Sprintf("%s %d %x", e.Name, e.Size, e.Digest[:2]))
		return nil
	})
	if err != nil || len(got) != 2 || got[1] != "rootfs.img 4 3a6e" {
		t.Errorf("%v, %v", got, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{"image": {small("data"), true}, "another archive": {archive(true, file{"x", "y"}), false}, "empty": {nil, false}, "cut": {small("data")[:60], false}} {
		if New().Detect(artifact(c.b)) != c.want {
			t.Error(name)
		}
	}
}

func FuzzArchive(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	signed := mustSign(f, small("data"), s, nil)
	for _, b := range [][]byte{small("data"), signed, archive(false, file{"x", "y"})} {
		f.Add(b)
	}
	want := describe(file{"rootfs.img", "data"})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := artifact(b)
		New().Detect(a)
		New().Inspect(t.Context(), a)
		if p, err := New().Plan(t.Context(), a, format.Params{"replace": "true"}); err == nil {
			if _, err := New().Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Errorf("a plan that is not assembled: %v", err)
			}
		}
		if _, err := New().Verify(t.Context(), a, s.Trust()); err == nil && !bytes.Contains(b, []byte(want)) {
			t.Errorf("accepted: %x", b)
		}
	})
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(describe(file{"a", "b"})))
	f.Add([]byte(`{"s": {"filename": "a", "sha256": "` + strings.Repeat("ab", 32) + `"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDescription(b); err == nil && (len(d.facts()) > format.MaxFacts || len(d.files) != len(d.order)) {
			t.Errorf("%v", d)
		}
	})
}
