package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

type signing struct {
	asking
	output
	policy, purpose, format string
	params, claims          map[string]string
	description, url        string
	recursive, again        bool
	from                    string
}

// signResult is the document of sign and collect.
type signResult struct {
	Request string        `json:"request"`
	State   store.State   `json:"state"`
	Policy  string        `json:"policy"`
	Key     string        `json:"key"`
	Receipt uint64        `json:"receipt,omitzero"`
	Awaits  []string      `json:"awaits,omitzero"`
	Files   []signedFile  `json:"files"`
	Count   int           `json:"count"`
	Expires string        `json:"expires,omitzero"`
	Done    *alreadyFiles `json:"already,omitzero"`
}

// alreadyFiles are files that carry the signature before anything was asked.
type alreadyFiles struct {
	Files []string `json:"files"`
}

func (a *App) signCommand() *cobra.Command {
	k := &signing{}
	c := &cobra.Command{
		Use:     "sign FILE… --policy POLICY",
		GroupID: "sign",
		Short:   "have files signed under a policy",
		Long: `Reads the files where they lie, makes one request for all of them, and waits until
the quorum that the policy names has endorsed exactly these bytes. Then every
file gets its signature, is verified, and NAME.evidence.json stands beside it:
the proof of who approved it, which "greatseal verify" judges offline.

The files do not leave this machine, unless the policy asks for uploads.

What is run again goes on: the same files under the same policy attach to the
request that is open, or collect the one that was executed. After --no-wait or an
interruption, "greatseal collect" finishes the files, also on another machine.`,
		Example: `  greatseal sign app.exe --policy windows
  greatseal sign build/ -r --policy windows --reason "release 1.4" --origin commit=4f2a91c
  greatseal sign firmware.bin --policy firmware --format cms --no-wait`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && k.from == "" {
				return fail(exitUsage, c.CommandPath()+" --help", "want at least one FILE, or --files-from")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.sign(cmd.Context(), k, args) },
	}
	f := c.Flags()
	f.StringVarP(&k.policy, "policy", "p", "", "signing policy of the charter")
	f.StringVar(&k.purpose, "purpose", "", "one of the policy's purposes")
	f.StringVarP(&k.format, "format", "f", "", "format to sign as (default: what the file is)")
	f.StringToStringVar(&k.params, "param", nil, `option of the format, NAME=VALUE; repeatable; "greatseal formats" lists them`)
	f.StringVar(&k.description, "description", "", "what the program is called, for formats that carry it")
	f.StringVar(&k.url, "url", "", "where people find more about it, for formats that carry it")
	f.StringToStringVar(&k.claims, "claim", nil, "what you say of every file, NAME=VALUE; repeatable")
	f.BoolVarP(&k.recursive, "recursive", "r", false, "take the files below folders")
	f.StringVar(&k.from, "files-from", "", "file with one path a line; - is standard input")
	f.BoolVar(&k.again, "again", false, "ask for new signatures even where the same was signed before")
	k.asking.flags(c)
	k.output.flags(c)
	must(c.RegisterFlagCompletionFunc("policy", a.completePolicies))
	must(c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp)))
	return c
}

// must is for registrations that can fail only by a mistake in this program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// choose checks what the user wants against the charter, before anything is read.
func (k *signing) choose(head *charter.Charter) (*choice, error) {
	var have []string
	for n := range head.Policies {
		have = append(have, n)
	}
	slices.Sort(have)
	if k.policy == "" {
		return nil, fail(exitUsage, orText(suggest("", have), "--policy NAME"), "--policy is missing")
	}
	p, ok := head.Policies[k.policy]
	if !ok {
		return nil, fail(exitRefused, orText(suggest(k.policy, have), "greatseal charter show lists the policies"), "the charter has no policy %q", k.policy)
	}
	if k.purpose != "" && !slices.Contains(p.Purposes, k.purpose) {
		return nil, fail(exitRefused, orText(suggest(k.purpose, p.Purposes), "leave --purpose out"), "policy %s has no purpose %q", k.policy, k.purpose)
	}
	if k.format != "" && slices.Contains(formatNames(), k.format) && !slices.Contains(p.Formats, k.format) {
		return nil, fail(exitRefused, orText(suggest(k.format, p.Formats), "greatseal charter show "+k.policy), "policy %s does not sign the format %s", k.policy, k.format)
	}
	c := &choice{policy: k.policy, p: p, hash: head.Keys[p.Key].SignatureScheme().Hash(), format: k.format, claims: k.claims, params: format.Params{}}
	for n, v := range k.params {
		c.params[n] = v
	}
	for n, v := range map[string]string{"description": k.description, "url": k.url} {
		if v != "" {
			c.params[n] = v
		}
	}
	return c, nil
}

