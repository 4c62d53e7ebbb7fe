package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/statefile"
	"github.com/greatseal-io/greatseal/circle/trust"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) trustCommand() *cobra.Command {
	c := &cobra.Command{Use: "trust", GroupID: "rule", Short: "the circle of trust: whose records run where",
		Long: `A trusted side says, under quorum, which instances are protected, whose signatures
count, and what is revoked. Protected instances and agents pin the ID of that side's
first charter, and judge every statement by its evidence.`}
	c.AddCommand(a.trustDraft(), a.trustPropose(), a.trustPublish(), a.trustShow(), a.trustDiff(), a.trustExport(), a.trustImport(), a.trustCheck(), a.trustRuntimeKey())
	return c
}

// newest is the side's newest circle as the server has it, judged from the pinned
// root; nil: there is none yet.
func (l *link) newest(ctx context.Context) (*circle.Bundle, *circle.Version, error) {
	b, err := l.Circle(ctx, rootText(l.cfg.Root))
	var p *client.Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	x, err := circle.ReadBundle(bytes.NewReader(b))
	if err != nil {
		return nil, nil, unverified("tell the server's administrator", err)
	}
	root := l.cfg.Root
	if root.IsZero() {
		root = x.Root
	}
	if x.Root != root || len(x.Circles) == 0 {
		return nil, nil, fail(exitUnverified, "compare the root in the client configuration with an officer's", "the server shows the circle of another side: %s", x.Root)
	}
	v, err := circle.Judge(root, &x.Circles[len(x.Circles)-1])
	if err != nil {
		return nil, nil, unverified("compare the root in the client configuration with an officer's", err)
	}
	return x, v, nil
}

func rootText(id statement.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// draft makes the statement that follows the server's newest one.
func (l *link) draft(ctx context.Context, path string) (next, was *trust.Statement, err error) {
	c, err := readCircleFile(path)
	if err != nil {
		return nil, nil, err
	}
	if next, err = c.statement(l.app, filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, nil, err
	}
	head, _ := chain.Head()
	next.Deployment = head.Deployment
	next.Configurations = map[string]record.Configuration{}
	if head.Records != nil {
		next.Configurations = head.Records.Configurations
	}
	_, v, err := l.newest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if v != nil {
		was = v.Statement()
		next.Version, next.Previous = was.Version+1, v.ID()
	}
	if err := next.Check(); err != nil {
		return nil, nil, fail(exitRefused, "mend "+path, "%s: %v", path, err)
	}
	return next, was, nil
}

// settled is the file of a draft. One that is there and differs by its times alone is
// taken: proposing twice is proposing once.
func settled(next *trust.Statement, path string) ([]byte, error) {
	if b, err := readSmall(path); err == nil {
		old, err := trust.Decode(b)
		if err != nil {
			return nil, fail(exitFailed, "remove it, or name another -o", "%s is there and is no trust statement", path)
		}
		same := *next
		same.Created, same.Expires = old.Created, old.Expires
		if x, err := same.Encode(); err == nil && bytes.Equal(x, b) {
			return b, nil
		}
	}
	return next.Encode()
}

func changesOf(was, next *trust.Statement) []trust.Change {
	if was == nil {
		was = &trust.Statement{}
	}
	return trust.Diff(was, next)
}

func draftPath(out, from string, version uint64) string {
	if out != "" {
		return out
	}
	return filepath.Join(filepath.Dir(from), fmt.Sprintf("circle-%d.json", version))
}

func (a *App) trustDraft() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "draft CIRCLE.yaml",
		Short: "make the next trust statement, and say what it changes",
		Long: `Reads what people write (docs/operate/records.md) and writes the statement that
follows the server's newest one: deployment, version, previous and the configurations
of the charter in force are filled in. Nothing is asked for.`,
		Args: exactly("CIRCLE.yaml"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			next, was, err := l.draft(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			path := draftPath(out, args[0], next.Version)
			b, err := settled(next, path)
			if err != nil {
				return err
			}
			if err := file.WriteFile(path, b, 0o644); err != nil {
				return err
			}
			d := changesOf(was, next)
			return a.print(map[string]any{"file": path, "version": next.Version, "id": trust.ID(b).String(), "changes": d}, func(w io.Writer) {
				printChanges(w, d)
				fmt.Fprintf(w, "%s  circle %d\n", path, next.Version)
			})
		}),
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file for the statement (default: circle-N.json beside the draft)")
	return c
}

