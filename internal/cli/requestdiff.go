package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/internal/release"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) requestDiff() *cobra.Command {
	var against string
	var limit int
	c := &cobra.Command{
		Use:   "diff ID",
		Short: "say what changed since the last release",
		Long: `Compares what a request would sign with the last release: the request that was executed
under the same policy and has the most files which those of this one follow. Versions in
names do not count: app-1.3.exe follows app-1.2.exe. Another release is chosen with
--against.

Both requests are checked against what their requesters signed, and compared here. What is
compared is what the plans say, which is the requester's claim until somebody has made
them anew from bytes of his own.`,
		Example: `  greatseal request diff 4f1c --against 77ab`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idOf(args[0])
			if err != nil {
				return err
			}
			if against != "" {
				if against, err = idOf(against); err != nil {
					return err
				}
			}
			if limit < 0 {
				return fail(exitUsage, "--limit 100, or 0 for all", "--limit %d is no number of files", limit)
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			v, items, err := l.request(cmd.Context(), id)
			if err != nil {
				return err
			}
			files, err := server.Files(items, 0, len(items))
			if err != nil {
				return unverified("", err)
			}
			d, err := l.difference(cmd.Context(), v.ID, against, files)
			if err != nil {
				return err
			}
			d.Recomputed = v.Recomputed
			all := d.FileCount
			if limit > 0 && limit < all {
				d.Files, d.Next = d.Files[:limit], limit
			}
			return a.print(d, func(w io.Writer) { printDifference(w, d, limit == 0) })
		},
	}
	c.Flags().StringVar(&against, "against", "", "ID of the release to compare with")
	c.Flags().IntVar(&limit, "limit", 100, "how many files to show; 0: all")
	return c
}

