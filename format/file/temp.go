package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxBase keeps names made from another name below NAME_MAX.
const maxBase = 200

func short(base string) string {
	if len(base) <= maxBase {
		return base
	}
	h := sha256.Sum256([]byte(base))
	return hex.EncodeToString(h[:])
}

// tempName is the one temporary file of out. That there is one name, and no
// random one, is what lets the next run find and remove what a dead one left
// without looking through the folder.
func tempName(out string) string {
	return filepath.Join(filepath.Dir(out), ".greatseal-"+short(filepath.Base(out)))
}

// createTemp creates out's temporary file and locks it; the lock says that its
// writer lives. One without a lock is of a dead writer and is removed.
func createTemp(out string, perm fs.FileMode) (*os.File, error) {
	name := tempName(out)
	for range 16 {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if err == nil {
			// Between creation and lock another process may have taken it for a
			// dead one's: only a locked file that still has its name is ours.
			err := lock(f)
			if err == nil && stillNamed(f, name) {
				return f, nil
			}
			if err != nil && !errors.Is(err, ErrBusy) {
				return nil, errors.Join(err, remove(f, name))
			}
			closeLocked(f)
			continue
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("file: %w", err)
		}
		if err := removeStale(name); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrBusy, name)
}

func removeStale(name string) error {
	f, err := openNoFollow(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("file: %s is in the way: %w", name, err)
	}
	defer closeLocked(f)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is in the way", ErrNotRegular, name)
	}
	if err := lock(f); err != nil {
		return err
	}
	if !stillNamed(f, name) {
		return nil // its writer has finished meanwhile
	}
	if err := remove(f, name); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}

// sweep removes what dead writers of out have left.
func sweep(out string) error {
	for _, name := range []string{tempName(out), tempName(journalName(out))} {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := removeStale(name); err != nil {
			return err
		}
	}
	return nil
}

func stillNamed(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
