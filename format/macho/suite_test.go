package macho

import (
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const smallInfo = `<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict><key>CFBundleIdentifier</key><string>com.example.info</string></dict></plist>`

const smallEntitlements = `<plist version="1.0"><dict><key>get-task-allow</key><true/><key>groups</key><array><string>a</string></array></dict></plist>`

// Every promise of package format, for a thin file, one of 32 bits that is signed
// again, and a universal one.
func TestConformance(t *testing.T) {
	p256 := formattest.Identity(t, sigalg.P256)
	thin := recipe{code: 64, pad: 32}
	linked := linkerSigned(seal(t, recipe{narrow: true, cpu: 7, sub: 3, code: 64, pad: 32}.make(), p256, format.Params{"reserve": "4096"}, false))
	two := func(seed byte) []byte {
		return universal(32, 6, recipe{code: 40, pad: 32, seed: seed}.make(), recipe{cpu: arm64, code: 48, pad: 16}.make())
	}
	for _, c := range []struct {
		name string
		c    formattest.Case
	}{
		{"thin", formattest.Case{
			Artifact: thin.make(), Other: recipe{code: 64, pad: 32, seed: 1}.make(), Name: "program", Signer: p256,
			Params:  format.Params{"identifier": "a", "reserve": "4096"},
			Refused: []format.Params{{"digest": "sha1"}, {"flags": "adhoc"}, {"identifier": "a\nb"}, {"entitlements": "<plist><dict><!-- --></dict></plist>"}, {"reserve": "1"}, {"requirements": "AAAA"}, {"info-plist": "00"}},
			// What Attach needs alone: it refuses what does not fit the file.
			Unsigned: []string{"Facts", "Body"},
		}},
		{"linker-signed", formattest.Case{
			Artifact: linked, Other: flipped(linked, 300), Name: "program", Signer: p256,
			Params:   format.Params{"identifier": "com.example.program", "reserve": "4096", "flags": "none"},
			Unsigned: []string{"Facts", "Body"},
		}},
		{"universal", formattest.Case{
			Artifact: two(0), Other: two(1), Name: "program", Signer: p256,
			Params:   format.Params{"identifier": "a", "reserve": "4096", "entitlements": smallEntitlements},
			Unsigned: []string{"Facts", "Body"},
			Open:     func(b []byte, i int) bool { return i == 8+19 || i == 28+19 }, // alignment in the table
		}},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); formattest.Run(t, Format{}, c.c) })
	}
}
