package jarsig

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// The text of a manifest that Java's jar and jarsigner wrote, in all line ends.
const text = "Manifest-Version: 1.0\r\nMain-Class: a.B\r\nCreated-By: 17.0.15 (Debian)\r\n\r\n" +
	"Name: p/averyveryveryveryveryveryveryveryveryveryveryveryverylongname-th\r\n at-wraps-over-lines.txt\r\n" +
	"SHA-256-Digest: O7Krtp67J/v+Y8djliTG7F4zG4QaW8jD68ELkoXpCHc=\r\n\r\n" +
	"Name: p/A.class\r\nSHA-256-Digest: c8s4WKaHqElMozIwUwFigvPa051Cz2LKTnndoqrH2aw=\r\n\r\n"

func TestParse(t *testing.T) {
	for _, end := range []string{"\r\n", "\n", "\r"} {
		b := []byte(strings.ReplaceAll(text, "\r\n", end))
		f, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if f.Loose || len(f.Sections) != 2 || f.Sections[0].Name != "p/averyveryveryveryveryveryveryveryveryveryveryveryverylongname-that-wraps-over-lines.txt" {
			t.Errorf("%q: %+v", end, f)
		}
		if v, ok := f.Main.Get("main-class"); !ok || v != "a.B" {
			t.Errorf("main class %q", v)
		}
		if got := slicesOf(f); !bytes.Equal(got, b) {
			t.Errorf("%q: sections are not the file", end)
		}
		ds, err := f.Sections[1].Digests("")
		if err != nil || len(ds) != 1 || ds[0].Hash != crypto.SHA256 {
			t.Errorf("%v, %v", ds, err)
		}
	}
}

// grow writes a manifest whole.
func grow(kept []byte, h crypto.Hash, entries []Entry) ([]byte, error) {
	d, err := NewDraft(kept, h, entries)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = d.WriteManifest(&b)
	return b.Bytes(), err
}

// signatureFile is the one over a manifest that stays as it is.
func signatureFile(manifest []byte, h crypto.Hash, attributes ...Attribute) ([]byte, error) {
	d, err := NewDraft(manifest, h, nil)
	if err != nil {
		return nil, err
	}
	whole, err := d.Sum()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = d.WriteSignatureFile(&b, whole, attributes...)
	return b.Bytes(), err
}

func slicesOf(f *File) []byte {
	out := bytes.Clone(f.Main.Raw)
	for _, s := range f.Sections {
		out = append(out, s.Raw...)
	}
	return out
}

