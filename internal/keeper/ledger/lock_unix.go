//go:build unix

package ledger

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const noFollow = unix.O_NOFOLLOW

// lockPatience is how long a lock that is held is asked for again: a process that
// was killed, or a child between fork and exec, holds it for a moment longer.
const lockPatience = 2 * time.Second

// lock takes the lock that ends with the open file, however the process ends.
func lock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case err != unix.EWOULDBLOCK:
			return fmt.Errorf("ledger: lock: %w", err)
		case time.Now().After(end):
			return ErrLocked
		}
	}
}

// Close gives the lock back before the file: a child between fork and exec, which
// another goroutine starts, has the open file too, and its lock.
func (f osFile) Close() error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.File.Close())
}
