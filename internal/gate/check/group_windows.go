package check

import "os/exec"

// group leaves a program as it is: it is ended alone.
func group(*exec.Cmd) {}
