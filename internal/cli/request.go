package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/release"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) requestCommand() *cobra.Command {
	c := &cobra.Command{Use: "request", GroupID: "endorse", Short: "look at requests, collect and withdraw them"}
	c.AddCommand(a.requestList(), a.requestShow(), a.requestDiff(), a.requestCancel(), a.collectCommand(""))
	return c
}

// listing are the filters of lists.
type listing struct {
	state                                     []string
	command, policy, key, requester, endorser string
	name, file, digest, since, until          string
	paging
}

func (k *listing) filter(ctx context.Context, a *App) (client.Filter, error) {
	f := client.Filter{Command: k.command, Policy: k.policy, Key: k.key, Requester: k.requester, Endorser: k.endorser, Name: k.name, Before: k.after}
	for _, s := range k.state {
		if !slices.Contains(store.States(), store.State(s)) {
			return f, fail(exitUsage, orText(suggest(s, states()), "--state "+strings.Join(states(), ",")), "there is no state %q", s)
		}
		f.State = append(f.State, store.State(s))
	}
	var err error
	if f.Since, err = a.moment("since", k.since, true); err != nil {
		return f, err
	}
	if f.Until, err = a.moment("until", k.until, true); err != nil {
		return f, err
	}
	if k.digest != "" {
		if f.Content, err = hex.DecodeString(k.digest); err != nil {
			return f, fail(exitUsage, "give it in hexadecimal digits", "--digest: %v", err)
		}
	}
	if k.file != "" {
		list, err := contents(ctx, k.file)
		if err != nil {
			return f, err
		}
		f.Content = list[0]
	}
	return f, nil
}

func states() []string {
	var out []string
	for _, s := range store.States() {
		out = append(out, string(s))
	}
	return out
}

func (a *App) requestList() *cobra.Command {
	k := &listing{}
	c := &cobra.Command{
		Use:   "list",
		Short: "list requests, newest first",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := k.check(); err != nil {
				return err
			}
			f, err := k.filter(cmd.Context(), a)
			if err != nil {
				return err
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			page, err := l.pages(cmd.Context(), f, k.limit)
			if err != nil {
				return err
			}
			return a.printPage(page, "none")
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&k.state, "state", nil, "states: "+strings.Join(states(), ", "))
	fl.StringVar(&k.command, "command", "", "command: sign, key.generate, charter.replace, …")
	fl.StringVar(&k.policy, "policy", "", "signing policy")
	fl.StringVar(&k.key, "key", "", "key")
	fl.StringVar(&k.requester, "requester", "", "who asked")
	fl.StringVar(&k.endorser, "endorser", "", "who has endorsed or disapproved")
	fl.StringVar(&k.name, "name", "", "name of a file; * matches anything")
	fl.StringVar(&k.file, "file", "", "file, by its content")
	fl.StringVar(&k.digest, "digest", "", "digest of a file's signed content, hexadecimal")
	fl.StringVar(&k.since, "since", "", "made since: 2026-01-31, or 72h")
	fl.StringVar(&k.until, "until", "", "made until")
	k.paging.flags(c)
	must(c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp)))
	return c
}

// what is a command in a few words.
func what(c statement.Command) string {
	switch {
	case c.Sign != nil:
		return fmt.Sprintf("sign %s under %s", count(c.Sign.Count, "file"), c.Sign.Policy)
	case c.Charter != nil:
		return "replace the charter"
	}
	return string(c.Name) + " " + c.KeyName()
}

// shownRequest is the document of request show.
type shownRequest struct {
	server.View
	Files      []server.FileView   `json:"files,omitzero"`
	Told       []wire.Told         `json:"told,omitzero"`       // where the caller may see it
	Difference *release.Difference `json:"difference,omitzero"` // without its files: request diff has them
}

