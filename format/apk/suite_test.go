package apk

import (
	"bytes"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func TestConformance(t *testing.T) {
	refused := []format.Params{{"digest": "sha384"}, {"min-sdk": "0"}, {"min-sdk": "x"}, {"min-sdk": "024"}, {"min-sdk": "17"}, {"v1-name": "lower"}, {"lineage": "AAAA"}, {"lineage": "?"}, {"rotation-min-sdk": "27"}, {"existing": "keep"}}
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"v2 and v3", formattest.Case{Artifact: build(t, modern), Other: build(t, modern, "b", "1"), Signer: formattest.Identity(t, sigalg.P256), Refused: refused}},
		{"v1, v2 and v3", formattest.Case{Artifact: build(t, old), Other: build(t, old, "b", "1"), Signer: formattest.Identity(t, sigalg.P256)}},
		{"SHA-512", formattest.Case{Artifact: build(t, modern), Other: build(t, modern, "b", "1"), Signer: formattest.Identity(t, sigalg.P384).With(sigalg.ECDSASHA512), Params: format.Params{"digest": "sha512"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.c.Name = "a.apk"
			// No message has what the manifest says, what is taken out, or the size.
			c.c.Unsigned = []string{"Size", "Params", "Facts", "Body"}
			// Without scheme v2 the package is one for Android 9 and later: older ones refuse it.
			c.c.Open = func(signed []byte, offset int) bool {
				at := bytes.Index(signed, le.AppendUint32(nil, idV2))
				return offset >= at && offset < at+4
			}
			formattest.Run(t, Format{}, c.c)
		})
	}
}
