//go:build unix

package endorser

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// exclusive takes a lock file for this process.
func exclusive(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
