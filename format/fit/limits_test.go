package fit

import (
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
