package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
)

// signRecords are the flags of records sign.
type signRecords struct {
	spec                 records.Spec
	kind                 string
	selection, set, pack string
	verdicts             []string
	table                string
	keys                 []string
	notBefore, expires   string
	start                string
	windows              []string
	out                  string
	noWait               bool
	timeout              time.Duration
}

func (a *App) recordsSign() *cobra.Command {
	k := &signRecords{}
	c := &cobra.Command{
		Use:   "sign --policy POLICY",
		Short: "have the records of a database, or an update set, signed under quorum",
		Long: `Makes a security job on a trusted instance: it reads what is to be signed, asks the
quorum of the policy, and makes the signatures readable when the quorum has endorsed
(as files: "greatseal inbox", "greatseal endorse"). One of

  --configuration ID        every record that the configuration asks for
  --table T --key K         these records
  --selection FILE          those of a scan's CSV that are not valid
  --set FILE                an update set, every operation of it; -o takes the signed one
  --package FILE|FOLDER     an application's build; what is not signed fails it

It waits, with progress, until the job has ended; --no-wait returns at once, and
"greatseal records job show" says how far it is.`,
		Example: `  greatseal records sign --policy records --configuration data_source
  greatseal records sign --policy records --set release.xml -o release.signed.xml
  greatseal records scan --csv s.csv; greatseal records sign --policy records --selection s.csv`,
		Args: exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error { return a.signRecords(cmd.Context(), l, k) }),
	}
	f := c.Flags()
	f.StringVarP(&k.spec.Policy, "policy", "p", "", "signing policy of the charter")
	f.StringSliceVar(&k.spec.Configurations, "configuration", nil, "configuration of the charter; repeatable")
	f.StringVar(&k.spec.Platform, "platform", "", "platform of the server (default: its only one)")
	f.StringVar(&k.spec.Filter, "filter", "", "CEL over the fields, in addition to the configuration's condition")
	f.StringVar(&k.spec.Name, "name", "", "name of the job (default: what it signs)")
	f.StringVar(&k.spec.Reason, "reason", "", "why, for the endorsers")
	f.StringVar(&k.kind, "kind", "", "kind of job, where the flags do not say: "+strings.Join(kindNames(), ", "))
	f.StringVar(&k.table, "table", "", "table of the records that --key names")
	f.StringArrayVar(&k.keys, "key", nil, "key of a record, its values separated by commas; repeatable")
	f.StringVar(&k.selection, "selection", "", "CSV of \"greatseal records scan\"")
	f.StringSliceVar(&k.verdicts, "verdict", nil, "with --selection: those of these verdicts: valid, invalid, missing (default: invalid, missing)")
	f.StringVar(&k.set, "set", "", "update set, XML")
	f.StringVar(&k.pack, "package", "", "application: an update set, or a folder of records under source control")
	f.StringSliceVar(&k.spec.Tables, "must-have", nil, "with --package: table that must have a signed record; repeatable")
	f.StringSliceVar(&k.spec.Audience, "audience", nil, "instance that may accept the signatures; repeatable (default: every one)")
	f.StringVar(&k.notBefore, "not-before", "", "the signatures do not count earlier")
	f.StringVar(&k.expires, "expires", "", "the signatures do not count any more then: 2027-01-31, or 8760h")
	f.StringVar(&k.start, "start", "", "the job does not begin earlier")
	f.StringSliceVar(&k.windows, "window", nil, "times of day, UTC, in which the job works: 22:00-04:30; repeatable")
	f.StringVarP(&k.out, "out", "o", "", "file for the signed update set, or folder for its records")
	f.BoolVar(&k.noWait, "no-wait", false, "return as soon as the job is made")
	f.DurationVar(&k.timeout, "timeout", 0, "how long to wait (default: until the job has ended)")
	must(c.RegisterFlagCompletionFunc("policy", a.completePolicies))
	must(c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp)))
	return c
}

