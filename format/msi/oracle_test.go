package msi

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/cfb"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
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

// Another reader of compound files and installer databases finds every stream of a
// signed package by its name, in the tree that signing planted anew.
func TestOtherReadersOfSignedPackages(t *testing.T) {
	prog := formattest.Program(t, "msiinfo", "apt-get install msitools")
	s := formattest.Identity(t, sigalg.RSA3072)
	say := func(b []byte, args ...string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "a.msi")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := formattest.RunJudge(t, prog, append([]string{args[0], path}, args[1:]...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, n := range []int{30_000, 9 << 20} {
		b := wixl(t, n)
		signed := seal(t, b, s, nil)
		for _, args := range [][]string{{"tables"}, {"export", "Property"}, {"export", "File"}, {"suminfo"}} {
			if before, after := say(b, args...), say(signed, args...); before != after || len(after) < 20 {
				t.Errorf("%v: %q became %q", args, before, after)
			}
		}
		if got := say(signed, "streams"); !strings.Contains(got, "DigitalSignature") || !strings.Contains(got, "Sample.cab") {
			t.Errorf("streams: %q", got)
		}
		if got := say(signed, "extract", "Sample.cab"); !strings.HasPrefix(got, "MSCF") || len(got) < n {
			t.Errorf("%d bytes of %d", len(got), n)
		}
	}
}

// relic takes what we sign, with MsiDigitalSignatureEx and without: packages by wixl
// and by Microsoft's tools.
func TestOracleMSIbyRelic(t *testing.T) {
	j := authenticodetest.NewRelic(t)
	v := formattest.Judge(t, "msi", j.Version)
	v.Note = "relic's signatures are not in DER's order: they are not taken"
	options := []format.Params{nil, {"extended": "false"}}
	theirs := authenticodetest.Sample(t, "dummy.msi")
	inputs := []authenticodetest.Input{{Name: "b.msi", Data: wixl(t, 9<<20), At: []byte("MSCF"), Params: options}}
	c, err := cfb.Open(bytes.NewReader(theirs), int64(len(theirs)))
	if err != nil {
		t.Fatal(err)
	}
	at := int(c.Extents(c.Entry(0).Children[0])[0][0])
	inputs = append(inputs, authenticodetest.Input{Name: "dummy.msi", Data: theirs, Tamper: func(b []byte) { b[at+4] ^= 1 }, Params: options})
	j.Oracle(t, v, Format{}, inputs)
}
