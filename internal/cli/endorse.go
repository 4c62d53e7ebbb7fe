package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

type endorsing struct {
	files     []string
	recursive bool
	comment   string
	lasts     time.Duration
	yes       bool
	show      int
}

func (a *App) endorseCommand() *cobra.Command {
	k := &endorsing{}
	c := &cobra.Command{
		Use:     "endorse ID",
		GroupID: "endorse",
		Short:   "check a request and put your own signature under it",
		Long: `Fetches the request as its requester signed it, checks that signature, the charter
and the files' plans here, and shows what would be signed: what the requester
claims, what the plans say, and what differs from the last time that a file of the
name was signed under the policy. Your endorsement is a signature of your own over
exactly this request. What you are shown is marked: signed is what the signature
itself will hold, claimed is the requester's word, found is what somebody recomputed
from bytes of his own.

With --file, the plan of your own copy is made here (an independent build, say) and
the endorsement is given only if it is the same, byte for byte.

With --quiet and --yes nothing is shown but errors.`,
		Example: `  greatseal endorse 4f2a91c03bde
  greatseal endorse 4f2a91c03bde --file build/app.exe --comment "rebuilt from 4f2a91c"`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.decide(cmd.Context(), k, args[0], statement.Endorse)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&k.files, "file", nil, "your own copy of a file of the request; repeatable")
	f.BoolVarP(&k.recursive, "recursive", "r", false, "take the files below folders")
	f.StringVarP(&k.comment, "comment", "m", "", "what you say to it")
	f.DurationVar(&k.lasts, "lasts", 0, "how long the endorsement lasts (default: as long as the request)")
	f.BoolVarP(&k.yes, "yes", "y", false, "do not ask")
	f.IntVar(&k.show, "show", 20, "how many files to show")
	return c
}

