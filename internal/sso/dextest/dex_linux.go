package dextest

import "syscall"

// dieWithTest has a test that is killed leave no Dex behind.
func dieWithTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
