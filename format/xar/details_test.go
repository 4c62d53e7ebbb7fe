package xar

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func plan(tb testing.TB, b []byte) *format.Plan {
	tb.Helper()
	p, err := Format{}.Plan(tb.Context(), artifact(b), format.Params{"replace": "true"})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := p.Encode(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// told are the details of a plan as text.
func told(tb testing.TB, b []byte) string {
	tb.Helper()
	p := plan(tb, b)
	base, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprint(p.Facts[len(base):])
}

// cpio packs files by the real tool.
func cpio(tb testing.TB, form string, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	var names []string
	for n, c := range files {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(c), 0o755); err != nil {
			tb.Fatal(err)
		}
		names = append(names, "./"+n)
	}
	slices.Sort(names)
	cmd := exec.Command("cpio", "-o", "-H", form)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(strings.Join(append([]string{"."}, names...), "\n")+"\n")
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("cpio: %v: apt-get install cpio", err)
	}
	return string(out)
}

func gz(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

const (
	product = `<?xml version="1.0" encoding="utf-8"?>
<installer-gui-script minSpecVersion="2"><!-- a comment --><title>Hello</title><product id="com.example.product" version="3.1"/>
<options hostArchitectures="x86_64,arm64" customize="never"/><domains enable_localSystem="true"/>
<allowed-os-versions><os-version min="12.0"/></allowed-os-versions>
<pkg-ref id="com.example.a" version="3.1" onConclusion="none">#a.pkg</pkg-ref>%s</installer-gui-script>`
	info = `<pkg-info identifier="com.example.a" version="3.1" install-location="/Applications" auth="root"><payload installKBytes="12" numberOfFiles="4"/><scripts><preinstall file="./preinstall"/></scripts></pkg-info>`
)

// Folders in a table are elements of their own here as elsewhere: names with slashes
// would be others. nested puts entries of "a.pkg/" into one.
func nested(entries ...entry) []byte {
	return packXML(crypto.SHA256, func(base int64) string {
		var top, in strings.Builder
		for i, e := range entries {
			f, _ := fileHash(e.style)
			w := &top
			n, inside := strings.CutPrefix(e.name, "a.pkg/")
			if inside {
				w = &in
			}
			fmt.Fprintf(w, "<file id=\"%d\"><data><length>%d</length><offset>%d</offset><size>%d</size><encoding style=\"application/octet-stream\"/><archived-checksum style=%q>%x</archived-checksum></data><type>file</type><name>%s</name></file>",
				i+10, len(e.content), base, len(e.content), e.style, digest(f, []byte(e.content)), n)
			base += int64(len(e.content))
		}
		return "<?xml version=\"1.0\" encoding=\"UTF-8\"?><xar><toc><checksum style=\"sha256\"><offset>0</offset><size>32</size></checksum>" + top.String() +
			"<file id=\"1\"><type>directory</type><name>a.pkg</name>" + in.String() + "</file></toc></xar>"
	}, entries...)
}

func TestDetails(t *testing.T) {
	if got := told(t, sample(t)); !strings.Contains(got, "{component ") || !strings.Contains(got, "{identifier ") || !strings.Contains(got, "{version ") || strings.Contains(got, "not-read") {
		t.Errorf("Apple's: %s", got)
	}
	scripts := map[string]string{"preinstall": "#!/bin/sh\nexit 0\n", "postinstall": "#!/usr/bin/python3 -I\n", "helper": "\x7fELF"}
	for _, form := range []string{"odc", "newc", "crc"} {
		b := nested(entry{"Distribution", fmt.Sprintf(product, `<script>function f() { return system.run("x"); }</script>`), "sha256"}, entry{"a.pkg/PackageInfo", info, "sha256"},
			entry{"a.pkg/Payload", "payload", "sha256"}, entry{"a.pkg/Scripts", gz(cpio(t, form, scripts)), "sha256"})
		got := told(t, b)
		for _, want := range []string{
			"{title Hello} {identifier com.example.product} {version 3.1} {arch arm64} {arch x86_64} {minimum-system 12.0} {installs-for the system}",
			"{component com.example.a: version 3.1, to /Applications, as root, 4 files of 12 KiB packed into 7 bytes, with scripts}",
			"{script distribution: JavaScript, 40 bytes, sha256 ", ", starts programs}", "{script helper of a.pkg: no script, 4 bytes, sha256 ",
			"{script postinstall of a.pkg: /usr/bin/python3 -I, 22 bytes, sha256 ", "{script preinstall of a.pkg: /bin/sh, 17 bytes, sha256 ", "{requires-password as root}",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s\nwant %s", form, got, want)
			}
		}
		if strings.Contains(got, "not-read") {
			t.Errorf("%s: %s", form, got)
		}
		// Inspect and Verify say the same.
		s := formattest.Identity(t, sigalg.P256)
		signed := seal(t, b, s, nil, false)
		r, err := verify(t, signed, s.Trust())
		if err != nil || !strings.HasSuffix(fmt.Sprint(r.Facts), got[1:]) {
			t.Errorf("%s: verified: %v, %v", form, r, err)
		}
		if r, err = (Format{}).Inspect(t.Context(), artifact(signed)); err != nil || !strings.HasSuffix(fmt.Sprint(r.Facts), got[1:]) {
			t.Errorf("%s: inspected: %v, %v", form, r, err)
		}
	}
	if got := told(t, nested(entry{"Distribution", fmt.Sprintf(product, `<pkg-ref id="b">file:./b.pkg</pkg-ref>`), "sha256"}, entry{"Plugins/x", "x", "sha256"}, entry{"a.pkg/PackageInfo", info, "sha256"})); !strings.Contains(got, "{external b: file:./b.pkg}") || !strings.Contains(got, "{extension Plugins/x, ") {
		t.Errorf("what is outside, and plug-ins: %s", got)
	}
}