func (a *App) sign(ctx context.Context, k *signing, args []string) error {
	in, err := a.inputs(args, k.recursive, k.from)
	if err != nil {
		return err
	}
	if err := k.output.check(len(in)); err != nil {
		return err
	}
	l, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	chain, err := l.charters(ctx)
	if err != nil {
		return err
	}
	head, _ := chain.Head()
	how, err := k.choose(head)
	if err != nil {
		return err
	}
	var done []string
	if !k.again {
		if in, done, err = l.signedAlready(ctx, in, k, how); err != nil {
			return err
		}
		if len(in) == 0 {
			return a.print(signResult{State: store.Executed, Policy: k.policy, Key: how.p.Key, Files: []signedFile{}, Done: &alreadyFiles{done}}, func(w io.Writer) {
				for _, f := range done {
					fmt.Fprintf(w, "%s is signed already\n", printable(f))
				}
			})
		}
	}
	files, err := a.plan(ctx, in, how, head)
	if err != nil {
		return err
	}
	if most := how.p.MaxItems; most > 0 && len(files) > most {
		return fail(exitRefused, fmt.Sprintf("sign %d at a time", most), "policy %s signs at most %s in one request: these are %d", k.policy, count(most, "file"), len(files))
	}
	if k.out == "" {
		for _, f := range files {
			// Before anybody is asked: a link is not replaced by a file.
			if st, err := os.Lstat(f.path); err == nil && st.Mode()&os.ModeSymlink != 0 && !anyFile(f.format) {
				return fail(exitUsage, "name the file that it leads to, or --out", "%s is a symbolic link, which a signed file cannot replace", f.path)
			}
		}
	}
	items := make([][]byte, len(files))
	pieces := make([]piece, len(files))
	for i, f := range files {
		items[i] = f.item
		pieces[i] = piece{i, f.path, f.name, f.item, f.was}
	}
	cmd, err := author.SignCommand(head, k.policy, k.purpose, items)
	if err != nil {
		return err
	}
	v, err := l.obtain(ctx, cmd, items, files, k)
	if err != nil {
		return err
	}
	r := signResult{Request: v.ID, State: v.State, Policy: k.policy, Key: how.p.Key, Receipt: v.Receipt, Awaits: v.Awaits, Files: []signedFile{}, Count: len(files)}
	if done != nil {
		r.Done = &alreadyFiles{done}
	}
	if v.State.Open() {
		r.Expires = statement.Seconds(v.Expires).Format("2006-01-02T15:04:05Z07:00")
		return a.print(r, func(w io.Writer) {
			fmt.Fprintf(w, "request %s waits for %s, until %s\ngreatseal collect %s %s\n", short(v.ID), waitsFor(v), when(v.Expires), short(v.ID), filesHint(files))
		})
	}
	if r.Files, err = l.finish(ctx, v, pieces, &k.output); err != nil {
		return err
	}
	r.State, r.Receipt = v.State, v.Receipt
	return a.printSigned(r)
}

func filesHint(files []planned) string {
	if len(files) == 1 {
		return files[0].path
	}
	return "FILE…"
}

// printSigned tells of signed files.
func (a *App) printSigned(r signResult) error {
	return a.print(r, func(w io.Writer) {
		for _, f := range r.Files {
			stamped := ""
			if f.Timestamp {
				stamped = ", timestamped"
			}
			fmt.Fprintf(w, "%s  signed%s, key %s, request %s\n", printable(f.Output), stamped, r.Key, short(r.Request))
			if f.Note != "" {
				fmt.Fprintf(w, "  note: %s\n", printable(f.Note))
			}
		}
	})
}

