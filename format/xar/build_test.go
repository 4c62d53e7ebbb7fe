package xar

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"flag"
	"fmt"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

var update = flag.Bool("update", false, "write golden files")

// entry is a file of a small package.
type entry struct{ name, content, style string }

// pack makes a package as others do: compressed table, digest, data.
func pack(h crypto.Hash, entries ...entry) []byte {
	return packXML(h, func(base int64) string {
		var b bytes.Buffer
		number := map[crypto.Hash]string{crypto.SHA1: "sha1", crypto.SHA256: "sha256"}[h]
		fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xar>\n <toc>\n  <creation-time>2026-01-01T00:00:00</creation-time>\n  <checksum style=%q>\n   <offset>0</offset>\n   <size>%d</size>\n  </checksum>\n", number, h.Size())
		for i, e := range entries {
			f, _ := fileHash(e.style)
			fmt.Fprintf(&b, "  <file id=\"%d\">\n   <data>\n    <length>%d</length>\n    <offset>%d</offset>\n    <size>%d</size>\n    <encoding style=\"application/octet-stream\"/>\n    <archived-checksum style=%q>%x</archived-checksum>\n   </data>\n   <type>file</type>\n   <name>%s</name>\n  </file>\n",
				i+1, len(e.content), base, len(e.content), e.style, digest(f, []byte(e.content)), e.name)
			base += int64(len(e.content))
		}
		b.WriteString(" </toc>\n</xar>\n")
		return b.String()
	}, entries...)
}

func packXML(h crypto.Hash, xml func(base int64) string, entries ...entry) []byte {
	text := xml(int64(h.Size()))
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write([]byte(text))
	w.Close()
	number := uint32(hashSHA1)
	if h != crypto.SHA1 {
		number = hashNumber(h)
	}
	out := append(header(z.Bytes(), len(text), number), digest(h, z.Bytes())...)
	for _, e := range entries {
		out = append(out, e.content...)
	}
	return out
}

func small(seed string) []byte {
	return pack(crypto.SHA1, entry{"Bom", "bom " + seed, "sha1"}, entry{"Payload", "payload", "sha256"})
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("a.pkg", b) }

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

func flipped(b []byte, at int64) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}
