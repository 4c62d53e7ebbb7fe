package charters

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/statement"
)

type appsData struct {
	Templates []*template.Template
	Apps      []string
	Propose   bool
	Query     string
	Left      int
}

func (a *area) apps(v *web.Visit) error {
	head := a.server.Charter()
	d := &appsData{Templates: template.List(), Propose: a.asks(v.Who, head), Query: v.Query().Get("q")}
	for _, n := range slices.Sorted(maps.Keys(head.Policies)) {
		switch {
		case len(d.Query) > 200 || !strings.Contains(n, d.Query):
		case len(d.Apps) == 2*pageSize:
			d.Left++
		default:
			d.Apps = append(d.Apps, n)
		}
	}
	return v.Page("apps.html", "Applications", d)
}

// field is one question of the guided set-up.
type field struct {
	Name, Label, Help, Value, Default string
	Lines                             bool
	Check                             bool
	Choices                           []string
	Error                             string
	Required                          bool
}

type setUpData struct {
	Template *template.Template
	Fields   []field
	Error    string
	Draft    *template.Draft
	difference
	Replay   *outcome
	Proposal *proposal
	Version  uint64
	Next     string // progress page
}

// questions are those of a template, with the answers so far.
func questions(t *template.Template, head *charter.Charter, a template.Answers) []field {
	values := a.Values()
	suggested := t.Suggest(head, template.Answers{Name: a.Name, Key: a.Key, Formats: a.Formats, URI: "soft:NAME"}).Values()
	f := []field{
		{Name: "name", Label: "Name of the application", Help: "its policy, and its key if that is new: a-z 0-9 . _ -", Required: true},
		{Name: "description", Label: "Description", Help: "for people"},
		{Name: "requesters", Label: "Who asks for signatures", Help: "people, machines and groups, separated by commas"},
		{Name: "groups", Label: "New groups", Help: "one a line: ci: alice, bob", Lines: true},
	}
	if !t.Unattended {
		f = append(f, field{Name: "quorum", Label: "Who endorses", Help: "like: 2 of release, 1 of security"},
			field{Name: "veto", Label: "Who can refuse", Help: `groups of which one disapproval ends a request; "none"`},
			field{Name: "gates", Label: "Gates", Help: "machines, or groups of such, that endorse too"},
			field{Name: "upload", Label: "Files are uploaded, and an inspector reads them", Check: true})
	}
	keys := append([]string{""}, slices.Sorted(maps.Keys(head.Keys))...)
	if len(keys) > 200 {
		keys = nil
	}
	f = append(f, field{Name: "key", Label: "Key", Help: "empty: a new one", Choices: keys})
	var algs []string
	for _, k := range t.Algorithms {
		algs = append(algs, string(k))
	}
	if algs != nil {
		algs = append([]string{""}, algs...)
	}
	f = append(f, field{Name: "algorithm", Label: "Algorithm of a new key", Choices: algs},
		field{Name: "uri", Label: "Where a new key is made", Help: "soft:NAME, or pkcs11:token=…;object=… in production"})
	if len(t.Formats) == 0 {
		f = append(f, field{Name: "formats", Label: "Formats", Help: "some of " + strings.Join(template.Formats(), ", ")})
	}
	f = append(f, field{Name: "names", Label: "Names of files", Help: `patterns like setup-*.exe; "any"`},
		field{Name: "timestamp", Label: "Timestamps", Help: `authorities: URLs, "self" for the deployment's own, "none"`},
		field{Name: "hours", Label: "Hours", Help: "in UTC, like mon-fri 08:00-18:00; empty: always"},
		field{Name: "expires", Label: "How long a request may wait", Help: "like 72h"})
	for i := range f {
		f[i].Value, f[i].Default = values[f[i].Name], suggested[f[i].Name]
	}
	return f
}

// setUp asks, and shows the draft of the answers. The answers are the address: it can be
// kept, sent to somebody, and opened again when another charter has come into force.
func (a *area) setUp(v *web.Visit) error {
	if err := a.mayPropose(v); err != nil {
		return err
	}
	t, err := template.Find(v.Path("template"))
	if err != nil {
		return web.Problemf(404, "not-found", "see the list of templates", "there is no such template")
	}
	head, ref := a.server.Chain().Head()
	q := v.Query()
	answers, err := template.Read(func(f string) string { return q.Get(f) })
	d := &setUpData{Template: t, Fields: questions(t, head, answers), Version: ref.Version}
	asked := answers.Name != "" || len(q) > 0
	if err == nil && asked {
		d.Draft, err = t.Draft(head, ref, answers, v.Now)
	}
	var fe *template.FieldError
	var bad *charter.CheckError
	switch {
	case errors.As(err, &fe):
		found := false
		for i := range d.Fields {
			if d.Fields[i].Name == fe.Field {
				d.Fields[i].Error, found = fe.Text, true
			}
		}
		if !found {
			d.Error = fe.Text
		}
	case errors.As(err, &bad):
		d.Error = bad.Problems[0].String()
	case err != nil:
		d.Error = err.Error()
	case d.Draft != nil:
		d.difference = compare(head, d.Draft.Charter)
		if d.Replay, err = a.replay(v.Request.Context(), d.Draft.Charter, v.Now, replayGlance); err != nil {
			return err
		}
		if d.Replay.Waits {
			d.Replay.Again = appsPath + "/new/" + t.Name + "?" + q.Encode()
		}
		if d.Proposal, err = a.proposal(v, d.Draft.Charter, "set up "+answers.Name, commandLine(t, answers)); err != nil {
			return err
		}
		d.Next = appsPath + "/of/" + url.PathEscape(answers.Name)
	}
	if err != nil {
		return v.PageStatus(422, "new.html", t.Title, d)
	}
	return v.Page("new.html", t.Title, d)
}

