//go:build unix

package file

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noBlock keeps an open of a FIFO from waiting.
const noBlock = unix.O_NONBLOCK

// openRead opens without waiting for the other end of a FIFO.
func openRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// openNoFollow refuses a symbolic link.
func openNoFollow(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s", ErrSymlink, path)
	}
	return f, err
}

// lock takes the file's lock without waiting: ErrBusy when another process has
// it. It ends with the process.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrBusy, f.Name())
	}
	if err != nil {
		return fmt.Errorf("file: locking %s: %w", f.Name(), err)
	}
	return nil
}

// closeLocked gives the lock back and closes f. Closing alone does not: a process
// that is being started has a copy of f, lock and all, until it runs its program.
func closeLocked(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// commit renames t over out and closes it, in this order: a name without a lock
// would be taken for a dead writer's.
func commit(t *os.File, out string) error {
	if err := os.Rename(t.Name(), out); err != nil {
		return err
	}
	return closeLocked(t)
}

// remove removes the locked file f and closes it, in this order.
func remove(f *os.File, name string) error {
	return errors.Join(os.Remove(name), closeLocked(f))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems know no fsync of folders and say EINVAL.
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// chown gives t the owner of src when root asks, and says whether it has it.
func chown(t *os.File, src os.FileInfo) (bool, error) {
	uid, gid, ok := owner(src)
	if !ok {
		return false, nil
	}
	if os.Geteuid() == 0 {
		return true, t.Chown(uid, gid)
	}
	fi, err := t.Stat()
	if err != nil {
		return false, err
	}
	u, g, ok := owner(fi)
	return ok && u == uid && g == gid, nil
}

// trusted reports whether a journal with this owner and mode may change a file
// with that owner: it is ours, root's or the file's owner's, and nobody else can
// write it. In a folder like /tmp anybody can put a journal beside our file.
func trusted(journal, target os.FileInfo) bool {
	j, _, ok1 := owner(journal)
	t, _, ok2 := owner(target)
	return ok1 && ok2 && (j == os.Geteuid() || j == 0 || j == t) && journal.Mode().Perm()&0o022 == 0
}

// own reports whether the file is ours or root's.
func own(fi os.FileInfo) bool {
	u, _, ok := owner(fi)
	return ok && (u == os.Geteuid() || u == 0)
}

func owner(fi os.FileInfo) (uid, gid int, ok bool) {
	s, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(s.Uid), int(s.Gid), true
}
