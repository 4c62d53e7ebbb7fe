package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/format/deb"
	"github.com/greatseal-io/greatseal/format/roster"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/statement"
)

const moduleCommand = "pkcs11-module"

func options(log *slog.Logger) host.Options {
	return host.Options{PKCS11: openModule, Formats: roster.Formats(deb.New()), Clock: time.Now, Rand: rand.Reader, Logger: log, Version: version}
}

// openModule starts this program again as the module's process.
func openModule(ctx context.Context, c config.PKCS11, log *slog.Logger) (key.Provider, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return pkcs11.Open(ctx, pkcs11.Config{
		Command: []string{self, moduleCommand}, Env: c.Env, Module: c.Module, Sessions: c.Sessions, Logger: log,
		PIN: func(context.Context, pkcs11.Token) ([]byte, error) { return config.Secret(c.PINFile) },
	})
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected %q", errUsage, args[0])
	}
	return nil
}

// initialize makes a keeper and prints what the charter says of it.
func initialize(ctx context.Context, c *config.KeeperServer, log *slog.Logger, args []string, out io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	if err := host.Init(ctx, c.KeeperIn, options(log)); err != nil {
		return err
	}
	return status(ctx, c, log, nil, out)
}

// status prints the keeper's own keys, as a charter names them, and how it is. A
// keeper that runs is asked over its socket.
func status(ctx context.Context, c *config.KeeperServer, log *slog.Logger, args []string, out io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	var k keeper.Keeper
	h, err := host.Open(ctx, c.KeeperIn, c.Root, options(log))
	switch {
	case err == nil:
		k = h
	case c.Socket != "" && (errors.Is(err, key.ErrUnavailable) || errors.Is(err, ledger.ErrLocked)):
		if k, err = wire.Dial(ctx, wire.Config{Network: "unix", Address: c.Socket}); err != nil {
			return err
		}
	default:
		return err
	}
	defer k.Close()
	st, err := k.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "keeper:\n  receipts: %s\n  logKey: %s\n", base64.StdEncoding.EncodeToString(st.ReceiptKey), base64.StdEncoding.EncodeToString(st.LogKey))
	fmt.Fprintf(out, "# charter version %d, %d receipts\n", st.Charter.Version, st.Receipts)
	if st.Stopped != "" {
		fmt.Fprintf(out, "# stopped: %s\n", st.Stopped)
	}
	for _, k := range st.Keys {
		fmt.Fprintf(out, "# key %s: %s %s\n", k.Name, k.State, k.Health)
	}
	return nil
}

// found installs version 1 of the charter.
func found(ctx context.Context, c *config.KeeperServer, log *slog.Logger, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: found wants the file of the founding charter", errUsage)
	}
	if c.Root == (statement.ID{}) {
		return errors.New("root is missing in the configuration: compare the charter's ID, as \"greatseal charter id\" prints it, with the other officers', and pin it there")
	}
	envelope, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	h, err := host.Open(ctx, c.KeeperIn, c.Root, options(log))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Found(ctx, bytes.TrimSpace(envelope)); err != nil {
		return err
	}
	fmt.Fprintf(out, "founded: charter %s is in force\n", c.Root)
	return nil
}

// serve runs until it is told to stop.
func serve(ctx context.Context, c *config.KeeperServer, log *slog.Logger, args []string, out io.Writer) error {
	if err := noArguments(args); err != nil {
		return err
	}
	h, err := host.Open(ctx, c.KeeperIn, c.Root, options(log))
	if err != nil {
		return err
	}
	defer h.Close()
	ln, s, err := listen(ctx, c, log)
	if err != nil {
		return err
	}
	s.Keeper = h
	log.Info("the keeper listens", "address", ln.Addr().String())
	return s.Serve(ctx, ln)
}

func listen(ctx context.Context, c *config.KeeperServer, log *slog.Logger) (net.Listener, wire.Server, error) {
	s := wire.Server{Logger: log}
	if c.Socket != "" {
		s.UIDs = c.UIDs
		if len(s.UIDs) == 0 {
			s.UIDs = []uint32{uint32(os.Getuid())}
		}
		ln, err := wire.Listen(c.Socket)
		return ln, s, err
	}
	certs, err := config.ReadCerts(c.TLS, log)
	if err != nil {
		return nil, s, err
	}
	go certs.Follow(ctx, config.CertsPoll)
	s.Names = c.Clients
	s.TLSNow = func() *tls.Config {
		id := certs.Now()
		return &tls.Config{Certificates: []tls.Certificate{id.Pair}, ClientCAs: id.CA, MinVersion: tls.VersionTLS13}
	}
	ln, err := net.Listen("tcp", c.Listen)
	return ln, s, err
}
