package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/inspector"
)

// workerCommandName is what an inspector starts for each artifact.
const workerCommandName = "inspector-worker"

// inspect runs the inspector of the server's configuration until ctx ends.
func (o *office) inspect(ctx context.Context, log *slog.Logger) error {
	c, err := inspectorConfig(o.cfg.Inspector.Name, o.cfg.Inspector.Key, log)
	if err != nil {
		return err
	}
	c.Deployment = o.server.Charter().Deployment
	return inspector.Run(ctx, inspector.Local(o.server), c)
}

func inspectorConfig(name, key string, log *slog.Logger) (inspector.Config, error) {
	s, err := sshagent.File(key, nil)
	if err != nil {
		return inspector.Config{}, fmt.Errorf("inspector: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return inspector.Config{}, fmt.Errorf("inspector: %w", err)
	}
	return inspector.Config{Name: name, Signer: s, Worker: inspector.Worker{Command: []string{self, workerCommandName}}, Clock: time.Now, Logger: log}, nil
}

// inspectorCommand runs an inspector beside a server, on a host of its own.
func (a *App) inspectorCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "inspector",
		GroupID: "run",
		Short:   "recompute plans from uploaded files, and endorse as a machine",
		Long: `Runs a machine endorser until it is told to stop. It takes the uploaded files of
the requests that wait for it, makes their plans anew in a confined process of its
own for each file, and endorses when they are equal; else it disapproves.

--as names the machine of the charter, --identity its SSH key file. On a host of
its own it holds also when the server has been stolen.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			chain, err := l.charters(cmd.Context())
			if err != nil {
				return err
			}
			head, _ := chain.Head()
			if !head.Machines[l.cfg.Name].Inspector {
				return fail(exitUsage, "greatseal charter show lists the machines", "%s is not an inspector in the charter", l.cfg.Name)
			}
			if dir == "" {
				if dir, err = os.UserCacheDir(); err != nil {
					return err
				}
				dir = filepath.Join(dir, "greatseal", "inspector")
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(a.Err, nil))
			c, err := inspectorConfig(l.cfg.Name, l.cfg.Identity, log)
			if err != nil {
				return err
			}
			c.Deployment = head.Deployment
			return inspector.Run(cmd.Context(), inspector.Remote(l.Client, dir), c)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder for files under inspection (default: in the user's cache folder)")
	return c
}

// workerCommand is the process that reads one artifact.
func (a *App) workerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    workerCommandName,
		Hidden: true,
		Short:  "read one artifact on behalf of the inspector",
		Args:   exactly(),
		RunE: func(*cobra.Command, []string) error {
			if code := inspector.Serve(a.In, a.Out, a.Err, all.Formats()); code != 0 {
				return &fault{code: code, err: fmt.Errorf("inspector's worker ended with %d", code)}
			}
			return nil
		},
	}
}
