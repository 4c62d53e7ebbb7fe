//go:build windows

package statefile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

const noFollow = 0

// lock takes the lock that ends with the open file, however the process ends.
func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	switch {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("statefile: lock: %w", err)
	}
	return nil
}

func unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{})
}

// syncDir has nothing to do: NTFS keeps a journal of names, and opens no
// directories for writing.
func syncDir(string) error { return nil }