// What cannot be read as an installer reads it says so, stays small, and is signed all
// the same.
func TestHostileDetails(t *testing.T) {
	bad := "\u202e" + strings.Repeat("ä", 3000)
	many := "<pkg-info identifier=\"" + bad + "\" version=\"1&#x202e;&#10;2\"/>"
	zeros := strings.Repeat("\x00", 17<<20)
	twice := cpio(t, "odc", map[string]string{"preinstall": "#!/bin/sh\n"})
	one, end := 1+strings.Index(twice[1:], "070707"), strings.Index(twice, "TRAILER")-76
	for name, c := range map[string]struct {
		entries []entry
		missed  bool
	}{
		"long and turning":       {[]entry{{"PackageInfo", many, "sha256"}}, false},
		"entities of its own":    {[]entry{{"Distribution", `<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>`, "sha256"}}, true},
		"not closed":             {[]entry{{"PackageInfo", `<pkg-info identifier="x">`, "sha256"}}, true},
		"two roots":              {[]entry{{"PackageInfo", `<pkg-info identifier="x"/><pkg-info identifier="y"/>`, "sha256"}}, true},
		"an attribute twice":     {[]entry{{"PackageInfo", `<pkg-info identifier="x" identifier="y"/>`, "sha256"}}, true},
		"another encoding":       {[]entry{{"PackageInfo", `<?xml version="1.0" encoding="utf-16"?><pkg-info identifier="x"/>`, "sha256"}}, true},
		"deep":                   {[]entry{{"Distribution", strings.Repeat("<a>", 10000) + strings.Repeat("</a>", 10000), "sha256"}}, true},
		"too long":               {[]entry{{"Distribution", "<x>" + strings.Repeat("a", maxText) + "</x>", "sha256"}}, true},
		"a bomb":                 {[]entry{{"Scripts", gz(zeros), "sha256"}}, true},
		"no cpio":                {[]entry{{"Scripts", "hello", "sha256"}}, true},
		"a script cut":           {[]entry{{"Scripts", twice[:100], "sha256"}}, true},
		"a script twice":         {[]entry{{"Scripts", twice[:end] + twice[one:], "sha256"}}, true},
		"the file twice":         {[]entry{{"PackageInfo", info, "sha256"}, {"PackageInfo", strings.Replace(info, "example", "evil", 1), "sha256"}}, true},
		"sizes beyond the end":   {[]entry{{"Scripts", "070707000000000000100755000000000000000001000000000000000000000000013777777777a\x00", "sha256"}}, true},
		"numbers that are none":  {[]entry{{"Scripts", strings.Replace(twice, "070707", "070707zzzzzz", 1), "sha256"}}, true},
		"an archive with a tail": {[]entry{{"Scripts", twice + "x", "sha256"}}, true},
	} {
		b := pack(crypto.SHA256, c.entries...)
		p := plan(t, b)
		base, err := format.CutDetails(p.Facts, detailNames...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		total, got := 0, p.Facts[len(base):]
		for _, f := range got {
			total += len(f.Name) + len(f.Value)
			if strings.ContainsFunc(f.Value, format.Turns) {
				t.Errorf("%s: %q", name, f.Value)
			}
		}
		missed := slices.ContainsFunc(got, func(f format.Fact) bool { return f.Name == "not-read" })
		if total > 12<<10 || missed != c.missed || c.missed && strings.Contains(fmt.Sprint(got), "example") {
			t.Errorf("%s: %d bytes: %.2000s", name, total, fmt.Sprint(got))
		}
	}
}

// No detail is signed; and a plan whose details are not in their form is refused.
func TestDetailsAreNotSigned(t *testing.T) {
	p := plan(t, nested(entry{"Distribution", fmt.Sprintf(product, ""), "sha256"}, entry{"a.pkg/PackageInfo", info, "sha256"}))
	base, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil || len(base) == len(p.Facts) {
		t.Fatalf("%v, %v", p.Facts, err)
	}
	with := func(more ...format.Fact) []format.Fact { return append(slices.Clone(base), more...) }
	formattest.Details(t, Format{}, p, sigalg.P256, map[string][]format.Fact{"none": base, "others": with(format.Fact{Name: "title", Value: "Other"})}, ErrPlan, map[string][]format.Fact{
		"unknown": with(format.Fact{Name: "rating", Value: "good"}), "out of order": with(format.Fact{Name: "version", Value: "1"}, format.Fact{Name: "title", Value: "x"}), "empty": with(format.Fact{Name: "title", Value: ""}),
		"too long": with(format.Fact{Name: "title", Value: strings.Repeat("x", 300)}), "no text": with(format.Fact{Name: "title", Value: "a\u200bb"}),
	})
}
