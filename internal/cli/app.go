package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/replay"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) appCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "app",
		GroupID: "rule",
		Short:   "set up a new application: policy, key, certificate, first signature",
		Long: `Leads from nothing to the first endorsed signature: a template makes the charter
change, which is proposed like every other; then the key is generated, gets its
certificate where the format wants one, and signs.

Nothing is kept of a set-up but what is in the charter, the keeper and the requests:
it can be left at any point and taken up again, by anybody, with "app status".`,
	}
	c.AddCommand(a.appTemplates(), a.appNew(), a.appStatus())
	return c
}

func (a *App) appTemplates() *cobra.Command {
	return &cobra.Command{
		Use:   "templates [TEMPLATE]",
		Short: "list the kinds of application that can be set up",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fail(exitUsage, c.CommandPath(), "want one template, or none")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			list := template.List()
			if len(args) == 1 {
				t, err := findTemplate(args[0])
				if err != nil {
					return err
				}
				list = []*template.Template{t}
			}
			return a.print(list, func(w io.Writer) {
				if len(args) == 1 {
					printTemplate(w, list[0])
					return
				}
				t := &table{head: []string{"TEMPLATE", "WHAT", "FORMATS", "KEY", "CERTIFICATE"}}
				for _, x := range list {
					t.row(x.Name, x.Title, orText(strings.Join(x.Formats, ", "), "any"), orText(algorithmNames(x), "as the formats want"), x.Certificate())
				}
				t.write(w)
			})
		},
	}
}

func algorithmNames(t *template.Template) string {
	var s []string
	for _, k := range t.Algorithms {
		s = append(s, string(k))
	}
	return strings.Join(s, ", ")
}

func printTemplate(w io.Writer, t *template.Template) {
	fmt.Fprintf(w, "%s: %s\n", t.Name, t.What)
	field(w, "formats", orText(strings.Join(t.Formats, ", "), "those of --formats"))
	field(w, "key", orText(algorithmNames(t), "as the formats want"))
	field(w, "certificate", string(t.Certificate()))
	if len(t.Names) > 0 {
		field(w, "names", strings.Join(t.Names, ", "))
	}
	for _, n := range sortedNames(t.Params) {
		field(w, "option", n+" = "+t.Params[n])
	}
	if t.Unattended {
		field(w, "endorsed by", "nobody: it is signed unattended")
	}
	for _, n := range t.Notes {
		field(w, "note", n)
	}
}

func findTemplate(name string) (*template.Template, error) {
	t, err := template.Find(name)
	if err != nil {
		var have []string
		for _, x := range template.List() {
			have = append(have, x.Name)
		}
		return nil, fail(exitUsage, orText(suggest(name, have), "greatseal app templates"), "there is no template %q", name)
	}
	return t, nil
}

// newApp are the answers of app new.
type newApp struct {
	asking
	answers template.Answers
	groups  []string
	dryRun  bool
	out     string
}

// appResult is the document of app new.
type appResult struct {
	*template.Draft
	YAML     string         `json:"yaml"`
	Replay   *replay.Report `json:"replay,omitzero"`
	Request  string         `json:"request,omitzero"`
	Attached bool           `json:"attached,omitzero"`
	State    store.State    `json:"state,omitzero"`
	Awaits   []string       `json:"awaits,omitzero"`
	Version  uint64         `json:"inForce,omitzero"` // the charter's version, once it is
	Next     string         `json:"next"`             // command
}

