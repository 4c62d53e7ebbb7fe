// Package blob keeps uploaded artifacts in a folder until they are inspected.
//
// Invariants:
//
//  1. A name is hexadecimal digits, dots and decimal digits; it never leaves the folder.
//  2. Bytes arrive in order: a chunk is appended only at the current end, so that
//     an upload that was interrupted goes on where it was.
//  3. What Size reports is on the disk.
package blob

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrOffset is returned by Append for a chunk that does not begin at the end.
var ErrOffset = errors.New("blob: the chunk does not begin where the upload ends")

// ErrNotFound is returned for a blob that is not there.
var ErrNotFound = errors.New("blob: not found")

// Folder is a blob store in a folder.
type Folder struct {
	dir  string
	mu   sync.Mutex
	busy map[string]bool // names being appended to
}

// Open uses dir, which is made if it is missing.
func Open(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return &Folder{dir: dir, busy: map[string]bool{}}, nil
}

func (f *Folder) path(name string) (string, error) {
	if name == "" || len(name) > 128 || strings.Trim(name, "0123456789abcdef.") != "" || strings.Contains(name, "..") || name[0] == '.' {
		return "", fmt.Errorf("blob: bad name %.140q", name)
	}
	return filepath.Join(f.dir, name), nil
}

// Size is the number of bytes that have arrived; 0 for a blob that is not there.
func (f *Folder) Size(name string) (int64, error) {
	p, err := f.path(name)
	if err != nil {
		return 0, err
	}
	st, err := os.Stat(p)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("blob: %w", err)
	}
	return st.Size(), nil
}

// Append adds what r gives at offset, which must be the current end, up to limit
// bytes in all, and returns the new size. What arrived before r failed stays.
func (f *Folder) Append(name string, offset, limit int64, r io.Reader) (int64, error) {
	p, err := f.path(name)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	if f.busy[name] {
		f.mu.Unlock()
		return 0, fmt.Errorf("%w: another upload of it is under way", ErrOffset)
	}
	f.busy[name] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.busy, name)
		f.mu.Unlock()
	}()
	w, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("blob: %w", err)
	}
	defer w.Close()
	size, err := w.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("blob: %w", err)
	}
	if size != offset {
		return size, fmt.Errorf("%w: at %d, it has %d bytes", ErrOffset, offset, size)
	}
	n, copyErr := io.Copy(w, io.LimitReader(r, limit-size+1))
	if size+n > limit {
		n = limit - size
		copyErr = fmt.Errorf("blob: more than the announced %d bytes", limit)
		if err := w.Truncate(limit); err != nil {
			return size, fmt.Errorf("blob: %w", err)
		}
	}
	if err := w.Sync(); err != nil {
		return size, fmt.Errorf("blob: %w", err)
	}
	return size + n, copyErr
}

// Path is where a blob lies, for a reader in another process.
func (f *Folder) Path(name string) (string, error) {
	p, err := f.path(name)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return p, nil
}

// Names lists the blobs.
func (f *Folder) Names() ([]string, error) {
	list, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	var out []string
	for _, e := range list {
		if _, err := f.path(e.Name()); err == nil && e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Delete removes a blob; one that is not there is no error.
func (f *Folder) Delete(name string) error {
	p, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blob: %w", err)
	}
	return nil
}
