package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
)

func (a *App) recordsCommand() *cobra.Command {
	c := &cobra.Command{Use: "records", GroupID: "sign", Short: "sign the records of databases, move them, say what they are worth"}
	c.AddCommand(a.recordsTables(), a.recordsSign(), a.recordsJobs(), a.recordsJob(), a.recordsScan(), a.recordsMayEnforce(), a.recordsExplain(), a.recordsTrusted(),
		a.recordsFindings(), a.recordsExport(), a.recordsImport(), a.recordsPush(), a.recordsSet(), a.recordsLint(), a.recordsVerifySet())
	return c
}

// saved writes a new file at path, whole or not at all.
func saved(path string, write func(f *os.File) (int64, error)) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), path)
}

// platformOf is the platform that the user named, or the only one of the server.
func (l *link) platformOf(ctx context.Context, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	s, err := l.Instance(ctx)
	if err != nil {
		return "", err
	}
	if len(s.Platforms) != 1 {
		return "", fail(exitUsage, orText(suggest("", s.Platforms), "instance.platforms in the server's configuration"), "--platform is missing")
	}
	return s.Platforms[0], nil
}

func (a *App) recordsTables() *cobra.Command {
	var on string
	c := &cobra.Command{Use: "tables", Short: "list the tables of a platform that have a primary key", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			p, err := l.platformOf(cmd.Context(), on)
			if err != nil {
				return err
			}
			list, err := l.RecordTables(cmd.Context(), p)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"platform": p, "tables": list}, func(w io.Writer) {
				t := &table{head: []string{"TABLE", "KEY", "COLUMNS"}}
				for _, x := range list {
					var cols []string
					for _, c := range x.Columns {
						cols = append(cols, c.Name)
					}
					t.row(x.Name, strings.Join(x.Key, ","), strings.Join(cols, ","))
				}
				t.write(w)
			})
		})}
	c.Flags().StringVar(&on, "platform", "", "platform of the server (default: its only one)")
	return c
}

// naming are the flags of commands about one record.
type naming struct{ platform, purpose string }

func (k *naming) flags(c *cobra.Command) {
	c.Flags().StringVar(&k.platform, "platform", "", "platform of the server (default: the first that has the table)")
	c.Flags().StringVar(&k.purpose, "purpose", record.Queue, "what the record is to be used for")
}

func tableAndKey(c *cobra.Command, args []string) error {
	if len(args) < 2 {
		return fail(exitUsage, c.CommandPath()+" --help", "want TABLE KEY…: the values of the primary key, in its order")
	}
	return nil
}

func (a *App) recordsExplain() *cobra.Command {
	k := &naming{}
	c := &cobra.Command{Use: "explain TABLE KEY…", Short: "say what each signature of a record is worth, and what has changed",
		Long: `Judges the record as it stands in the database, by the circle of trust, and names
every field that is not what was signed. It changes nothing.`,
		Args: tableAndKey,
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			r, err := l.ExplainRecord(cmd.Context(), k.platform, record.Ref{Table: args[0], Key: args[1:]}, k.purpose)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printRecord(w, r) })
		})}
	k.flags(c)
	return c
}

func printRecord(w io.Writer, r *record.Report) {
	fmt.Fprintf(w, "%s %s for %s: %s\n", printable(r.Ref.Table), printable(strings.Join(r.Ref.Key, " ")), printable(r.Purpose), r.Verdict)
	if r.Reason != nil {
		field(w, "reason", r.Reason.Error())
	}
	if r.Floor > 0 {
		field(w, "floor", fmt.Sprintf("revision %d", r.Floor))
	}
	for _, s := range r.Signatures {
		text := fmt.Sprintf("revision %d for %s, by %s on %s", s.Revision, s.Purpose, orText(s.Signer, "nobody who is known"), when(s.SignedAt))
		if s.Reason != nil {
			text += "\n" + s.Reason.Error()
		}
		field(w, "signature", text)
		for _, f := range s.Fields {
			if f.State != record.FieldSame {
				field(w, string(f.State), f.Name)
			}
		}
	}
}

func (a *App) recordsTrusted() *cobra.Command {
	k := &naming{}
	c := &cobra.Command{Use: "trusted TABLE KEY…", Short: "say whether a record may be used for a purpose",
		Long: "Exit code 5: it may not. The answer is of this moment: whoever runs the record verifies what he runs.",
		Args: tableAndKey,
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			ok, reason, err := l.TrustedRecord(cmd.Context(), k.platform, record.Ref{Table: args[0], Key: args[1:]}, k.purpose)
			if err != nil {
				return err
			}
			if err := a.print(map[string]any{"trusted": ok, "reason": reason}, func(w io.Writer) {
				if ok {
					fmt.Fprintln(w, "trusted")
				}
			}); err != nil || ok {
				return err
			}
			text := "no reason is given"
			if reason != nil {
				text = reason.Error()
			}
			return fail(exitUnverified, "greatseal records explain "+strings.Join(args, " "), "not trusted: %s", text)
		})}
	k.flags(c)
	return c
}

