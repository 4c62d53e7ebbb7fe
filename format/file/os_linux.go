package file

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clone makes t share src's blocks, where the file system can (Btrfs, XFS).
func clone(t, src *os.File) error {
	return unix.IoctlFileClone(int(t.Fd()), int(src.Fd()))
}

func changeTime(fi os.FileInfo) int64 {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return 0
}

// setModified sets the modification time of f itself, whatever its name leads to
// by now. Linux before 5.8 refuses an empty name: there /proc names the descriptor.
func setModified(f *os.File, t time.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	err := unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), ts, 0)
	}
	if err != nil {
		return &os.PathError{Op: "futimens", Path: f.Name(), Err: err}
	}
	return nil
}

// exchange gives each of two names what the other one had, in one step where the
// file system can, and removes what temp has then.
func exchange(temp, out string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, out, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return exchangeByRenames(temp, out)
	}
	if err != nil {
		return &os.PathError{Op: "renameat2", Path: out, Err: err}
	}
	return os.RemoveAll(temp)
}
