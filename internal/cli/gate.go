package cli

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/gate"
	"github.com/greatseal-io/greatseal/internal/inspector"
)

// gateCommand runs a gate beside a server, on a host of its own.
func (a *App) gateCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "gate --config gate.yaml",
		GroupID: "run",
		Short:   "scan, compare or check files, and endorse as a machine",
		Long: `Runs a gate until it is told to stop: a machine endorser that looks at the requests
that wait for it, has every file of them checked, and endorses or disapproves them
with the reason. The configuration names one check:

  clamav      the malware scanner ClamAV, through the socket of clamd
  provenance  SLSA provenance, signed by builders that are configured
  rebuild     a build of one's own, which must give the same file
  rules       rules in CEL over what is known of the file
  command     a program of one's own

What cannot be checked gets no verdict and is tried again. A request gets one
verdict, also when the gate is killed in between.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := gate.ReadConfig(config)
			if err != nil {
				return fail(exitUsage, "docs/operate/gates.md describes the file", "%v", err)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return gate.Run(cmd.Context(), cfg, gate.Host{
				Worker: inspector.Worker{Command: []string{self, workerCommandName}},
				Clock:  a.Now, Logger: slog.New(slog.NewTextHandler(a.Err, nil)), Version: Version,
			})
		},
	}
	c.Flags().StringVar(&config, "config", "gate.yaml", "configuration")
	return c
}
