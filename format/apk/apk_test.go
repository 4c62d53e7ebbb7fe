package apk

import (
	"archive/zip"
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

// axml writes a binary AndroidManifest.xml.
type axml struct {
	attack              string // what is wrong with it
	pkg, version        string
	code, min, target   uint32 // 0: not there
	sandbox, debuggable uint32
}

func (x axml) encode() []byte {
	ids := []uint32{attrMinSDK, attrTargetSDK, attrVersionCode, attrVersionName, attrDebuggable, attrSandbox}
	strings := []string{"minSdkVersion", "targetSdkVersion", "versionCode", "versionName", "debuggable", "targetSandboxVersion", "manifest", "uses-sdk", "application", "package", x.pkg, x.version}
	chunk := func(typ uint16, head, body []byte) []byte {
		b := le.AppendUint16(nil, typ)
		b = le.AppendUint16(b, uint16(8+len(head)))
		b = le.AppendUint32(b, uint32(8+len(head)+len(body)))
		return append(append(b, head...), body...)
	}
	u32 := func(vs ...uint32) (b []byte) {
		for _, v := range vs {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	var offsets, data []byte
	for _, s := range strings {
		offsets = le.AppendUint32(offsets, uint32(len(data)))
		units := utf16.Encode([]rune(s))
		data = le.AppendUint16(data, uint16(len(units)))
		for _, u := range units {
			data = le.AppendUint16(data, u)
		}
		data = append(data, 0, 0)
	}
	for len(data)%4 != 0 {
		data = append(data, 0)
	}
	n := uint32(len(strings))
	body := chunk(resStrings, u32(n, 0, 0, 28+4*n, 0), append(offsets, data...))
	body = append(body, chunk(resMap, nil, u32(ids...))...)
	const none = 0xffffffff
	start := func(name uint32, attrs ...[]byte) {
		b := u32(none, name)
		b = le.AppendUint16(b, 20)
		b = le.AppendUint16(b, 20)
		b = le.AppendUint16(b, uint16(len(attrs)))
		b = append(b, 0, 0, 0, 0, 0, 0)
		body = append(body, chunk(resStart, u32(1, none), append(b, slices.Concat(attrs...)...))...)
	}
	end := func(name uint32) { body = append(body, chunk(resEnd, u32(1, none), u32(none, name))...) }
	str := func(name, value uint32) []byte { return u32(none, name, value, 8|typeString<<24, value) }
	num := func(name, value uint32) []byte { return u32(none, name, none, 8|typeFirst<<24, value) }
	root := [][]byte{str(9, 10), num(2, x.code), str(3, 11)}
	switch x.attack {
	case "package under a namespace":
		root[0] = u32(6, 9, 10, 8|typeString<<24, 10)
	case "package that is typed as another":
		root[0] = u32(none, 9, 11, 8|typeString<<24, 10)
	case "package twice":
		root = append(root, str(9, 11))
	case "version code twice":
		root = append(root, num(2, 1))
	case "ends before it begins":
		end(6)
		start(7)
	}
	if x.sandbox > 0 {
		root = append(root, num(5, x.sandbox))
	}
	start(6, root...)
	var uses [][]byte
	if x.min > 0 {
		uses = append(uses, num(0, x.min))
	}
	if x.target > 0 {
		uses = append(uses, num(1, x.target))
	}
	start(7, uses...)
	end(7)
	start(8, num(4, x.debuggable))
	end(8)
	end(6)
	if x.attack == "ends before it begins" {
		end(7)
		start(7)
	}
	return chunk(resXML, nil, body)
}

var modern = axml{pkg: "com.example.app", version: "1.2", code: 7, min: 24, target: 34}
var old = axml{pkg: "com.example.old", version: "0.9", code: 3, min: 21, target: 29}

// build makes a package: manifest, code, and files of names and contents.
func build(tb testing.TB, m axml, nameContent ...string) []byte {
	tb.Helper()
	return archiveOf(tb, append([]string{manifestName, string(m.encode()), "classes.dex", "dex\n035\x00 and so on"}, nameContent...)...)
}

// oldSignature is what a JAR signature left, wherever it stands.
var oldSignature = []string{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n", "META-INF/X.SF", noise(70000), "META-INF/X.RSA", "x"}

// signedAt makes a package with an old JAR signature before, between or after its files.
func signedAt(tb testing.TB, where string) []byte {
	tb.Helper()
	head := []string{manifestName, string(modern.encode()), "classes.dex", "dex\n035\x00 and so on"}
	rest := []string{"lib/x86/a.so", noise(5000), "assets/b", noise(100)}
	switch where {
	case "first":
		return archiveOf(tb, slices.Concat(oldSignature, head, rest)...)
	case "middle":
		return archiveOf(tb, slices.Concat(head, oldSignature, rest)...)
	}
	return archiveOf(tb, slices.Concat(head, rest, oldSignature)...)
}

func archiveOf(tb testing.TB, files ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		c, err := w.Create(files[i])
		if err == nil {
			_, err = c.Write([]byte(files[i+1]))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("a.apk", b) }

func trySeal(tb testing.TB, s *formattest.Signer, b []byte, params format.Params) ([]byte, error) {
	tb.Helper()
	f := Format{}
	p, err := f.Plan(tb.Context(), artifact(b), params)
	if err != nil {
		return nil, err
	}
	if _, err := f.Assemble(p, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	patch, err := f.Attach(tb.Context(), artifact(b), p, s.Identity, formattest.At, formattest.SignAll(tb, f, p, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(artifact(b))
}

// seal signs a package.
func seal(tb testing.TB, s *formattest.Signer, b []byte, params format.Params) []byte {
	tb.Helper()
	out, err := trySeal(tb, s, b, params)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func tryVerify(tb testing.TB, b []byte, tr format.Trust) error {
	tb.Helper()
	_, err := Format{}.Verify(tb.Context(), artifact(b), tr)
	return err
}
