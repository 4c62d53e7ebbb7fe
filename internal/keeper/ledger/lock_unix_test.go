//go:build unix

package ledger

import (
	"crypto/rand"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever closes a ledger gives its lock back, also when a child that was just
// started still has the open file.
func TestCloseUnlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := CreateFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	l, err := OpenFile(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.Dup(int(l.f.(osFile).Fd())) // the same open file, as fork leaves it
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenFile(path, Options{}); err != nil {
		t.Fatalf("after Close, while a child has the file: %v", err)
	}
	l.Close()
}
