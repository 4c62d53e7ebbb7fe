package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func (a *App) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "login",
		GroupID: "run",
		Short:   "get a session with your SSH key",
		Long: `Proves who you are with a key that the charter has for you, and keeps the session in
your cache folder. Other commands log in by themselves when they must. A session
shows things and hands in what you have signed; it can neither request nor endorse.
With a client certificate in the configuration no session is needed.`,
		Args: exactly(),
		RunE: a.outside(func(cmd *cobra.Command, l *link, _ []string) error {
			type result struct {
				Name    string    `json:"name"`
				Via     string    `json:"via"`
				Scopes  []string  `json:"scopes"`
				Expires time.Time `json:"expires,omitzero"`
			}
			if l.cfg.Cert != "" {
				st, err := l.Status(cmd.Context())
				if err != nil {
					return err
				}
				if st.You.Name == "" {
					return fail(exitFailed, "greatseal tls issue NAME makes one that names you", "the server does not know the client certificate %s", l.cfg.Cert)
				}
				return a.print(result{Name: st.You.Name, Via: st.You.Via, Scopes: st.You.Scopes}, func(w io.Writer) {
					fmt.Fprintf(w, "the client certificate is enough: you are %s\n", printable(st.You.Name))
				})
			}
			s, err := l.login(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(result{s.Name, "session", s.Scopes, s.Expires}, func(w io.Writer) {
				fmt.Fprintf(w, "you are %s until %s\n", printable(s.Name), when(s.Expires))
			})
		}),
	}
}

func (a *App) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "logout",
		GroupID: "run",
		Short:   "end the session",
		Args:    exactly(),
		RunE: a.outside(func(cmd *cobra.Command, l *link, _ []string) error {
			s := readSession(l.cfg, a.Now())
			had := s != nil
			if had {
				l.SetToken(s.Token) // that one, whatever else names the user
				l.Renew(nil)
				if err := l.Logout(cmd.Context()); err != nil {
					a.note("the server was not told: %v", err)
				}
			}
			if err := dropSession(l.cfg); err != nil {
				return err
			}
			return a.print(map[string]bool{"ended": had}, func(w io.Writer) {
				if had {
					fmt.Fprintln(w, "the session has ended")
				} else {
					fmt.Fprintln(w, "there is no session")
				}
			})
		}),
	}
}
