package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/bench"
)

func (a *App) benchConsole() *cobra.Command {
	var o bench.ConsoleOptions
	c := &cobra.Command{
		Use:   "console",
		Short: "bytes and milliseconds of every page of the console, at scale",
		Long: fmt.Sprintf(`Makes a deployment that has been at work for a year (20 people, 40 policies,
requests of about three files in every state, endorsements, receipts, a log with its
tiles; changes of the charter, passkeys that wait, sessions; security jobs, a queue of
10 000 orders for 1 000 agents, their rejections, findings), starts the server's real
handlers with the consoles over it, that of a server of requests and that of a
protected instance, signs in, and gets every page that there is. Those for people who
are not signed in are got without cookies.

FIRST is what a first visit transfers: the page and the styles and scripts that it
loads, compressed as a browser asks for it. PAGE is the page alone, which is all that
later visits transfer. Times are from the call of the handler to the end of its
answer, without a network. The exit code is not 0 when a page transfers more than
%d bytes, takes more than %.0f ms in the median, or is not what it should be. What the
machine's host gave to others meanwhile stands below the table: where it is more than
a few percent, times say more about the host than about the pages.

Without --database it measures SQLite and a PostgreSQL server of its own, which is
removed. --dir keeps what was made of SQLite for the next run. A database that is
named is used as it is when it was made by an earlier run with the same --dir, and
must be empty otherwise.`, bench.PageBytes, bench.PageTime),
		Example: `  greatseal bench console --dir /var/tmp/town
  greatseal bench console --requests 1000 --entries 10000 --database sqlite:`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.benchProgress()
			rep, err := bench.Console(cmd.Context(), o)
			if err != nil {
				return missing(err)
			}
			if err := a.print(rep, func(w io.Writer) { printPages(w, rep) }); err != nil {
				return err
			}
			if bad := rep.Exceeding(true, true); len(bad) > 0 {
				return fail(exitFailed, "the table says which, and of what", "%d pages exceed what a page may cost", len(bad))
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.Requests, "requests", 100_000, "requests to sign")
	f.Int64Var(&o.Entries, "entries", 1_000_000, "entries of the log")
	f.StringArrayVar(&o.Databases, "database", nil, "sqlite:[PATH] or postgres://…; may be given several times")
	f.StringVar(&o.Dir, "dir", "", "folder in which what was made is kept for the next run")
	f.IntVar(&o.Runs, "runs", 20, "times that each page is got")
	return c
}

func printPages(w io.Writer, rep *bench.ConsoleReport) {
	fmt.Fprintf(w, "%d requests, %d entries of the log\n", rep.Requests, rep.Entries)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DATABASE\tCONSOLE\tPAGE\tSTATUS\tKIND\tFIRST bytes\tPAGE bytes\tMEDIAN ms\tP99 ms\tEXCEEDS")
	for _, p := range rep.Pages {
		page := []rune(p.Page)
		if len(page) > 72 {
			page = append(page[:71], '…')
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%.1f\t%.1f\t%s\n", p.Database, p.Console, string(page), p.Status, p.Kind, p.First, p.HTML, p.Median, p.P99, p.Exceeds)
	}
	t.Flush()
	if rep.Stolen > 0 {
		fmt.Fprintf(w, "meanwhile the machine's host gave %.1f %% of the processors' time to others\n", rep.Stolen)
	}
	for _, k := range rep.Skipped {
		fmt.Fprintf(w, "not measured: %s of %s: %s\n", k.Route, k.Console, k.Reason)
	}
}