func (a *App) disapproveCommand() *cobra.Command {
	k := &endorsing{}
	c := &cobra.Command{
		Use:     "disapprove ID --comment WHY",
		GroupID: "endorse",
		Short:   "say no to a request",
		Long: `Puts your signed disapproval into the evidence. It takes back an endorsement that you
gave; of a member of a veto group it ends the request.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(k.comment) == "" {
				return fail(exitUsage, cmd.CommandPath()+" "+args[0]+` --comment "why"`, "--comment is missing: say why")
			}
			return a.decide(cmd.Context(), k, args[0], statement.Disapprove)
		},
	}
	c.Flags().StringVarP(&k.comment, "comment", "m", "", "why")
	c.Flags().BoolVarP(&k.yes, "yes", "y", false, "do not ask")
	c.Flags().IntVar(&k.show, "show", 20, "how many files to show")
	return c
}

// judged is a request that was checked here.
type judged struct {
	id       statement.ID
	r        *statement.Request
	items    [][]byte
	files    []server.FileView
	envelope []byte
	view     *server.View
	decision *quorum.Decision
	token    *server.TokenView // of a workload's request, judged here
	findings map[string]string

	recomputed []string // endorsers whose authentic word says so
}

// fetch gets a request with everything in it and checks it.
func (l *link) fetch(ctx context.Context, given string) (*judged, error) {
	v, err := l.Request(ctx, given, false)
	if err != nil {
		return nil, err
	}
	env, err := l.Envelopes(ctx, v.ID)
	if err != nil {
		return nil, err
	}
	r, id, err := l.statementOf(ctx, env.Request)
	if err != nil {
		return nil, err
	}
	if id.String() != v.ID || !strings.HasPrefix(v.ID, given) {
		return nil, fail(exitUnverified, "tell the server's administrator", "the server shows request %s for %s", short(id.String()), given)
	}
	j := &judged{id: id, r: r, envelope: env.Request, view: v, findings: map[string]string{}}
	if r.Command.Sign != nil {
		if j.items, err = l.Items(ctx, v.ID); err != nil {
			return nil, err
		}
		if err := checkItems(r, j.items); err != nil {
			return nil, err
		}
		if j.files, err = fileViews(j.items, len(j.items)); err != nil {
			return nil, unverified("tell the requester", err)
		}
	}
	ev := quorum.Evidence{Request: env.Request}
	for _, e := range env.Endorsements {
		ev.Endorsements = append(ev.Endorsements, e)
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	j.decision, _ = chain.Judge(ev, l.app.Now(), quorum.Options{})
	if e, err := statement.DecodeEnvelope(env.Request); err == nil {
		head, _ := chain.Head()
		j.token = server.TokenOf(head, e)
	}
	for i, vote := range j.decision.Votes {
		if vote.Counted || vote.Standing {
			if who := recomputedBy(ev.Endorsements[i], len(j.items)); who != "" {
				j.recomputed = append(j.recomputed, who)
			}
		}
	}
	return j, nil
}

// recomputedBy is the endorser, if his endorsement says that he made all n plans
// from bytes of his own.
func recomputedBy(envelope []byte, n int) string {
	env, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return ""
	}
	e, err := statement.Decode[statement.Endorsement](env.Payload)
	all := statement.Claim{Name: server.FindingRecomputed, Value: fmt.Sprintf("%d of %[1]d", n)}
	if err != nil || e.Verdict != statement.Endorse || !slices.Contains(e.Findings, all) {
		return ""
	}
	return e.Endorser
}

// recomputers are all who made every plan anew, the user among them.
func (j *judged) recomputers() []string {
	out := slices.Clone(j.recomputed)
	if _, ok := j.findings[server.FindingRecomputed]; ok {
		out = append(out, "you")
	}
	return out
}

func (a *App) decide(ctx context.Context, k *endorsing, given string, verdict statement.Verdict) error {
	id, err := idOf(given)
	if err != nil {
		return err
	}
	l, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	j, err := l.fetch(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case !j.view.State.Open():
		return fail(exitRefused, "greatseal request show "+short(j.view.ID), "request %s is %s: it takes no more endorsements", short(j.view.ID), j.view.State)
	case j.decision.State == quorum.Refused:
		return fail(exitRefused, "greatseal request show "+short(j.view.ID), "nothing can grant this request: %s", j.decision.Reason)
	}
	if len(k.files) > 0 {
		if err := a.recompute(ctx, k, j); err != nil {
			return err
		}
	}
	// With --quiet and --yes nobody looks at it.
	if !a.json && !(a.quiet && k.yes) {
		if err := l.printJudged(ctx, a.Err, j, k.show); err != nil {
			return err
		}
	}
	if !k.yes {
		if err := a.confirm(string(verdict) + " request " + short(j.view.ID)); err != nil {
			return err
		}
	}
	me, err := l.author(ctx)
	if err != nil {
		return err
	}
	b, err := me.Endorsement(ctx, j.r, j.id, verdict, k.comment, k.lasts, j.findings)
	if err != nil {
		return err
	}
	v, err := l.Endorse(ctx, b)
	if err != nil {
		return err
	}
	if v, err = l.settled(ctx, v); err != nil {
		return err
	}
	if a.quiet && k.yes && !a.json {
		return nil
	}
	return a.print(v, func(w io.Writer) {
		did := "endorsed"
		if verdict == statement.Disapprove {
			did = "disapproved"
		}
		fmt.Fprintf(w, "%s request %s; it %s\n", did, short(v.ID), becomes(v))
	})
}

// settled waits a moment for what an endorsement brings about, for the sake of
// what is shown.
func (l *link) settled(ctx context.Context, v *server.View) (*server.View, error) {
	for i := 0; i < 5 && v.State == store.Endorsed && v.NotBefore.IsZero(); i++ {
		n, err := l.Await(ctx, v.ID, v.Revision, 2*time.Second)
		if err != nil {
			if ctx.Err() != nil {
				return v, nil
			}
			return v, err
		}
		v = n
	}
	return v, nil
}

func becomes(v *server.View) string {
	s := printable(progressOf(v))
	if v.State == store.Executed || !v.State.Open() {
		return "is " + s
	}
	if v.State == store.Endorsed {
		return "is " + s
	}
	return s
}

// findingSome is the finding of an endorser who made some of the plans anew;
// server.FindingRecomputed is about all of them.
const findingSome = "some-plans-recomputed"

// recompute makes the plans of the user's own files and wants each to be one of
// the request's, byte for byte.
func (a *App) recompute(ctx context.Context, k *endorsing, j *judged) error {
	if len(j.items) == 0 {
		return fail(exitUsage, "leave --file out", "request %s is about no files", short(j.view.ID))
	}
	in, err := a.inputs(k.files, k.recursive, "")
	if err != nil {
		return err
	}
	m, err := newMatcher(j.items)
	if err != nil {
		return err
	}
	bar := a.meter("comparing", totalSize(in), true)
	defer bar.end()
	taken := map[int]bool{}
	for _, i := range in {
		it, near, got, err := m.match(ctx, i, taken, bar)
		if err != nil {
			return fmt.Errorf("%s: %w", i.path, err)
		}
		if it == nil {
			bar.end()
			if near == nil {
				return fail(exitRefused, "greatseal request show "+short(j.view.ID)+" lists the files", "%s is none of the files of the request", i.path)
			}
			return fail(exitRefused, "greatseal disapprove "+short(j.view.ID)+" --comment WHY, if yours is right",
				"%s is not what the request would sign as %s: %s; nothing was endorsed", i.path, near.item.Name, strings.Join(changes(near.plan, got), "; "))
		}
		taken[it.index] = true
	}
	bar.end()
	name := server.FindingRecomputed
	if len(taken) < len(j.items) {
		name = findingSome
	}
	j.findings[name] = fmt.Sprintf("%d of %d", len(taken), len(j.items))
	a.note("%d of %d plans are the same, byte for byte, made from your own files", len(taken), len(j.items))
	return nil
}

// confirm asks on the terminal.
func (a *App) confirm(what string) error {
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return fail(exitUsage, "--yes, once you have looked at it", "there is no terminal to ask on")
	}
	fmt.Fprintf(a.Err, "%s? [y/N] ", what)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fail(exitFailed, "", "nothing was signed")
}

// printJudged shows what was checked here.
func (l *link) printJudged(ctx context.Context, w io.Writer, j *judged, most int) error {
	s := &shownRequest{View: *j.view}
	v := &s.View
	// What is signed comes from the envelope, not from the server's description.
	v.Command, v.Requester, v.Reason, v.Origin = j.r.Command, j.r.Requester, j.r.Reason, j.r.Origin
	v.Created, v.Expires, v.NotBefore, v.Count = j.r.Created, j.r.Expires, j.r.NotBefore, len(j.items)
	v.Decision, v.Recomputed, v.Token = j.decision, j.recomputers(), j.token
	s.Files = j.files[:min(most, len(j.files))]
	printRequest(w, s)
	switch c := j.r.Command; {
	case c.Sign != nil:
		return l.printSince(ctx, w, j.id, j.files, j.recomputers())
	case c.Charter != nil:
		return l.printCharter(ctx, w, c.Charter.Statement)
	case c.Generate != nil:
		field(w, "subject", c.Generate.Subject)
		if c.Generate.SelfSignedDays > 0 {
			field(w, "", fmt.Sprintf("with a self-signed certificate for %d days", c.Generate.SelfSignedDays))
		}
	case c.Certificate != nil:
		for _, d := range c.Certificate.Chain {
			field(w, "certificate", certificateLine(d))
		}
	}
	return nil
}

// printCharter shows what a charter that is proposed changes.
func (l *link) printCharter(ctx context.Context, w io.Writer, payload []byte) error {
	next, err := charter.Decode(payload)
	if err != nil {
		return unverified("greatseal disapprove it", err)
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return err
	}
	head, _ := chain.Head()
	printDiff(w, charter.Diff(head, next))
	return nil
}

func printDiff(w io.Writer, d []charter.Change) {
	if len(d) == 0 {
		field(w, "changes", "nothing")
	}
	for _, c := range d {
		mark := "~"
		switch c.Effect {
		case charter.Weaker:
			mark = "▼"
		case charter.Stronger:
			mark = "▲"
		case charter.Trust:
			mark = "!"
		}
		field(w, "changes", mark+" "+c.String())
	}
}

// maxDiffs is how many files are compared in words.
const maxDiffs = 20

// changes says in words what tells two plans apart.
func changes(was, now *format.Plan) []string {
	var out []string
	say := func(name, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s %s → %s", name, orText(a, "none"), orText(b, "none")))
		}
	}
	if was.Size != now.Size {
		say("size", size(was.Size), size(now.Size))
		if size(was.Size) == size(now.Size) {
			out = append(out, fmt.Sprintf("size %d → %d bytes", was.Size, now.Size))
		}
	}
	facts := func(p *format.Plan) map[string]string {
		m := map[string]string{}
		for _, f := range p.Facts {
			m[f.Name] = f.Value
		}
		return m
	}
	a, b := facts(was), facts(now)
	for _, f := range now.Facts {
		say(f.Name, a[f.Name], f.Value)
	}
	for _, f := range was.Facts {
		if _, ok := b[f.Name]; !ok {
			say(f.Name, f.Value, "")
		}
	}
	for _, p := range now.Params {
		say("option "+p.Name, was.Param(p.Name), p.Value)
	}
	if was.Digest != now.Digest || !bytes.Equal(was.Content, now.Content) {
		out = append(out, fmt.Sprintf("content %s %.6x… → %s %.6x…", was.Digest, was.Content, now.Digest, now.Content))
	}
	if len(out) == 0 && !bytes.Equal(was.Body, now.Body) {
		out = append(out, "another structure of the same content")
	}
	return out
}
