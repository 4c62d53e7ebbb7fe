package file

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

const noBlock = 0

func openRead(path string) (*os.File, error) { return os.Open(path) }

// openNoFollow refuses a symbolic link.
func openNoFollow(path string, flag int) (*os.File, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return nil, fmt.Errorf("%w: %s", ErrSymlink, path)
	}
	return os.OpenFile(path, flag, 0)
}

// lock takes the lock of a byte far behind the end without waiting: ErrBusy when
// another process has it. Locks are mandatory here, and the file's own bytes must stay readable.
func lock(f *os.File) error {
	o := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, o)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	if err != nil {
		return fmt.Errorf("file: locking %s: %w", f.Name(), err)
	}
	return nil
}

// closeLocked closes f, which gives the lock back: nobody inherits handles here.
func closeLocked(f *os.File) error { return f.Close() }

// commit closes t and renames it over out: an open file has no other name here.
func commit(t *os.File, out string) error {
	if err := t.Close(); err != nil {
		return err
	}
	return os.Rename(t.Name(), out)
}

// remove closes f and removes it.
func remove(f *os.File, name string) error {
	return errors.Join(f.Close(), os.Remove(name))
}

// syncFolder does nothing: NTFS journals names itself.
func syncFolder(string) error { return nil }

// chown keeps the owner that the folder gives.
func chown(*os.File, os.FileInfo) (bool, error) { return false, nil }

// The folder's access list decides who can put a journal there.
func trusted(journal, target os.FileInfo) bool { return true }

func own(os.FileInfo) bool { return true }
