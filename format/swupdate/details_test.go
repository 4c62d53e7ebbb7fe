package swupdate

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What each file is for is told; plans from before details are signed alike, and plans
// with other details not at all.
func TestDetails(t *testing.T) {
	rootfs, script := file{"rootfs.img", "x"}, file{"after.sh", "#!/bin/sh\n"}
	text := strings.Replace(describe(rootfs), " );\n}", fmt.Sprintf(" );\n scripts: ( { filename = \"after.sh\"; type = \"shellscript\"; data = \"a\u202eb\"; sha256 = \"%x\"; } );\n}", sum256(script.data)), 1)
	b := archive(true, file{descriptionName, text}, rootfs, script)
	p, err := New().Plan(t.Context(), artifact(b), raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []format.Fact{{Name: "script", Value: "after.sh: type=shellscript, data=a?b"}, {Name: "image", Value: "rootfs.img: device=/dev/null"}} {
		if !slices.Contains(p.Facts, want) {
			t.Errorf("%v: want %v", p.Facts, want)
		}
	}
	d, err := parseDescription([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	formattest.Details(t, New(), p, sigalg.RSA3072, map[string][]format.Fact{"a plan without details": d.facts()},
		single.ErrPlan, map[string][]format.Fact{"other details": append(d.facts(), format.Fact{Name: "script", Value: "harmless.sh"})})
}

func sum256(s string) []byte { return digest(crypto.SHA256, []byte(s)) }

// However many files there are, and whatever they are called, details stay few and can
// be shown.
func TestHostileDetails(t *testing.T) {
	var files []file
	for i := range 300 {
		files = append(files, file{fmt.Sprintf("f%03d", i), "x"})
	}
	text := strings.ReplaceAll(describe(files...), "/dev/null", strings.Repeat("\u202e\x1b\u2028ä\xff", 30))
	d, err := parseDescription([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	facts := d.all()
	details, total := facts[len(d.facts()):], 0
	for _, f := range facts {
		if strings.ContainsFunc(f.Value, format.Turns) {
			t.Errorf("%s: %q", f.Name, f.Value)
		}
	}
	for _, f := range details {
		total += len(f.Name) + len(f.Value)
	}
	if len(facts) > format.MaxFacts || total > 10<<10 {
		t.Errorf("%d facts, %d details of %d bytes", len(facts), len(details), total)
	}
}
