package rauc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What a manifest says of its images is told; plans from before details are signed
// alike, and plans with other details not at all.
func TestDetails(t *testing.T) {
	more := strings.TrimSuffix(text, "\n") + "\n[image.boot]\nfilename=boot.img\nsha256=" + strings.Repeat("ab", 32) + "\nsize=4096\nadaptive=block-hash-index\n[meta.release]\nnotes=first\n"
	a := artifact(squash("content", 8192))
	p, err := New().Plan(t.Context(), a, format.Params{"manifest": option(more), "signing-time": "false"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []format.Fact{{Name: "image-option", Value: "boot: size=4096, adaptive=block-hash-index"}, {Name: "meta", Value: "release notes=first"}} {
		if !slices.Contains(p.Facts, want) {
			t.Errorf("%v: want %v", p.Facts, want)
		}
	}
	m, err := parseManifest([]byte(more))
	if err != nil {
		t.Fatal(err)
	}
	bare := slices.Clone(p.Facts[:len(p.Facts)-len(m.details(0))])
	formattest.Details(t, New(), p, sigalg.P256, map[string][]format.Fact{"a plan without details": bare},
		single.ErrPlan, map[string][]format.Fact{"other details": append(slices.Clone(bare), format.Fact{Name: "meta", Value: "release notes=second"})})
}

// However much a manifest says, details stay few and can be shown.
func TestHostileDetails(t *testing.T) {
	m := "[update]\ncompatible=x\n[bundle]\n" + lines("k%d="+strings.Repeat("ä", 100)+"\n", 60)
	for i := range 60 {
		m += fmt.Sprintf("[image.i%d]\nsize=%s\n[meta.m%d]\na=%s\n", i, strings.Repeat("1", 100), i, strings.Repeat("x", 200))
	}
	got, err := parseManifest([]byte(m))
	if err != nil {
		t.Fatal(err)
	}
	total, facts := 0, got.all()
	for _, f := range facts[len(got.facts()):] {
		total += len(f.Name) + len(f.Value)
	}
	if len(facts) > format.MaxFacts || total > 10<<10 || facts[len(facts)-1].Name == "" || !slices.ContainsFunc(facts, func(f format.Fact) bool { return f.Name == "meta-list" || f.Name == format.FactUnsaid }) {
		t.Errorf("%d facts, details of %d bytes: %v", len(facts), total, facts)
	}
}
