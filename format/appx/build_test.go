package appx

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// publisher is whom test packages name, and subject makes a certificate his.
const publisher = `CN="Grëat & ""Seal""", O="Tests, Inc.", C=CH`

func subject(c *x509.Certificate) {
	c.Subject = pkix.Name{CommonName: `Grëat & "Seal"`, Organization: []string{"Tests, Inc."}, Country: []string{"CH"}}
}

func signer(t testing.TB, kind sigalg.Key) *formattest.Signer {
	return formattest.Identity(t, kind, subject)
}

const types = `<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">` +
	`<Default Extension="xml" ContentType="application/vnd.ms-appx.manifest+xml"/><Override PartName="/AppxBlockMap.xml" ContentType="application/vnd.ms-appx.blockmap+xml"/></Types>`

// typed are content types that name the signature.
var typed = strings.Replace(types, "</Types>", `<Override PartName="/AppxSignature.p7x" ContentType="application/vnd.ms-appx.signature"/></Types>`, 1)

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(s)
}

func manifest(publisher string) string {
	return `<?xml version="1.0" encoding="utf-8"?><!-- made by a test --><Package xmlns="http://schemas.microsoft.com/appx/manifest/foundation/windows10">` +
		`<Identity Name="Test.App" Publisher="` + escape(publisher) + `" Version="1.2.3.0" ProcessorArchitecture="x64"/>` +
		`<Properties><DisplayName>A &amp; B</DisplayName></Properties></Package>`
}

// made is one entry to be made.
type made struct {
	name, content string
	deflate       bool
	unmapped      bool
	descriptor    bool // sizes stand behind the data
}

// build makes an archive of the entries, then block map and content types.
func build(t testing.TB, h crypto.Hash, types string, entries ...made) []byte {
	t.Helper()
	method := map[crypto.Hash]string{crypto.SHA256: "http://www.w3.org/2001/04/xmlenc#sha256", crypto.SHA512: "http://www.w3.org/2001/04/xmlenc#sha512"}[h]
	var m strings.Builder
	fmt.Fprintf(&m, `<?xml version="1.0" encoding="UTF-8" standalone="no"?><BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" HashMethod="%s">`, method)
	for _, e := range entries {
		if e.unmapped {
			continue
		}
		name, _ := mapName(e.name)
		fmt.Fprintf(&m, `<File Name="%s" Size="%d" LfhSize="%d">`, escape(name), len(e.content), 30+len(e.name))
		for at := 0; at < len(e.content); at += blockSize {
			size := ""
			if e.deflate {
				size = fmt.Sprintf(` Size="%d"`, len(deflated(t, e.content))/(len(e.content)/blockSize+1))
			}
			fmt.Fprintf(&m, `<Block Hash="%s"%s/>`, base64.StdEncoding.EncodeToString(sum(h, []byte(e.content[at:min(at+blockSize, len(e.content))]))), size)
		}
		m.WriteString(`</File>`)
	}
	m.WriteString(`</BlockMap>`)
	return pack(t, append(entries, made{name: entryBlockMap, content: m.String(), deflate: true}, made{name: entryTypes, content: types, deflate: true})...)
}

func base64sum(s string) string {
	return base64.StdEncoding.EncodeToString(sum(crypto.SHA256, []byte(s)))
}

