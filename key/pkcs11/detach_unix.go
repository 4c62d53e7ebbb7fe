//go:build unix

package pkcs11

import (
	"os/exec"
	"syscall"
)

// detach puts the child into a process group of its own: an interrupt from the
// terminal is for the parent, which ends its children in its own time.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
