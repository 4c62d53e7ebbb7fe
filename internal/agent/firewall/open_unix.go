//go:build unix

package firewall

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// openChecked opens a regular file that root or the agent's user owns and nobody
// else can write; the folder it is in is held to the same, or another file could be
// put in its place.
func openChecked(name string, me int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ok := false
	defer func() {
		if !ok {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if err := owned(st, me); err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	if dir.Mode()&os.ModeSticky == 0 {
		if err := owned(dir, me); err != nil {
			return nil, fmt.Errorf("its folder: %w", err)
		}
	}
	ok = true
	return f, nil
}

func owned(st os.FileInfo, me int) error {
	if st.Mode().Perm()&0o022 != 0 {
		return errors.New("others can write it (chmod go-w)")
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || sys.Uid != 0 && int(sys.Uid) != me {
		return errors.New("it belongs to another user than root and the agent's")
	}
	return nil
}
