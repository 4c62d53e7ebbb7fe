package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/trial"
)

func (a *App) serverCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "server --config server.yaml",
		GroupID: "run",
		Short:   "run a server",
		Long: `Runs a server until it is told to stop (SIGINT, SIGTERM); then it finishes what
is under way. Several servers may share a PostgreSQL database and a keeper.
docs/operate/server.md describes the configuration.

With "instance:" in its configuration the server has a part in a circle of trust:
it signs the records of databases, or protects them and has agents run them. A
protected one has no keeper, and nothing is signed there.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.cfgPath != "" {
				path = a.cfgPath
			}
			if path == "" {
				return fail(exitUsage, "greatseal server --config server.yaml", "--config is missing")
			}
			c, err := config.ReadServer(path)
			if err != nil {
				return fail(exitUsage, "docs/operate/server.md describes the configuration", "%v", err)
			}
			log := slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelInfo}))
			return runServer(cmd.Context(), c, log, func(addr net.Addr) { log.Info("the server listens", "address", addr.String()) })
		},
	}
	return c
}

// runServer serves until ctx ends. ready is called when connections are taken.
func runServer(ctx context.Context, c *config.Server, log *slog.Logger, ready func(net.Addr)) error {
	if c.Instance.Protected() {
		return runProtected(ctx, c, log, ready)
	}
	o, err := openOffice(ctx, c, log)
	if err != nil {
		return err
	}
	defer o.close()
	var part *instance.Instance
	if c.Instance != nil {
		part, err = openInstance(ctx, c, o.store, o.server, log)
		if err != nil {
			return err
		}
		defer part.Close()
	}
	var formats []string
	for _, f := range all.Formats() {
		formats = append(formats, f.Name())
	}
	issuers, err := watchIssuers(c, o, log)
	if err != nil {
		return err
	}
	h, err := api.New(api.Config{
		Issuers: issuers.States,
		Server:  o.server, Store: o.store, Clock: time.Now, Logger: log, Version: Version, URL: c.URL, Admins: c.Admins,
		Private: c.Log.Private, Uploads: c.Blobs != "", Formats: formats, Instance: part,
		Limits:   api.Limits{Body: c.Limits.BodyBytes, PerSecond: c.Limits.PerSecond, Burst: c.Limits.Burst, AnonPerSecond: c.Limits.AnonPerSecond},
		Sessions: o.sessions(),
	})
	if err != nil {
		return err
	}
	around, endStreams := h.Handler(), func() {}
	pages, err := openConsole(c, o, part, log)
	if err != nil {
		return err
	}
	if pages != nil {
		around, endStreams = pages.Handler(h.Handler()), pages.Stop
	}
	registered, err := o.registrations()
	if err != nil {
		return err
	}
	// The background work ends after the last call, so that what calls began is
	// finished.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { o.server.Run(work) })
	wg.Go(func() { server.GiveRoom(work) })
	wg.Go(func() {
		analysis.New(o.store).Run(work, func(err error) { log.Error("counting the log", "error", err) })
	})
	wg.Go(func() { registered.Run(work, time.Minute, log) })
	if !c.Issuers.Off {
		wg.Go(func() { issuers.Run(work) })
	}
	if part != nil {
		wg.Go(func() { part.Run(work) })
	}
	var inspected error
	if c.Inspector != nil {
		wg.Go(func() {
			if inspected = o.inspect(work, log); inspected != nil {
				log.Error("the inspector has ended", "error", inspected)
			}
		})
	}
	err = api.ServeWith(ctx, h, around, endStreams, api.Listen{Address: c.Listen, TLS: c.TLS, Optional: c.Console.WithoutCertificate || c.Issuers.WithoutCertificate}, ready)
	stop()
	wg.Wait()
	return errors.Join(err, inspected)
}

func (a *App) devCommand() *cobra.Command {
	var dir, listen, records string
	c := &cobra.Command{
		Use:     "dev",
		GroupID: "start",
		Short:   "run a deployment to play with",
		Long: `Founds a deployment in a folder, as "greatseal demo" does, and leaves it running:
people with SSH keys, two groups, a scanner, keys with certificates, timestamps
and an inspector. A folder that holds one already is started again.

For each person there is a client configuration, DIR/people/NAME.yaml.

