package pe

import (
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Every promise of package format, for an image without and with page hashes,
// and for one that is signed already.
func TestConformance(t *testing.T) {
	small := func(n int) []byte { return recipe{plus: true, sections: []raw{text(512, n)}}.make() }
	other := small(100)
	other[520] ^= 1
	first := newPKI(t).ids["p256"].seal(t, recipe{sections: []raw{text(512, 8)}}.make(), nil, nil)
	second := append([]byte(nil), first...)
	second[515] ^= 1
	refused := []format.Params{{"url": "ftp://example.com"}, {"description": "a\nb"}, {"page-hashes": "yes"}, {"digest": "sha1"}}
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"plain", formattest.Case{
			Artifact: small(100), Other: other, Name: "a.exe", Refused: refused, Signer: formattest.Identity(t, sigalg.P256),
			// What Attach needs alone, and what people see of names and versions (here
			// there are none), are in the plan, which is endorsed, and not in the message.
			Unsigned: []string{"Facts", "Body"},
		}},
		{"pages", formattest.Case{
			Artifact: small(100), Other: other, Name: "a.sys", Signer: formattest.Identity(t, sigalg.RSA3072),
			Params:   format.Params{"page-hashes": "true", "description": "Driver", "url": "https://example.com/"},
			Unsigned: []string{"Facts", "Body"},
		}},
		{"replaced", formattest.Case{
			Artifact: first, Other: second, Name: "b.dll", Signer: formattest.Identity(t, sigalg.P384),
			Params: format.Params{"existing": "replace", "digest": "sha384"}, Unsigned: []string{"Facts", "Body"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var f format.Format = Format{}
			if c.name == "replaced" {
				f = struct{ format.Format }{f} // the suite takes off and extracts from files that were unsigned
			}
			formattest.Run(t, f, c.c)
		})
	}
}
