package jar

import (
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// openByte says which bytes of an archive no JAR signature covers: in local headers
// the version, time and extra fields, in directory records attributes too.
func openByte(signed []byte, offset int) bool {
	z, err := zipfile.Open(format.BytesArtifact("a", signed), zipfile.Options{})
	if err != nil {
		return false
	}
	for i := range z.Entries {
		at := offset - int(z.Entries[i].Offset)
		if at >= 4 && at < 14 && at != 8 && at != 9 && at != 7 {
			return true
		}
	}
	le := func(b []byte, i int) int { return int(b[i]) | int(b[i+1])<<8 }
	for at := int(z.Directory); at+46 <= int(z.Directory)+len(z.RawDirectory()); {
		k := offset - at
		// Versions, level of compression, time; internal and external attributes.
		if k >= 4 && k < 16 && k != 9 && k != 10 && k != 11 || k >= 36 && k < 42 {
			return true
		}
		at += 46 + le(signed, at+28) + le(signed, at+30) + le(signed, at+32)
	}
	return false
}

func TestConformance(t *testing.T) {
	plain := build(t, "META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMain-Class: p.A\r\n\r\n", "p/A.class", "code", "p/", "", "b", "text")
	other := build(t, "META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMain-Class: p.A\r\n\r\n", "p/A.class", "cod3", "p/", "", "b", "text")
	none := build(t, "a", "1")
	others := build(t, "a", "2")
	first := seal(t, formattest.Identity(t, sigalg.P256), plain, format.Params{"name": "FIRST"})
	firstOther := seal(t, formattest.Identity(t, sigalg.P256), other, format.Params{"name": "FIRST"})
	refused := []format.Params{{"digest": "sha1"}, {"name": "lower"}, {"name": "TOOLONGNAME"}, {"name": "A/B"}, {"name": "SIG-A"}, {"existing": "drop"}}
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"plain", formattest.Case{Artifact: plain, Other: other, Signer: formattest.Identity(t, sigalg.P256), Refused: refused}},
		{"no manifest", formattest.Case{Artifact: none, Other: others, Signer: formattest.Identity(t, sigalg.Ed25519), Params: format.Params{"digest": "sha512", "name": "ACME_1"}}},
		{"replaced", formattest.Case{Artifact: first, Other: firstOther, Signer: formattest.Identity(t, sigalg.RSA3072), Params: format.Params{"existing": "replace"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.c.Name, c.c.Open = "a.jar", openByte
			// What is taken out, and the directory's digest, are compared with the archive by
			// Attach; the file's name shows in the archive. No message has them, nor the
			// size, nor what the directory says.
			c.c.Unsigned = []string{"Size", "Facts", "Body"}
			var f format.Format = Format{}
			if c.name == "replaced" { // its artifact has a signature, which can be had and taken off
				f = struct{ format.Format }{f}
			}
			formattest.Run(t, f, c.c)
		})
	}
}
