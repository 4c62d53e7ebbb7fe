//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyReload has c told when a configuration is to be read again.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }

// notifyEnd has c told when the process is to end.
func notifyEnd(c chan<- os.Signal) { signal.Notify(c, os.Interrupt, syscall.SIGTERM) }