func (a *App) appNew() *cobra.Command {
	k := &newApp{}
	c := &cobra.Command{
		Use:   "new TEMPLATE --name NAME",
		Short: "propose the charter change of a new application",
		Long: `Makes the next version of the charter from a template and few answers, says what each
part of it means, and asks for it; it comes into force when the quorum of
charter.replace has endorsed it. What is not said is as under the policies that there
are: who asks, who endorses, who can refuse.

A quorum is written as people say it: "2 of release, 1 of security", or
"1 of (2 of release; security and release)". A name alone is a person, or one of a group.`,
		Example: `  greatseal app new windows-release --name app-windows --quorum "2 of release, 1 of security"
  greatseal app new containers --name images --key-uri "pkcs11:token=hsm;object=images" --dry-run
  greatseal app new nightly --name nightly-cms --requesters ci --names "nightly-*" --group "ci=builder"`,
		Args: exactly("TEMPLATE"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error { return l.newApp(cmd.Context(), k, args[0]) }),
	}
	f := c.Flags()
	f.StringVar(&k.answers.Name, "name", "", "of the application: its policy, and its key if that is new")
	f.StringVar(&k.answers.Description, "description", "", "of the policy, for people")
	f.StringSliceVar(&k.answers.Requesters, "requesters", nil, "who may ask: people, machines, groups")
	f.StringVar(&k.answers.Quorum, "quorum", "", `who must endorse: "2 of release, 1 of security"`)
	f.StringSliceVar(&k.answers.Veto, "veto", nil, `groups of which one member can refuse; "none" is none`)
	f.StringSliceVar(&k.answers.Gates, "gates", nil, "machines, or groups of such, that must endorse too")
	f.StringArrayVar(&k.groups, "group", nil, "new group: NAME=MEMBER,MEMBER; repeatable")
	f.StringVar(&k.answers.Key, "key", "", "key of the charter to sign with (default: a new one, called as the application)")
	f.StringVar(&k.answers.URI, "key-uri", "", "where a new key is made: soft:NAME (default), or pkcs11:token=…;object=…")
	f.StringVar(&k.answers.Algorithm, "algorithm", "", "of a new key (default: the template's first)")
	f.StringSliceVar(&k.answers.Formats, "formats", nil, "formats, where the template leaves them open, or fewer than it has")
	f.StringSliceVar(&k.answers.Names, "names", nil, `patterns of file names; "any" is no limit`)
	f.StringSliceVar(&k.answers.Timestamp, "timestamp", nil, `RFC 3161 authorities: URLs, "self" for the deployment's own; "none"`)
	f.StringVar(&k.answers.Hours, "hours", "", `when it may be signed, in UTC: "mon-fri 08:00-18:00"`)
	f.StringVar(&k.answers.Expires, "request-expires", "", "how long a request to sign may wait: 72h")
	f.BoolVar(&k.answers.Upload, "upload", false, "files are uploaded, and an inspector of the charter reads them")
	f.BoolVar(&k.dryRun, "dry-run", false, "show the draft and propose nothing")
	f.StringVarP(&k.out, "out", "o", "", "write the draft here, to be edited and proposed with charter propose")
	k.asking.flags(c)
	c.ValidArgsFunction = completeTemplates
	return c
}

func (l *link) newApp(ctx context.Context, k *newApp, name string) error {
	a := l.app
	t, err := findTemplate(name)
	if err != nil {
		return err
	}
	if k.answers.Name == "" {
		return fail(exitUsage, "greatseal app new "+t.Name+" --name my-app", "--name is missing")
	}
	// --key soft:… is a place for a new key, as people write it.
	if strings.Contains(k.answers.Key, ":") {
		if k.answers.URI != "" {
			return fail(exitUsage, "--key NAME, or --key-uri URI", "--key %s and --key-uri both say where the new key is made", k.answers.Key)
		}
		k.answers.Key, k.answers.URI = "", k.answers.Key
	}
	for _, g := range k.groups {
		n, members, ok := strings.Cut(g, "=")
		if !ok {
			return fail(exitUsage, `--group "ci=alice,bob"`, "--group %q: want a name and its members", g)
		}
		if k.answers.Groups == nil {
			k.answers.Groups = map[string][]string{}
		}
		k.answers.Groups[n] = template.Words(members)
	}
	d, err := l.draftApp(ctx, t, k.answers)
	if err != nil {
		return err
	}
	y, err := d.Charter.YAML()
	if err != nil {
		return err
	}
	r := appResult{Draft: d, YAML: string(y), Next: "greatseal app status " + d.Answers.Name}
	if !a.json {
		printDraft(a.Err, d)
	}
	if k.out != "" {
		if err := file.WriteFile(k.out, y, 0o644); err != nil {
			return err
		}
		r.Next = "greatseal charter propose " + k.out
	}
	if k.dryRun || k.out != "" {
		return a.print(r, func(w io.Writer) {
			if k.out != "" {
				fmt.Fprintf(w, "%s\n%s\n", printable(k.out), r.Next)
				return
			}
			_, _ = w.Write(y)
		})
	}
	v, payload, inForce, err := l.propose(ctx, d.Charter, &k.asking)
	if err != nil {
		return err
	}
	r.Request, r.Attached, r.State, r.Awaits, r.Version = v.ID, v.Attached, v.State, v.Awaits, inForce
	return a.print(r, func(w io.Writer) {
		if inForce == 0 {
			fmt.Fprintf(w, "request %s waits for %s\n%s\n", short(v.ID), waitsFor(v), r.Next)
			return
		}
		fmt.Fprintf(w, "charter %d is in force\n%s\n%s\n", inForce, charter.ID(payload), r.Next)
	})
}

