package cli

import (
	"context"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

func (a *App) consoleCommand() *cobra.Command {
	var show bool
	c := &cobra.Command{
		Use:     "console",
		GroupID: "run",
		Short:   "open the server's pages in your browser",
		Long: `Signs you in to the server's console with the key that you log in with here, and
opens it in your browser. The page asks before it signs you in; the code in its
address is good once, within a minute.

In the browser you see what this command line shows. To endorse there you need a
passkey that the charter has of yours (greatseal passkey).`,
		Args: exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			if strings.HasPrefix(l.cfg.Server, "unix:") {
				return fail(exitUsage, "set \"server\" to the address that browsers reach", "the server is reached through a socket here: browsers do not take that road")
			}
			in, err := l.ConsoleLink(cmd.Context())
			if err != nil {
				return err
			}
			at := in.URL + "#" + in.Code
			if show {
				return a.print(in, func(w io.Writer) { fmt.Fprintln(w, printable(at)) })
			}
			if err := browse(cmd.Context(), at); err != nil {
				return fail(exitFailed, "greatseal console --print", "no browser could be opened: %v", err)
			}
			return a.print(map[string]string{"url": in.URL}, func(w io.Writer) {
				fmt.Fprintf(w, "your browser has the page %s\n", printable(in.URL))
			})
		}),
	}
	c.Flags().BoolVar(&show, "print", false, "print the address, which is a secret for a minute, instead of opening a browser")
	return c
}

// browse opens a page. Its address holds a secret, so it travels in a file that others
// do not read, not among the arguments of a program.
func browse(ctx context.Context, at string) error {
	f, err := os.CreateTemp("", "greatseal-*.html")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\"><meta http-equiv=\"refresh\" content=\"0;url=%s\">\n", html.EscapeString(at))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	name, args := "xdg-open", []string{f.Name()}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", f.Name()}
	}
	if err := exec.CommandContext(ctx, name, args...).Run(); err != nil {
		return err
	}
	// The browser reads the file when it gets to it.
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
	}
	return nil
}

func (a *App) sessionsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "sessions",
		GroupID: "run",
		Short:   "who is signed in to the console",
		Long:    `The browsers in which you are signed in to the server's console; an administrator of the server sees everybody's.`,
	}
	c.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "list the sessions that you may see",
		Args:  exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.ConsoleSessions(cmd.Context())
			if err != nil {
				return err
			}
			if list == nil {
				list = []wire.ConsoleSession{}
			}
			return a.print(list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"SESSION", "PERSON", "THROUGH", "SINCE", "USED", "UNTIL", "BROWSER"}}
				for _, x := range list {
					t.row(x.ID, x.Person, x.Via, when(x.Created), when(x.Seen), when(x.Expires), x.Agent)
				}
				t.write(w)
			})
		}),
	}, &cobra.Command{
		Use:   "end SESSION",
		Short: "end a session, by its ID",
		Args:  exactly("SESSION"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			if err := l.EndConsoleSession(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"ended": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "session %s has ended\n", printable(args[0])) })
		}),
	})
	return c
}
