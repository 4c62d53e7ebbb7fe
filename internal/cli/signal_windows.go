package cli

import (
	"os"
	"os/signal"
)

// notifyReload has c told when a configuration is to be read again: never here.
func notifyReload(chan<- os.Signal) {}

// notifyEnd has c told when the process is to end.
func notifyEnd(c chan<- os.Signal) { signal.Notify(c, os.Interrupt) }