// published is the document of propose and publish.
type published struct {
	File    string           `json:"file"`
	Version uint64           `json:"version"`
	ID      string           `json:"id"`
	Request string           `json:"request,omitzero"`
	State   store.State      `json:"state,omitzero"`
	Awaits  []string         `json:"awaits,omitzero"`
	Changes []trust.Change   `json:"changes,omitzero"`
	Server  *agents.Standing `json:"server,omitzero"`
}

func (a *App) trustPropose() *cobra.Command {
	k := &signing{format: circleformat.Name, purpose: record.Circle}
	var out string
	c := &cobra.Command{
		Use:   "propose CIRCLE.yaml --policy POLICY",
		Short: "ask the quorum for a new trust statement, and publish it",
		Long: `Makes the statement as "greatseal trust draft" does, shows what it changes, asks for
it under a policy whose purpose is circle_of_trust, waits for the quorum, and brings
the signed statement to the server. With --no-wait it says what is left to do.

The same draft proposed again attaches to the request that is open.`,
		Args: exactly("CIRCLE.yaml"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			next, was, err := l.draft(ctx, args[0])
			if err != nil {
				return err
			}
			path := draftPath(out, args[0], next.Version)
			b, err := settled(next, path)
			if err != nil {
				return err
			}
			r := published{File: path, Version: next.Version, ID: trust.ID(b).String(), Changes: changesOf(was, next)}
			if !a.json {
				printChanges(a.Err, r.Changes)
			}
			if err := file.WriteFile(path, b, 0o644); err != nil {
				return err
			}
			done, err := l.signStatement(ctx, k, path, &r)
			if err != nil || !done {
				if err == nil {
					err = a.print(r, func(w io.Writer) {
						fmt.Fprintf(w, "request %s waits for %s\ngreatseal collect %s %s\ngreatseal trust publish %s%s\n", short(r.Request), strings.Join(r.Awaits, ", "), short(r.Request), path, path, circleformat.Suffix)
					})
				}
				return err
			}
			return l.publish(ctx, path+evidenceSuffix, &r)
		}),
	}
	f := c.Flags()
	f.StringVarP(&k.policy, "policy", "p", "", "signing policy of the charter, with purpose "+record.Circle)
	f.StringVarP(&out, "out", "o", "", "file for the statement (default: circle-N.json beside the draft)")
	k.asking.flags(c)
	must(c.RegisterFlagCompletionFunc("policy", a.completePolicies))
	return c
}

// signStatement has the file at path signed. done is false where the request waits
// and the user does not.
func (l *link) signStatement(ctx context.Context, k *signing, path string, r *published) (done bool, err error) {
	k.evidence = true
	chain, err := l.charters(ctx)
	if err != nil {
		return false, err
	}
	head, _ := chain.Head()
	how, err := k.choose(head)
	if err != nil {
		return false, err
	}
	in, err := l.app.inputs([]string{path}, false, "")
	if err != nil {
		return false, err
	}
	files, err := l.app.plan(ctx, in, how, head)
	if err != nil {
		return false, err
	}
	items := [][]byte{files[0].item}
	cmd, err := author.SignCommand(head, k.policy, k.purpose, items)
	if err != nil {
		return false, err
	}
	v, err := l.obtain(ctx, cmd, items, files, k)
	if err != nil {
		return false, err
	}
	r.Request, r.State, r.Awaits = v.ID, v.State, v.Awaits
	if v.State.Open() {
		return false, nil
	}
	_, err = l.finish(ctx, v, []piece{{0, files[0].path, files[0].name, files[0].item, files[0].was}}, &k.output)
	return err == nil, err
}

// publish judges the evidence of a statement and brings both to the server.
func (l *link) publish(ctx context.Context, evidence string, r *published) error {
	b, err := readSmall(evidence)
	if err != nil {
		return err
	}
	u, err := circle.NewUpdate(b)
	if err != nil {
		return unverified("name the .circle file that \"greatseal collect\" wrote", err)
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return err
	}
	v, err := circle.Judge(chain.Root(), u)
	if err != nil {
		return unverified("propose it again", err)
	}
	r.Version, r.ID = v.Statement().Version, v.ID().String()
	bundle, err := (&circle.Bundle{Root: chain.Root(), Circles: []circle.Update{*u}}).Encode()
	if err != nil {
		return err
	}
	if r.Server, err = l.PublishCircle(ctx, bundle); err != nil {
		return err
	}
	return l.app.print(r, func(w io.Writer) { fmt.Fprintf(w, "circle %d is published\n%s\n", r.Version, r.ID) })
}

