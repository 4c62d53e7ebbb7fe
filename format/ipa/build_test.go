package ipa

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/plist"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write golden files")

var le = binary.LittleEndian

const arm64 = 0x100000c

// program is a small Mach-O file: kind 2 is a program, 6 a library.
func program(kind uint32, seed byte) string {
	const commands, text, link = 72 + 80 + 72, 320, 384
	b := make([]byte, link+32)
	for i := text; i < len(b); i++ {
		b[i] = byte(i) * seed
	}
	for i, v := range []uint32{0xfeedfacf, arm64, 0, kind, 2, commands, 0x85} {
		le.PutUint32(b[4*i:], v)
	}
	segment := func(c []byte, name string, vm, off, size uint64, sections uint32) {
		le.PutUint32(c, 0x19)
		le.PutUint32(c[4:], 72+80*sections)
		copy(c[8:], name)
		for i, v := range []uint64{vm, (size + 16383) / 16384 * 16384, off, size} {
			le.PutUint64(c[24+8*i:], v)
		}
		le.PutUint32(c[64:], sections)
	}
	segment(b[32:], "__TEXT", 0x4000, 0, link, 1)
	s := b[32+72:]
	copy(s, "__text")
	copy(s[16:], "__TEXT")
	le.PutUint64(s[40:], link-text)
	le.PutUint32(s[48:], text)
	segment(b[32+152:], "__LINKEDIT", 0x100000, link, 32, 0)
	return string(b)
}

// universal puts two slices into one file.
func universal(kind uint32) string {
	one := []byte(program(kind, 3))
	other := bytes.Clone(one)
	le.PutUint32(other[8:], 2) // arm64e
	be := binary.BigEndian
	b := be.AppendUint32(be.AppendUint32(nil, 0xcafebabe), 2)
	for i, sub := range []uint32{0, 2} {
		for _, v := range []uint32{arm64, sub, uint32(4096 * (i + 1)), uint32(len(one)), 12} {
			b = be.AppendUint32(b, v)
		}
	}
	b = append(b, make([]byte, 4096-len(b))...)
	b = append(append(b, one...), make([]byte, 4096-len(one))...)
	return string(append(b, other...))
}

func info(id, exe string) string {
	return `<plist version="1.0"><dict><key>CFBundleIdentifier</key><string>` + id + `</string><key>CFBundleExecutable</key><string>` + exe + `</string><key>CFBundleShortVersionString</key><string>1.2</string></dict></plist>`
}

func smallApp(seed string) map[string]string {
	return map[string]string{"Info.plist": info("com.example.app", "A"), "A": program(2, 3), "x": "resource " + seed}
}

// largeApp has four levels of code: the application, a watch application, an extension
// of that, a framework of the extension.
func largeApp() map[string]string {
	m := smallApp("1")
	for p, c := range map[string]string{
		"PkgInfo":                                              "APPL????",
		"en.lproj/a.strings":                                   "strings",
		"en.lproj/locversion.plist":                            "version",
		"Base.lproj/Main.storyboardc/x.nib":                    "nib",
		".DS_Store":                                            "store",
		"R.bundle/Info.plist":                                  `<plist version="1.0"><dict><key>CFBundleIdentifier</key><string>com.example.r</string></dict></plist>`,
		"R.bundle/en.lproj/b.strings":                          "more strings",
		"Frameworks/B.framework/B":                             program(6, 5),
		"Frameworks/B.framework/Info.plist":                    info("com.example.b", "B"),
		"Frameworks/B.framework/y":                             "resource of the framework",
		"Frameworks/libc.dylib":                                program(6, 7),
		"Watch/W.app/W":                                        program(2, 9),
		"Watch/W.app/Info.plist":                               info("com.example.app.w", "W"),
		"Watch/W.app/_WatchKitStub/WK":                         program(2, 1),
		"Watch/W.app/PlugIns/E.appex/E":                        program(2, 11),
		"Watch/W.app/PlugIns/E.appex/Info.plist":               info("com.example.app.w.e", "E"),
		"Watch/W.app/PlugIns/E.appex/Frameworks/F.framework/F": program(6, 13),
		"Watch/W.app/PlugIns/E.appex/Frameworks/F.framework/Info.plist":  info("com.example.f", "F"),
		"Watch/W.app/PlugIns/E.appex/Frameworks/F.framework/de.lproj/s":  "optional",
		"Watch/W.app/PlugIns/E.appex/Frameworks/F.framework/version.txt": "1",
	} {
		m[p] = c
	}
	return m
}

// tree makes a folder; content that begins with "-> " is a link.
func tree(files map[string]string) []byte {
	all := map[string]format.TreeEntry{}
	for p, c := range files {
		e := format.TreeEntry{Path: p, Size: int64(len(c))}
		if to, ok := strings.CutPrefix(c, "-> "); ok {
			e.Size, e.Link = 0, to
		}
		all[p] = e
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			all[d] = format.TreeEntry{Path: d, Folder: true}
		}
	}
	var entries []format.TreeEntry
	for _, p := range slices.Sorted(maps.Keys(all)) {
		entries = append(entries, all[p])
	}
	out, err := format.EncodeTree(entries)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if e.File() {
			out = append(out, files[e.Path]...)
		}
	}
	return out
}

