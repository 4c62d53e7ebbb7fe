package bundle

import (
	"bytes"
	"encoding/binary"
	"flag"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

var update = flag.Bool("update", false, "write golden files")

var le = binary.LittleEndian

// program is a small Mach-O file for a processor: kind 2 is a program, 6 a library.
func program(cpu, kind uint32, seed byte) []byte {
	const commands, text, link = 72 + 80 + 72, 320, 384
	b := make([]byte, link+32)
	for i := text; i < len(b); i++ {
		b[i] = byte(i) * seed
	}
	for i, v := range []uint32{0xfeedfacf, cpu, 0, kind, 2, commands, 0x85} {
		le.PutUint32(b[4*i:], v)
	}
	segment := func(c []byte, name string, vm, off, size uint64, sections uint32) {
		le.PutUint32(c, 0x19)
		le.PutUint32(c[4:], 72+80*sections)
		copy(c[8:], name)
		for i, v := range []uint64{vm, (size + 4095) / 4096 * 4096, off, size} {
			le.PutUint64(c[24+8*i:], v)
		}
		le.PutUint32(c[64:], sections)
	}
	segment(b[32:], "__TEXT", 0x1000, 0, link, 1)
	s := b[32+72:]
	copy(s, "__text")
	copy(s[16:], "__TEXT")
	le.PutUint64(s[40:], link-text)
	le.PutUint32(s[48:], text)
	segment(b[32+152:], "__LINKEDIT", 0x100000, link, 32, 0)
	return b
}

func info(id, exe string) string {
	return `<plist version="1.0"><dict><key>CFBundleIdentifier</key><string>` + id + `</string><key>CFBundleExecutable</key><string>` + exe + `</string><key>CFBundleShortVersionString</key><string>1.2</string></dict></plist>`
}

// tree makes a tree of files; content that begins with "-> " is a link.
func tree(files map[string]string) []byte {
	all := map[string]format.TreeEntry{}
	for p, c := range files {
		e := format.TreeEntry{Path: p, Size: int64(len(c))}
		if to, ok := strings.CutPrefix(c, "-> "); ok {
			e.Size, e.Link = 0, to
		}
		e.Executable = e.Link == "" && strings.Contains(p, "MacOS/")
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

const amd64, arm64 = 0x1000007, 0x100000c

func smallApp(seed string) map[string]string {
	return map[string]string{
		"Contents/Info.plist":  info("com.example.app", "A"),
		"Contents/MacOS/A":     string(program(amd64, 2, 3)),
		"Contents/Resources/x": "resource " + seed,
	}
}

// largeApp has everything: a program beside the main one, a framework with versions
// and links, a plug-in with code of its own, resources of all kinds.
func largeApp() map[string]string {
	m := smallApp("1")
	for p, c := range map[string]string{
		"Contents/MacOS/helper":                                           string(program(arm64, 2, 5)),
		"Contents/PkgInfo":                                                "APPL????",
		"Contents/Resources/en.lproj/a.strings":                           "strings",
		"Contents/Resources/en.lproj/locversion.plist":                    "version",
		"Contents/Resources/link":                                         "-> x",
		"Contents/Resources/.DS_Store":                                    "store",
		"Contents/version.plist":                                          "version",
		"Contents/Frameworks/B.framework/B":                               "-> Versions/Current/B",
		"Contents/Frameworks/B.framework/Resources":                       "-> Versions/Current/Resources",
		"Contents/Frameworks/B.framework/Versions/Current":                "-> A",
		"Contents/Frameworks/B.framework/Versions/A/B":                    string(program(amd64, 6, 7)),
		"Contents/Frameworks/B.framework/Versions/A/Resources/Info.plist": info("com.example.b", "B"),
		"Contents/Frameworks/libc.dylib":                                  string(program(amd64, 6, 9)),
		"Contents/PlugIns/P.plugin/Contents/Info.plist":                   info("com.example.p", "P"),
		"Contents/PlugIns/P.plugin/Contents/MacOS/P":                      string(program(amd64, 8, 11)),
		"Contents/PlugIns/P.plugin/Contents/Resources/y":                  "resource of the plug-in",
	} {
		m[p] = c
	}
	return m
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("A.app", b) }

func seal(tb testing.TB, b []byte, s *formattest.Signer, p format.Params, stamp bool) []byte {
	tb.Helper()
	f := Format{}
	plan, err := f.Plan(tb.Context(), artifact(b), p)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, f, plan, s, formattest.At)
	if stamp {
		for i := range sigs {
			sigs[i].Timestamp = s.Timestamp(tb, sigs[i].Value, formattest.At)
		}
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

// unpack is the inverse of tree.
func unpack(tb testing.TB, b []byte) map[string]string {
	tb.Helper()
	t, err := format.ReadTree(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]string{}
	for i, e := range t.Entries {
		switch {
		case e.Link != "":
			out[e.Path] = "-> " + e.Link
		case e.File():
			out[e.Path] = string(b[t.Offset(i):][:e.Size])
		}
	}
	return out
}

// changed is a bundle with files put in, changed or (content "") taken out.
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
	out := tree(m)
	if bytes.Equal(out, b) {
		tb.Fatal("nothing changes")
	}
	return out
}