// draftApp makes the draft of a template on the charter in force.
func (l *link) draftApp(ctx context.Context, t *template.Template, answers template.Answers) (*template.Draft, error) {
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	head, ref := chain.Head()
	d, err := t.Draft(head, ref, answers, l.app.Now())
	var fe *template.FieldError
	switch {
	case errors.As(err, &fe):
		flag := map[string]string{"uri": "key-uri", "groups": "group", "expires": "request-expires"}[fe.Field]
		return nil, fail(exitUsage, "greatseal app new --help; greatseal charter show lists who and what there is", "--%s: %s", orText(flag, fe.Field), fe.Text)
	case err != nil:
		return nil, fail(exitRefused, "greatseal app new "+t.Name+" --help", "%v", err)
	}
	return d, nil
}

func printDraft(w io.Writer, d *template.Draft) {
	for _, m := range d.Members {
		fmt.Fprintf(w, "%s: %s\n    %s\n", printable(m.Path), printable(m.Value), printable(m.Why))
	}
	fmt.Fprintf(w, "it would demand: %s\n", printable(d.Demands))
	for _, x := range d.Warnings {
		fmt.Fprintf(w, "warning   %s\n", printable(x.String()))
	}
	for _, n := range d.Notes {
		fmt.Fprintf(w, "note      %s\n", n)
	}
}

func (a *App) appStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status NAME",
		Short: "say what is missing until the first signature, and what to do next",
		Args:  exactly("NAME"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			s, err := l.progress(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printStatus(w, s) })
		}),
	}
}

func printStatus(w io.Writer, s *template.Status) {
	fmt.Fprintln(w, printable(s.Name))
	if s.Demands != "" {
		field(w, "demands", s.Demands)
	}
	for _, x := range s.Steps {
		line := x.Title
		if x.Detail != "" {
			line += ": " + x.Detail
		}
		field(w, string(x.State), line)
	}
	if n := s.Next(); n != nil {
		fmt.Fprintln(w, "next")
		for _, c := range n.Commands {
			fmt.Fprintf(w, "  %s\n", printable(c))
		}
		return
	}
	if len(s.Publish) > 0 {
		fmt.Fprintln(w, "for those who verify")
		for _, c := range s.Publish {
			fmt.Fprintf(w, "  %s\n", printable(c))
		}
	}
}

// progress gathers what there is of an application.
func (l *link) progress(ctx context.Context, name string) (*template.Status, error) {
	if err := statement.CheckName("", name); err != nil {
		return nil, fail(exitUsage, "a name is of a-z 0-9 . _ -", "%q is no name", name)
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	f := template.Facts{Now: l.app.Now()}
	f.Charter, f.Ref = chain.Head()
	keys, err := l.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		f.Keys = append(f.Keys, template.KeyFact{Name: k.Name, State: k.State, Health: k.Health, Generated: len(k.PublicKey) > 0, Chain: k.Chain})
	}
	open := []store.State{store.Pending, store.Endorsed}
	filters := []client.Filter{{Command: string(statement.CharterReplace), State: open, Limit: 50}}
	if p, ok := f.Charter.Policies[name]; ok {
		filters = append(filters, client.Filter{Command: string(statement.Sign), Policy: name, State: append(slices.Clone(open), store.Executed), Limit: 50})
		for _, k := range p.Keys() {
			filters = append(filters, client.Filter{Key: k, State: open, Limit: 50})
		}
	}
	for _, x := range filters {
		page, err := l.Requests(ctx, x)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Requests {
			r := template.RequestFact{ID: v.ID, Requester: v.Requester, Command: v.Command.Name, Key: v.Command.KeyName(), State: string(v.State), Open: v.State.Open(), Awaits: v.Awaits, Detail: v.Detail}
			if v.Command.Sign != nil {
				r.Policy = v.Command.Sign.Policy
			}
			if v.Command.Charter != nil {
				if r.Charter, err = charter.Decode(v.Command.Charter.Statement); err != nil {
					continue // nobody can bring it into force
				}
			}
			f.Requests = append(f.Requests, r)
		}
	}
	return template.Progress(name, f), nil
}

// completeTemplates completes the names of templates.
func completeTemplates(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, t := range template.List() {
		out = append(out, cobra.CompletionWithDesc(t.Name, t.Title))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
