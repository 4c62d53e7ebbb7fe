package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) charterShow() *cobra.Command {
	var number uint64
	var asYAML bool
	c := &cobra.Command{
		Use:   "show [POLICY|PERSON|GROUP|KEY]",
		Short: "show the charter in force, or an earlier one",
		Long: `Fetches the charter chain, checks it from the pinned root, and shows the charter in
force, or what it says about one name. --yaml prints the document to edit and
propose.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fail(exitUsage, c.CommandPath()+" --help", "want one name, or none")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case asYAML && a.json:
				return fail(exitUsage, "leave one of them out", "--yaml and --json are two forms of the charter")
			case asYAML && len(args) > 0:
				return fail(exitUsage, cmd.CommandPath()+" --yaml", "--yaml prints the whole charter: not %q alone", args[0])
			}
			l, err := a.connect()
			if err != nil {
				return err
			}
			defer l.Close()
			chain, err := l.charters(cmd.Context())
			if err != nil {
				return err
			}
			doc, ref := chain.Head()
			if number != 0 {
				if doc, ref, err = chain.Version(number); err != nil {
					return fail(exitFailed, fmt.Sprintf("--version 1 to %d", version(chain)), "there is no version %d", number)
				}
			}
			if len(args) == 1 {
				return a.showName(doc, args[0])
			}
			if asYAML {
				b, err := doc.YAML()
				if err != nil {
					return err
				}
				_, err = a.Out.Write(b)
				return err
			}
			type result struct {
				Version uint64           `json:"version"`
				ID      statement.ID     `json:"id"`
				Root    statement.ID     `json:"root"`
				Latest  uint64           `json:"latest"`
				Charter *charter.Charter `json:"charter"`
			}
			return a.print(result{ref.Version, ref.ID, chain.Root(), version(chain), doc}, func(w io.Writer) { printWholeCharter(w, doc, ref, chain.Root()) })
		},
	}
	c.Flags().Uint64Var(&number, "version", 0, "version (default: the one in force)")
	c.Flags().BoolVar(&asYAML, "yaml", false, "print the document as it is edited")
	return c
}

func printWholeCharter(w io.Writer, c *charter.Charter, ref statement.CharterRef, root statement.ID) {
	fmt.Fprintf(w, "charter %d of %s\n", ref.Version, printable(c.Deployment))
	field(w, "id", ref.ID.String())
	field(w, "root", root.String())
	field(w, "since", when(c.Created))
	for _, n := range sortedNames(c.Groups) {
		field(w, "group", n+": "+strings.Join(c.Groups[n].Members, ", "))
	}
	for _, n := range sortedNames(c.Keys) {
		field(w, "key", fmt.Sprintf("%s: %s, %s", n, c.Keys[n].Algorithm, c.Keys[n].URI))
	}
	for _, n := range sortedNames(c.Policies) {
		p := c.Policies[n]
		field(w, "policy", fmt.Sprintf("%s: signs %s with %s, asked by %s, needs %s", n, strings.Join(p.Formats, ", "), p.Key, strings.Join(p.Rule.Requesters, ", "), needs(p.Rule)))
	}
	for _, n := range sortedNames(c.Commands) {
		r := c.Commands[statement.CommandName(n)]
		field(w, "command", fmt.Sprintf("%s: asked by %s, needs %s", n, strings.Join(r.Requesters, ", "), needs(r)))
	}
}

func needs(r charter.Rule) string {
	s := "nobody else"
	if r.Quorum != nil {
		s = r.Quorum.String()
	}
	if len(r.Veto) > 0 {
		s += "; veto of " + strings.Join(r.Veto, ", ")
	}
	return s
}

func sortedNames[K ~string, V any](m map[K]V) []string {
	var out []string
	for n := range m {
		out = append(out, string(n))
	}
	slices.Sort(out)
	return out
}

// showName shows everything of one name.
func (a *App) showName(c *charter.Charter, name string) error {
	type result struct {
		Policy   *charter.Policy  `json:"policy,omitzero"`
		Person   *charter.Person  `json:"person,omitzero"`
		Machine  *charter.Machine `json:"machine,omitzero"`
		Group    *charter.Group   `json:"group,omitzero"`
		Key      *charter.Key     `json:"key,omitzero"`
		Command  *charter.Rule    `json:"command,omitzero"`
		MemberOf []string         `json:"memberOf,omitzero"`
	}
	var r result
	if x, ok := c.Policies[name]; ok {
		r.Policy = &x
	}
	if x, ok := c.People[name]; ok {
		r.Person = &x
	}
	if x, ok := c.Machines[name]; ok {
		r.Machine = &x
	}
	if x, ok := c.Groups[name]; ok {
		r.Group = &x
	}
	if x, ok := c.Keys[name]; ok {
		r.Key = &x
	}
	if x, ok := c.Commands[statement.CommandName(name)]; ok {
		r.Command = &x
	}
	for _, g := range sortedNames(c.Groups) {
		if slices.Contains(c.Groups[g].Members, name) {
			r.MemberOf = append(r.MemberOf, g)
		}
	}
	if r.Policy == nil && r.Person == nil && r.Machine == nil && r.Group == nil && r.Key == nil && r.Command == nil {
		have := slices.Concat(sortedNames(c.Policies), names(c), sortedNames(c.Groups), sortedNames(c.Keys), sortedNames(c.Commands))
		return fail(exitFailed, orText(suggest(name, have), "greatseal charter show"), "the charter has nothing called %q", name)
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintln(w, printable(name))
		if p := r.Policy; p != nil {
			field(w, "policy", orText(p.Description, "signs "+strings.Join(p.Formats, ", ")))
			field(w, "key", p.Key)
			field(w, "formats", strings.Join(p.Formats, ", "))
			if len(p.Purposes) > 0 {
				field(w, "purposes", strings.Join(p.Purposes, ", "))
			}
			if len(p.Names) > 0 {
				field(w, "names", strings.Join(p.Names, ", "))
			}
			for _, n := range sortedNames(p.Params) {
				field(w, "option", n+" = "+p.Params[n])
			}
			if p.Window != nil {
				field(w, "window", p.Window.String())
			}
			if p.Upload {
				field(w, "upload", "the files are uploaded and read by an inspector")
			}
			if len(p.Timestamp) > 0 {
				field(w, "timestamp", strings.Join(p.Timestamp, ", "))
			}
			printRule(w, p.Rule)
		}
		if r.Command != nil {
			printRule(w, *r.Command)
		}
		if k := r.Key; k != nil {
			field(w, "key", fmt.Sprintf("%s, %s, %s", k.URI, k.Algorithm, k.SignatureScheme()))
		}
		if r.Group != nil {
			field(w, "members", strings.Join(r.Group.Members, ", "))
		}
		if p := r.Person; p != nil {
			field(w, "person", strings.TrimSpace(p.Name+" "+p.Email))
			printCredentials(w, c, p.Credentials)
		}
		if m := r.Machine; m != nil {
			field(w, "machine", orText(m.Owner, "nobody")+" owns it")
			printCredentials(w, c, m.Credentials)
		}
		if len(r.MemberOf) > 0 {
			field(w, "member of", strings.Join(r.MemberOf, ", "))
		}
	})
}

func printRule(w io.Writer, r charter.Rule) {
	field(w, "asked by", strings.Join(r.Requesters, ", "))
	field(w, "needs", needs(r))
	field(w, "waits", r.Lifetime().String()+" at the most")
}

func printCredentials(w io.Writer, in *charter.Charter, list []charter.Credential) {
	for _, c := range list {
		if p, err := in.Credential(c); err == nil {
			hw := ""
			if p.Hardware() {
				hw = ", in hardware"
			}
			field(w, "credential", p.Describe()+hw)
		}
	}
}

func (a *App) charterPropose() *cobra.Command {
	k := &asking{}
	c := &cobra.Command{
		Use:   "propose CHARTER.yaml",
		Short: "ask for a new charter",
		Long: `Shows what the new charter changes and asks for it; it comes into force when the
quorum of charter.replace has endorsed it. Edit what "greatseal charter show --yaml"
prints: version, previous and created are filled in. "greatseal charter replay" says
beforehand what would have been decided otherwise.

The same charter proposed again attaches to the request that is open.`,
		Args: exactly("CHARTER.yaml"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			next, d, err := l.proposal(ctx, args[0], true)
			if err != nil {
				return err
			}
			if !a.json {
				printDiff(a.Err, d)
			}
			v, payload, inForce, err := l.propose(ctx, next, k)
			if err != nil {
				return err
			}
			type result struct {
				Request  string               `json:"request"`
				Attached bool                 `json:"attached,omitzero"` // to a request that was open already
				State    store.State          `json:"state"`
				Awaits   []string             `json:"awaits,omitzero"`
				Charter  statement.CharterRef `json:"charter"` // proposed
				Changes  []charter.Change     `json:"changes"`
			}
			r := result{v.ID, v.Attached, v.State, v.Awaits, next.Ref(payload), d}
			return a.print(r, func(w io.Writer) {
				if inForce == 0 {
					fmt.Fprintf(w, "request %s waits for %s\n", short(v.ID), waitsFor(v))
					return
				}
				fmt.Fprintf(w, "charter %d is in force\n%s\n", inForce, charter.ID(payload))
			})
		}),
	}
	k.flags(c)
	return c
}

// propose asks for a charter, or attaches to the open request for the same one. The
// payload is that which was asked for; inForce is its version once it is executed.
func (l *link) propose(ctx context.Context, next *charter.Charter, k *asking) (v *server.View, payload []byte, inForce uint64, err error) {
	if payload, err = charter.Encode(next); err != nil {
		return nil, nil, 0, fail(exitRefused, "greatseal charter check says where", "%v", err)
	}
	open, err := l.proposed(ctx, next)
	if err != nil {
		return nil, nil, 0, err
	}
	if open != nil {
		payload = open
	}
	v, rc, err := l.ask(ctx, statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}, k)
	if err != nil || rc == nil {
		return v, payload, 0, err
	}
	if rc.Next.ID != charter.ID(payload) {
		return nil, nil, 0, fail(exitUnverified, "tell the server's administrator", "the receipt names another charter than the one that was asked for")
	}
	return v, payload, rc.Next.Version, nil
}

// proposed is the statement of an open request for the same charter, or nil. When
// it was made (created) does not tell two proposals apart: it is filled in.
func (l *link) proposed(ctx context.Context, next *charter.Charter) ([]byte, error) {
	page, err := l.pages(ctx, client.Filter{State: []store.State{store.Pending, store.Endorsed}, Command: string(statement.CharterReplace)}, 0)
	if err != nil {
		return nil, err
	}
	for _, v := range page.Requests {
		if !l.app.Now().Before(v.Expires) {
			continue
		}
		env, err := l.Envelopes(ctx, v.ID)
		if err != nil {
			return nil, err
		}
		r, id, err := l.statementOf(ctx, env.Request)
		if err != nil {
			return nil, err
		}
		if id.String() != v.ID || r.Command.Charter == nil {
			return nil, fail(exitUnverified, "tell the server's administrator", "the server shows another request for %s", short(v.ID))
		}
		doc, err := charter.Decode(r.Command.Charter.Statement)
		if err != nil {
			continue // nobody can bring it into force
		}
		same := *next
		same.Created = doc.Created
		b, err := charter.Encode(&same)
		if err == nil && bytes.Equal(b, r.Command.Charter.Statement) {
			return b, nil
		}
	}
	return nil, nil
}

// proposal reads the next charter and makes it follow the one in force.
func (l *link) proposal(ctx context.Context, path string, must bool) (*charter.Charter, []charter.Change, error) {
	doc, _, _, err := readCharter(path)
	if err != nil {
		return nil, nil, err
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, nil, err
	}
	head, ref := chain.Head()
	if doc.Version != ref.Version && doc.Version != ref.Version+1 {
		return nil, nil, fail(exitFailed, "greatseal charter show --yaml prints the one in force", "%s was made from version %d: in force is %d", path, doc.Version, ref.Version)
	}
	// One that was made while the version before was in force, and not of this one,
	// would take back what this one changed.
	if doc.Version == ref.Version && !doc.Created.Equal(head.Created) || doc.Version == ref.Version+1 && !doc.Previous.IsZero() && doc.Previous != ref.ID {
		return nil, nil, fail(exitFailed, "make it again from the one in force: greatseal charter show --yaml, or greatseal app new", "%s follows another charter than version %d, which is in force", path, ref.Version)
	}
	if doc.Version == ref.Version || doc.Previous.IsZero() {
		doc.Version, doc.Previous, doc.Created = ref.Version+1, ref.ID, statement.Seconds(l.app.Now())
	}
	d := charter.Diff(head, doc)
	if must && !slices.ContainsFunc(d, func(c charter.Change) bool { return c.Path != "version" && c.Path != "previous" && c.Path != "created" }) {
		return nil, nil, fail(exitFailed, "", "%s changes nothing", path)
	}
	return doc, d, nil
}
