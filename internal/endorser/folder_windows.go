package endorser

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// exclusive takes a lock file for this process.
func exclusive(f *os.File) error {
	if err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped)); err != nil {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	return nil
}

// syncDir does nothing: the names in a folder are the file system's own journal's.
func syncDir(string) error { return nil }
