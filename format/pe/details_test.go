package pe

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func valuesOf(facts []format.Fact, name string) (out []string) {
	for _, f := range facts {
		if f.Name == name {
			out = append(out, f.Value)
		}
	}
	return out
}

// What real images import, hold and are built with.
func TestDetails(t *testing.T) {
	golang := plan(t, program(t, "amd64"), nil)
	if got := valuesOf(golang.Facts, "import"); !slices.Contains(got, "kernel32.dll") {
		t.Errorf("a Go program imports %v", got)
	}
	if got := valuesOf(golang.Facts, "hardening"); !slices.Contains(got, "DEP") || !slices.Contains(got, "ASLR") {
		t.Errorf("a Go program has %v", got)
	}
	if got := valuesOf(golang.Facts, "lacks"); !slices.Contains(got, "CFG") {
		t.Errorf("a Go program lacks %v", got)
	}
	plugin := plan(t, readFile(t, "/usr/share/nsis/Plugins/amd64-unicode/System.dll", "nsis-common"), nil)
	if got := valuesOf(plugin.Facts, "exported-name"); !slices.Equal(got, []string{"System.dll"}) {
		t.Errorf("a plugin is called %v", got)
	}
	if got := valuesOf(plugin.Facts, "functions"); len(got) != 1 || !strings.Contains(got[0], ", sha256 ") {
		t.Errorf("a plugin uses %v", got)
	}
	version := plan(t, withVersion("FileVersion", "1.2").make(), nil)
	if got := valuesOf(version.Facts, "resource"); !slices.Equal(got, []string{"version: 1"}) {
		t.Errorf("resources %v", got)
	}
	over := recipe{plus: true, sections: []raw{text(512, 512)}, overlay: []byte("behind it")}
	if got := valuesOf(plan(t, over.make(), nil).Facts, "overlay"); len(got) != 1 || !strings.HasPrefix(got[0], "9 bytes") {
		t.Errorf("overlay %v", got)
	}
}

// Details change no byte of what is signed;
// plans from before there were any stay good.
func TestDetailsAreNotSigned(t *testing.T) {
	for name, b := range map[string][]byte{"program": program(t, "amd64"), "version": withVersion("FileVersion", "1.2").make(), "plain": recipe{plus: true, sections: []raw{text(512, 512)}}.make()} {
		p := plan(t, b, nil)
		bare := own(t, p)
		if len(bare) == len(p.Facts) {
			t.Fatalf("%s has no details", name)
		}
		formattest.Details(t, Format{}, p, sigalg.P256, map[string][]format.Fact{
			name + " without": bare, name + " with others": append(bare, format.Fact{Name: "import", Value: "nothing.dll"}),
		}, nil, nil)
	}
}

// Tables that lead everywhere, into themselves and without end, cost little and still
// give a plan with few facts.
func TestHostileDetails(t *testing.T) {
	good := program(t, "amd64")
	im, err := parseImage(file(good))
	if err != nil {
		t.Fatal(err)
	}
	at := int(im.directoryAt) - 4*8
	for _, dir := range []int{dirExport, dirImport, dirResource, dirLoadConfig, dirDelayImport, dirCLR} {
		for _, s := range im.sections {
			for _, off := range []uint32{0, 4095, s.size - 8} {
				b := bytes.Clone(good)
				copy(b[at+8*dir:], le(4, int(s.rva+off)))
				copy(b[at+8*dir+4:], le(4, 1<<31-1))
				p, err := (Format{}).Plan(context.Background(), file(b), nil)
				if err != nil {
					t.Fatal(err)
				}
				if enc, err := p.Encode(); err != nil || len(enc) > 16<<10 {
					t.Errorf("directory %d at %#x: %d bytes, %v", dir, s.rva+off, len(enc), err)
				}
			}
		}
	}
	// A descriptor whose thunks are the descriptors, for ever.
	b := recipe{plus: true, sections: []raw{{offset: 512, size: 4096, rva: 0x1000, data: bytes.Repeat(le(4, 0x1004), 1024)}}}.make()
	im, err = parseImage(file(b))
	if err != nil {
		t.Fatal(err)
	}
	copy(b[int(im.directoryAt)-4*8+8*dirImport:], le(4, 0x1000))
	p, err := (Format{}).Plan(context.Background(), file(b), nil)
	if err != nil || len(p.Facts) > 64 {
		t.Errorf("%v, %v", p, err)
	}
}
