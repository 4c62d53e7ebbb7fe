// Package keyfile reads files that hold private keys.
//
// Invariants:
//
//  1. Only a regular file is read, and only when nobody but its owner has any
//     right to it (not checked on Windows, which has no such bits).
//  2. No error contains a byte of the file.
//
// A caller may not conclude that nobody else has read the file before.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 64 << 10

// ErrPermissions is returned for a file that others than its owner can use.
var ErrPermissions = errors.New("keyfile: permissions are too open")

// Read reads the key file at path. The caller wipes what it returns.
func Read(path string) ([]byte, error) { return read(path, true) }

// ReadPublic reads a file without secrets at path: any permissions will do.
func ReadPublic(path string) ([]byte, error) { return read(path, false) }

func read(path string, secret bool) ([]byte, error) {
	// Opening a named pipe would wait for its writer: look first.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("keyfile: %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	defer f.Close()
	// Judge the file that is open, not the one that had its name a moment ago.
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("keyfile: %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); secret && runtime.GOOS != "windows" && perm&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has %#o: run chmod 600 %s", ErrPermissions, path, perm, path)
	}
	b := make([]byte, 0, MaxSize+1)
	for len(b) < cap(b) {
		n, err := f.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			clear(b[:cap(b)])
			return nil, fmt.Errorf("keyfile: %w", err)
		}
	}
	if len(b) > MaxSize {
		clear(b)
		return nil, fmt.Errorf("keyfile: %s has more than %d bytes", path, MaxSize)
	}
	return b, nil
}
