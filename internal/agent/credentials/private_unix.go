//go:build unix

package credentials

import (
	"errors"
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func private(f *os.File, me int) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return errors.New("not a regular file")
	case st.Mode().Perm()&0o077 != 0:
		return errors.New("others than its owner may use it (chmod 0600)")
	case !ok || sys.Uid != 0 && int(sys.Uid) != me:
		return errors.New("it belongs to another user than root and the agent's")
	}
	return nil
}