// Invariant 1.
func TestRefused(t *testing.T) {
	for name, b := range map[string]string{
		"section twice":            "A: 1\n\nName: x\n\nName: x\n\n",
		"attribute twice":          "A: 1\na: 2\n\n",
		"no name first":            "A: 1\n\nB: 2\nName: x\n\n",
		"empty name":               "A: 1\n\nName: \n\n",
		"line that goes on, first": " x\n\n",
		"no colon":                 "A\n\n",
		"no space":                 "A:b\n\n",
		"sign first":               "-A: 1\n\n",
		"space in the name":        "A B: 1\n\n",
		"name too long":            strings.Repeat("A", 71) + ": 1\n\n",
		"NUL":                      "A: \x00\n\n",
		"not UTF-8":                "A: \xff\n\n",
		"control character":        "A: \x01\n\n",
		"name hidden in two lines": "A: 1\n\nName: x\x0b\n\n",
	} {
		if _, err := Parse([]byte(b)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range []string{"A: 1\n\n\nName: x\n\n", "A: 1\n", "A: 1\n\nName: x\n", "A: 1\n\nName: x\n\n\n", "A: 1\n\n\n"} {
		if f, err := Parse([]byte(b)); err != nil || !f.Loose {
			t.Errorf("%q has clear borders: %v", b, err)
		}
	}
}

// Invariant 2: 72 bytes, also where a character stands in two lines.
func TestLines(t *testing.T) {
	for n := range 300 {
		name := "p/" + strings.Repeat("ä", n/2) + strings.Repeat("x", n%2)
		b, err := grow([]byte("Manifest-Version: 1.0\r\n\r\n"), crypto.SHA256, []Entry{{Name: name, Digest: make([]byte, 32), Attributes: []Attribute{{"Sealed", "true"}}}})
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.SplitSeq(b, []byte("\r\n")) {
			if len(line) > MaxLine {
				t.Errorf("line of %d bytes", len(line))
			}
		}
		f, err := Parse(b)
		if err != nil || f.Loose || len(f.Sections) != 1 || f.Sections[0].Name != name || len(f.Sections[0].Attributes) != 3 {
			t.Fatalf("%d: %v", n, err)
		}
	}
	for _, e := range []Entry{{Name: ""}, {Name: "a\nb"}, {Name: "a\r\nName: b"}, {Name: "a", Digest: []byte{1}}, {Name: "a", Attributes: []Attribute{{"A B", "x"}}}, {Name: "a", Attributes: []Attribute{{"A", "x\ny"}}},
		{Name: "a", Attributes: []Attribute{{"A", "1"}, {"a", "2"}}}, {Name: "a", Attributes: []Attribute{{"NAME", "b"}}}, {Name: "a", Digest: make([]byte, 32), Attributes: []Attribute{{"sha-256-digest", "b"}}}} {
		if _, err := grow([]byte("A: 1\r\n\r\n"), crypto.SHA256, []Entry{e}); err == nil {
			t.Errorf("%+v is written", e)
		}
	}
}

func parse(t *testing.T, b string) *File {
	t.Helper()
	f, err := Parse([]byte(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A signature file covers what it names, also when the manifest has grown; and
// nothing when what it names has changed.
func TestCovered(t *testing.T) {
	m := parse(t, text)
	sf, err := signatureFile(m.Raw, crypto.SHA384, Attribute{"X-Android-APK-Signed", "2, 3"})
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, string(sf))
	names, whole, err := f.Covered(m, m.Index())
	if err != nil || !whole || len(names) != 2 {
		t.Fatalf("%v %t %v", names, whole, err)
	}
	grown := parse(t, text+"Name: new\r\n\r\n")
	if names, whole, err = f.Covered(grown, grown.Index()); err != nil || whole || len(names) != 2 {
		t.Errorf("grown: %v %t %v", names, whole, err)
	}
	for name, change := range map[string][2]string{
		"main section":      {"a.B", "a.C"},
		"a section":         {"O7Krtp67", "O7Krtp68"},
		"a section is gone": {"p/A.class", "p/B.class"},
		"line ends":         {"\r\n", "\n"},
	} {
		c := parse(t, strings.ReplaceAll(text, change[0], change[1]))
		if _, _, err := f.Covered(c, c.Index()); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak := parse(t, "Signature-Version: 1.0\r\nSHA1-Digest-Manifest: 2jmj7l5rSw0yVb/vlWAYkK/YBwk=\r\n\r\n")
	if _, _, err := weak.Covered(m, m.Index()); !errors.Is(err, ErrWeak) {
		t.Errorf("SHA-1: %v", err)
	}
	// Main attributes may not be left out when the manifest is another.
	only := sha256.Sum256(m.Sections[1].Raw)
	bare := "Signature-Version: 1.0\r\nSHA-256-Digest-Manifest: " + base64.StdEncoding.EncodeToString(make([]byte, 32)) +
		"\r\n\r\nName: p/A.class\r\nSHA-256-Digest: " + base64.StdEncoding.EncodeToString(only[:]) + "\r\n\r\n"
	if _, _, err := parse(t, bare).Covered(m, m.Index()); !errors.Is(err, ErrWeak) {
		t.Errorf("no digest of the main section: %v", err)
	}
	for _, b := range []string{"Signature-Version: 2.0\r\n\r\n", "Manifest-Version: 1.0\r\n\r\n"} {
		if _, _, err := parse(t, b).Covered(m, m.Index()); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", b, err)
		}
	}
	// Two digests, one of them wrong.
	both := strings.Replace(string(sf), "SHA-384-Digest-Manifest:", "SHA-256-Digest-Manifest: "+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\r\nSHA-384-Digest-Manifest:", 1)
	if _, whole, err := parse(t, both).Covered(m, m.Index()); whole || err != nil {
		t.Errorf("one of two digests is wrong: %t, %v", whole, err)
	}
	if _, err := signatureFile([]byte(text+"\r\n"), crypto.SHA256); err == nil {
		t.Error("a loose manifest is signed")
	}
}

func TestKinds(t *testing.T) {
	for name, want := range map[string]Kind{
		"META-INF/MANIFEST.MF": ManifestFile, "META-INF/A.SF": SignatureText, "META-INF/a.rsa": Block, "META-INF/A.EC": Block, "META-INF/A.DSA": Block,
		"META-INF/manifest.mf": Reserved, "meta-inf/A.SF": Reserved, "META-INF/SIG-A": Reserved, "META-INF/.SF": Reserved,
		"META-INF/sub/A.SF": Content, "A.SF": Content, "META-INF/INDEX.LIST": Content, "META-INF/": Content, "META-INF/A.RSA/x": Content,
		"META-INF/versions/9/META-INF/MANIFEST.MF": Content, "META-INF/services/x": Content,
		// Longer, and shorter, in capitals.
		"META-INF/\u0250\u0250\u0250\u0250.SF": SignatureText, "META-INF/\u0131\u0131\u0131\u0131.RSA": Block,
	} {
		if got, _ := KindOf(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, base := KindOf("META-INF/\u0250.\u0131.SF"); base != "\u0250.\u0131" {
		t.Errorf("base %q", base)
	}
}

// Invariant 4: a value over very many lines.
func TestLongValues(t *testing.T) {
	b := []byte("A: x\n" + strings.Repeat(" y\n", 1<<20) + "\n")
	f, err := Parse(b)
	if err != nil || len(f.Main.Attributes[0].Value) != 1<<20+1 {
		t.Fatal(err)
	}
}

// What is parsed is written again and parsed as the same.
func FuzzParse(f *testing.F) {
	n := 0
	for _, s := range []string{text, strings.ReplaceAll(text, "\r\n", "\n"), "A: 1\n\n\nName: x\n", "A:\n\n", "A: 1\r\rName: x\r\r"} {
		f.Add([]byte(s))
		n++
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if !m.Loose && !bytes.Equal(slicesOf(m), b) {
			t.Fatal("sections are not the file")
		}
		main, err := Main(m.Main.Attributes)
		if err != nil {
			t.Fatal(err)
		}
		var entries []Entry
		for _, s := range m.Sections {
			entries = append(entries, Entry{Name: s.Name, Attributes: s.Attributes[1:]})
		}
		out, err := grow(main, crypto.SHA256, entries)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil || again.Loose || len(again.Sections) != len(m.Sections) || len(again.Main.Attributes) != len(m.Main.Attributes) {
			t.Fatalf("written again: %v", err)
		}
		for i := range m.Sections {
			if again.Sections[i].Name != m.Sections[i].Name {
				t.Fatalf("%q became %q", m.Sections[i].Name, again.Sections[i].Name)
			}
		}
	})
}

// Invariant 2: sections that are written one by one are those that Parse finds in the
// whole, in manifest and signature file, and nothing is written that it would refuse
// or understand otherwise.
func TestDraft(t *testing.T) {
	entries := []Entry{
		{Name: "a"}, {Name: strings.Repeat("long/", 40), Digest: bytes.Repeat([]byte{1}, 64)},
		{Name: "b", Digest: bytes.Repeat([]byte{2}, 64), Attributes: []Attribute{{"Sealed", "true"}, {"X", ""}}},
		{Name: "c", Attributes: []Attribute{{"SHA-256-Digest", base64.StdEncoding.EncodeToString(make([]byte, 32))}}},
	}
	for i := range 1000 { // more than one portion
		entries = append(entries, Entry{Name: "p/" + strings.Repeat("x", i%90) + string(rune('0'+i%10)) + strings.Repeat("y", i/10), Digest: bytes.Repeat([]byte{byte(i)}, 64)})
	}
	d, err := NewDraft([]byte(text), crypto.SHA512, entries)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := grow([]byte(text), crypto.SHA512, entries)
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, string(manifest))
	if m.Loose || len(m.Sections) != 2+len(entries) || !bytes.Equal(slicesOf(m), manifest) {
		t.Fatalf("%d sections", len(m.Sections))
	}
	var got, want []string
	if err := errors.Join(d.Digested(func(n string) { got = append(got, n) }), m.Digested(func(n string) { want = append(want, n) })); err != nil {
		t.Fatal(err)
	}
	if len(want) != 2+len(entries)-1 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d sections with digests, want %d", len(got), len(want))
	}
	whole, err := d.Sum()
	if err != nil || !bytes.Equal(whole, sum(crypto.SHA512, manifest)) {
		t.Fatalf("digest of the manifest: %v", err)
	}
	var sf bytes.Buffer
	if err := d.WriteSignatureFile(&sf, whole); err != nil {
		t.Fatal(err)
	}
	f := parse(t, sf.String())
	names, unchanged, err := f.Covered(m, m.Index())
	if err != nil || !unchanged || len(names) != len(m.Sections) {
		t.Fatalf("%d names, %t, %v", len(names), unchanged, err)
	}
	for i := range f.Sections { // each digest is right, not that of the whole alone
		ds, err := f.Sections[i].Digests("")
		if err != nil || matches(m.Sections[i].Raw, ds, "") != nil {
			t.Fatalf("section %d: %v", i, err)
		}
	}
	for what, c := range map[string]struct {
		kept    string
		entries []Entry
	}{
		"nothing is kept":            {"", []Entry{{Name: "a"}}},
		"no end of the main section": {"A: 1\r\n", []Entry{{Name: "a"}}},
		"no end of a section":        {"A: 1\r\n\r\nName: x\r\n", []Entry{{Name: "a"}}},
		"loose":                      {"A: 1\r\n\r\n\r\n", []Entry{{Name: "a"}}},
		"a name twice":               {"A: 1\r\n\r\n", []Entry{{Name: "a"}, {Name: "a"}}},
		"a name that is kept":        {"A: 1\r\n\r\nName: x\r\n\r\n", []Entry{{Name: "x"}}},
		"too long":                   {"A: 1\r\n\r\n", []Entry{{Name: "x", Attributes: []Attribute{{"A", strings.Repeat("x", MaxSize)}}}}},
	} {
		if _, err := NewDraft([]byte(c.kept), crypto.SHA256, c.entries); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.WriteSignatureFile(&sf, whole[1:]); !errors.Is(err, ErrDigest) {
		t.Errorf("a digest that is cut off: %v", err)
	}
}
