package bench

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// makeAPK writes an Android package for platforms that know scheme v2.
func makeAPK(_ context.Context, path string, in input) error {
	return writeArchive(path, in, "AndroidManifest.xml", string(androidManifest()))
}

// androidManifest is the least manifest in Android's binary XML: name and version of
// the package, platform 24.
func androidManifest() []byte {
	const none = 0xffffffff
	le := binary.LittleEndian
	u32 := func(vs ...uint32) (b []byte) {
		for _, v := range vs {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	chunk := func(typ uint16, head, body []byte) []byte {
		b := le.AppendUint16(le.AppendUint16(nil, typ), uint16(8+len(head)))
		b = le.AppendUint32(b, uint32(8+len(head)+len(body)))
		return append(append(b, head...), body...)
	}
	// The first strings are attributes' names, whose numbers the map holds.
	ids := u32(0x0101020c, 0x0101021b) // minSdkVersion, versionCode
	texts := []string{"minSdkVersion", "versionCode", "manifest", "uses-sdk", "package", "com.example.bench"}
	var offsets, data []byte
	for _, s := range texts {
		offsets = le.AppendUint32(offsets, uint32(len(data)))
		units := utf16.Encode([]rune(s))
		data = le.AppendUint16(data, uint16(len(units)))
		for _, u := range units {
			data = le.AppendUint16(data, u)
		}
		data = append(data, 0, 0)
	}
	data = append(data, make([]byte, -len(data)&3)...)
	n := uint32(len(texts))
	body := chunk(0x0001, u32(n, 0, 0, 28+4*n, 0), append(offsets, data...))
	body = append(body, chunk(0x0180, nil, ids)...)
	start := func(name uint32, attributes ...[]byte) {
		b := u32(none, name, 20|20<<16, uint32(len(attributes)), 0)
		body = append(body, chunk(0x0102, u32(1, none), append(b, bytes.Join(attributes, nil)...))...)
	}
	end := func(name uint32) { body = append(body, chunk(0x0103, u32(1, none), u32(none, name))...) }
	number := func(name, value uint32) []byte { return u32(none, name, none, 8|0x10<<24, value) }
	start(2, u32(none, 4, 5, 8|0x03<<24, 5), number(1, 1))
	start(3, number(0, 24))
	end(3)
	end(2)
	return chunk(0x0003, nil, body)
}

// makeNuGet writes a package of NuGet.
func makeNuGet(_ context.Context, path string, in input) error {
	return writeArchive(path, in, "Bench.nuspec", `<?xml version="1.0" encoding="utf-8"?><package><metadata><id>Bench</id><version>1.0.0</version><authors>Bench</authors></metadata></package>`)
}

// appBlock is what one hash of an app package's block map is over.
const appBlock = 64 << 10

// makeApp writes an app package as the Windows SDK does: blocks of 64 KiB deflated
// on their own, block map and content types behind them.
func makeApp(_ context.Context, path string, in input) error {
	return create(path, func(w *bufio.Writer) error {
		z := zip.NewWriter(w)
		var blocks bytes.Buffer
		blocks.WriteString(`<?xml version="1.0" encoding="UTF-8" standalone="no"?><BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" HashMethod="http://www.w3.org/2001/04/xmlenc#sha256">`)
		var packed bytes.Buffer
		deflate, err := flate.NewWriter(&packed, flate.BestSpeed)
		if err != nil {
			return err
		}
		add := func(name, inMap string, content []byte) error {
			if inMap != "" {
				fmt.Fprintf(&blocks, `<File Name="%s" Size="%d" LfhSize="%d">`, inMap, len(content), 30+len(name))
			}
			packed.Reset()
			deflate.Reset(&packed)
			for at := 0; at < len(content); at += appBlock {
				b := content[at:min(at+appBlock, len(content))]
				before := packed.Len()
				if _, err := deflate.Write(b); err != nil {
					return err
				}
				if err := deflate.Flush(); err != nil {
					return err
				}
				if inMap != "" {
					sum := sha256.Sum256(b)
					fmt.Fprintf(&blocks, `<Block Hash="%s" Size="%d"/>`, base64.StdEncoding.EncodeToString(sum[:]), packed.Len()-before)
				}
			}
			if err := deflate.Close(); err != nil {
				return err
			}
			if inMap != "" {
				blocks.WriteString(`</File>`)
			}
			e, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content), CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(content))})
			if err != nil {
				return err
			}
			_, err = e.Write(packed.Bytes())
			return err
		}
		random := noise()
		content := make([]byte, in.bytes/int64(in.entries))
		for i := range in.entries {
			if _, err := io.ReadFull(random, content[:len(content)/2]); err != nil {
				return err
			}
			if err := add(fmt.Sprintf("assets/part%d/file%d.bin", i/1000, i), fmt.Sprintf(`assets\part%d\file%d.bin`, i/1000, i), content); err != nil {
				return err
			}
		}
		const manifest = `<?xml version="1.0" encoding="utf-8"?><Package xmlns="http://schemas.microsoft.com/appx/manifest/foundation/windows10">` +
			`<Identity Name="Bench.App" Publisher="CN=Bench Signer" Version="1.0.0.0" ProcessorArchitecture="x64"/><Properties><DisplayName>Bench</DisplayName></Properties></Package>`
		if err := add("AppxManifest.xml", "AppxManifest.xml", []byte(manifest)); err != nil {
			return err
		}
		blocks.WriteString(`</BlockMap>`)
		if err := add("AppxBlockMap.xml", "", bytes.Clone(blocks.Bytes())); err != nil {
			return err
		}
		const types = `<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="bin" ContentType="application/octet-stream"/>` +
			`<Default Extension="xml" ContentType="application/vnd.ms-appx.manifest+xml"/><Override PartName="/AppxBlockMap.xml" ContentType="application/vnd.ms-appx.blockmap+xml"/></Types>`
		if err := add("[Content_Types].xml", "", []byte(types)); err != nil {
			return err
		}
		return z.Close()
	})
}
