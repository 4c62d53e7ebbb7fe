package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/lint"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) recordsSet() *cobra.Command {
	c := &cobra.Command{Use: "set", Short: "bring an update set to a protected instance, look at it, commit it",
		Long: `load, preview, accept or skip what has problems, commit. Nothing of a set is in force
before it is committed, and what does not verify is in no commit, accepted or not.`}
	var on string
	load := &cobra.Command{Use: "load FILE", Short: "bring an update set, and judge it", Args: exactly("FILE"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			p, err := l.platformOf(cmd.Context(), on)
			if err != nil {
				return err
			}
			b, err := readSet(args[0])
			if err != nil {
				return err
			}
			v, err := l.LoadSet(cmd.Context(), p, b)
			if err == nil {
				v, err = l.PreviewSet(cmd.Context(), v.ID)
			}
			if err != nil {
				return err
			}
			return a.printSet(v)
		})}
	load.Flags().StringVar(&on, "platform", "", "platform of the server (default: its only one)")
	limit := 100
	list := &cobra.Command{Use: "list", Short: "list the sets that were brought", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			sets, err := l.Sets(cmd.Context(), limit)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"sets": sets}, func(w io.Writer) {
				if len(sets) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"SET", "STATE", "NAME", "PLATFORM", "BROUGHT BY", "CREATED"}}
				for _, v := range sets {
					t.row(v.ID, v.State, v.Name, v.Platform, v.Who, when(v.Created))
				}
				t.write(w)
			})
		})}
	list.Flags().IntVar(&limit, "limit", limit, "how many at the most, up to 1000")
	compare := &cobra.Command{Use: "compare SET INDEX", Short: "show an update beside the record that is there", Args: exactly("SET", "INDEX"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return fail(exitUsage, "greatseal records set show "+args[0]+" lists the updates", "%q is not the place of an update", args[1])
			}
			d, err := l.CompareSet(cmd.Context(), args[0], n)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"differences": d}, func(w io.Writer) {
				if len(d) == 0 {
					fmt.Fprintln(w, "they are the same")
				}
				for _, x := range d {
					fmt.Fprintf(w, "%s %s\n", printable(x.Table), printable(x.Field))
					field(w, "here", x.Here)
					field(w, "update", x.Update)
				}
			})
		})}
	one := func(verb, short string, f func(*link, context.Context, string) (*records.SetView, error)) *cobra.Command {
		return &cobra.Command{Use: verb + " SET", Short: short, Args: exactly("SET"),
			RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
				v, err := f(l, cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.printSet(v)
			})}
	}
	c.AddCommand(load, list, compare,
		one("show", "show a set with its preview", func(l *link, ctx context.Context, id string) (*records.SetView, error) { return l.Set(ctx, id) }),
		one("preview", "judge a set again", func(l *link, ctx context.Context, id string) (*records.SetView, error) { return l.PreviewSet(ctx, id) }),
		one("commit", "commit a set, in one transaction", func(l *link, ctx context.Context, id string) (*records.SetView, error) {
			return l.CommitSet(ctx, id)
		}),
		a.recordsDecide("accept", "accept updates that have problems", records.Accept),
		a.recordsDecide("skip", "leave updates out", records.Skip))
	return c
}

func (a *App) recordsDecide(verb, text string, d records.Decision) *cobra.Command {
	return &cobra.Command{Use: verb + " SET INDEX…", Short: text,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fail(exitUsage, c.CommandPath()+" --help", "want SET and the places of updates in it")
			}
			return nil
		},
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			m := map[int]records.Decision{}
			for _, s := range args[1:] {
				n, err := strconv.Atoi(s)
				if err != nil || n < 0 {
					return fail(exitUsage, "greatseal records set show "+args[0]+" lists the updates", "%q is not the place of an update", s)
				}
				m[n] = d
			}
			v, err := l.DecideSet(cmd.Context(), args[0], m)
			if err != nil {
				return err
			}
			return a.printSet(v)
		})}
}

func (a *App) printSet(v *records.SetView) error {
	return a.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s\n", v.ID, v.State)
		field(w, "name", v.Name)
		field(w, "platform", v.Platform)
		field(w, "brought by", v.Who+", "+when(v.Created))
		p := v.Preview
		if p == nil {
			return
		}
		for s, n := range p.Counts {
			field(w, string(s), strconv.Itoa(n))
		}
		for _, x := range p.Findings {
			printFinding(w, &x)
		}
		for _, x := range p.Problems {
			field(w, "problem", fmt.Sprintf("%d %s: %s %s", x.Index, x.Update, x.Kind, x.Field))
		}
		for n, d := range p.Decisions {
			field(w, string(d), strconv.Itoa(n))
		}
		if open := p.Open(); len(open) > 0 && v.State != records.Committed {
			a.note("updates %v want a decision: greatseal records set skip %s INDEX, or accept", open, v.ID)
		}
	})
}

func printFinding(w io.Writer, x *updateset.Finding) {
	text := fmt.Sprintf("%d %s %s %s", x.Index, x.Action, x.Table, x.SysID)
	if x.Reason != nil {
		text += "\n" + x.Reason.Error()
	}
	field(w, string(x.Status), text)
}

// lintedBy is a warning about one configuration.
type lintedBy struct {
	Configuration string `json:"configuration"`
	lint.Warning
}

func (l lintedBy) String() string {
	return "records.configurations." + l.Configuration + ": " + l.Warning.String()
}