// fill settles what is to be signed.
func (k *signRecords) fill(ctx context.Context, a *App, l *link) (err error) {
	s := &k.spec
	given := 0
	for _, x := range []bool{k.selection != "", k.set != "", k.pack != "", k.table != ""} {
		if x {
			given++
		}
	}
	if given > 1 {
		return fail(exitUsage, "one job for each", "want one of --selection, --set, --package and --table")
	}
	if s.Policy == "" {
		return fail(exitUsage, "--policy NAME; greatseal charter show lists the policies", "--policy is missing")
	}
	switch {
	case k.set != "":
		s.Kind = records.SignSet
		s.Name = orText(s.Name, filepath.Base(k.set))
		if s.Set, err = readSet(k.set); err != nil {
			return err
		}
	case k.pack != "":
		s.Kind = records.SignPackage
		s.Name = orText(s.Name, filepath.Base(k.pack))
		if s.Set, err = readPackage(ctx, k.pack, l.cfg.Name, a.Now()); err != nil {
			return err
		}
	case k.selection != "":
		s.Kind = records.SignSpecificRecords
		s.Name = orText(s.Name, filepath.Base(k.selection))
		if err := k.selected(); err != nil {
			return err
		}
	case k.table != "":
		s.Kind = records.SignSpecificRecords
		s.Name = orText(s.Name, count(len(k.keys), "record")+" of "+k.table)
		if len(k.keys) == 0 {
			return fail(exitUsage, "--key VALUE; --configuration signs a whole table", "--key is missing")
		}
		for _, x := range k.keys {
			s.Refs = append(s.Refs, record.Ref{Table: k.table, Key: strings.Split(x, ",")})
		}
	default:
		s.Kind = records.SignRecords
		if len(s.Configurations) == 0 {
			return fail(exitUsage, "greatseal records sign --help", "what is to be signed? --configuration, --table, --selection, --set or --package")
		}
		s.Name = orText(s.Name, strings.Join(s.Configurations, ", "))
	}
	if k.kind != "" {
		if !slices.Contains(kindNames(), k.kind) {
			return fail(exitUsage, orText(suggest(k.kind, kindNames()), "--kind "+strings.Join(kindNames(), "|")), "there is no kind %q", k.kind)
		}
		s.Kind = records.Kind(k.kind)
	}
	if s.Kind != records.SignSet && s.Kind != records.SignPackage {
		if k.out != "" {
			return fail(exitUsage, "leave it out", "--out is for update sets: the signatures of records stand in the database")
		}
		if s.Platform, err = l.platformOf(ctx, s.Platform); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		flag, text string
		to         *time.Time
	}{{"not-before", k.notBefore, &s.NotBefore}, {"expires", k.expires, &s.Expires}, {"start", k.start, &s.Start}} {
		if *x.to, err = a.moment(x.flag, x.text, false); err != nil {
			return err
		}
		*x.to = x.to.UTC().Truncate(time.Second)
	}
	for _, x := range k.windows {
		from, to, _ := strings.Cut(x, "-")
		var w records.Window
		if w.Start, err = records.ParseClock(from); err == nil {
			w.End, err = records.ParseClock(to)
		}
		if err != nil {
			return fail(exitUsage, "--window 22:00-04:30", "--window %q: %v", x, err)
		}
		s.Windows = append(s.Windows, w)
	}
	slices.Sort(s.Configurations)
	slices.Sort(s.Audience)
	return nil
}

// selected reads the records of a scan's CSV.
func (k *signRecords) selected() error {
	f, err := os.Open(k.selection)
	if err != nil {
		return err
	}
	defer f.Close()
	var v []records.Verdict
	for _, x := range k.verdicts {
		v = append(v, records.Verdict(x))
	}
	sel, err := records.ReadSelection(f, v...)
	if err != nil {
		return fail(exitFailed, "greatseal records scan --csv writes it", "%s: %v", k.selection, err)
	}
	if len(sel.Refs) == 0 {
		return fail(exitFailed, "--verdict valid signs again what is valid", "%s selects no record", k.selection)
	}
	if len(sel.Platforms) > 1 && k.spec.Platform == "" {
		return fail(exitUsage, "greatseal records scan --platform NAME", "%s is about several platforms: %s", k.selection, strings.Join(sel.Platforms, ", "))
	}
	k.spec.Refs = sel.Refs
	if k.spec.Platform == "" && len(sel.Platforms) == 1 {
		k.spec.Platform = sel.Platforms[0]
	}
	if len(k.spec.Configurations) == 0 {
		k.spec.Configurations = sel.Configurations
	}
	return nil
}

func readSet(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, records.MaxSet+1))
	if err == nil && len(b) > records.MaxSet {
		err = fail(exitFailed, "sign it in parts", "%s is larger than %s", path, size(records.MaxSet))
	}
	return b, err
}

