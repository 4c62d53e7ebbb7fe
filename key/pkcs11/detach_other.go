//go:build !unix

package pkcs11

import "os/exec"

func detach(*exec.Cmd) {}
