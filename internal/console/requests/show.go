package requests

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// shown is a request's page.
type shown struct {
	*server.View
	Path       string
	Title      string
	Badge      string
	Sign       *statement.SignArgs
	Details    [][2]string // of the command
	Words      []spoken
	Rule       string
	Tree       *node
	Vetoes     []string // groups
	Missing    string
	Files      *fileList
	Payload    string
	Receipt    *statement.Receipt
	Entries    []store.EntryRef // in the log
	Difference string           // address of a part of the page
	Change     string
	Mine       mine
	Open       bool
	Soon       bool
}

// mine is what the reader can do about a request.
type mine struct {
	Awaited  bool
	Word     string // what he has said already
	Endorse  bool   // his word would count, or could
	Cancel   bool
	Passkeys int
	Expect   string // what static/sign.js is to find in the statement, as JSON
	CanCLI   bool
	Keys     string // credential ids for a withdrawal, as JSON
	RPID     string
}

// spoken is one endorsement or disapproval.
type spoken struct {
	Endorser string
	Machine  bool
	Verdict  statement.Verdict
	Comment  string
	Findings []statement.Claim
	Created  time.Time
	Arrived  time.Time
	Vote     *quorum.Vote
	ID       string
}

// Badge is how a verdict is shown.
func (s spoken) Badge() string {
	if s.Verdict == statement.Disapprove {
		return "badge-bad"
	}
	return "badge-good"
}

func (a *area) show(v *web.Visit) error {
	r, req, err := a.get(v)
	if err != nil {
		return err
	}
	if v.Path("id") != r.ID.String() {
		return v.Redirect(requestsPath + "/" + r.ID.String())
	}
	ctx := v.Request.Context()
	view, err := a.server.View(ctx, r, true)
	if err != nil {
		return err
	}
	p := &shown{View: view, Path: requestsPath + "/" + view.ID, Title: title(&req.Command), Badge: badge(r.State), Sign: req.Command.Sign, Open: r.State.Open(),
		Soon: r.State.Open() && r.Expires.Sub(v.Now) < 24*time.Hour}
	p.Details = details(req)
	p.Payload = pretty(r)
	head := a.server.Charter()
	if rl, name, ok := rule(head, req); ok {
		p.Rule, p.Vetoes = name, rl.Veto
		p.Tree = a.tree(r, req, view.Decision)
	}
	if view.Decision != nil {
		p.Missing = view.Decision.Missing
	}
	p.Words = words(a.server, r, view.Decision)
	if req.Command.Sign != nil {
		if p.Files, err = a.fileList(v, r, view); err != nil {
			return err
		}
		if has(v, differenceOf) {
			p.Difference = at(differenceOf, r.ID)
		}
	}
	if req.Command.Charter != nil && has(v, changeOf) {
		p.Change = at(changeOf, r.ID)
	}
	if r.Receipt != 0 {
		if _, rc, err := a.server.Outcome(ctx, r.ID); err == nil {
			p.Receipt = rc
		} else {
			v.Site().Logger().Warn("a receipt cannot be shown", "request", view.ID, "error", err)
		}
	}
	if p.Entries, err = a.store.EntriesOf(ctx, r.ID); err != nil {
		return err
	}
	if err := a.mine(v, p, r); err != nil {
		return err
	}
	return v.Page("show.html", p.Title+" "+view.ID[:12], p)
}

// mine finds out what the reader can do.
func (a *area) mine(v *web.Visit, p *shown, r *store.Request) error {
	if !v.Who.InCharter || !p.Open || r.Sent {
		return nil
	}
	m := &p.Mine
	keys := v.Passkeys()
	m.Passkeys = len(keys)
	for _, w := range p.Words {
		if w.Endorser == v.Who.Name && w.Vote != nil && !strings.HasPrefix(w.Vote.Why, "same person again") {
			m.Word = string(w.Verdict)
		}
	}
	m.Awaited = slices.Contains(p.Awaits, v.Who.Name)
	m.Endorse = p.Tree != nil && p.Tree.stands(v.Who.Name) && !a.belongs(v.Who.Name, r.Requester) || a.vetoes(p.Vetoes, v.Who.Name)
	m.CanCLI = m.Endorse
	m.Cancel = v.Who.Name == r.Requester
	b, err := json.Marshal(map[string]string{"deployment": p.Deployment, "request": p.ID, "endorser": v.Who.Name}, json.Deterministic(true))
	if err != nil {
		return err
	}
	m.Expect = string(b)
	if m.Cancel && len(keys) > 0 {
		m.RPID = keys[0].RPID()
		ids := [][]byte{}
		for _, k := range keys {
			if k.RPID() == m.RPID {
				ids = append(ids, k.CredentialID())
			}
		}
		if b, err = json.Marshal(ids); err != nil {
			return err
		}
		m.Keys = string(b)
	}
	return nil
}

