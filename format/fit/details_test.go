package fit

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

// Where images go is told; plans from before details are signed alike, and plans with
// other details not at all.
func TestDetails(t *testing.T) {
	b := small("kernel", func(root *nd) {
		root.props = append(root.props, pr{"timestamp", []byte{0x60, 0, 0, 0}})
		i := &root.children[0].children[0]
		i.props = append(i.props, pr{"load", []byte{0x80, 0x08, 0, 0}}, pr{"entry", []byte{0, 0, 0, 1, 0, 0, 0, 0}})
		i.children = append(i.children, digestNode("hash-2", "crc32", []byte{0xa4, 0xb6, 0x36, 0x1b}))
	})
	t.Run("facts", func(t *testing.T) {
		r, err := New().Inspect(t.Context(), artifact(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []format.Fact{
			{Name: "built", Value: "2021-01-14T08:25:36Z"}, {Name: "load-address", Value: "k: load 0x80080000, entry 0x100000000"}, {Name: "weak-digest", Value: "k: crc32"},
		} {
			if !slices.Contains(r.Facts, want) {
				t.Errorf("%v: want %v", r.Facts, want)
			}
		}
	})
	b = small("kernel", func(root *nd) {
		i := &root.children[0].children[0]
		i.props = append(i.props, pr{"load", []byte{0x80, 0x08, 0, 0}})
	})
	p, err := New().Plan(t.Context(), artifact(b), format.Params{"key-name": "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(p.Facts, format.Fact{Name: "key-name", Value: "c: dev"}) {
		t.Errorf("%v", p.Facts)
	}
	tree, err := open(artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	formattest.Details(t, New(), p, sigalg.RSA3072, map[string][]format.Fact{"a plan without details": tree.facts()},
		single.ErrPlan, map[string][]format.Fact{"other details": append(tree.facts(), format.Fact{Name: "load-address", Value: "k: load 0x0"})})
}

// However many images there are, and whatever their properties hold, details stay few
// and can be shown.
func TestHostileDetails(t *testing.T) {
	images := nd{name: "images"}
	configs := nd{name: "configurations"}
	for i := range 250 {
		im := image(fmt.Sprintf("k%d", i), "x")
		im.props = append(im.props, pr{"load", []byte(strings.Repeat("\x1b\u202e", 100))}, pr{"entry", nil})
		im.children = append(im.children, nd{name: "cipher", props: []pr{str("algo", "\u202eaes\x1b"+strings.Repeat("ä", 500)), str("key-name-hint", "\xff\n")}})
		images.children = append(images.children, im)
		configs.children = append(configs.children, nd{name: fmt.Sprintf("c%d", i), props: []pr{str("kernel", im.name)}})
	}
	r, err := New().Inspect(t.Context(), artifact(build(nd{children: []nd{images, configs}})))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Facts {
		if strings.ContainsFunc(f.Value, format.Turns) || len(f.Value) > format.MaxText {
			t.Errorf("%s: %q", f.Name, f.Value)
		}
	}
	if len(r.Facts) > format.MaxFacts {
		t.Errorf("%d facts", len(r.Facts))
	}
}
