package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// scopes of tokens, and what they allow.
var scopes = []string{"request", "read", "log", "inspect", "metrics", "admin"}

func (a *App) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "token",
		GroupID: "run",
		Short:   "bearer tokens for machines",
		Long: `A token lets a machine reach the server where it has no client certificate
($GREATSEAL_TOKEN). It can neither request nor endorse: those are signatures.`,
	}
	c.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenDelete())
	return c
}

func (a *App) tokenCreate() *cobra.Command {
	var t wire.NewToken
	var expires, out string
	c := &cobra.Command{
		Use:   "create --principal NAME --scope SCOPE",
		Short: "make a token; it is shown once",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.Principal == "" || len(t.Scopes) == 0 {
				return fail(exitUsage, "greatseal token create --principal ci --scope request,read", "--principal and --scope are wanted")
			}
			for _, s := range t.Scopes {
				if !slices.Contains(scopes, s) {
					return fail(exitUsage, orText(suggest(s, scopes), "--scope "+strings.Join(scopes, ",")), "there is no scope %q", s)
				}
			}
			var err error
			if t.Expires, err = a.moment("expires", expires, false); err != nil {
				return err
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			made, err := l.CreateToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			if out != "" {
				if err := file.WriteFile(out, []byte(made.Secret+"\n"), 0o600); err != nil {
					return err
				}
				made.Secret = ""
			}
			return a.print(made, func(w io.Writer) {
				if out != "" {
					fmt.Fprintf(w, "token %s of %s, until %s, is in %s\n", printable(made.ID), printable(made.Principal), when(made.Expires), printable(out))
					return
				}
				a.note("token %s of %s, until %s; it is shown once", printable(made.ID), printable(made.Principal), when(made.Expires))
				fmt.Fprintln(w, printable(made.Secret))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&t.Principal, "principal", "", "machine or person of the charter that it stands for")
	f.StringSliceVar(&t.Scopes, "scope", nil, "what it may: "+strings.Join(scopes, ", "))
	f.StringVar(&expires, "expires", "2160h", "when it ends: a duration, or a day")
	f.StringVarP(&out, "out", "o", "", "file for the token, readable by you alone (default: standard output)")
	must(c.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(scopes, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (a *App) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the tokens that you may see",
		Args:  exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if list == nil {
				list = []wire.Token{}
			}
			return a.print(list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"TOKEN", "PRINCIPAL", "SCOPES", "MADE", "UNTIL"}}
				for _, x := range list {
					t.row(x.ID, x.Principal, strings.Join(x.Scopes, ", "), when(x.Created), when(x.Expires))
				}
				t.write(w)
			})
		}),
	}
}

func (a *App) tokenDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOKEN",
		Short: "end a token, by its ID",
		Args:  exactly("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.HasPrefix(args[0], "gs_") {
				return fail(exitUsage, "greatseal token list shows the IDs", "give the ID of the token, not the token: arguments are no place for secrets")
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			if err := l.DeleteToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "token %s has ended\n", printable(args[0])) })
		},
	}
}
