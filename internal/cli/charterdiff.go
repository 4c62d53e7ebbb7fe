package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
)

func (a *App) charterDiff() *cobra.Command {
	var request string
	c := &cobra.Command{
		Use:   "diff OLD NEW|--request ID",
		Short: "say what a new charter changes, and what becomes weaker",
		Long: `Compares two charters: files, or the charter that a request for charter.replace
carries with the one before it in the chain.`,
		Args: func(c *cobra.Command, args []string) error {
			if request != "" {
				return exactly()(c, args)
			}
			return exactly("OLD", "NEW")(c, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			old, next, err := a.twoCharters(cmd.Context(), request, args)
			if err != nil {
				return err
			}
			d := charter.Diff(old, next)
			return a.print(d, func(w io.Writer) {
				for _, c := range d {
					fmt.Fprintln(w, printable(c.String()))
				}
				if len(d) == 0 {
					fmt.Fprintln(w, "no difference")
				}
			})
		},
	}
	c.Flags().StringVar(&request, "request", "", "the charter that this request carries, compared with the one that it follows")
	return c
}

func (a *App) twoCharters(ctx context.Context, request string, args []string) (old, next *charter.Charter, err error) {
	if request == "" {
		if old, _, _, err = readCharter(args[0]); err != nil {
			return nil, nil, err
		}
		next, _, _, err = readCharter(args[1])
		return old, next, err
	}
	l, err := a.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	return l.carried(ctx, request)
}

// carried is the charter that a request carries, as its author signed it, and the one
// that it follows.
func (l *link) carried(ctx context.Context, request string) (old, next *charter.Charter, err error) {
	id, err := idOf(request)
	if err != nil {
		return nil, nil, err
	}
	v, err := l.Request(ctx, id, false)
	if err != nil {
		return nil, nil, err
	}
	env, err := l.Envelopes(ctx, v.ID)
	if err != nil {
		return nil, nil, err
	}
	r, got, err := l.statementOf(ctx, env.Request)
	if err != nil {
		return nil, nil, err
	}
	if got.String() != v.ID {
		return nil, nil, fail(exitUnverified, "tell the server's administrator", "the server answers with another request (%s)", short(got.String()))
	}
	if r.Command.Charter == nil {
		return nil, nil, fail(exitFailed, "greatseal request list --command charter.replace", "request %s is to %s: it carries no charter", short(v.ID), what(r.Command))
	}
	if next, err = charter.Decode(r.Command.Charter.Statement); err != nil {
		return nil, nil, err
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, nil, err
	}
	old, ref, err := chain.Version(next.Version - 1)
	if err != nil || ref.ID != next.Previous {
		return nil, nil, fail(exitFailed, "", "the charter of request %s follows one that is not in the chain", short(v.ID))
	}
	return old, next, nil
}