func (a *App) requestShow() *cobra.Command {
	var watch bool
	var files int
	c := &cobra.Command{
		Use:   "show ID",
		Short: "show a request: what it asks, who has decided, what is missing",
		Long: `Shows what a request asks for and how far its quorum is, branch by branch. What the
requester says is marked as claimed, what others recomputed from bytes of their own
as found, and what the signature itself will hold as signed.

This is the server's word. "greatseal endorse" and "greatseal verify" check it.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idOf(args[0])
			if err != nil {
				return err
			}
			l, err := a.enter(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			return l.show(cmd.Context(), id, files, watch)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again with every change, until it is over; one JSON document a line with --json")
	c.Flags().IntVar(&files, "files", 20, "how many files to show")
	return c
}

func (l *link) show(ctx context.Context, id string, files int, watch bool) error {
	v, err := l.Request(ctx, id, true)
	if err != nil {
		return err
	}
	for {
		s := shownRequest{View: *v}
		if v.Command.Sign != nil && files > 0 {
			page, err := l.Files(ctx, v.ID, 0, files)
			if err != nil {
				return err
			}
			s.Files = page.Files
			if s.Difference, err = l.Difference(ctx, v.ID, "", 0, 1); err != nil {
				return err
			}
			s.Difference.Files = nil
		}
		// Whoever may not see it, or asks a server that tells nobody, does without.
		if told, err := l.Told(ctx, v.ID); err == nil {
			s.Told = told
		}
		switch {
		case watch && l.app.json:
			err = l.app.printLine(s)
		default:
			err = l.app.print(s, func(w io.Writer) { printRequest(w, &s) })
		}
		if err != nil || !watch || !v.State.Open() {
			return err
		}
		for {
			n, err := l.Await(ctx, v.ID, v.Revision, time.Minute)
			switch {
			case ctx.Err() != nil:
				return nil // the user has seen enough
			case err != nil:
				return err
			}
			if n.Revision != v.Revision {
				break
			}
		}
		if v, err = l.Request(ctx, v.ID, true); err != nil {
			return err
		}
		if !l.app.json {
			fmt.Fprintln(l.app.Out)
		}
	}
}

func printRequest(w io.Writer, s *shownRequest) {
	v := &s.View
	fmt.Fprintf(w, "request %s\n", v.ID)
	state := string(v.State)
	if v.Detail != "" {
		state += ": " + v.Detail
	}
	field(w, "state", state)
	field(w, "asks", what(v.Command))
	if sg := v.Command.Sign; sg != nil {
		line := "key " + sg.Key + ", format " + strings.Join(sg.Formats, ", ")
		if sg.Purpose != "" {
			line += ", purpose " + sg.Purpose
		}
		field(w, "", line)
	}
	field(w, "requester", v.Requester)
	if v.Reason != "" {
		field(w, "reason", v.Reason)
	}
	printToken(w, v.Token)
	for _, o := range v.Origin {
		field(w, "claimed", o.Name+" = "+o.Value)
	}
	times := "made " + when(v.Created) + ", until " + when(v.Expires)
	if !v.NotBefore.IsZero() {
		times += ", not before " + when(v.NotBefore)
	}
	field(w, "times", times)
	if u := v.Upload; u != nil {
		field(w, "uploads", fmt.Sprintf("%d of %d", u.Done, u.Wanted))
	}
	if t := v.Timestamps; t != nil {
		field(w, "timestamps", fmt.Sprintf("%d of %d", t.Done, t.Wanted))
	}
	if v.Receipt > 0 {
		field(w, "receipt", fmt.Sprint(v.Receipt))
	}
	if d := v.Decision; d != nil {
		printDecision(w, d)
	}
	if v.Unreachable != "" {
		field(w, "in vain", v.Unreachable)
	}
	printSaid(w, v.Said)
	if t := toldSummary(s.Told); t != "" {
		field(w, "told", t)
	}
	printFiles(w, s.Files, v.Count, v.Recomputed)
	if s.Difference != nil {
		printSummary(w, s.Difference)
	}
}

// printToken prints what the token of a workload says, and what of it the charter asks for.
func printToken(w io.Writer, t *server.TokenView) {
	if t == nil {
		return
	}
	by := t.Issuer
	if t.Name != "" {
		by = t.Name + ", " + t.Issuer
	}
	if t.Problem != "" {
		field(w, "token", "NOT VERIFIED: "+t.Problem)
		field(w, "", "it says that it is of "+by+", and what follows")
	} else {
		field(w, "token", "of "+by+", verified")
	}
	if t.Unbound {
		field(w, "", "it names no request: whoever saw it could have signed this one")
	}
	for _, c := range t.Claims {
		// What stands before the name is ours: a workflow is called as its author likes.
		switch c.Wanted {
		case "":
			field(w, "it says", c.Name+" = "+c.Value)
		case c.Value:
			field(w, "it has to say", c.Name+" = "+c.Value)
		default:
			field(w, "it has to say", c.Name+" = "+c.Value+", as "+c.Wanted)
		}
	}
}

// printSaid prints what endorsers wrote: comments, and what machines found.
func printSaid(w io.Writer, said []server.Said) {
	for _, x := range said {
		if x.Comment != "" {
			field(w, "said by", x.Endorser+": "+strings.Join(strings.Fields(x.Comment), " "))
		}
		for _, f := range x.Findings {
			field(w, "found by", x.Endorser+": "+f.Name+" = "+f.Value)
		}
	}
}

// printDecision draws the quorum's tree and the votes.
func printDecision(w io.Writer, d *quorum.Decision) {
	field(w, "rule", fmt.Sprintf("%s, charter %d", d.Rule, d.Charter.Version))
	if d.Tree != nil {
		printBranch(w, d.Tree, "              ", "", "")
	} else if d.State == quorum.Granted {
		field(w, "", "✓ nobody else is asked")
	}
	for _, v := range d.Votes {
		mark := "·"
		switch {
		case v.Verdict == statement.Disapprove:
			mark = "✗"
		case v.Counted:
			mark = "✓"
		}
		field(w, "word of", fmt.Sprintf("%s %s, %s, %s: %s", mark, orText(v.Endorser, "nobody known"), orText(string(v.Verdict), "unreadable"), when(v.Created), v.Why))
	}
	if d.Missing != "" {
		field(w, "missing", d.Missing)
	}
}

func printBranch(w io.Writer, b *quorum.Branch, indent, lead, below string) {
	mark := "○"
	if b.Satisfied {
		mark = "✓"
	}
	line := fmt.Sprintf("%s %s (%d of %d)", mark, b.Label, b.Have, b.Need)
	if len(b.By) > 0 {
		line += ": " + strings.Join(b.By, ", ")
	}
	fmt.Fprintln(w, indent+lead+printable(line))
	for i, c := range b.Of {
		lead, next := "├ ", "│ "
		if i == len(b.Of)-1 {
			lead, next = "└ ", "  "
		}
		printBranch(w, c, indent, below+lead, below+next)
	}
}

// wordOf is what facts that stand in a plan are: the requester's claim, or found by
// those who made the plan anew from bytes of their own.
func wordOf(recomputed []string) string {
	if len(recomputed) > 0 {
		return "found  "
	}
	return "claimed"
}

// printFiles says of everything whether it is signed, claimed or found: what the
// signature itself will hold, what the requester says, and what others have
// recomputed.
func printFiles(w io.Writer, files []server.FileView, total int, recomputed []string) {
	word := wordOf(recomputed)
	for _, f := range files {
		say := func(word, what string) { field(w, "", "  "+word+"  "+what) }
		field(w, "file", f.Name)
		say("signed ", fmt.Sprintf("%s, %s %s", f.Format, f.Digest, f.Content))
		for _, x := range f.Params {
			if x.Value != "" {
				say("signed ", "option "+x.Name+" = "+x.Value)
			}
		}
		say(word, "size = "+size(f.Size))
		for _, x := range listed(f.Facts) {
			say(word, x.Name+" = "+x.Value)
		}
		for _, x := range f.Claims {
			say("claimed", x.Name+" = "+x.Value)
		}
	}
	if n := total - len(files); n > 0 && len(files) > 0 {
		field(w, "", fmt.Sprintf("and %s more: --files %d", count(n, "file"), total))
	}
	switch {
	case len(files) == 0:
	case len(recomputed) > 0:
		field(w, "recomputed", "by "+strings.Join(recomputed, ", ")+", from bytes of their own: what is marked found")
		field(w, "", "names, and what is marked claimed, are the requester's word")
	default:
		field(w, "recomputed", "by nobody yet: names, and what is marked claimed, are the requester's word")
	}
}

// listed puts long lists of facts of one name on a line each.
func listed(facts []format.Fact) (out []format.Fact) {
	for len(facts) > 0 {
		n := 1
		for n < len(facts) && facts[n].Name == facts[0].Name {
			n++
		}
		if n < 4 {
			out = append(out, facts[:n]...)
		} else {
			var values []string
			for _, f := range facts[:n] {
				values = append(values, f.Value)
			}
			out = append(out, format.Fact{Name: fmt.Sprintf("%d × %s", n, facts[0].Name), Value: strings.Join(values, ", ")})
		}
		facts = facts[n:]
	}
	return out
}

func (a *App) requestCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "withdraw your own open request",
		Args:  exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			given, err := idOf(args[0])
			if err != nil {
				return err
			}
			l, err := a.enter(ctx)
			if err != nil {
				return err
			}
			defer l.Close()
			v, err := l.Request(ctx, given, false)
			if err != nil {
				return err
			}
			id, err := statement.ParseID(v.ID)
			if err != nil || !strings.HasPrefix(v.ID, given) {
				return fail(exitUnverified, "tell the server's administrator", "the server answers with another request")
			}
			s, err := l.sign(ctx)
			if err != nil {
				return err
			}
			sig, err := s.Sign(ctx, credential.Login, server.CancelMessage(id))
			if err != nil {
				return err
			}
			v, err = l.Cancel(ctx, id, l.cfg.Name, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
			if err != nil {
				return err
			}
			return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "request %s is %s\n", short(v.ID), v.State) })
		},
	}
}

// fileViews describes items as the server would.
func fileViews(items [][]byte, most int) ([]server.FileView, error) {
	return server.Files(items, 0, min(most, len(items)))
}