// commandLine is the same set-up on the command line.
func commandLine(t *template.Template, a template.Answers) string {
	out := "greatseal app new " + t.Name
	flag := func(name, value string) {
		if value != "" {
			out += " --" + name + " '" + strings.ReplaceAll(value, "'", `'\''`) + "'"
		}
	}
	flag("name", a.Name)
	flag("description", a.Description)
	flag("requesters", strings.Join(a.Requesters, ","))
	flag("quorum", a.Quorum)
	flag("veto", strings.Join(a.Veto, ","))
	flag("gates", strings.Join(a.Gates, ","))
	for _, g := range slices.Sorted(maps.Keys(a.Groups)) {
		flag("group", g+"="+strings.Join(a.Groups[g], ","))
	}
	flag("key", a.Key)
	flag("key-uri", a.URI)
	flag("algorithm", a.Algorithm)
	flag("formats", strings.Join(a.Formats, ","))
	flag("names", strings.Join(a.Names, ","))
	flag("timestamp", strings.Join(a.Timestamp, ","))
	flag("hours", a.Hours)
	flag("request-expires", a.Expires)
	if a.Upload {
		out += " --upload"
	}
	return out
}

// app says how far the set-up of an application is.
func (a *area) app(v *web.Visit) error {
	name := v.Path("name")
	if statement.CheckName("", name) != nil {
		return web.Problemf(404, "not-found", "", "that is no name of an application")
	}
	f, err := a.facts(v.Request.Context(), name)
	if err != nil {
		return err
	}
	f.Now = v.Now
	d := &appData{Status: template.Progress(name, f)}
	a.steps(v, d, &f)
	return v.Page("app.html", name, d)
}

// proposals is the number of proposed charters that a progress page looks at. Of other
// requests it looks at the newest.
const proposals = 50

// facts gathers what there is of an application.
func (a *area) facts(ctx context.Context, name string) (template.Facts, error) {
	var f template.Facts
	f.Charter, f.Ref = a.server.Chain().Head()
	st, err := a.server.Status(ctx)
	if err != nil {
		return f, web.Problemf(503, "keeper-away", "try again", "the keeper does not answer")
	}
	for _, k := range st.Keys {
		f.Keys = append(f.Keys, template.KeyFact{Name: k.Name, State: k.State, Health: k.Health, Generated: len(k.PublicKey) > 0, Chain: k.Chain})
	}
	open := []store.State{store.Pending, store.Endorsed}
	filters := []store.Filter{{Command: statement.CharterReplace, States: open, Limit: proposals}}
	if p, ok := f.Charter.Policies[name]; ok {
		filters = append(filters, store.Filter{Command: statement.Sign, Policy: name, States: []store.State{store.Executed}, Limit: 1},
			store.Filter{Command: statement.Sign, Policy: name, States: open, Limit: 1})
		for _, k := range p.Keys() {
			for _, c := range []statement.CommandName{statement.KeyGenerate, statement.KeyImportCert, statement.KeyResume} {
				filters = append(filters, store.Filter{Command: c, Key: k, States: open, Limit: 1})
			}
		}
	}
	for _, x := range filters {
		list, err := a.server.List(ctx, x)
		if err != nil {
			return f, err
		}
		for _, r := range list {
			fact := template.RequestFact{ID: r.ID.String(), Requester: r.Requester, Command: r.Command, Policy: r.Policy, Key: r.Key, State: string(r.State), Open: r.State.Open(), Detail: r.Detail}
			if r.Command == statement.CharterReplace {
				if fact.Charter, err = a.carriedBy(r.Envelope); err != nil {
					continue
				}
				if _, ok := fact.Charter.Policies[name]; !ok {
					continue
				}
			}
			if r.State == store.Pending {
				full, err := a.server.Get(ctx, r.ID)
				if err != nil {
					return f, err
				}
				view, err := a.server.View(ctx, full, false)
				if err != nil {
					return f, err
				}
				fact.Awaits = view.Awaits
			}
			f.Requests = append(f.Requests, fact)
		}
	}
	return f, nil
}
