package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/client"
)

func (a *App) inboxCommand() *cobra.Command {
	var watch bool
	var k paging
	c := &cobra.Command{
		Use:     "inbox",
		GroupID: "endorse",
		Short:   "list the requests that wait for your endorsement",
		Long: `Lists the open requests to which your endorsement would still count. With --watch,
new ones are shown as they come, with --json one document a line.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch && (k.limit != 0 || k.after != "") {
				return fail(exitUsage, "leave one of them out", "--watch shows everything: it has no pages")
			}
			if err := k.check(); err != nil {
				return err
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			if watch {
				return l.watchInbox(cmd.Context())
			}
			list, err := l.Inbox(cmd.Context(), 0)
			if err != nil {
				return err
			}
			page, err := k.cut(list)
			if err != nil {
				return err
			}
			return a.printPage(page, "nothing waits for you")
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing new ones as they come")
	k.flags(c)
	return c
}

// inboxPoll is how often an inbox that is not empty is looked at: the server
// answers at once as long as anything is in it.
const inboxPoll = 2 * time.Second

func (l *link) watchInbox(ctx context.Context) error {
	seen := map[string]bool{}
	for {
		wait := time.Minute
		if len(seen) > 0 {
			wait = 0
		}
		list, err := l.Inbox(ctx, wait)
		var away *client.AwayError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &away):
			l.app.note("%v; trying again", err)
		case err != nil:
			return err
		}
		now := map[string]bool{}
		for _, v := range slices.Backward(list) { // the oldest first
			now[v.ID] = true
			if seen[v.ID] {
				continue
			}
			if l.app.json {
				err = l.app.printLine(v)
			} else {
				_, err = fmt.Fprintf(l.app.Out, "%s  %s, asked by %s, until %s\n", short(v.ID), printable(what(v.Command)), printable(v.Requester), when(v.Expires))
			}
			if err != nil {
				return err
			}
		}
		if away == nil {
			seen = now
		}
		if wait == 0 || away != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(inboxPoll):
			}
		}
	}
}
