package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/format/all"
)

// Every format of the table is one that we sign, its inputs are of the sizes that
// it says, and signing one in a process of its own works.
func TestContests(t *testing.T) {
	dir := t.TempDir()
	id, err := newPeerIdentity(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, c := range contests {
		if slices.Contains(seen, c.title()) {
			t.Errorf("%s stands twice", c.title())
		}
		seen = append(seen, c.title())
		if _, ok := all.ByName(c.format); !ok {
			t.Errorf("no format %s", c.format)
			continue
		}
		in := input{bytes: 1 << 20}
		if c.inputs[0].entries > 0 {
			in.entries = 16
		}
		path := filepath.Join(t.TempDir(), c.name)
		if err := c.make(t.Context(), path, in); err != nil {
			t.Fatalf("%s: %v", c.title(), err)
		}
		var out bytes.Buffer
		key := id.files(c.key)
		result := filepath.Join(dir, "out-"+c.name)
		if err := FormatChild(t.Context(), c.format, path, result, key[0], key[1], c.params, &out); err != nil {
			t.Errorf("%s: %v", c.title(), err)
			continue
		}
		if fi, err := os.Stat(result); err != nil || fi.Size() == 0 || !bytes.Contains(out.Bytes(), []byte("peak_rss_bytes")) {
			t.Errorf("%s: %v, %s", c.title(), err, out.Bytes())
		}
	}
}
