package agent

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// lockState takes the state folder: two agents on one set of orders would each miss
// what the other has begun.
func lockState(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped)); err != nil {
		f.Close()
		return nil, fmt.Errorf("agent: another process has the state folder: %w", err)
	}
	return f.Close, nil
}
