package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/replay"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) charterReplay() *cobra.Command {
	var since, request string
	var newest int
	c := &cobra.Command{
		Use:   "replay CHARTER.yaml|--request ID",
		Short: "say what a new charter would have decided otherwise",
		Long: `Judges past requests, with the endorsements that they got, under a charter that is
only proposed, and lists those that would have ended otherwise, with the reason; and
those that wait, if it would let them through or stop them. Of each policy and each
command the newest 1000 requests are judged (--newest says how many).`,
		Args: oneOrRequest(&request),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			from, err := a.moment("since", since, true)
			if err != nil {
				return err
			}
			if newest < 1 || newest > 100_000 {
				return fail(exitUsage, "--newest 1000", "--newest %d: want 1 to 100000", newest)
			}
			var next *charter.Charter
			if request != "" {
				_, next, err = l.carried(ctx, request)
			} else {
				next, _, err = l.proposal(ctx, args[0], false)
			}
			if err != nil {
				return err
			}
			rep, err := l.replay(ctx, next, replay.Options{Now: a.Now(), Since: from, PerRule: newest, Total: 1 << 30})
			if err != nil {
				return err
			}
			return a.print(rep, func(w io.Writer) { printReplay(w, rep) })
		}),
	}
	c.Flags().StringVar(&since, "since", "", "requests made since: 2026-01-31, or 720h (default: all)")
	c.Flags().StringVar(&request, "request", "", "the charter that a request for charter.replace carries")
	c.Flags().IntVar(&newest, "newest", replay.DefaultPerRule, "requests of each policy and each command that are judged")
	return c
}

// oneOrRequest wants one file, or a request.
func oneOrRequest(request *string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if *request != "" {
			return exactly()(c, args)
		}
		return exactly("CHARTER.yaml")(c, args)
	}
}

func printReplay(w io.Writer, r *replay.Report) {
	fmt.Fprintf(w, "%s judged, %d would have ended otherwise\n", count(r.Judged, "request"), r.Differ)
	if len(r.Sampled) > 0 {
		fmt.Fprintf(w, "a sample: the newest %d alone of %s\n", r.PerRule, strings.Join(r.Sampled, ", "))
	}
	if r.Nameless > 0 {
		fmt.Fprintf(w, "%s of many files: their names and options were not judged\n", count(r.Nameless, "request"))
	}
	if len(r.Otherwise) == 0 {
		return
	}
	t := &table{head: []string{"REQUEST", "WHAT", "REQUESTER", "WAS", "WOULD BE", "WHY"}}
	for _, d := range r.Otherwise {
		why := d.Why
		if d.Already {
			why += " (under the charter in force too)"
		}
		t.row(short(d.Request), d.What, d.Requester, d.Was, d.Would, why)
	}
	t.write(w)
}

func (l *link) replay(ctx context.Context, next *charter.Charter, o replay.Options) (*replay.Report, error) {
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	m := l.app.meter("judging", -1, false)
	defer m.end()
	o.Step, o.Cache = func() { m.add(1) }, quorum.NewCache(1<<12)
	rep, err := replay.Run(ctx, chain, next, pastOf{l}, o)
	if errors.Is(err, charter.ErrCharter) {
		return nil, fail(exitRefused, "greatseal charter check", "%v", err)
	}
	return rep, err
}

// pastOf is what a server tells of its requests.
type pastOf struct{ l *link }

func (s pastOf) Past(ctx context.Context, cmd statement.CommandName, policy string, since time.Time, limit int) ([]replay.Past, error) {
	var out []replay.Past
	f := client.Filter{Command: string(cmd), Policy: policy, Since: since}
	for len(out) < limit {
		f.Limit = min(1000, limit-len(out))
		page, err := s.l.Requests(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Requests {
			id, err := statement.ParseID(v.ID)
			if err != nil {
				return nil, err
			}
			out = append(out, replay.Past{ID: id, Command: v.Command.Name, Policy: policy, Key: v.Command.KeyName(), Requester: v.Requester,
				Count: v.Count, State: v.State, Code: v.Code, Updated: v.Updated, Expires: v.Expires})
		}
		if f.Before = page.Next; page.Next == "" {
			break
		}
	}
	return out[:min(limit, len(out))], nil
}

func (s pastOf) Evidence(ctx context.Context, id statement.ID) (quorum.Evidence, error) {
	env, err := s.l.Envelopes(ctx, id.String())
	if err != nil {
		return quorum.Evidence{}, err
	}
	ev := quorum.Evidence{Request: env.Request}
	for _, e := range env.Endorsements {
		ev.Endorsements = append(ev.Endorsements, e)
	}
	return ev, nil
}

func (s pastOf) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	return s.l.Items(ctx, id.String())
}