// difference compares files, which were checked, with a release: the server names it,
// its items are checked here, and so is that it is of the same policy.
func (l *link) difference(ctx context.Context, id, against string, files []server.FileView) (*release.Difference, error) {
	told, err := l.Difference(ctx, id, against, 0, 1)
	if err != nil {
		return nil, err
	}
	var old []server.FileView
	if b := told.Against; b != nil {
		v, items, err := l.request(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		if v.Command.Sign.Policy != told.Policy {
			return nil, fail(exitUnverified, "tell the server's administrator", "the server compares with request %s, which is under policy %s", short(v.ID), v.Command.Sign.Policy)
		}
		if old, err = server.Files(items, 0, len(items)); err != nil {
			return nil, unverified("", err)
		}
	}
	d := release.Between(old, files, told.Against != nil)
	d.Request, d.Policy, d.Against, d.Why, d.Others = told.Request, told.Policy, told.Against, told.Why, told.Others
	return d, nil
}

// marks of what became of something, for those who see no colours too.
func kindMark(k release.Kind) string {
	switch k {
	case release.Added:
		return "+"
	case release.Removed:
		return "-"
	case release.Changed:
		return "~"
	}
	return "="
}

func severityMark(s release.Severity) string {
	switch s {
	case release.High:
		return "!!"
	case release.Medium:
		return "! "
	}
	return "· "
}

// printDifference shows a difference: what it is with, alerts, files with their changes.
func printDifference(w io.Writer, d *release.Difference, everything bool) {
	fmt.Fprintf(w, "request %s\n", short(d.Request))
	printSummary(w, d)
	for _, o := range d.Others[:min(len(d.Others), 5)] {
		field(w, "or", fmt.Sprintf("--against %s  of %s, by %s, %s", short(o.ID), when(o.Executed), o.Requester, count(o.Count, "file")))
	}
	const most = 12
	for _, f := range d.Files {
		line := kindMark(f.Kind) + " " + f.Name()
		switch {
		case f.Kind == release.Unchanged:
			line += "  (was " + f.Old.Name + ")"
		case f.Old != nil && f.New != nil && f.Old.Version != f.New.Version:
			line += "  " + orText(f.Old.Version, "no version") + " → " + orText(f.New.Version, "no version")
		case f.New != nil && f.New.Version != "":
			line += "  " + f.New.Version
		}
		if f.Kind == release.Changed && f.Old.Size != f.New.Size {
			line += fmt.Sprintf("  %s → %s (%+d %%)", size(f.Old.Size), size(f.New.Size), f.Percent)
		}
		field(w, string(f.Kind), line)
		for _, x := range f.Alerts {
			field(w, "", "  "+severityMark(x.Severity)+" "+x.Text)
		}
		for i, c := range f.Changes {
			if i == most && !everything {
				field(w, "", fmt.Sprintf("  and %s more: --limit 0", count(len(f.Changes)-most, "change")))
				break
			}
			field(w, "", "  "+changeLine(c))
		}
	}
	if n := d.FileCount - len(d.Files); n > 0 {
		field(w, "", fmt.Sprintf("and %s more: --limit 0", count(n, "file")))
	}
}

func changeLine(c release.Change) string {
	switch c.Kind {
	case release.Added:
		return "+ " + c.Name + " = " + c.New
	case release.Removed:
		return "- " + c.Name + " = " + c.Old
	}
	return "~ " + c.Name + " " + orText(c.Old, "none") + " → " + orText(c.New, "none")
}

// printSummary is the difference in a few lines.
func printSummary(w io.Writer, d *release.Difference) {
	if b := d.Against; b != nil {
		field(w, "before", fmt.Sprintf("request %s of %s, by %s", short(b.ID), when(b.Executed), b.Requester))
	}
	field(w, "", d.Why)
	field(w, "difference", strings.TrimSpace(wordOf(d.Recomputed))+": "+d.Summary)
}

// printSince says before somebody endorses what changed since the last release.
func (l *link) printSince(ctx context.Context, w io.Writer, id statement.ID, files []server.FileView, recomputed []string) error {
	if len(files) == 0 {
		return nil
	}
	d, err := l.difference(ctx, id.String(), "", files)
	if err != nil {
		return err
	}
	d.Recomputed = recomputed
	printSummary(w, d)
	shown := 0
	for _, x := range d.Alerts[:min(len(d.Alerts), maxDiffs)] {
		line := severityMark(x.Severity) + " " + x.Text
		if x.File != "" {
			line = severityMark(x.Severity) + " " + x.File + ": " + x.Text
		}
		field(w, "", "  "+line)
		shown++
	}
	if n := d.AlertCount - shown; n > 0 {
		field(w, "", fmt.Sprintf("  and %s more", count(n, "alert")))
	}
	shown = 0
	for _, f := range d.Files {
		if shown == maxDiffs || f.Kind == release.Unchanged {
			continue
		}
		shown++
		line := f.Name()
		switch f.Kind {
		case release.Added:
			line += ": new in this release"
		case release.Removed:
			line += ": no longer in it"
		case release.Changed:
			line += ": " + strings.Join(changedParts(&f), "; ")
		}
		field(w, "", "  "+wordOf(recomputed)+"  "+line)
	}
	if d.FileCount > shown {
		field(w, "", "  all of it: greatseal request diff "+short(d.Request))
	}
	return nil
}

// changedParts are the first changes of a file, in words.
func changedParts(f *release.File) (out []string) {
	const most = 6
	if f.Old.Size != f.New.Size {
		a, b := size(f.Old.Size), size(f.New.Size)
		if a == b {
			a, b = fmt.Sprint(f.Old.Size), fmt.Sprintf("%d bytes", f.New.Size)
		}
		out = append(out, "size "+a+" → "+b)
	}
	for _, c := range f.Changes[:min(len(f.Changes), most)] {
		out = append(out, strings.TrimPrefix(changeLine(c), "~ "))
	}
	if n := len(f.Changes) - most; n > 0 {
		out = append(out, fmt.Sprintf("and %s more", count(n, "change")))
	}
	return append(out, fmt.Sprintf("content %s %.12s… → %s %.12s…", f.Old.Digest, f.Old.Content, f.New.Digest, f.New.Content))
}
