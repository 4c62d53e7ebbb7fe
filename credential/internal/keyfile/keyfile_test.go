//go:build unix

package keyfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/greatseal-io/greatseal/credential/internal/keyfile"
)

// Invariant 1.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for perm, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o620: false, 0o601: false, 0o666: false} {
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
		b, err := keyfile.Read(path)
		if ok != (err == nil) || ok && string(b) != "secret" {
			t.Errorf("%#o: %q, %v", perm, b, err)
		}
		if !ok && (!errors.Is(err, keyfile.ErrPermissions) || !strings.Contains(err.Error(), "chmod 600 "+path) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%#o: %v", perm, err)
		}
		if b, err := keyfile.ReadPublic(path); err != nil || string(b) != "secret" {
			t.Errorf("%#o: public: %q, %v", perm, b, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	big, exact, fifo := filepath.Join(dir, "big"), filepath.Join(dir, "exact"), filepath.Join(dir, "fifo")
	for path, n := range map[string]int{big: keyfile.MaxSize + 1, exact: keyfile.MaxSize} {
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := keyfile.Read(exact); err != nil || len(b) != keyfile.MaxSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{big, dir, fifo, filepath.Join(dir, "none"), os.DevNull, ""} {
		if b, err := keyfile.Read(path); err == nil || b != nil {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
	if _, err := keyfile.Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
