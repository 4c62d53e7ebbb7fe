package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/workload"
)

// issuerClient asks issuers, and believes the roots in a file besides the system's.
func issuerClient(ca string) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(b) {
			return nil, fail(exitUsage, "want PEM certificates", "%s holds no certificate", ca)
		}
		t.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{Transport: t, Timeout: time.Minute}, nil
}

// watchIssuers is who looks at the issuers of the charter in force.
func watchIssuers(c *config.Server, o *office, log *slog.Logger) (*issuer.Watch, error) {
	h, err := issuerClient(c.Issuers.CA)
	if err != nil {
		return nil, err
	}
	return &issuer.Watch{Charter: o.server.Charter, Store: o.store, HTTP: h, Clock: time.Now, Logger: log}, nil
}

func (a *App) charterIssuers() *cobra.Command {
	c := &cobra.Command{
		Use:   "issuers",
		Short: "compare the pinned keys of CI with those that are published",
		Long: `The charter pins the public keys of the issuers whose ID tokens machines sign with:
those of GitHub Actions, of a GitLab, of any other OpenID Connect issuer. Issuers change
their keys now and then: a token by a key that is not pinned is refused.`,
	}
	c.AddCommand(a.issuersCheck(), a.issuersDraft())
	return c
}

// issuing are the flags of both.
type issuing struct {
	ca, out string
	add     map[string]string
	prune   bool
}

// charterOf is the charter of a file, or the one in force.
func (a *App) charterOf(ctx context.Context, args []string) (*charter.Charter, error) {
	if len(args) > 0 {
		c, _, _, err := readCharter(args[0])
		return c, err
	}
	l, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	head, _ := chain.Head()
	return head, nil
}

func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fail(exitUsage, c.CommandPath()+" --help", "want at most one %s", name)
		}
		return nil
	}
}

