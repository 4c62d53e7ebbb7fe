package cli

import (
	"crypto/rand"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/bench"
	"github.com/greatseal-io/greatseal/internal/console/logs"
	"github.com/greatseal-io/greatseal/internal/console/notices"
	"github.com/greatseal-io/greatseal/internal/console/passkeys"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/search"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

func (a *App) benchConsole() *cobra.Command {
	o := bench.ConsoleOptions{Areas: benchAreas}
	c := &cobra.Command{
		Use:   "console",
		Short: "bytes and milliseconds of every page of the console, at scale",
		Long: fmt.Sprintf(`Makes a deployment that has been at work for a year (20 people, 40 policies,
requests of about three files in every state, endorsements, receipts, a log with its
tiles), starts the server's real handler with the console over it, signs in, and gets
every page that there is.

FIRST is what a first visit transfers: the page and the styles and scripts that it
loads, compressed as a browser asks for it. PAGE is the page alone, which is all that
later visits transfer. Times are from the call of the handler to the end of its
answer, without a network. The exit code is not 0 when a page transfers more than
%d bytes, or takes more than %.0f ms in the median.

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

// benchAreas are those of a server of requests, as openConsole has them.
func benchAreas(s *server.Server, st *store.SQL, counts *analysis.Analysis) ([]web.Area, error) {
	reg, err := registration.New(registration.Config{Chain: s.Chain, Store: st, Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	return []web.Area{notices.Area(s), passkeys.Area(reg, st), requests.Area(s, st), search.Area(s, st, counts), logs.Area(s, st)}, nil
}

func printPages(w io.Writer, rep *bench.ConsoleReport) {
	fmt.Fprintf(w, "%d requests, %d entries of the log\n", rep.Requests, rep.Entries)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DATABASE\tPAGE\tSTATUS\tKIND\tFIRST bytes\tPAGE bytes\tMEDIAN ms\tP99 ms\tEXCEEDS")
	for _, p := range rep.Pages {
		page := []rune(p.Page)
		if len(page) > 72 {
			page = append(page[:71], '…')
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%.1f\t%.1f\t%s\n", p.Database, string(page), p.Status, p.Kind, p.First, p.HTML, p.Median, p.P99, p.Exceeds)
	}
	t.Flush()
}
