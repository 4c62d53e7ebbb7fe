package ledger

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The file's format is frozen: ledgers outlive programs.
func TestGolden(t *testing.T) {
	d := &disk{}
	if err := Create(d, strings.NewReader("sixteen bytes id")); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, d)
	for _, b := range []string{"one", "", "three"} {
		add(t, l, b)
	}
	l.Close()
	got := hex.EncodeToString(d.data) + "\n"
	const path = "testdata/ledger.hex"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the format of the file has changed:\n%s", got)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	if _, recs := open(t, &disk{data: bytes.Clone(b)}); len(recs) != 3 {
		t.Errorf("records %q", recs)
	}
}
