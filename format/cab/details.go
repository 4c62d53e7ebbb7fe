package cab

import (
	"bytes"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// detailNames are the details of a cabinet, in order.
var detailNames = []string{"entry"}

const (
	fileHeader = 16      // before a file's name
	maxNames   = 1 << 20 // bytes of the files' table that are read
)

// details are the files of the cabinet, as its table has them. What is broken gives
// none: nothing of it is judged here.
func (c *cabinet) details(a format.Artifact, before int) []format.Fact {
	d := format.NewDetails(before)
	n := min(c.end-int64(len(c.head)), maxNames)
	b, err := read(a, int64(len(c.head)), n)
	if err != nil {
		return nil
	}
	var out []string
	for range c.files {
		if len(b) < fileHeader {
			break
		}
		size := le32(b)
		name, _, ok := bytes.Cut(b[fileHeader:min(len(b), fileHeader+256)], []byte{0})
		if !ok {
			break
		}
		out = append(out, fmt.Sprintf("%s, %d bytes", name, size))
		b = b[fileHeader+len(name)+1:]
	}
	d.List("entry", 80, out)
	return d.Facts()
}