With --records it is the trusted side of a circle of trust, too: the data sources and
scripts in that database are signed under policy "records".`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), dir, listen, records) },
	}
	c.Flags().StringVar(&dir, "dir", "greatseal-dev", "folder of the deployment")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:7788", "address on this machine")
	c.Flags().StringVar(&records, "records", "", "SQLite database with records to sign (tables sys_data_source, ecc_agent_script_file, ecc_agent_script_include); for a new folder")
	return c
}

func (a *App) dev(ctx context.Context, dir, listen, records string) error {
	if !config.Loopback(listen) {
		return fail(exitUsage, "greatseal init makes a deployment for others", "%s is not on this machine: dev is to play with", listen)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	p := place{dir}
	if _, err := os.Stat(p.path("server.yaml")); errors.Is(err, os.ErrNotExist) {
		if err := a.foundDev(ctx, p, listen, records); err != nil {
			return err
		}
	}
	c, err := config.ReadServer(p.path("server.yaml"))
	if err != nil {
		return err
	}
	c.Listen = listen
	if err := p.reach(listen); err != nil {
		return err
	}
	return runServer(ctx, c, a.logger(), func(addr net.Addr) {
		fmt.Fprintf(a.Out, `The deployment in %[1]s listens on %[2]s. In another terminal:

  export GREATSEAL_CONFIG=%[1]s/people/alice.yaml
  %[3]s sign YOUR.exe --policy release --no-wait
  %[3]s --config %[1]s/people/bob.yaml inbox
  %[3]s --config %[1]s/people/bob.yaml endorse ID          and the same as carol and scanner
  %[3]s collect ID YOUR.exe
  %[3]s verify YOUR.exe --evidence YOUR.exe.evidence.json --root %[1]s/charter-v1.json --ca %[1]s/trial-ca.crt --tsa-ca %[1]s/trial-ca.crt

Policy "inspected" uploads the file; "nightly" signs nightly-* unattended. Ctrl-C ends.
%[4]s`, dir, addr, program(), consoleHint(dir, addr))
	})
}

// foundDev makes the deployment of dev: everything is there when server.yaml is.
func (a *App) foundDev(ctx context.Context, p place, listen, records string) error {
	if entries, err := os.ReadDir(p.dir); err == nil && len(entries) > 0 {
		return fail(exitUsage, "remove it, or name another --dir", "%s is not empty and holds no finished deployment", p.dir)
	}
	log := a.logger()
	st, err := p.initKeeper(ctx, log)
	if err != nil {
		return err
	}
	o := trial.Options{Deployment: "dev", Timestamps: true}
	if records != "" {
		if records, err = filepath.Abs(records); err != nil {
			return err
		}
		o.Records = &trial.Records{Instance: "dev"}
	}
	t, err := trial.New(ctx, p.dir, st, o)
	if err != nil {
		return err
	}
	if err := file.WriteFile(p.path("charter-v1.json"), append(t.Found, '\n'), 0o644); err != nil {
		return err
	}
	text, err := t.Charter.YAML()
	if err != nil {
		return err
	}
	if err := file.WriteFile(p.path("charter.yaml"), text, 0o644); err != nil {
		return err
	}
	if _, err := p.found(ctx, t.Found, log); err != nil {
		return err
	}
	draft := p.path("server.yaml.draft")
	sc := p.server(t.Root, listen)
	sc.Admins = []string{"alice"}
	sc.Inspector = &config.Inspector{Name: "inspector", Key: filepath.Join("people", "inspector")}
	if records != "" {
		sc.Instance = &config.Instance{Name: "dev", Role: "trusted", Platforms: map[string]config.Platform{"app": {Database: "sqlite:" + records}},
			Machine: &config.Machine{Name: trial.Clerk, Key: filepath.Join("people", trial.Clerk)}, Freshness: &config.Freshness{Policy: "fresh", Every: config.Duration(time.Minute), Lasts: config.Duration(30 * time.Minute)}}
	}
	if err := config.Write(draft, sc); err != nil {
		return err
	}
	c, err := config.ReadServer(draft)
	if err != nil {
		return err
	}
	off, err := openOffice(ctx, c, log)
	if err != nil {
		return err
	}
	defer off.close()
	work, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		off.server.Run(work)
		close(done)
	}()
	err = t.MakeKeys(ctx, off.server)
	stop()
	<-done
	if err != nil {
		return err
	}
	at, err := p.serverOf(listen)
	if err != nil {
		return err
	}
	for name := range t.People {
		cc := config.Client{Server: at, Name: name, Identity: name, Root: t.Root}
		if err := config.Write(filepath.Join(p.path("people"), name+".yaml"), cc); err != nil {
			return err
		}
	}
	return os.Rename(draft, p.path("server.yaml"))
}

// serverOf is where people find a server that listens there, as their
// configurations have it.
func (p place) serverOf(listen string) (string, error) {
	path, ok := strings.CutPrefix(listen, "unix:")
	if !ok {
		return "http://" + listen, nil
	}
	rel, err := filepath.Rel(p.path("people"), path)
	return "unix:" + rel, err
}

// reach leads people to where the server listens now.
func (p place) reach(listen string) error {
	at, err := p.serverOf(listen)
	if err != nil {
		return err
	}
	list, err := filepath.Glob(filepath.Join(p.path("people"), "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range list {
		c, err := config.ReadClient(path)
		if err != nil {
			return err
		}
		if c.Server == at || c.Server == listen { // a socket's path is read as absolute
			continue
		}
		c.Server = at
		if c.Identity == filepath.Join(p.path("people"), c.Name) {
			c.Identity = c.Name // as it was written: the folder may be moved
		}
		if err := config.Write(path, *c); err != nil {
			return err
		}
	}
	return nil
}