func deflated(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pack(t testing.TB, entries ...made) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		data, method := []byte(e.content), zip.Store
		if e.deflate {
			data, method = deflated(t, e.content), zip.Deflate
		}
		flags := uint16(0)
		if e.descriptor {
			flags = 8
		}
		w, err := z.CreateRaw(&zip.FileHeader{Name: e.name, Method: method, Flags: flags, CRC32: crc32.ChecksumIEEE([]byte(e.content)), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(e.content))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// app is a small package.
func app(t testing.TB, content string) []byte {
	return build(t, crypto.SHA256, types, made{name: "Assets/a%20b.txt", content: content}, made{name: "c.txt", content: strings.Repeat("c", 100), deflate: true, descriptor: true}, made{name: "empty"}, made{name: entryManifest, content: manifest(publisher), deflate: true})
}

// bundle is a bundle of one package; shift moves what the manifest says of its place.
func bundle(t testing.TB, inside []byte, shift int) []byte {
	m := strings.Replace(bundleManifest(len(inside)), `Offset="0"`, fmt.Sprintf(`Offset="%d"`, 38+shift), 1)
	return build(t, crypto.SHA256, types, made{name: "app.msix", content: string(inside), unmapped: true}, made{name: entryBundle, content: m, deflate: true})
}

// bundleManifest is that of a bundle of one package of a size.
func bundleManifest(size int) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><Bundle xmlns="http://schemas.microsoft.com/appx/2013/bundle" SchemaVersion="2.0"><Identity Name="Test.App" Publisher="%s" Version="1.2.3.0"/>`+
		`<Packages><Package Type="application" Version="1.2.3.0" Architecture="x64" FileName="app.msix" Offset="0" Size="%d"/></Packages></Bundle>`, escape(publisher), size)
}

// seal signs b.
func seal(t testing.TB, s *formattest.Signer, b []byte, params format.Params) []byte {
	t.Helper()
	out, err := trySeal(t, s, b, params)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func trySeal(t testing.TB, s *formattest.Signer, b []byte, params format.Params) ([]byte, error) {
	t.Helper()
	a := format.BytesArtifact("a.msix", b)
	p, err := Format{}.Plan(t.Context(), a, params)
	if err != nil {
		return nil, err
	}
	if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
		return nil, err
	}
	patch, err := Format{}.Attach(t.Context(), a, p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
	if err != nil {
		return nil, err
	}
	return patch.Bytes(a)
}

// sample is a package that Visual Studio made and that relic signed; its publisher
// is visualStudio.
func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(formattest.Judges(t), "lib", "relic", "packages", "App1_1.0.3.0_x64.appx"))
	if err != nil {
		t.Fatalf("%v: run make judges", err)
	}
	return b
}

func visualStudio(c *x509.Certificate) {
	c.Subject = pkix.Name{}
	for _, p := range []struct {
		oid   []int
		value string
	}{{[]int{2, 5, 4, 3}, "ralph"}, {[]int{2, 5, 4, 5}, "1234"}, {[]int{2, 5, 4, 6}, "CC"}, {[]int{2, 5, 4, 7}, "ralph"}, {[]int{2, 5, 4, 8}, "ralph"},
		{[]int{2, 5, 4, 9}, "ralph"}, {[]int{2, 5, 4, 10}, "ralph"}, {[]int{2, 5, 4, 11}, "ralph"}, {[]int{2, 5, 4, 12}, "ralph"}, {[]int{2, 5, 4, 17}, "ralph"}} {
		c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: p.oid, Value: p.value})
	}
}

// wide gives an archive the end records that Windows's own packager writes: all numbers,
// those of disks too, are left to the ZIP64 records.
func wide(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zipfile.Open(format.BytesArtifact("a", b), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, n := z.RawDirectory(), uint64(len(z.Entries))
	out := append(bytes.Clone(b[:z.Directory]), dir...)
	at := uint64(len(out))
	out = append(out, "PK\x06\x06"...)
	out = le.AppendUint64(out, 44)
	out = append(out, 45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, v := range []uint64{n, n, uint64(len(dir)), uint64(z.Directory)} {
		out = le.AppendUint64(out, v)
	}
	out = append(out, "PK\x06\x07\x00\x00\x00\x00"...)
	out = le.AppendUint64(out, at)
	out = append(out, 1, 0, 0, 0)
	return append(out, "PK\x05\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"...)
}

// program is a small image of Windows, and filler is in it.
func program(filler string) string {
	b := make([]byte, 64, 1024)
	copy(b, "MZ")
	b[60] = 64
	b = append(b, "PE\x00\x00\x4c\x01\x00\x00"...)
	b = append(b, make([]byte, 12)...)
	b = append(b, 224, 0, 2, 1)
	opt := make([]byte, 224)
	le.PutUint16(opt, 0x10b)
	le.PutUint32(opt[32:], 4096)
	le.PutUint32(opt[36:], 512)
	le.PutUint32(opt[60:], 312) // of headers
	le.PutUint16(opt[68:], 3)
	le.PutUint32(opt[92:], 16)
	b = append(b, opt...)
	return string(b) + filler
}

// withCode is a package with two programs, and one that is none.
func withCode(t testing.TB, content string) []byte {
	return build(t, crypto.SHA256, types, made{name: "bin/a.exe", content: program(content), deflate: true}, made{name: "b.dat", content: program("a long tail")},
		made{name: "old.exe", content: "MZ" + strings.Repeat("x", 62)}, made{name: entryManifest, content: manifest(publisher), deflate: true})
}

// unmapped is a package without block map and content types, as archivers make it.
func unmapped(t testing.TB, content string) []byte {
	return pack(t, made{name: "a&b.exe", content: program(content), deflate: len(content) < blockSize/2}, made{name: "noending", content: content}, made{name: "empty.png"},
		made{name: entryManifest, content: manifest(publisher), deflate: true, descriptor: true})
}
