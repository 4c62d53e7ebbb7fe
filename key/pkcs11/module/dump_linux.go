//go:build cgo && linux

package module

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory keeps the process's memory from cores that the kernel pipes to a
// program, for which there is no limit of size (core(5)), and from other processes
// of the same user (ptrace(2), /proc/PID/mem).
func hideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("module: hide memory: %w", err)
	}
	return nil
}