// scanning are the flags that narrow a scan.
type scanning struct{ o records.ScanOptions }

func (a *App) recordsScan() *cobra.Command {
	k := &scanning{}
	var csv string
	c := &cobra.Command{Use: "scan", Short: "judge every record that a configuration asks for",
		Long: `Counts valid, invalid and missing, and changes nothing. --csv writes a line for each
record: "greatseal records sign --selection" takes it, with lines taken out as you
like. Exit code 5: not all are valid.`,
		Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			ctx := cmd.Context()
			if csv != "" {
				m := a.meter("scanning", -1, true)
				defer m.end()
				n, err := saved(csv, func(f *os.File) (int64, error) { return l.ScanCSV(ctx, k.o, io.MultiWriter(f, counter{m})) })
				m.end()
				if err != nil {
					return err
				}
				return a.print(map[string]any{"file": csv, "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", csv, size(n)) })
			}
			r, err := l.ScanRecords(ctx, k.o)
			if err != nil {
				return err
			}
			if err := a.printScan(r); err != nil || r.Clean() {
				return err
			}
			return fail(exitUnverified, "greatseal records scan --csv FILE names the records", "not every record is valid")
		})}
	f := c.Flags()
	f.StringSliceVar(&k.o.Configurations, "configuration", nil, "these only; repeatable")
	f.StringSliceVar(&k.o.Platforms, "platform", nil, "these only; repeatable")
	f.StringVar(&csv, "csv", "", "file for a line about each record")
	return c
}

// counter draws what is written.
type counter struct{ m *meter }

func (c counter) Write(p []byte) (int, error) {
	c.m.add(int64(len(p)))
	return len(p), nil
}

func (a *App) printScan(r *records.ScanReport) error {
	return a.print(r, func(w io.Writer) {
		t := &table{head: []string{"CONFIGURATION", "PLATFORM", "TABLE", "VALID", "INVALID", "MISSING"}}
		for _, x := range r.Counts {
			t.row(x.Configuration, x.Platform, x.Table, x.Valid, x.Invalid, x.Missing)
		}
		t.write(w)
		for _, n := range r.Absent {
			fmt.Fprintf(w, "%s: no platform here has its table\n", printable(n))
		}
	})
}

func (a *App) recordsMayEnforce() *cobra.Command {
	return &cobra.Command{Use: "may-enforce", Short: "say whether enforcement can be switched on: every record would pass",
		Long: "Scans everything. Ask it before the circle says enforcement: on.", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			r, err := l.MayEnforce(cmd.Context())
			if err != nil {
				if reasonCode(err) == "not-clean" {
					return fail(exitRefused, "greatseal records scan --csv FILE names the records; sign them, then ask again", "%v", err)
				}
				return err
			}
			return a.printScan(r)
		})}
}

func (a *App) recordsFindings() *cobra.Command {
	var before int64
	limit := 100
	c := &cobra.Command{Use: "findings", Short: "list records that did not verify where somebody looked", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.Findings(cmd.Context(), before, limit)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"findings": list}, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"ID", "TIME", "SOURCE", "TABLE", "RECORD", "REASON", "DETAIL"}}
				for _, x := range list {
					code := x.Code
					if x.Subject != "" {
						code += "(" + x.Subject + ")"
					}
					t.row(x.ID, when(x.At), x.Source, x.Table, x.Ref, code, x.Detail)
				}
				t.write(w)
			})
		})}
	c.Flags().Int64Var(&before, "before", 0, "page on: the last ID of the page before")
	c.Flags().IntVar(&limit, "limit", limit, "how many at the most, up to 1000")
	return c
}

// selecting are the flags that select records for an export.
type selecting struct {
	platform, filter string
	tables, keys     []string
	all              bool
}

func (k *selecting) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.platform, "platform", "", "platform of the server (default: its only one)")
	f.StringSliceVar(&k.tables, "table", nil, "table; repeatable")
	f.StringArrayVar(&k.keys, "key", nil, "of one table: key of a record, its values separated by commas; repeatable")
	f.StringVar(&k.filter, "filter", "", "of one table: CEL over its fields")
	f.BoolVar(&k.all, "all", false, "records without signatures too")
}

