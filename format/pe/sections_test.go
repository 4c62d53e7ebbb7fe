package pe

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// What EFI images made by others say of themselves: SBAT's entries, and of a unified
// kernel image system and command line.
func TestSectionFacts(t *testing.T) {
	grub := readFile(t, "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "grub-efi-amd64-bin")
	p, err := (Format{}).Plan(context.Background(), file(grub), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range p.Facts {
		if f.Name == "sbat" {
			got = append(got, f.Value)
		}
	}
	if len(got) < 2 || !strings.HasPrefix(got[0], "sbat,1,SBAT Version,") || !strings.HasPrefix(got[1], "grub,") {
		t.Errorf("facts %v", p.Facts)
	}

	// Any other section under the name of one that is there: which one counts?
	im := mustParse(t, grub)
	at := bytes.Index(im.head, []byte(".data\x00\x00\x00"))
	if at < 0 {
		t.Fatal("grub has no section .data")
	}
	twice := bytes.Clone(grub)
	copy(twice[at:], ".sbat\x00\x00\x00")
	if _, err := (Format{}).Plan(context.Background(), file(twice), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("two sections .sbat: %v", err)
	}
	copy(twice[at:], ".sbat\x00x\x00")
	if _, err := (Format{}).Plan(context.Background(), file(twice), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a section .sbat to loaders that stop at a zero: %v", err)
	}
	broken := bytes.Replace(grub, []byte("sbat,1,SBAT Version,"), []byte("sbat,x,SBAT Version,"), 1)
	if _, err := (Format{}).Plan(context.Background(), file(broken), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a broken .sbat: %v", err)
	}
	if r, err := (Format{}).Inspect(context.Background(), file(broken)); err != nil || !slices.ContainsFunc(r.Facts, func(f format.Fact) bool { return f.Name == "sections" }) {
		t.Errorf("a broken .sbat: %+v, %v", r, err)
	}
	// Its name alone changes: the section is another one, and nothing is said.
	named := bytes.Replace(grub, []byte(".sbat\x00\x00\x00"), []byte(".cmdline"), 1)
	if p, err := (Format{}).Plan(context.Background(), file(named), nil); err != nil || p.Facts[3].Name != "kernel-command-line" || !strings.HasPrefix(p.Facts[3].Value, "sbat,1,") {
		t.Errorf("command line: %v, %v", p, err)
	}
}

func TestSBAT(t *testing.T) {
	const good = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	if l, err := parseSBAT([]byte(good + "app,2,Us,app,1.0,https://example.com")); err != nil || len(l) != 2 {
		t.Errorf("%v, %v", l, err)
	}
	for name, s := range map[string]string{
		"empty": "", "another entry first": "app,1,a,b,c,d\n", "five fields": good + "app,1,a,b,c\n", "no component": good + ",1,a,b,c,d\n",
		"generation 0": good + "app,0,a,b,c,d\n", "generation 01": good + "app,01,a,b,c,d\n", "generation -1": good + "app,-1,a,b,c,d\n", "generation too large": good + "app,4294967296,a,b,c,d\n",
		"control character": good + "app,1,a\x1b,b,c,d\n", "empty line": good + "\n" + good, "too many": strings.Repeat(good, maxSBAT+1),
	} {
		if _, err := parseSBAT([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A plan may not tell of sections in another form, order or for another kind of
// image than Plan does.
func TestSectionFactsInPlans(t *testing.T) {
	fact := func(n, v string) format.Fact { return format.Fact{Name: n, Value: v} }
	good := []format.Fact{fact("os-release", "Debian"), fact("kernel-command-line", "quiet"), fact("sbat", "a"), fact("sbat", "b"), fact("signatures", "0")}
	if rest, why := checkSectionFacts(good, true); why != "" || len(rest) != 1 {
		t.Errorf("%v %s", rest, why)
	}
	if rest, _ := checkSectionFacts(good, false); len(rest) != len(good) {
		t.Error("sections of a program that is no EFI image are told")
	}
	for name, facts := range map[string][]format.Fact{
		"twice": {fact("kernel-command-line", "a"), fact("kernel-command-line", "b")}, "empty": {fact("sbat", "")}, "blank": {fact("sbat", " a")},
		"too long": {fact("sbat", strings.Repeat("a", maxSectionText+1))},
	} {
		if _, why := checkSectionFacts(facts, true); why == "" {
			t.Errorf("%s: accepted", name)
		}
	}
	if rest, why := checkSectionFacts([]format.Fact{fact("sbat", "a"), fact("os-release", "b")}, true); why == "" && len(rest) != 1 {
		t.Error("another order is accepted")
	}
}