// lintRecords looks at a charter's configurations; tables are those of a platform,
// where it is known.
func lintRecords(c *charter.Charter, tables []platform.Table) []lintedBy {
	if c.Records == nil {
		return nil
	}
	var out []lintedBy
	for _, id := range mapKeys(c.Records.Configurations) {
		x := c.Records.Configurations[id]
		var columns []string
		if i := slices.IndexFunc(tables, func(t platform.Table) bool { return t.Name == x.Table }); i >= 0 {
			for _, col := range tables[i].Columns {
				columns = append(columns, col.Name)
			}
		}
		for _, w := range lint.Lint(id, x, columns) {
			out = append(out, lintedBy{id, w})
		}
	}
	return out
}

func (a *App) recordsLint() *cobra.Command {
	var on string
	c := &cobra.Command{Use: "lint [CHARTER.yaml]", Short: "say what configurations of signatures leave open",
		Long: `Warns about fields that change what a record does and are not signed, and fields that
change by themselves and are. With the server's charter it knows the columns of the
platform's tables; a file is judged by itself.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			print := func(list []lintedBy) error {
				if list == nil {
					list = []lintedBy{}
				}
				return a.print(map[string]any{"warnings": list}, func(w io.Writer) {
					for _, x := range list {
						fmt.Fprintln(w, printable(x.String()))
					}
					if len(list) == 0 {
						fmt.Fprintln(w, "nothing to say")
					}
				})
			}
			if len(args) == 1 {
				doc, _, _, err := readCharter(args[0])
				if err != nil {
					return err
				}
				return print(lintRecords(doc, nil))
			}
			return a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
				chain, err := l.charters(cmd.Context())
				if err != nil {
					return err
				}
				head, _ := chain.Head()
				p, err := l.platformOf(cmd.Context(), on)
				if err != nil {
					return err
				}
				tables, err := l.RecordTables(cmd.Context(), p)
				if err != nil {
					return err
				}
				return print(lintRecords(head, tables))
			})(cmd, args)
		}}
	c.Flags().StringVar(&on, "platform", "", "platform of the server (default: its only one)")
	return c
}

// noMarks are those of somebody who has seen no record before: offline, roll-back is
// judged by the circle's floors alone.
type noMarks struct{}

func (noMarks) Highest(context.Context, record.Ref) (uint64, error) { return 0, nil }
func (noMarks) Raise(context.Context, record.Ref, uint64) error     { return nil }

func (a *App) recordsVerifySet() *cobra.Command {
	var bundle, instance string
	c := &cobra.Command{Use: "verify-set FILE --bundle CIRCLE.bundle --instance NAME", Short: "judge an update set offline",
		Long: `Judges every operation of a set as a protected instance would, by a circle from
"greatseal trust export" and the pinned root ("root:" in the client configuration, or
$GREATSEAL_ROOT). No server is asked. Roll-back is judged by the circle's floors alone:
what the instance has seen is not known here. Exit code 5: something is refused.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			cfg, err := a.client()
			if err != nil {
				return err
			}
			switch {
			case cfg.Root.IsZero():
				return fail(exitUsage, `put "root: ID" into the client configuration, or set GREATSEAL_ROOT`, "no charter is pinned: without its ID nothing can be judged")
			case bundle == "" || instance == "":
				return fail(exitUsage, cmd.CommandPath()+" --help", "want --bundle and --instance")
			}
			t, err := a.believed(ctx, bundle, cfg.Root)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				return err
			}
			set, err := updateset.Open(ctx, f, st.Size(), updateset.Limits{})
			if err != nil {
				return unverified("it is refused as a whole: have it exported and signed again", err)
			}
			tr := t.Records(instance)
			v, err := record.NewVerifier(tr, record.NewRoots(0))
			if err != nil {
				return err
			}
			rules, err := updateset.NewRules(tr.Configurations, nil)
			if err != nil {
				return err
			}
			var refused, seen []updateset.Finding
			p, err := updateset.Verify(ctx, set, v, updateset.Policy{Rules: rules, Marks: noMarks{}}, func(x *updateset.Finding) error {
				if x.Status.Refused() {
					refused = append(refused, *x)
				}
				if x.Status != updateset.NotProtected {
					seen = append(seen, *x)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := a.print(map[string]any{"counts": p.Counts, "findings": seen}, func(w io.Writer) {
				for s, n := range p.Counts {
					field(w, string(s), strconv.Itoa(n))
				}
				for _, x := range seen {
					printFinding(w, &x)
				}
			}); err != nil {
				return err
			}
			if len(refused) > 0 {
				return fail(exitUnverified, "have it signed on a trusted instance", "%s of %s are refused", count(len(refused), "operation"), args[0])
			}
			return nil
		}}
	c.Flags().StringVar(&bundle, "bundle", "", "circle, as \"greatseal trust export\" wrote it")
	c.Flags().StringVar(&instance, "instance", "", "protected instance that the set is for")
	return c
}

// believed is what a file of a circle makes believe, from a pinned root.
func (a *App) believed(ctx context.Context, path string, root statement.ID) (*circle.Trusted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := circle.ReadBundle(io.LimitReader(f, circle.MaxBundle+1))
	if err != nil {
		return nil, unverified("name what \"greatseal trust export\" wrote", err)
	}
	c, err := circle.New(ctx, &memory{}, root)
	if err == nil {
		err = c.Apply(ctx, b, a.Now())
	}
	var t *circle.Trusted
	if err == nil {
		t, err = c.Trusted(a.Now())
	}
	if err != nil {
		return nil, unverified("take the newest export", err)
	}
	return t, nil
}
