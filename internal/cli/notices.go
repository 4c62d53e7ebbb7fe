package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/notices"
)

func (a *App) noticesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "notices",
		GroupID: "endorse",
		Short:   "how you are told what waits for you",
		Long: `The server tells people by mail and chat what waits for their endorsement and what
became of their requests. Where you are reached stands in the charter and in the
server's configuration; when you are told, and on which of the ways, is yours to set.

docs/operate/notify.md says who is told of what.`,
	}
	c.AddCommand(a.noticesShow(), a.noticesSet(), a.noticesTest(), a.noticesLog())
	return c
}

func (a *App) noticesShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "show how you are told",
		Args:  exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			s, err := l.NoticeSettings(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printSettings(w, s) })
		}),
	}
}

func printSettings(w io.Writer, s *wire.NoticeSettings) {
	at := printable(s.Deliver)
	if s.Deliver == "daily" {
		at += " at " + printable(s.At)
	}
	whose := "the deployment's defaults"
	if s.Set {
		whose = "your own"
	}
	field(w, "told", at+", "+printable(s.Zone)+" ("+whose+")")
	if s.QuietFrom != "" {
		field(w, "quiet", printable(s.QuietFrom)+" to "+printable(s.QuietTo))
	}
	field(w, "reached by", orText(printable(strings.Join(s.Reached, ", ")), "nothing: the charter has no address of yours, or all ways are off"))
	outcomes := "of your own requests"
	if s.Outcomes {
		outcomes += ", and of those that you have endorsed"
	}
	field(w, "outcomes", outcomes)
}

func (a *App) noticesSet() *cobra.Command {
	var deliver, at, zone, quiet string
	var ways []string
	var outcomes bool
	c := &cobra.Command{
		Use:   "set",
		Short: "set how you are told",
		Long: `Sets what is named; the rest stays.

  greatseal notices set --deliver daily --at 08:30 --zone Europe/Berlin
  greatseal notices set --quiet 20:00-07:00
  greatseal notices set --quiet none --ways mail`,
		Args: exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			f := cmd.Flags()
			if f.NFlag() == 0 || !slices.ContainsFunc([]string{"deliver", "at", "zone", "quiet", "ways", "outcomes"}, f.Changed) {
				return fail(exitUsage, "greatseal notices set --help", "nothing is set")
			}
			s, err := l.NoticeSettings(cmd.Context())
			if err != nil {
				return err
			}
			p := s.NoticePreferences
			for name, v := range map[string]struct {
				to   *string
				from string
			}{"deliver": {&p.Deliver, deliver}, "at": {&p.At, at}, "zone": {&p.Zone, zone}} {
				if f.Changed(name) {
					*v.to = v.from
				}
			}
			if f.Changed("quiet") {
				from, to, ok := strings.Cut(quiet, "-")
				switch {
				case quiet == "none":
					p.QuietFrom, p.QuietTo = "", ""
				case !ok:
					return fail(exitUsage, "--quiet 20:00-07:00, or --quiet none", "%q are no hours", quiet)
				default:
					p.QuietFrom, p.QuietTo = from, to
				}
			}
			if f.Changed("ways") {
				if p.Ways = ways; len(ways) == 1 && ways[0] == "all" {
					p.Ways = nil
				}
			}
			if f.Changed("outcomes") {
				p.Outcomes = outcomes
			}
			if err := (notices.Preferences{Deliver: p.Deliver, At: p.At, Zone: p.Zone, QuietFrom: p.QuietFrom, QuietTo: p.QuietTo, Ways: p.Ways}).Check(); err != nil {
				return fail(exitUsage, "greatseal notices set --help", "%v", err)
			}
			if s, err = l.SetNoticePreferences(cmd.Context(), p); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printSettings(w, s) })
		}),
	}
	f := c.Flags()
	f.StringVar(&deliver, "deliver", "", "immediate, hourly or daily: the latter two are one mail that lists what waits")
	f.StringVar(&at, "at", "", "time of day of daily, HH:MM")
	f.StringVar(&zone, "zone", "", "your time zone, as Europe/Berlin")
	f.StringVar(&quiet, "quiet", "", "hours in which you are told nothing, as 20:00-07:00; or none")
	f.StringSliceVar(&ways, "ways", nil, "mail, chat, or all")
	f.BoolVar(&outcomes, "outcomes", false, "tell also what became of requests that you have endorsed or disapproved")
	must(c.RegisterFlagCompletionFunc("deliver", cobra.FixedCompletions([]string{"immediate", "hourly", "daily"}, cobra.ShellCompDirectiveNoFileComp)))
	must(c.RegisterFlagCompletionFunc("ways", cobra.FixedCompletions([]string{"mail", "chat", "all"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (a *App) noticesTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test",
		Short: "have a test message sent to you",
		Args:  exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			ways, err := l.TestNotices(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(wire.NoticeTest{Ways: ways}, func(w io.Writer) {
				fmt.Fprintf(w, "a test message is on its way by %s\n", printable(strings.Join(ways, " and ")))
			})
		}),
	}
}

func (a *App) noticesLog() *cobra.Command {
	return &cobra.Command{
		Use:   "log ID",
		Short: "show who was told about a request, and when",
		Long:  "Shows who was told about a request on which way, and what came of it. It is for its requester and for officers.",
		Args:  exactly("ID"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			id, err := idOf(args[0])
			if err != nil {
				return err
			}
			list, err := l.Told(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.print(wire.ToldList{Notices: list}, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "nobody was told")
				}
				for _, t := range list {
					fmt.Fprintln(w, toldLine(t))
				}
			})
		}),
	}
}

// toldLine is one message in words.
func toldLine(t wire.Told) string {
	to := strings.TrimSpace(printable(t.Recipient) + " by " + printable(t.Way))
	if place, ok := strings.CutPrefix(t.Way, "channel:"); ok {
		to = "channel " + printable(place)
	} else if t.Way == "digest" || t.Way == "none" {
		to = printable(t.Recipient)
	}
	s := when(t.Updated) + " " + printable(t.Event) + " to " + to + ": " + printable(t.State)
	if t.Error != "" {
		s += " (" + printable(t.Error) + ")"
	}
	return s
}

// toldSummary says in a line whom the server has told, and when last.
func toldSummary(list []wire.Told) string {
	type one struct {
		who  string
		when string
	}
	var out []one
	failed := 0
	for _, t := range list {
		switch t.State {
		case "sent":
			who := t.Recipient
			if who == "" {
				who = t.Way
			}
			out = slices.DeleteFunc(out, func(o one) bool { return o.who == who })
			out = append(out, one{who, when(t.Updated)})
		case "failed", "unsure":
			failed++
		}
	}
	var parts []string
	for _, o := range out[max(0, len(out)-8):] {
		parts = append(parts, printable(o.who)+" "+o.when)
	}
	if len(out) > 8 {
		parts = append([]string{fmt.Sprintf("%d others", len(out)-8)}, parts...)
	}
	s := strings.Join(parts, ", ")
	if failed > 0 {
		s = strings.TrimPrefix(s+fmt.Sprintf("; %d could not be told: greatseal notices log", failed), "; ")
	}
	return s
}
