package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/greatseal-io/greatseal/format/file"
)

// TestPlain: an error names what its reader knows, and stays the error that it is.
func TestPlain(t *testing.T) {
	gone := &fs.PathError{Op: "open", Path: "app.exe", Err: syscall.ENOENT}
	for _, c := range []struct {
		err  error
		want string
	}{
		{gone, "app.exe: no such file or directory"},
		{fmt.Errorf("file: %w", gone), "app.exe: no such file or directory"},
		{fmt.Errorf("charter: %w", gone), "charter: app.exe: no such file or directory"},
		{errors.New("verify: file: pe: checksum is wrong"), "pe: checksum is wrong"},
		{errors.New("file server: verify: it"), "file server: verify: it"},
		{errors.New("verify"), "verify"},
		{errors.New("verify: "), "verify: "},
	} {
		got := plain(c.err)
		if got.Error() != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v: %q", c.err, got)
		}
		if again := plain(got); again.Error() != c.want {
			t.Errorf("%v, twice: %q", c.err, again)
		}
	}
	if plain(nil) != nil {
		t.Error("no error became one")
	}
}

func TestFileHints(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.exe"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		err  error
		want string // in the hint
	}{
		{&fs.PathError{Op: "stat", Path: in("ap.exe"), Err: syscall.ENOENT}, "did you mean app.exe?"},
		{&fs.PathError{Op: "stat", Path: in("other.bin"), Err: syscall.ENOENT}, "it was looked for in " + dir},
		{&fs.PathError{Op: "stat", Path: in("none/app.exe"), Err: syscall.ENOENT}, "there is no folder " + in("none")},
		{&fs.PathError{Op: "open", Path: in("app.exe"), Err: syscall.EACCES}, "ls -ld " + in("app.exe")},
		{&fs.PathError{Op: "open", Path: in("app.exe"), Err: syscall.EEXIST}, "choose another name"},
		{&fs.PathError{Op: "write", Path: in("app.exe"), Err: syscall.ENOSPC}, "make room"},
		{&fs.PathError{Op: "read", Path: dir, Err: syscall.EISDIR}, "name a file"},
		{fmt.Errorf("%w: %s", file.ErrNotRegular, dir), "name a file"},
	} {
		if got := fileHint(fmt.Errorf("file: %w", c.err)); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q", c.err, got)
		}
	}
	if got := fileHint(errors.New("something else")); got != "" {
		t.Errorf("a hint about no file: %q", got)
	}
}
