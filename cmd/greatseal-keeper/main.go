// Command greatseal-keeper holds the keys, on a host of its own or beside the
// server. It judges evidence itself and is reached over a Unix socket or mutual
// TLS only.
//
//	greatseal-keeper init --config keeper.yaml      make its folder, keystore and own keys
//	greatseal-keeper found --config keeper.yaml charter-v1.json
//	                                                install the founding charter
//	greatseal-keeper run --config keeper.yaml       serve
//	greatseal-keeper status --config keeper.yaml    say who it is
//
// The configuration is documented in docs/operate/keeper.md. A further command,
// pkcs11-module, is what it starts for each PKCS #11 module: a process of its own,
// so that a driver that hangs or crashes takes nothing else down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/key/pkcs11/module"
)

// version is set when the binary is built.
var version = "devel"

func main() {
	if len(os.Args) == 3 && os.Args[1] == moduleCommand {
		os.Exit(module.Main(os.Args[2]))
	}
	if err := hideMemory(); err != nil {
		fmt.Fprintf(os.Stderr, "greatseal-keeper: the memory cannot be hidden: %v\n", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "greatseal-keeper: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: greatseal-keeper init|found|run|status --config keeper.yaml")

func run(ctx context.Context, args []string, out, errw io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	if args[0] == "--version" || args[0] == "version" {
		fmt.Fprintf(out, "greatseal-keeper %s\n", version)
		return nil
	}
	commands := map[string]func(context.Context, *config.KeeperServer, *slog.Logger, []string, io.Writer) error{
		"init": initialize, "found": found, "run": serve, "status": status,
	}
	f, ok := commands[args[0]]
	if !ok {
		return errUsage
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.SetOutput(errw)
	path := fs.String("config", "keeper.yaml", "configuration file")
	verbose := fs.Bool("v", false, "say more")
	if err := fs.Parse(args[1:]); err != nil {
		return errUsage
	}
	c, err := config.ReadKeeper(*path)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(errw, &slog.HandlerOptions{Level: level}))
	return f(ctx, c, log, fs.Args(), out)
}
