package appx

import (
	"crypto"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// openByte says what nobody signs: of the signature's own entry the version, time and
// attributes, in the local header and in the directory.
func openByte(signed []byte, offset int) bool {
	z, err := zipfile.Open(format.BytesArtifact("a", signed), zipfile.Options{})
	if err != nil {
		return false
	}
	last := len(z.Entries) - 1
	if at := offset - int(z.Entries[last].Offset); at >= 4 && at < 14 && (at < 7 || at > 9) {
		return true
	}
	record := int(z.Directory) + len(z.RawDirectory()) - 46 - len(entrySignature)
	at := offset - record
	return at >= 4 && at < 16 && (at < 9 || at > 11) || at >= 36 && at < 42
}

func TestConformance(t *testing.T) {
	plain := func(content string) []byte {
		return build(t, crypto.SHA512, typed, made{name: "a", content: content}, made{name: entryManifest, content: manifest(publisher), deflate: true})
	}
	first := signer(t, sigalg.P256)
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"package", formattest.Case{Artifact: app(t, "one"), Other: app(t, "two"), Params: format.Params{"description": "App"},
			Refused: []format.Params{{"digest": "sha512"}, {"digest": "md5"}, {"url": "ftp://x"}, {"existing": "drop"}}, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"SHA-512, named already", formattest.Case{Artifact: plain("one"), Other: plain("two"), Params: format.Params{"digest": "sha512"}, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"as Windows packs", formattest.Case{Artifact: wide(t, plain("one")), Other: wide(t, plain("two")), Params: format.Params{"digest": "sha512"}, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"bundle", formattest.Case{Artifact: bundle(t, []byte("one"), 0), Other: bundle(t, []byte("two"), 0), Unsigned: []string{"Size", "Facts", "Body"}}},
		{"programs", formattest.Case{Artifact: withCode(t, "one"), Other: withCode(t, "two"), Params: format.Params{"description": "App"}, Refused: []format.Params{{"code-integrity": "x"}}, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"programs, as Windows packs", formattest.Case{Artifact: wide(t, withCode(t, "one")), Other: wide(t, withCode(t, "two")), Unsigned: []string{"Size", "Facts", "Body"}}},
		{"rebuilt", formattest.Case{Artifact: unmapped(t, "one"), Other: unmapped(t, "two"), Params: format.Params{"block-map": "rebuild"}, Refused: []format.Params{{}, {"block-map": "keep"}}, Unsigned: []string{"Size", "Facts", "Body"}}},
		{"replaced", formattest.Case{Artifact: seal(t, first, app(t, "one"), nil), Other: seal(t, first, app(t, "two"), nil), Params: format.Params{"existing": "replace"}, Unsigned: []string{"Size", "Facts", "Body"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.c.Name, c.c.Open, c.c.Signer = "a.msix", openByte, signer(t, sigalg.P256)
			var f format.Format = Format{}
			if c.name == "replaced" { // its artifact has a signature, which can be had and taken off
				f = struct{ format.Format }{f}
			}
			formattest.Run(t, f, c.c)
		})
	}
}