func (k *selecting) queries() ([]records.ExportQuery, error) {
	if len(k.tables) == 0 {
		return nil, fail(exitUsage, "--table sys_data_source", "--table is missing")
	}
	if len(k.tables) > 1 && (k.filter != "" || len(k.keys) > 0) {
		return nil, fail(exitUsage, "name one table", "--key and --filter are of one table: not of %d", len(k.tables))
	}
	var out []records.ExportQuery
	for _, t := range k.tables {
		q := records.ExportQuery{Table: t, Filter: k.filter, All: k.all}
		for _, s := range k.keys {
			q.Keys = append(q.Keys, strings.Split(s, ","))
		}
		out = append(out, q)
	}
	return out, nil
}

func (a *App) recordsExport() *cobra.Command {
	k := &selecting{}
	var out string
	c := &cobra.Command{Use: "export --table TABLE -o FILE", Short: "write records with their signatures and attachments into one file", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			qs, err := k.queries()
			if err != nil {
				return err
			}
			if out == "" {
				return fail(exitUsage, "-o records.export", "--out is missing")
			}
			on, err := l.platformOf(cmd.Context(), k.platform)
			if err != nil {
				return err
			}
			n, err := l.fetchExport(cmd.Context(), on, qs, out)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"file": out, "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", out, size(n)) })
		})}
	k.flags(c)
	c.Flags().StringVarP(&out, "out", "o", "", "file")
	return c
}

func (l *link) fetchExport(ctx context.Context, on string, qs []records.ExportQuery, out string) (int64, error) {
	m := l.app.meter("exporting", -1, true)
	defer m.end()
	return saved(out, func(f *os.File) (int64, error) { return l.ExportRecords(ctx, on, qs, io.MultiWriter(f, counter{m})) })
}

// bring imports an export at a protected instance.
func (l *link) bring(ctx context.Context, on, path string) (*records.Imported, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// What is cut or altered is not sent.
	if err := records.ReadExport(ctx, f, st.Size(), func(*records.Moved) error { return nil }); err != nil {
		return nil, unverified("export it again", err)
	}
	m := l.app.meter("importing", st.Size(), true)
	defer m.end()
	return l.Receive(ctx, on, st.Size(), io.TeeReader(io.NewSectionReader(f, 0, st.Size()), counter{m}))
}

func (a *App) recordsImport() *cobra.Command {
	var on string
	c := &cobra.Command{Use: "import FILE", Short: "bring an export to a protected instance, all of it or nothing",
		Long: "Every record is verified by the circle of trust before any is written.", Args: exactly("FILE"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			p, err := l.platformOf(cmd.Context(), on)
			if err != nil {
				return err
			}
			r, err := l.bring(cmd.Context(), p, args[0])
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "%s imported\n", count(int(r.Records), "record")) })
		})}
	c.Flags().StringVar(&on, "platform", "", "platform of the server (default: its only one)")
	return c
}

func (a *App) recordsPush() *cobra.Command {
	k := &selecting{}
	var to, on string
	c := &cobra.Command{Use: "push --table TABLE --to client.yaml", Short: "export records here and import them at a protected instance", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			ctx := cmd.Context()
			qs, err := k.queries()
			if err != nil {
				return err
			}
			if to == "" {
				return fail(exitUsage, "--to is the client configuration of the protected instance", "--to is missing")
			}
			from, err := l.platformOf(ctx, k.platform)
			if err != nil {
				return err
			}
			other := &App{In: a.In, Out: a.Out, Err: a.Err, Now: a.Now, json: a.json, quiet: a.quiet, verbose: a.verbose, cfgPath: to}
			r := &records.Imported{}
			err = other.party(func(_ *cobra.Command, there *link, _ []string) error {
				at, err := there.platformOf(ctx, on)
				if err != nil {
					return err
				}
				dir, err := os.MkdirTemp("", "greatseal-push-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(dir)
				path := filepath.Join(dir, "export")
				if _, err := l.fetchExport(ctx, from, qs, path); err != nil {
					return err
				}
				r, err = there.bring(ctx, at, path)
				return err
			})(cmd, nil)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "%s imported\n", count(int(r.Records), "record")) })
		})}
	k.flags(c)
	c.Flags().StringVar(&to, "to", "", "client configuration of the protected instance")
	c.Flags().StringVar(&on, "to-platform", "", "platform of the protected instance (default: its only one)")
	return c
}

// kindNames are the kinds of security jobs.
func kindNames() []string {
	var out []string
	for _, k := range records.Kinds() {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}
