package msi

import (
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/cfb"
	"github.com/greatseal-io/greatseal/format/formattest"
)

// osslsigncode takes what we sign: packages by wixl, small and with a table beyond
// the header's, and a patch with a storage and sectors of 4 096 bytes; and we take
// what it signs, with MsiDigitalSignatureEx and without.
func TestOracleMSI(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, "msi", j.Version)
	options := []format.Params{nil, {"extended": "false", "description": "Größe", "url": "https://example.com/"}}
	theirs := [][]string{nil, {"-add-msi-dse", "-n", "Setup"}}
	patch := pack(t, 0x86, 4096, cfb.Change{Name: "Sub", Data: []byte{}}, cfb.Change{Name: "x", Data: []byte{}}, cfb.Change{Name: "mini", Data: sequence(70, 1)})
	patch = change(t, nest(t, patch, "Sub", "x"), cfb.Change{Name: "big", Data: sequence(4100, 1)})
	j.Oracle(t, v, Format{}, []authenticodetest.Input{
		{Name: "a.msi", Data: wixl(t, 30_000), At: []byte("MSCF"), Params: options, Foreign: theirs},
		{Name: "b.msi", Data: wixl(t, 9<<20), At: []byte("MSCF"), Params: options, Foreign: theirs},
		{Name: "c.msp", Data: patch, At: sequence(70, 1), Params: options, Foreign: theirs[:1]},
	})
}
