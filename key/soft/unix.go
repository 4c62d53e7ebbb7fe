//go:build unix

package soft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openNoFollow opens path, never through a symbolic link in its last element,
// never waiting for the other end of a named pipe.
func openNoFollow(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link", ErrPermissions, path)
	}
	return f, err
}

// lockPatience is how long a lock that is held is asked for again: a process that
// was killed, or a child between fork and exec, holds it for a moment longer.
const lockPatience = 2 * time.Second

// flock locks the open file, or fails with ErrLocked.
func flock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			if time.Now().After(end) {
				return ErrLocked
			}
		default:
			return fmt.Errorf("soft: lock key file: %w", err)
		}
	}
}

// unlock gives the lock back at once: closing does not while a child between fork
// and exec has the descriptor too.
func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// owned reports whether the file belongs to the user who runs this.
func owned(i fs.FileInfo) bool {
	s, ok := i.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}
