package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What greatseal puts beside files is not signed in its turn; what only looks so is.
func TestBelowLeavesOutOwnFiles(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "a.p7s", "a.dsse.json", "a.evidence.json", "lonely.p7s", "folder/x", "folder.p7s", ".greatseal-b", ".b.greatseal-journal"} {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	if err := below(dir, func(i input) { got = append(got, i.name) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if want := []string{"a", "folder.p7s", "folder/x", "lonely.p7s"}; !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
}

// Errors and notes quote others: nothing of it commands a terminal.
func TestNothingCommandsTheTerminal(t *testing.T) {
	const evil = "a\x1b]0;title\x07\u202eb\rc\u0085d"
	var out bytes.Buffer
	a := &App{Err: &out}
	a.note("%s\nsecond", evil)
	a.report(&fault{exitFailed, errors.New(evil), evil})
	if i := strings.IndexFunc(out.String(), func(r rune) bool {
		return r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e)
	}); i >= 0 {
		t.Errorf("%q", out.String())
	}
	if !strings.Contains(out.String(), "\nsecond\n") {
		t.Errorf("lines are lost: %q", out.String())
	}
}