func (a *App) issuersCheck() *cobra.Command {
	k := &issuing{}
	c := &cobra.Command{
		Use:   "check [CHARTER.yaml]",
		Short: "say which keys are new and which are stale",
		Long: `Asks every issuer of the charter in force, or of a file, for the keys that it
publishes, from this machine. Exit code 5 says that an issuer publishes a key which is
not pinned, 6 that one does not answer.`,
		Args: atMostOne("CHARTER.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.checkIssuers(cmd.Context(), k, args) },
	}
	c.Flags().StringVar(&k.ca, "ca", "", "PEM file of roots besides the system's")
	return c
}

func (a *App) checkIssuers(ctx context.Context, k *issuing, args []string) error {
	c, err := a.charterOf(ctx, args)
	if err != nil {
		return err
	}
	h, err := issuerClient(k.ca)
	if err != nil {
		return err
	}
	out := wire.Issuers{Issuers: []issuer.State{}}
	var away, behind []string
	for _, name := range sortedNames(c.Issuers) {
		i := c.Issuers[name]
		s := issuer.State{Report: issuer.Report{Name: name, URL: i.URL, Pinned: []string{}}, Tried: a.Now().UTC()}
		f, err := issuer.Fetch(ctx, h, i.URL)
		if err != nil {
			s.Problem = err.Error()
			away = append(away, name)
		} else {
			s.Seen, s.Report = s.Tried, *issuer.Compare(name, i, f)
			if !s.Current() {
				behind = append(behind, name)
			}
		}
		out.Issuers = append(out.Issuers, s)
	}
	if err := a.print(out, func(w io.Writer) {
		if len(out.Issuers) == 0 {
			fmt.Fprintln(w, "the charter has no issuers")
		}
		for _, s := range out.Issuers {
			fmt.Fprintf(w, "%s  %s\n", printable(s.Name), printable(s.URL))
			for _, l := range []struct {
				what string
				keys []string
			}{{"pinned", s.Pinned}, {"new, not pinned", s.New}, {"stale, no longer published", s.Stale}, {"CHANGED under its ID", s.Changed}, {"cannot be pinned", s.Skipped}} {
				for _, x := range l.keys {
					fmt.Fprintf(w, "  %s: %s\n", l.what, printable(x))
				}
			}
			if s.Problem != "" {
				fmt.Fprintf(w, "  does not answer: %s\n", printable(s.Problem))
			}
		}
	}); err != nil {
		return err
	}
	switch {
	case len(behind) > 0:
		return fail(exitUnverified, "greatseal charter issuers draft --out CHARTER.yaml", "%s publishes keys that are not pinned: tokens by them are refused", strings.Join(behind, ", "))
	case len(away) > 0:
		return fail(exitUnavailable, "try again; --ca names the roots of an issuer of your own", "%s cannot be asked", strings.Join(away, ", "))
	}
	return nil
}

func (a *App) issuersDraft() *cobra.Command {
	k := &issuing{}
	c := &cobra.Command{
		Use:   "draft [CHARTER.yaml]",
		Short: "write a charter with the keys that are published now",
		Long: `Takes the charter in force, or a file, and pins the keys that its issuers publish now,
as this machine sees them. Keys that are no longer published stay, because requests that
wait are signed with them, unless --prune drops them. Read the difference, and propose
it: greatseal charter propose. A key that is pinned and has changed under its ID stops
the draft: ask the issuer's operator.`,
		Example: `  greatseal charter issuers draft --out charter.yaml
  greatseal charter issuers draft --add github=https://token.actions.githubusercontent.com --out charter.yaml`,
		Args: atMostOne("CHARTER.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.draftIssuers(cmd.Context(), k, args) },
	}
	f := c.Flags()
	f.StringVar(&k.ca, "ca", "", "PEM file of roots besides the system's")
	f.StringVarP(&k.out, "out", "o", "", "file to write (default: standard output)")
	f.StringToStringVar(&k.add, "add", nil, "add an issuer, NAME=URL; repeatable")
	f.BoolVar(&k.prune, "prune", false, "drop keys that are no longer published")
	return c
}

func (a *App) draftIssuers(ctx context.Context, k *issuing, args []string) error {
	old, err := a.charterOf(ctx, args)
	if err != nil {
		return err
	}
	h, err := issuerClient(k.ca)
	if err != nil {
		return err
	}
	next := *old
	next.Issuers = map[string]charter.Issuer{}
	maps.Copy(next.Issuers, old.Issuers)
	for n, u := range k.add {
		if have, ok := next.Issuers[n]; ok && have.URL != u {
			return fail(exitUsage, "give the new one another name", "issuer %s is %s", n, have.URL)
		}
		if err := credential.CheckIssuer(u); err != nil {
			return fail(exitUsage, "--add NAME=https://HOST", "%v", err)
		}
		if _, ok := next.Issuers[n]; !ok {
			next.Issuers[n] = charter.Issuer{URL: u}
		}
	}
	if len(next.Issuers) == 0 {
		return fail(exitUsage, "--add github=https://token.actions.githubusercontent.com", "the charter has no issuers")
	}
	for _, n := range sortedNames(next.Issuers) {
		f, err := issuer.Fetch(ctx, h, next.Issuers[n].URL)
		if err != nil {
			return fail(exitUnavailable, "try again; --ca names the roots of an issuer of your own", "%v", err)
		}
		i, err := issuer.Pin(next.Issuers[n], f, k.prune)
		if err != nil {
			return fail(exitUnverified, "ask the issuer's operator before anything else", "%v", err)
		}
		next.Issuers[n] = i
	}
	if err := next.Check(); err != nil {
		return err
	}
	y, err := next.YAML()
	if err != nil {
		return err
	}
	for _, c := range charter.Diff(old, &next) {
		a.note("%s", c)
	}
	if k.out == "" {
		_, err = a.Out.Write(y)
		return err
	}
	if err := file.WriteFile(k.out, y, 0o644); err != nil {
		return err
	}
	a.note("greatseal charter propose %s asks for it", k.out)
	return nil
}

// workload is this job as somebody of the charter. Where the machine has several
// workloads, it is the one whose token the job gets.
func (l *link) workload(ctx context.Context, head *charter.Charter) (credential.Signer, error) {
	src, err := workload.Open(l.cfg.Identity, workload.World{Getenv: os.Getenv})
	if err != nil {
		return nil, fail(exitUsage, "greatseal --help shows how identities are named", "%v", err)
	}
	var all []*credential.OIDC
	for _, x := range head.Machines[l.cfg.Name].Credentials {
		if x.OIDC == nil {
			continue
		}
		c, err := head.Credential(x)
		if err != nil {
			return nil, err
		}
		all = append(all, c.(*credential.OIDC))
	}
	switch len(all) {
	case 0:
		return nil, fail(exitFailed, "an officer adds the workload to the machine: docs/operate/ci.md", "%s has no workload in the charter", l.cfg.Name)
	case 1:
		return &workload.Signer{OIDC: all[0], Source: src}, nil
	}
	var why []string
	for _, c := range all {
		s := &workload.Signer{OIDC: c, Source: src}
		tok, err := s.APIToken(ctx)
		if err == nil {
			_, err = c.Token(tok, l.app.Now().Unix())
		}
		if err == nil {
			return s, nil
		}
		if !slices.Contains(why, err.Error()) {
			why = append(why, err.Error())
		}
	}
	return nil, fail(exitFailed, "greatseal charter show "+l.cfg.Name, "this job is none of the workloads of %s: %s", l.cfg.Name, strings.Join(why, "; "))
}

// loginToken gets a session for a token with a fixed audience. A token is taken once:
// where the session of the first time was not kept, the token itself is shown.
func (l *link) loginToken(ctx context.Context, w *workload.Signer) (*wire.Session, error) {
	tok, err := w.APIToken(ctx)
	if err != nil {
		return nil, fail(exitFailed, fmt.Sprintf("the job's definition asks for it with the audience %s", w.OIDC.APIAudience()), "%v", err)
	}
	t, err := w.OIDC.Token(tok, l.app.Now().Unix())
	if err != nil {
		return nil, fail(exitFailed, "greatseal charter show "+l.cfg.Name+" shows what the token must say", "%v", err)
	}
	out, err := l.LoginToken(ctx, l.cfg.Name, tok)
	if p := (*client.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusUnauthorized {
		l.SetToken(string(tok))
		return &wire.Session{Name: l.cfg.Name, Expires: time.Unix(t.Expires, 0).UTC()}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := writeSession(l.cfg, out); err != nil {
		l.app.note("the session is not kept: %v", err)
	}
	return out, nil
}
