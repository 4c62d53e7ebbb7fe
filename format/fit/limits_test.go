package fit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

// counted counts the bytes that are read.
type counted struct {
	format.Artifact
	n int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	c.n += len(b)
	return c.Artifact.ReadAt(b, off)
}

// A name costs no more than a name may have: the keeper reads trees too.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("a", 500<<10)
	// Every suffix of one long string is the name of a property.
	suffixes := func(root *nd) {
		k := &root.children[0].children[0]
		k.props = append(k.props, str(long, "x"))
	}
	for name, b := range map[string][]byte{
		"node":     small("kernel", func(root *nd) { root.children[0].children[0].name = long }),
		"property": small("kernel", suffixes),
	} {
		c := &counted{Artifact: artifact(b)}
		h, err := parseHeader(c)
		if err != nil {
			t.Fatal(err)
		}
		strs := make([]byte, h.stringsSize)
		if err := format.ReadFull(c, strs, h.strings); err != nil {
			t.Fatal(err)
		}
		c.n = 0
		if _, err := parseTree(c, reserveEnd, h.structSize, strs); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("%s: %v", name, err)
		}
		if c.n > 4*windowSize {
			t.Errorf("%s: %d bytes were read of a name that is refused", name, c.n)
		}
	}
	ok := small("kernel", func(root *nd) {
		k := &root.children[0].children[0]
		k.props = append(k.props, str(long[:maxName], "x"))
	})
	if _, err := open(artifact(ok)); err != nil {
		t.Error(err)
	}
}

// Facts that are too many say how many there are more.
func TestManyImages(t *testing.T) {
	b := small("kernel", func(root *nd) {
		for i := range 130 {
			n := fmt.Sprintf("k%d", i)
			root.children[0].children = append(root.children[0].children, image(n, "other"))
			root.children[1].children = append(root.children[1].children, nd{name: "c" + n, props: []pr{str("kernel", n)}})
		}
	})
	p, err := New().Plan(t.Context(), artifact(b), dev)
	if err != nil {
		t.Fatal(err)
	}
	// description, default, 131 configurations, 131 images
	if n := len(p.Facts); n != format.MaxFacts || p.Facts[n-1] != (format.Fact{Name: "more", Value: "9 configurations and images"}) {
		t.Errorf("%d facts, at last %v", n, p.Facts[n-1])
	}
}
