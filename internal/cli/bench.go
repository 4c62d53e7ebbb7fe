package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/bench"
)

func (a *App) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "bench",
		GroupID: "run",
		Short:   "measure what governance costs on this machine",
		Long: `Measures on this machine, in a temporary folder and against nothing that is in
use. docs/bench.md says what is measured, and shows a table.`,
	}
	c.AddCommand(a.benchKeeper(), a.benchPlan(), a.benchPlanChild(), a.benchLog(), a.benchFormats(), a.benchFormatChild(), a.benchRecords(), a.benchAgents(), a.benchConsole())
	return c
}

// benchProgress is where progress goes.
func (a *App) benchProgress() bench.Progress {
	if a.quiet {
		return bench.Progress{}
	}
	return bench.Progress{W: a.Err}
}

// missing turns a lack of the machine into a fault with its hint.
func missing(err error) error {
	var m *bench.MissingError
	if errors.As(err, &m) {
		return &fault{exitFailed, err, m.Hint}
	}
	return err
}

func (a *App) benchKeeper() *cobra.Command {
	o := bench.KeeperOptions{}
	c := &cobra.Command{
		Use:   "keeper",
		Short: "signatures a second, of the key alone and governed",
		Long: `Measures, in one run and in alternating slices, the rate of a key on its own (it
signs and checks its own signature, on all cores, and nothing else happens) and
its rate when everything is governed: RSA-3072, RSA-4096 and P-256, software keys
and SoftHSM, SQLite and PostgreSQL, single requests and requests of 1 000 files.

Governed: requests are submitted beforehand and endorsed by two of the three
whom the policy asks. The clock runs from sending the last endorsements, a bounded
number of them at a time, until every signature and receipt is durable and every
log entry is in the tree under a signed checkpoint. Server and database run on the
same cores as the key; HTTP and TLS are not in it. A token is used through the
process of its module, with whichever of 1, 2, 4 and 8 sessions signs fastest with
the first algorithm; the keeper gets the same number.

p50 and p99 are from the last endorsement to the signature, at half of the governed
rate.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.benchProgress()
			rep, err := bench.Keeper(cmd.Context(), o)
			if err != nil {
				return missing(err)
			}
			return a.print(rep, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "KEY\tALGORITHM\tSTORE\tFILES\tRAW/s\tGOVERNED/s\tRATIO\tP50 ms\tP99 ms")
				for _, r := range rep.Rows {
					fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\n", r.Key, r.Algorithm, r.Store, r.Files, r.Raw, r.Governed, r.Ratio, r.P50, r.P99)
				}
				t.Flush()
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Quick, "quick", false, "shorter slices: rougher figures")
	f.StringSliceVar(&o.Only, "only", nil, "rows with these words only: "+strings.Join(bench.Words(), ", "))
	f.BoolVar(&o.SkipPKCS11, "skip-pkcs11", false, "leave the rows of SoftHSM out")
	f.BoolVar(&o.SkipPostgres, "skip-postgres", false, "leave the rows of PostgreSQL out")
	f.StringVar(&o.KeeperBinary, "keeper", "", "greatseal-keeper to use for SoftHSM (default: the one beside this program)")
	f.IntVar(&o.Files, "files", 1000, "files of a request that has many")
	return c
}

// benchChild is the hidden command that only plans.
const benchChild = "plan-child"

func (a *App) benchPlan() *cobra.Command {
	o := bench.PlanOptions{}
	c := &cobra.Command{
		Use:   "plan [FILE]",
		Short: "processor time and memory of planning a file, against SHA-256",
		Long: `Plans FILE, or a program of 1 GiB that is made for it, and hashes it with SHA-256,
in turn and in one process, and prints the processor time (user and system) of
both, and the peak memory of a process that plans it and does nothing else.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("FILE")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.File = args[0]
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Child, o.Progress = []string{self, "bench", benchChild}, a.benchProgress()
			rep, err := bench.Plan(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(rep, func(w io.Writer) {
				fmt.Fprintf(w, "%s, %d bytes\nplan     %.3f s of processor time\nSHA-256  %.3f s\nratio    %.2f\nmemory   %.1f MiB at its peak\n",
					rep.Format, rep.Bytes, rep.PlanCPU, rep.HashCPU, rep.Ratio, float64(rep.PeakRSS)/(1<<20))
			})
		},
	}
	c.Flags().IntVar(&o.Runs, "runs", 5, "runs of each; the median counts")
	return c
}

