package pe

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode/authenticodetest"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// osslsigncode takes what we sign, with page hashes and without, and we take what it
// signs: programs of Go's linker for each architecture, of others', and images with
// data after the last section, gaps, and sections out of order.
func TestOraclePE(t *testing.T) {
	j := authenticodetest.New(t)
	v := formattest.Judge(t, "pe", j.Version)
	plain := format.Params{"description": "Größe", "url": "https://example.com/"}
	pages := format.Params{"page-hashes": "true", "digest": "sha256"}
	var inputs []authenticodetest.Input
	all := images(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b := all[name]
		im := mustParse(t, b)
		if im.efi() {
			continue // firmware's: see TestOracleEFI
		}
		in := authenticodetest.Input{
			Name: strings.ReplaceAll(name, " ", "-") + ".exe", Data: b, Params: []format.Params{plain}, Foreign: [][]string{nil},
			Tamper: func(b []byte) { b[int(im.end())-1] ^= 1 }, // data after the last section, where there is some
		}
		if _, err := newPager(im); err == nil {
			in.Params = append(in.Params, pages)
			in.Foreign = append(in.Foreign, []string{"-ph", "-n", "Setup"})
		} else if strings.HasPrefix(name, "go ") {
			t.Errorf("%s: no page hashes: %v", name, err)
		}
		inputs = append(inputs, in)
	}
	if len(inputs) < 10 {
		t.Fatalf("%d inputs", len(inputs))
	}
	j.Oracle(t, v, Format{}, inputs)
}

// Data after the last section is signed with the rest: changed, cut or added to, it
// breaks the signature.
func TestDataAfterTheLastSection(t *testing.T) {
	p := newPKI(t)
	r := recipes()["odd overlay"]
	b := r.make()
	im := mustParse(t, b)
	last := 0
	for _, s := range im.spans() {
		last = max(last, int(s.Offset+s.Size))
	}
	if last >= len(b) {
		t.Fatal("there is no data after the last section")
	}
	signed := p.ids["p256"].seal(t, b, nil, nil)
	if _, err := verify(signed, p.trust()); err != nil {
		t.Fatal(err)
	}
	for at := last; at < len(b); at++ {
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		if _, err := verify(bad, p.trust()); err == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
	}
	other := r
	other.overlay = append(bytes.Clone(r.overlay), 'x')
	sum := func(b []byte) []byte { return plan(t, b, nil).Content }
	if bytes.Equal(sum(b), sum(other.make())) {
		t.Error("an added byte does not change the digest")
	}
}

// sbverify takes what we sign for firmware, and we take what sbsign signs.
func TestOracleEFI(t *testing.T) {
	p := newPKI(t)
	out, _ := run(t, "sbverify", "sbsigntool", "--version")
	v := formattest.Judge(t, "efi", strings.TrimSpace(strings.SplitN(out, "\n", 2)[0]))
	v.Note = "sbverify passes over who issued a certificate: that is ours to refuse"
	dir := t.TempDir()
	judge := func(cert string, b []byte) error {
		f := filepath.Join(dir, "signed.efi")
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := run(t, "sbverify", "sbsigntool", "--cert", cert, f)
		if err == nil && !strings.Contains(out, "Signature verification OK") {
			err = errors.New(out)
		}
		return err
	}
	for name, b := range map[string][]byte{
		"made": recipes()["efi"].make(),
		"grub": readFile(t, "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "grub-efi-amd64-bin"),
	} {
		for id, key := range map[string]sigalg.Key{"rsa": sigalg.RSA3072, "rsa384": sigalg.RSA3072, "p256": sigalg.P256, "p384": sigalg.P384} {
			what := fmt.Sprintf("%s %s", name, id)
			signed := p.ids[id].seal(t, b, nil, nil)
			if _, err := verify(signed, p.trust()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			v.Accepts(what, string(key), judge(p.ids[id].cert, signed))
			bad := bytes.Clone(signed)
			bad[len(b)/2] ^= 1
			_, err := verify(bad, p.trust())
			v.Rejects(what+" tampered", err, judge(p.ids[id].cert, bad))
			stranger := p.trust()
			stranger.Roots = emptyPool()
			_, err = verify(signed, stranger)
			v.RejectsAlone(what+" for a stranger", err)
		}
		in, out := filepath.Join(dir, "in.efi"), filepath.Join(dir, "out.efi")
		if err := os.WriteFile(in, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if msg, err := run(t, "sbsign", "sbsigntool", "--key", p.ids["rsa"].pem, "--cert", p.ids["rsa"].cert, "--output", out, in); err != nil {
			t.Fatalf("sbsign: %v\n%s", err, msg)
		}
		theirs := readFile(t, out, "sbsigntool")
		_, err := verify(theirs, p.trustWith("rsa"))
		v.Takes(name, err)
		both := p.ids["rsa384"].seal(t, theirs, nil, nil)
		v.Accepts(name+", ours beside theirs", string(sigalg.RSA3072), judge(p.ids["rsa384"].cert, both))
		v.Accepts(name+", theirs beside ours", string(sigalg.RSA3072), judge(p.ids["rsa"].cert, both))
	}
}

// relic takes what we sign: programs by Go's linker and by Microsoft's.
func TestOraclePEbyRelic(t *testing.T) {
	j := authenticodetest.NewRelic(t)
	v := formattest.Judge(t, "pe", j.Version)
	v.Note = "relic's signatures are not in DER's order: they are not taken"
	var inputs []authenticodetest.Input
	for name, b := range map[string][]byte{
		"go.exe": program(t, "arm64"), "overlay.exe": recipes()["odd overlay"].make(),
		"forms.exe": authenticodetest.Sample(t, "WindowsFormsApplication1.exe"), "library.dll": authenticodetest.Sample(t, "ClassLibrary1.dll"),
	} {
		end := int(mustParse(t, b).end())
		params := []format.Params{{"existing": "replace"}}
		if name == "go.exe" {
			params = append(params, format.Params{"page-hashes": "true"})
		}
		inputs = append(inputs, authenticodetest.Input{Name: name, Data: b, Tamper: func(b []byte) { b[end-1] ^= 1 }, Params: params})
	}
	j.Oracle(t, v, Format{}, inputs)
}