// archive makes an ipa, of files by their names in it; every second one is stored.
func archive(files map[string]string) []byte { return archived(files, 2) }

// stored makes an ipa in which nothing is deflated: one content has many forms.
func stored(files map[string]string) []byte {
	out := map[string]string{}
	for p, c := range files {
		out["Payload/A.app/"+p] = c
	}
	return archived(out, 1)
}

// archived stores the nth files.
func archived(files map[string]string, nth int) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, p := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: p, Method: zip.Deflate, Modified: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
		if (i+1)%nth == 0 {
			h.Method = zip.Store
		}
		c := files[p]
		h.SetMode(0o644)
		if strings.HasPrefix(c, "\xcf\xfa") {
			h.SetMode(0o755)
		}
		if to, ok := strings.CutPrefix(c, "-> "); ok {
			c = to
			h.SetMode(0o777 | 1<<27)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			panic(err)
		}
		if _, err := f.Write([]byte(c)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// packed makes an ipa of an application.
func packed(files map[string]string) []byte {
	out := map[string]string{}
	for p, c := range files {
		out["Payload/A.app/"+p] = c
	}
	return archive(out)
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("A.ipa", b) }

func seal(tb testing.TB, b []byte, s *formattest.Signer, p format.Params, stamp bool) []byte {
	tb.Helper()
	f := Format{}
	plan, err := f.Plan(tb.Context(), artifact(b), p)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, f, plan, s, formattest.At)
	if stamp {
		last := &sigs[len(sigs)-1]
		last.Timestamp = s.Timestamp(tb, last.Value, formattest.At)
	}
	patch, err := f.Attach(tb.Context(), artifact(b), plan, s.Identity, formattest.At, sigs)
	if err != nil {
		tb.Fatal(err)
	}
	return apply(tb, b, patch)
}

func apply(tb testing.TB, b []byte, p *format.Patch) []byte {
	tb.Helper()
	out, err := p.Bytes(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func verify(tb testing.TB, b []byte, t format.Trust) (*format.Report, error) {
	tb.Helper()
	return Format{}.Verify(tb.Context(), artifact(b), t)
}

// unpack gives the files of the application.
func unpack(tb testing.TB, b []byte) map[string]string {
	tb.Helper()
	s, err := open(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]string{}
	for i, e := range s.entries {
		switch {
		case e.Link != "":
			out[e.Path] = "-> " + e.Link
		case e.File():
			c, err := s.read(i, 1<<30)
			if err != nil {
				tb.Fatal(err)
			}
			out[e.Path] = string(c)
		}
	}
	return out
}

// changed is an application with files put in, changed or (content "") taken out, of
// the same kind.
func changed(tb testing.TB, b []byte, files map[string]string) []byte {
	tb.Helper()
	m := unpack(tb, b)
	for p, c := range files {
		if c == "" {
			delete(m, p)
		} else {
			m[p] = c
		}
	}
	if zipfile.Detect(artifact(b)) {
		return packed(m)
	}
	return tree(m)
}

// profileOf makes a provisioning profile that a stranger signs.
func profileOf(tb testing.TB, entitlements plist.Dict, expires string, signers ...*formattest.Signer) string {
	tb.Helper()
	certificates := plist.Array{}
	for _, s := range signers {
		certificates = append(certificates, plist.Data(s.Identity.Chain[0].Raw))
	}
	content := plist.EncodeXML(plist.Dict{
		{Key: "Name", Value: "Example"}, {Key: "UUID", Value: "0-1"}, {Key: "TeamIdentifier", Value: plist.Array{"TEAM"}},
		{Key: "ExpirationDate", Value: plist.Date(expires)}, {Key: "DeveloperCertificates", Value: certificates},
		{Key: "ProvisionedDevices", Value: plist.Array{"device"}}, {Key: "Entitlements", Value: entitlements},
	})
	apple := formattest.Identity(tb, sigalg.RSA3072)
	h := apple.Scheme.Hash()
	x := h.New()
	x.Write(content)
	spec := cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: x.Sum(nil), Digest: h, Scheme: apple.Scheme}
	message, err := spec.SignedAttributes()
	if err != nil {
		tb.Fatal(err)
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDData, Bytes: content}, apple.Chain,
		cms.SignerInfo{Spec: spec, Signature: apple.Sign(tb, message), Certificate: apple.Chain[0]})
	if err != nil {
		tb.Fatal(err)
	}
	return string(der)
}

// goProgram is a program for arm64 that the Go linker made.
func goProgram(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	c.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0", "GO111MODULE=off")
	if b, err := c.CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