// obtain has the files signed: by the request that was executed for them before,
// or by one that is made, or open already.
func (l *link) obtain(ctx context.Context, cmd statement.Command, items [][]byte, files []planned, k *signing) (*server.View, error) {
	if !k.again {
		v, err := l.same(ctx, cmd, files[0].plan.Content)
		if err != nil {
			return nil, err
		}
		if v != nil {
			l.app.note("request %s signed the same before: its signatures are used; --again asks anew", short(v.ID))
			return v, nil
		}
	}
	v, err := l.submit(ctx, cmd, items, &k.asking)
	if err != nil {
		return nil, err
	}
	l.app.announce(v)
	if v.Upload != nil && v.State.Open() {
		if err := l.upload(ctx, v, files); err != nil {
			return nil, err
		}
	}
	if !v.State.Open() {
		return v, closed(v)
	}
	if k.noWait {
		return v, nil
	}
	return l.await(ctx, v, k.timeout, "greatseal collect "+short(v.ID)+" "+filesHint(files))
}

// upload sends the artifacts that an inspector is to read.
func (l *link) upload(ctx context.Context, v *server.View, files []planned) error {
	var total int64
	for _, f := range files {
		total += f.plan.Size
	}
	m := l.app.meter("uploading", total, true)
	defer m.end()
	var before int64
	for i, f := range files {
		if err := l.uploadOne(ctx, v.ID, i, f, func(done int64) { m.set(before + done) }); err != nil {
			if ctx.Err() != nil {
				return fail(exitWaiting, "run the same command again: it goes on where it ended", "interrupted; request %s waits for the upload of %s", short(v.ID), f.path)
			}
			return fmt.Errorf("%s: %w", f.path, err)
		}
		before += f.plan.Size
	}
	m.end()
	l.app.note("uploaded %s, %s", count(len(files), "file"), size(total))
	return nil
}

func (l *link) uploadOne(ctx context.Context, id string, index int, f planned, progress func(int64)) error {
	a, err := file.Open(f.path)
	if err != nil {
		return err
	}
	defer a.Close()
	if a.Size() != f.plan.Size {
		return file.ErrChanged
	}
	return l.Upload(ctx, id, index, a, a.Size(), progress)
}

// signedAlready sorts out files that carry a signature under the policy, with
// evidence beside them that verifies: a signature is not asked for twice because
// a build was run twice.
func (l *link) signedAlready(ctx context.Context, in []input, k *signing, how *choice) (todo []input, done []string, err error) {
	for _, i := range in {
		if _, err := os.Stat(i.path + evidenceSuffix); err != nil || k.out != "" {
			todo = append(todo, i)
			continue
		}
		v, err := l.app.verifyBeside(ctx, i.path, l.cfg.Root)
		if err != nil || !k.asked(v.Approval(), how, l.cfg.Name) {
			todo = append(todo, i)
			continue
		}
		done = append(done, i.path)
	}
	if n := len(done); n == 1 {
		l.app.note("%s is signed already under policy %s; --again asks anew", done[0], k.policy)
	} else if n > 1 {
		l.app.note("%d files are signed already under policy %s; --again asks anew", n, k.policy)
	}
	return todo, done, nil
}

// asked reports whether an approval is what the user asks for now.
func (k *signing) asked(ap *verify.Approval, how *choice, name string) bool {
	s, plan := ap.Request().Command.Sign, ap.Plan()
	if s.Policy != k.policy || s.Purpose != k.purpose || ap.Requester().Name != name || k.format != "" && plan.Format != k.format {
		return false
	}
	for n, v := range how.params {
		if plan.Param(n) != v {
			return false
		}
	}
	said := map[string]string{}
	for _, c := range ap.Item().Claims {
		said[c.Name] = c.Value
	}
	return maps.Equal(said, k.claims)
}

// completePolicies completes the names of policies, from the server.
func (a *App) completePolicies(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	l, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer l.Close()
	l.Renew(nil) // nobody is asked for a key while he types
	chain, err := l.charters(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	head, _ := chain.Head()
	var out []string
	for n, p := range head.Policies {
		out = append(out, cobra.CompletionWithDesc(n, p.Description))
	}
	slices.Sort(out)
	return out, cobra.ShellCompDirectiveNoFileComp
}
