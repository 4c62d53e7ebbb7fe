//go:build !linux

package dextest

import "syscall"

func dieWithTest() *syscall.SysProcAttr { return nil }