// readPackage reads an application: a file, or a folder as one set.
func readPackage(ctx context.Context, path, by string, at time.Time) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return readSet(path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	set, err := updateset.OpenDirectory(ctx, root, updateset.Limits{})
	if err != nil {
		return nil, unverified("mend the file, and sign again", err)
	}
	name := filepath.Base(path)
	id := sha256.Sum256([]byte(name))
	var b bytes.Buffer
	w, err := updateset.NewWriter(&b, name, hex.EncodeToString(id[:16]), at.UTC(), by)
	if err == nil {
		err = w.Copy(ctx, set)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil && b.Len() > records.MaxSet {
		err = fail(exitFailed, "sign it in parts", "%s is larger than %s", path, size(records.MaxSet))
	}
	return b.Bytes(), err
}

// keepSet writes the signed set of a job to a file, or record by record to a folder
// that is there.
func (l *link) keepSet(ctx context.Context, job, out string) error {
	write := func(f *os.File) (int64, error) { return l.SignedSet(ctx, job, f) }
	if st, err := os.Stat(out); err != nil || !st.IsDir() {
		_, err := saved(out, write)
		return err
	}
	dir, err := os.MkdirTemp("", "greatseal-set-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "set.xml")
	n, err := saved(path, write)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	set, err := updateset.Open(ctx, f, n, updateset.Limits{})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return err
	}
	defer root.Close()
	return set.WriteDirectory(ctx, root)
}

func (a *App) signRecords(ctx context.Context, l *link, k *signRecords) error {
	if err := k.fill(ctx, a, l); err != nil {
		return err
	}
	v, err := l.CreateJob(ctx, &k.spec)
	if err != nil {
		return err
	}
	if k.noWait {
		return a.print(v, func(w io.Writer) {
			fmt.Fprintf(w, "job %s is made\ngreatseal records job show %s\n", v.ID, v.ID)
		})
	}
	if v, err = l.followJob(ctx, v, k.timeout); err != nil {
		return err
	}
	if v.State == records.Done && k.out != "" {
		if err := l.keepSet(ctx, v.ID, k.out); err != nil {
			return err
		}
	}
	if err := a.print(v, func(w io.Writer) {
		printSecurityJob(w, v)
		if k.out != "" && v.State == records.Done {
			fmt.Fprintln(w, printable(k.out))
		}
	}); err != nil {
		return err
	}
	return ended(v)
}

// ended is the error of a job that ended without signatures.
func ended(v *records.View) error {
	switch v.State {
	case records.Failed:
		return fail(exitFailed, "greatseal records job skipped "+v.ID, "job %s failed: %s", short(v.ID), v.Error)
	case records.Cancelled:
		return fail(exitRefused, "", "job %s was cancelled: %s", short(v.ID), orText(v.Error, "no reason is given"))
	}
	return nil
}

// followJob waits until a job has ended, and shows how far it is.
func (l *link) followJob(ctx context.Context, v *records.View, timeout time.Duration) (*records.View, error) {
	wait, stop := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		wait, stop = context.WithTimeout(ctx, timeout)
	}
	defer stop()
	m := l.app.meter("signing", max(v.Total, 0), false)
	defer m.end()
	told := ""
	for !v.State.Final() {
		m.set(v.Count)
		text := string(v.State)
		if v.Rate > 0 {
			text = fmt.Sprintf("%s, %.0f records/s", v.State, v.Rate)
		}
		if v.Left > 0 {
			text += ", " + (time.Duration(v.Left) * time.Second).String() + " left"
		}
		m.say(text)
		if v.Request != "" && v.State == records.Waiting && told != v.Request {
			told = v.Request
			l.app.note("request %s waits for its quorum: greatseal endorse %s", short(v.Request), short(v.Request))
		}
		t := time.NewTimer(jobPoll)
		select {
		case <-wait.Done():
			t.Stop()
			return nil, fail(exitWaiting, "greatseal records job show "+v.ID+" --follow", "job %s is %s", short(v.ID), v.State)
		case <-t.C:
		}
		next, err := l.SecurityJob(ctx, v.ID)
		if err != nil {
			return nil, err
		}
		v = next
	}
	return v, nil
}

