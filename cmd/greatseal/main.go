// Command greatseal is endorsed code signing: server and client in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/greatseal-io/greatseal/internal/cli"
)

func main() {
	if code, is := cli.AgentHelper(os.Args); is {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, git := cli.GitProgram(ctx, os.Args[0], os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if !git {
		code = cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}
