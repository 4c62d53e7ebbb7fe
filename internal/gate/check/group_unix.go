//go:build unix

package check

import (
	"os/exec"
	"syscall"
)

// group puts a program into a process group of its own, which is ended as a whole.
func group(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
