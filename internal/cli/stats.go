package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/analysis"
)

func (a *App) statsCommand() *cobra.Command {
	days := 30
	c := &cobra.Command{
		Use:     "stats",
		GroupID: "rule",
		Short:   "signatures, endorsements, refusals and times to quorum, counted",
		Long: `Shows what the server has counted of the audit log in the last days: files signed by
policy, key and format, who endorses how much and how quickly, how long quora take,
what was refused and why. Medians are right to within five in a hundred; --json
gives all of it.`,
		Args: exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			if days < 1 || days > 4000 {
				return fail(exitUsage, "", "--days: want 1 to 4000")
			}
			s, err := l.Stats(cmd.Context(), days)
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printStats(w, s) })
		}),
	}
	c.Flags().IntVar(&days, "days", days, "days that end today")
	return c
}

func printStats(w io.Writer, s *analysis.Summary) {
	fmt.Fprintf(w, "%s to %s, of %d entries of the log\n", s.From, s.To, s.Entries)
	if s.Behind > 0 {
		fmt.Fprintf(w, "%d entries are not counted yet\n", s.Behind)
	}
	section := func(title string, head []string, rows int, fill func(t *table)) {
		if rows == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		t := &table{head: head}
		fill(t)
		t.write(w)
	}
	lines := func(title, what string, list []analysis.Line) {
		section(title, []string{what, "NUMBER"}, len(list), func(t *table) {
			for _, x := range list {
				t.row(x.Name, x.N)
			}
		})
	}
	lines("Files signed", "POLICY", s.Policies)
	lines("Signatures", "KEY", s.Keys)
	lines("Files", "FORMAT", s.Formats)
	spreads := func(title, what string, list []analysis.Spread) {
		section(title, []string{what, "NUMBER", "MEDIAN", "90%"}, len(list), func(t *table) {
			for _, x := range list {
				t.row(x.Name, x.N, time.Duration(x.MedianSeconds)*time.Second, time.Duration(x.P90Seconds)*time.Second)
			}
		})
	}
	spreads("Time to quorum", "POLICY", s.Quorum)
	spreads("Time to endorse", "ENDORSER", s.Pace)
	lines("Endorsed", "ENDORSER", s.Endorsed)
	lines("Disapproved", "ENDORSER", s.Disapproved)
	section("Refused by the keeper", []string{"WHY", "POLICY", "NUMBER"}, len(s.Refused), func(t *table) {
		for _, x := range s.Refused {
			t.row(x.Name, x.Other, x.N)
		}
	})
	lines("Expired", "POLICY", s.Expired)
	lines("Withdrawn", "POLICY", s.Cancelled)
	section("Growth", []string{"POLICY", "BEFORE", "NOW"}, len(s.Growth), func(t *table) {
		for _, x := range s.Growth {
			t.row(x.Name, x.Before, x.Now)
		}
	})
}
