package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/bench"
)

func (a *App) benchRecords() *cobra.Command {
	o := bench.RecordsOptions{}
	c := &cobra.Command{
		Use:   "records",
		Short: "signing every record of a table, against plain SQL",
		Long: `Fills a table of data sources in a temporary PostgreSQL and signs every record of it
with one security job: three people and a machine have their part in the request, a
software key (P-256) signs the root, and the job is over when all signatures can be
read. In the same run, once before and once after, the floor: one program that reads
the signed columns of the same rows and copies a row of the size of a signature for
each into a table with the same indexes, both at once, in one transaction.

The peak memory is that of this process, with server, keeper and job in it; the
database is not. The times of verification are processor time of one record with its
proof: with the signed root known from before, and with nothing known.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.benchProgress()
			rep, err := bench.Records(cmd.Context(), o)
			if err != nil {
				return missing(err)
			}
			return a.print(rep, func(w io.Writer) {
				fmt.Fprintf(w, "%d records, statements of %d bytes\nsign       %.2f s (%.2f s of it until the plan was handed in)\nplain SQL  %.2f s\nratio      %.2f\nmemory     %.1f MiB at its peak\nverify     %.1f µs, %.1f µs without its root\n",
					rep.Records, rep.Statement, rep.Sign, rep.Prepare, rep.Floor, rep.Ratio, float64(rep.PeakRSS)/(1<<20), rep.Cached, rep.Cold)
			})
		},
	}
	c.Flags().IntVar(&o.Records, "records", 1_000_000, "records of the table")
	return c
}
