//go:build !linux

package inspector

import (
	"errors"
	"os/exec"
)

func confine(*exec.Cmd) {}

// restrict refuses: where nothing holds a worker, it must not read hostile files.
func restrict(Limits) error { return errors.New("workers are confined on Linux only") }