func (a *App) benchPlanChild() *cobra.Command {
	return &cobra.Command{
		Use: benchChild + " FILE", Hidden: true, Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return bench.PlanChild(cmd.Context(), args[0], a.Out) },
	}
}

func (a *App) benchLog() *cobra.Command {
	o := bench.LogOptions{}
	c := &cobra.Command{
		Use:   "log",
		Short: "time to verify a large log and one piece of evidence",
		Long: `Makes a log in memory: requests, three endorsements of each, and receipts, every
one with its real signature (about 2 GiB for a million entries). Then it verifies
one evidence document out of the middle, and the whole log as "greatseal log
verify" does: the tree, every signature, every quorum, every receipt.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.benchProgress()
			rep, err := bench.Log(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(rep, func(w io.Writer) {
				fmt.Fprintf(w, "%d entries, made in %.1f s\nverify --evidence  %.2f ms (%d bytes; the proof of inclusion is %d of them)\nlog verify         %.2f s, %.1f µs an entry\n",
					rep.Entries, rep.Build, rep.Evidence*1000, rep.EvidenceLen, rep.Proof, rep.Log, rep.PerEntry)
			})
		},
	}
	c.Flags().Int64Var(&o.Entries, "entries", 1_000_000, "entries of the log")
	return c
}

// benchFormatsChild is the hidden command that signs one file.
const benchFormatsChild = "format-child"

func (a *App) benchFormats() *cobra.Command {
	o := bench.FormatsOptions{}
	c := &cobra.Command{
		Use:   "formats",
		Short: "processor time and memory of signing, against the format's own tools",
		Long: `Signs files of each format, with a key in a file, in a process of its own: plan,
assemble, sign, attach, write. In the same run and with a key of the same size the
tools of the format's ecosystem that are installed sign the same files. The floor is
hashing the file with SHA-256; for archives, inflating and hashing every entry.

Times are processor time of whole processes, user and system, the median of the
runs; "wall" is our time on the clock, and the same with one core. Beside their
ratio stand that of planning alone, without the writing of the file, and that of
hashing in memory, which has no serial part, at that time: it says what the cores gave.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Child, o.Progress = []string{self, "bench", benchFormatsChild}, a.benchProgress()
			rep, err := bench.Formats(cmd.Context(), o)
			if err != nil {
				return missing(err)
			}
			return a.print(rep, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "FORMAT\tMiB\tENTRIES\tCPU s\tFLOOR s\tRATIO\tPEAK MiB\tWALL s\tONE CORE s\tRATIO\tPLAN'S\tPERFECT\tPEER\tCPU s\tPEAK MiB")
				for _, r := range rep.Rows {
					fmt.Fprintf(t, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%.2f\t%.0f\n", r.Format, r.Bytes>>20, r.Entries, r.CPU, r.Hash, r.Ratio,
						float64(r.Peak)/(1<<20), r.Wall, r.OneCore, r.Wall/r.OneCore, r.Plan/r.PlanOneCore, r.Perfect, r.Peer, r.PeerCPU, float64(r.PeerPeak)/(1<<20))
				}
				t.Flush()
				if len(rep.Missing) > 0 {
					fmt.Fprintf(w, "not installed: %s\n", strings.Join(rep.Missing, ", "))
				}
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.Only, "only", nil, "these formats only: "+strings.Join(bench.ContestNames(), ", "))
	f.BoolVar(&o.Quick, "quick", false, "the smallest file of each format, once")
	f.IntVar(&o.Runs, "runs", 3, "runs of each; the median counts")
	f.StringVar(&o.Judges, "judges", "", "folder with peers that are not on the path, as \"make judges\" fills it")
	return c
}

func (a *App) benchFormatChild() *cobra.Command {
	return &cobra.Command{
		Use: benchFormatsChild + " FORMAT IN OUT KEY CHAIN [NAME=VALUE...]", Hidden: true, Args: cobra.MinimumNArgs(5),
		RunE: func(cmd *cobra.Command, args []string) error {
			spare() // as "greatseal sign" does
			return bench.FormatChild(cmd.Context(), args[0], args[1], args[2], args[3], args[4], args[5:], a.Out)
		},
	}
}