// belongs reports whether two names count as one.
func (a *area) belongs(x, y string) bool {
	head := a.server.Charter()
	owner := func(n string) string {
		if m, ok := head.Machines[n]; ok && m.Owner != "" {
			return m.Owner
		}
		return n
	}
	return owner(x) == owner(y)
}

func (a *area) vetoes(groups []string, name string) bool {
	head := a.server.Charter()
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(head.Members(g), name) })
}

// words are what was said, in the order of arrival.
func words(s *server.Server, r *store.Request, d *quorum.Decision) []spoken {
	head := s.Charter()
	var out []spoken
	for i, e := range r.Endorsements {
		env, err := statement.DecodeEnvelope(e.Envelope)
		if err != nil {
			continue
		}
		x, err := statement.Decode[statement.Endorsement](env.Payload)
		if err != nil {
			continue
		}
		w := spoken{Endorser: x.Endorser, Verdict: x.Verdict, Comment: x.Comment, Findings: x.Findings, Created: x.Created, Arrived: e.Arrived, ID: e.ID.String()}
		_, w.Machine = head.Machines[x.Endorser]
		if d != nil && i < len(d.Votes) {
			w.Vote = &d.Votes[i]
		}
		out = append(out, w)
	}
	return out
}

// details are what a command says besides its name.
func details(req *statement.Request) [][2]string {
	c := &req.Command
	var out [][2]string
	add := func(name, value string) {
		if value != "" {
			out = append(out, [2]string{name, value})
		}
	}
	switch {
	case c.Sign != nil:
		add("policy", c.Sign.Policy)
		add("key", c.Sign.Key)
		add("purpose", c.Sign.Purpose)
		add("formats", strings.Join(c.Sign.Formats, ", "))
		add("root of the items", c.Sign.Items)
	case c.Generate != nil:
		add("key", c.Generate.Key)
		add("subject", c.Generate.Subject)
		if c.Generate.SelfSignedDays > 0 {
			add("self-signed for", strconv.Itoa(c.Generate.SelfSignedDays)+" days")
		}
	case c.Certificate != nil:
		add("key", c.Certificate.Key)
		add("certificates", strconv.Itoa(len(c.Certificate.Chain)))
	case c.Key != nil:
		add("key", c.Key.Key)
	}
	return out
}

// pretty is the statement for people. The payload itself is compact.
func pretty(r *store.Request) string {
	env, err := statement.DecodeEnvelope(r.Envelope)
	if err != nil {
		return ""
	}
	if len(env.Payload) > maxPretty {
		return ""
	}
	x := jsontext.Value(bytes.Clone(env.Payload))
	if err := x.Indent(jsontext.WithIndent("  ")); err != nil {
		return ""
	}
	return string(x)
}

// maxPretty is how large a statement is that a page shows; a larger one is fetched.
const maxPretty = 24 << 10

// statement gives the very bytes that are signed.
func (a *area) statement(v *web.Visit) error {
	r, _, err := a.get(v)
	if err != nil {
		return err
	}
	env, err := statement.DecodeEnvelope(r.Envelope)
	if err != nil {
		return err
	}
	return v.Download("request-"+r.ID.String()[:12]+".json", "application/json", env.Payload)
}

// events tells a page when its request has changed.
func (a *area) events(v *web.Visit) error {
	r, _, err := a.get(v)
	if err != nil {
		return err
	}
	e, err := v.Events()
	if err != nil {
		return err
	}
	defer e.Close()
	sent := r.Revision
	if seen := v.Query().Get("seen"); seen != "" && seen != strconv.FormatInt(sent, 10) {
		if e.Send("changed", nil) != nil {
			return nil
		}
	}
	for e.Context().Err() == nil {
		if !r.State.Open() {
			return e.Send("end", nil)
		}
		ctx, cancel := context.WithTimeout(e.Context(), web.Heartbeat)
		next, err := a.server.Await(ctx, r.ID, sent)
		cancel()
		if err != nil {
			return nil // the browser comes again
		}
		if next.Revision == sent {
			if e.Beat() != nil {
				return nil
			}
			continue
		}
		before := r.State
		r, sent = next, next.Revision
		if e.Send("changed", nil) != nil {
			return nil
		}
		say := "somebody has spoken"
		if r.State != before {
			say = "the request is " + string(r.State)
		}
		if e.Send("say", say) != nil {
			return nil
		}
	}
	return nil
}