func (a *App) trustPublish() *cobra.Command {
	return &cobra.Command{
		Use:   "publish FILE" + circleformat.Suffix,
		Short: "bring a signed trust statement to the server",
		Long: `Takes the signed statement with its evidence (NAME` + evidenceSuffix + `) beside it, judges
both, and brings them to the server, which judges them again.`,
		Args: exactly("FILE" + circleformat.Suffix),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			path := strings.TrimSuffix(args[0], circleformat.Suffix)
			return l.publish(cmd.Context(), path+evidenceSuffix, &published{File: args[0]})
		}),
	}
}

func (a *App) trustShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "show what the server is in the circle, and what is believed",
		Args:  exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			s, err := l.Instance(cmd.Context())
			if err != nil {
				return err
			}
			_, v, err := l.newest(cmd.Context())
			if err != nil {
				return err
			}
			type result struct {
				Instance  *agents.Standing `json:"instance"`
				Statement *trust.Statement `json:"statement,omitzero"`
			}
			r := result{Instance: s}
			if v != nil {
				r.Statement = v.Statement()
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s  %s, enforcement %s\n", printable(s.Name), s.Role, s.Enforcement)
				field(w, "platforms", orText(strings.Join(s.Platforms, ", "), "none"))
				for _, k := range s.RuntimeKeys {
					field(w, "runtime key", base64.StdEncoding.EncodeToString(k))
				}
				for _, x := range s.Sides {
					printSide(w, &x)
				}
				if r.Statement != nil {
					printTrust(w, r.Statement)
				}
			})
		}),
	}
}

func printSide(w io.Writer, x *circle.Status) {
	if !x.Known {
		field(w, "side", x.Root.String()+": nothing is known of it yet")
		return
	}
	text := fmt.Sprintf("%s, circle %d, until %s", x.Deployment, x.Version, when(x.Expires))
	if !x.FreshUntil.IsZero() {
		text += ", fresh until " + when(x.FreshUntil)
	}
	if x.Stale != nil {
		text += ": " + x.Stale.Error()
	}
	field(w, "side", text)
}

func printTrust(w io.Writer, s *trust.Statement) {
	fmt.Fprintf(w, "circle %d of %s, %s, until %s\n", s.Version, printable(s.Deployment), when(s.Created), when(s.Expires))
	for _, n := range mapKeys(s.Instances) {
		field(w, "instance", n+": "+s.Instances[n].String())
	}
	for _, x := range s.Anchors {
		field(w, "anchor", x.Name+": "+trust.AnchorText(x))
	}
	for _, n := range mapKeys(s.Configurations) {
		field(w, "signs", n+": "+trust.ConfigurationText(s.Configurations[n]))
	}
	for _, x := range s.Revocations {
		field(w, "revoked", x.Fingerprint+": "+trust.RevocationText(x))
	}
	for _, x := range s.Floors {
		field(w, "floor", fmt.Sprintf("%s %s: revision %d", x.Ref.Table, strings.Join(x.Ref.Key, " "), x.Revision))
	}
}

func (a *App) trustDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "say what a trust statement changes, and what becomes weaker",
		Long:  "Takes statements, signed ones and bundles. Nothing is judged.",
		Args:  exactly("OLD", "NEW"),
		RunE: func(_ *cobra.Command, args []string) error {
			old, err := readTrust(args[0])
			if err != nil {
				return err
			}
			next, err := readTrust(args[1])
			if err != nil {
				return err
			}
			d := trust.Diff(old, next)
			if d == nil {
				d = []trust.Change{}
			}
			return a.print(map[string]any{"changes": d}, func(w io.Writer) { printChanges(w, d) })
		},
	}
}

func (a *App) trustExport() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "export -o FILE",
		Short: "write the newest circle with its evidence into one file",
		Long:  `For instances and agents that cannot reach the server: "greatseal trust import" takes it.`,
		Args:  exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			b, v, err := l.newest(cmd.Context())
			if err != nil {
				return err
			}
			if b == nil {
				return fail(exitFailed, "greatseal trust propose makes the first one", "there is no circle yet")
			}
			data, err := b.Encode()
			if err != nil {
				return err
			}
			if out == "" {
				out = fmt.Sprintf("circle-%d.bundle", v.Statement().Version)
			}
			if err := file.WriteFile(out, data, 0o644); err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "version": v.Statement().Version, "id": v.ID().String()}, func(w io.Writer) {
				fmt.Fprintf(w, "%s  circle %d\n", printable(out), v.Statement().Version)
			})
		}),
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file (default: circle-N.bundle)")
	return c
}