func printSecurityJob(w io.Writer, v *records.View) {
	fmt.Fprintf(w, "%s  %s, %s\n", v.ID, v.Kind, v.State)
	total := ""
	if v.Total >= 0 {
		total = fmt.Sprintf(" of %d", v.Total)
	}
	for _, f := range [][2]string{{"name", v.Name}, {"platform", v.Platform}, {"policy", v.Policy}, {"asked by", v.Requester}, {"request", v.Request}, {"error", v.Error}, {"records", fmt.Sprintf("%d%s", v.Count, total)}} {
		if f[1] != "" {
			field(w, f[0], f[1])
		}
	}
	for _, n := range mapKeys(v.Summary.Signed) {
		field(w, "signed", fmt.Sprintf("%s: %d", n, v.Summary.Signed[n]))
	}
	if v.Summary.Skipped > 0 {
		field(w, "skipped", fmt.Sprintf("%d: greatseal records job skipped %s", v.Summary.Skipped, v.ID))
	}
	if v.Summary.Changed > 0 {
		field(w, "changed", fmt.Sprintf("%d since they were prepared: greatseal records job again %s", v.Summary.Changed, v.ID))
	}
	if v.Summary.Root != "" {
		field(w, "root", v.Summary.Root)
	}
	if !v.Next.IsZero() {
		field(w, "goes on", when(v.Next))
	}
	field(w, "created", when(v.Created))
	if !v.Finished.IsZero() {
		field(w, "finished", when(v.Finished))
	}
}

func (a *App) recordsJobs() *cobra.Command {
	f := client.JobFilter{Limit: 100}
	c := &cobra.Command{Use: "jobs", Short: "list security jobs, newest first", Args: exactly(),
		RunE: a.party(func(cmd *cobra.Command, l *link, _ []string) error {
			list, err := l.SecurityJobs(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"jobs": list}, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"JOB", "KIND", "STATE", "NAME", "RECORDS", "CREATED"}}
				for _, v := range list {
					t.row(v.ID, v.Kind, v.State, v.Name, v.Count, when(v.Created))
				}
				t.write(w)
			})
		})}
	x := c.Flags()
	x.StringVar(&f.State, "state", "", "new, preparing, waiting, signing, done, failed, cancelled or paused")
	x.StringVar(&f.Kind, "kind", "", strings.Join(kindNames(), ", "))
	x.StringVar(&f.Platform, "platform", "", "of a platform")
	x.StringVar(&f.Before, "before", "", "page on: the last ID of the page before")
	x.IntVar(&f.Limit, "limit", f.Limit, "how many at the most, up to 1000")
	must(c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (a *App) recordsJob() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "look at a security job, pause and resume it"}
	var follow bool
	var out string
	show := &cobra.Command{Use: "show JOB", Short: "show a job, and how far it is", Args: exactly("JOB"),
		RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
			v, err := l.SecurityJob(cmd.Context(), args[0])
			if err == nil && follow {
				v, err = l.followJob(cmd.Context(), v, 0)
			}
			if err == nil && out != "" {
				err = l.keepSet(cmd.Context(), v.ID, out)
			}
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { printSecurityJob(w, v) })
		})}
	show.Flags().StringVarP(&out, "out", "o", "", "file for the signed update set, or folder for its records")
	show.Flags().BoolVarP(&follow, "follow", "f", false, "wait until it has ended")
	c.AddCommand(show)
	for _, x := range [][2]string{{"pause", "hold a job until it is resumed"}, {"resume", "let a paused job go on"}, {"cancel", "end a job that is not signed yet"}, {"again", "sign what has changed since a job was prepared"}} {
		c.AddCommand(&cobra.Command{Use: x[0] + " JOB", Short: x[1], Args: exactly("JOB"),
			RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
				v, err := l.ChangeJob(cmd.Context(), args[0], x[0])
				if err != nil {
					return err
				}
				return a.print(v, func(w io.Writer) { printSecurityJob(w, v) })
			})})
	}
	for _, x := range [][2]string{{"log", "list what a job signed, and under which configuration"}, {"skipped", "list what a job was asked to sign and did not, and why"}} {
		var from int64
		limit := 1000
		e := &cobra.Command{Use: x[0] + " JOB", Short: x[1], Args: exactly("JOB"),
			RunE: a.party(func(cmd *cobra.Command, l *link, args []string) error {
				list, err := l.JobEntries(cmd.Context(), args[0], x[0], from, limit)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"entries": list}, func(w io.Writer) {
					t := &table{head: []string{"INDEX", "TABLE", "KEY", "CONFIGURATION", "REVISION", "REASON"}}
					for _, r := range list {
						t.row(r.Index, r.Ref.Table, strings.Join(r.Ref.Key, ","), r.Configuration, r.Revision, r.Reason)
					}
					t.write(w)
				})
			})}
		e.Flags().Int64Var(&from, "from", 0, "index of the first")
		e.Flags().IntVar(&limit, "limit", limit, "how many at the most, up to 10000")
		c.AddCommand(e)
	}
	return c
}