func (a *App) trustImport() *cobra.Command {
	var state string
	var roots []string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "bring a circle to an instance or an agent, from a file",
		Long: `Brings what "greatseal trust export" wrote to the configured server. With --state, to
an agent's file of what it believes, on its host, while the agent does not run; the
roots are those of its configuration, all of them.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := circle.ReadBundle(io.LimitReader(f, circle.MaxBundle+1))
			if err != nil {
				return unverified("name what \"greatseal trust export\" wrote", err)
			}
			if state != "" {
				return a.importState(ctx, state, roots, b)
			}
			data, err := b.Encode()
			if err != nil {
				return err
			}
			return a.party(func(cmd *cobra.Command, l *link, _ []string) error {
				s, err := l.PublishCircle(ctx, data)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) {
					for _, x := range s.Sides {
						printSide(w, &x)
					}
				})
			})(cmd, args)
		},
	}
	c.Flags().StringVar(&state, "state", "", "circle.state of an agent, to be written without a server")
	c.Flags().StringSliceVar(&roots, "root", nil, "with --state: pinned ID of a side's first charter; repeatable")
	return c
}

func (a *App) importState(ctx context.Context, path string, roots []string, b *circle.Bundle) error {
	var pins []statement.ID
	for _, r := range roots {
		id, err := statement.ParseID(r)
		if err != nil {
			return fail(exitUsage, "--root takes the IDs of the agent's configuration", "--root: %v", err)
		}
		pins = append(pins, id)
	}
	if len(pins) == 0 {
		return fail(exitUsage, "--root takes the IDs of the agent's configuration", "--root is missing: without it nothing can be judged")
	}
	f, err := statefile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := circle.New(ctx, f, pins...)
	if err == nil {
		err = c.Apply(ctx, b, a.Now())
	}
	if err != nil {
		return unverified("compare the root, and take the newest export", err)
	}
	sides := c.Status(a.Now())
	return a.print(map[string]any{"sides": sides}, func(w io.Writer) {
		for _, x := range sides {
			printSide(w, &x)
		}
	})
}

// memory is a circle.Store that ends with the process.
type memory struct{ state *circle.State }

func (m *memory) Load(context.Context) (*circle.State, error) {
	if m.state == nil {
		return nil, circle.ErrNoState
	}
	return m.state, nil
}

func (m *memory) Save(_ context.Context, s *circle.State) error {
	m.state = s
	return nil
}

func (a *App) trustCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "judge a circle as an agent would, from the pinned root",
		Long:  "Takes the server's newest circle, or a file of it, and says whether it is believed now. Exit code 5: it is not.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			cfg, err := a.client()
			if err != nil {
				return err
			}
			var data []byte
			root := cfg.Root
			if len(args) == 1 {
				data, err = os.ReadFile(args[0])
			} else {
				err = a.party(func(cmd *cobra.Command, l *link, _ []string) error {
					data, err = l.Circle(ctx, rootText(root))
					return err
				})(cmd, nil)
			}
			if err != nil {
				return err
			}
			b, err := circle.ReadBundle(bytes.NewReader(data))
			if err != nil {
				return unverified("name what \"greatseal trust export\" wrote", err)
			}
			if root.IsZero() {
				return fail(exitUsage, `put "root: ID" into the client configuration, or set GREATSEAL_ROOT`, "no charter is pinned: without its ID nothing can be judged")
			}
			c, err := circle.New(ctx, &memory{}, root)
			if err == nil {
				err = c.Apply(ctx, b, a.Now())
			}
			if err == nil {
				_, err = c.Trusted(a.Now())
			}
			if err != nil {
				return unverified("greatseal trust show", err)
			}
			s := c.Status(a.Now())[0]
			return a.print(s, func(w io.Writer) {
				printSide(w, &s)
				fmt.Fprintln(w, "it is believed")
			})
		},
	}
}

func (a *App) trustRuntimeKey() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "runtime-key",
		Short: "print the public key that signs a protected instance's work orders",
		Long: `Ask the protected instance. The key goes into the draft of the next circle, as
runtimeKeys of the instance: agents believe no order before that.`,
		Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			s, err := l.Instance(cmd.Context())
			if err != nil {
				return err
			}
			if len(s.RuntimeKeys) == 0 {
				return fail(exitFailed, "instance.agents in its configuration", "%s has no agents, and no key for their orders", s.Name)
			}
			var text []byte
			for _, k := range s.RuntimeKeys {
				if _, err := trust.RuntimeKey(k); err != nil {
					return unverified("tell the server's administrator", err)
				}
				text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k})...)
			}
			if out != "" {
				if err := file.WriteFile(out, text, 0o644); err != nil {
					return err
				}
			}
			return a.print(map[string]any{"instance": s.Name, "runtimeKeys": s.RuntimeKeys}, func(w io.Writer) { _, _ = w.Write(text) })
		}),
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file for the key, in PEM")
	return c
}
