// Package operations shows a server's part in a circle of trust: records and their
// scans, security jobs, update sets, what did not verify; and on a protected instance
// its agents, their queue and what they refused, explained.
//
// Invariants:
//
//  1. The pages change nothing but what the instance itself would let the same person
//     change; signing asks a quorum, as everywhere.
//  2. A rejection names what was refused and which field, never a value: values are what
//     somebody may have brought here to be read.
//  3. Scans that pages wait for are few at a time, and one of one person.
package operations

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

//go:embed templates/*
var files embed.FS

const perPage = 50

type area struct {
	i     *instance.Instance
	store *store.SQL
	scans *limit.Waits // that run just now
}

// How many scans run at a time, and for one person: each reads all that is protected.
const (
	scansAtOnce = 2
	scansOf     = 1
)

// Area is the pages of an instance.
func Area(i *instance.Instance, st *store.SQL) web.Area {
	a := &area{i, st, limit.NewWaits(scansAtOnce, scansOf)}
	who := []web.Role{web.Officer, web.Operator, web.Auditor}
	get := func(path string, f func(*web.Visit) error) web.Route {
		return web.Route{Method: http.MethodGet, Path: path, Roles: who, Serve: f}
	}
	x := web.Area{Name: "operations", Files: files,
		Nav: []web.Nav{{Title: "Records", Path: "/console/records", Roles: who, Order: 60}},
		Routes: []web.Route{
			get("/console/records", a.overview), get("/console/records/findings", a.findings), get("/console/records/explain", a.explain),
			get("/console/records/scan", a.scan),
		}}
	if i.Jobs != nil {
		x.Routes = append(x.Routes, get("/console/records/jobs", a.jobs), get("/console/records/jobs/{id}", a.job))
	}
	if i.Guard != nil {
		x.Routes = append(x.Routes, get("/console/records/sets", a.sets), get("/console/records/sets/{id}", a.set))
	}
	if i.Queue != nil {
		x.Nav = append(x.Nav, web.Nav{Title: "Agents", Path: "/console/agents", Roles: who, Order: 61}, web.Nav{Title: "Rejections", Path: "/console/rejections", Roles: who, Order: 62})
		x.Routes = append(x.Routes, get("/console/agents", a.agents), get("/console/agents/{name}", a.agent),
			get("/console/queue", a.queue), get("/console/queue/{id}", a.queued), get("/console/rejections", a.rejections), get("/console/rejections/{id}", a.rejection))
	}
	return x
}

// tabs are the pages beside one of the records: a protected instance has no security
// jobs.
type tabs struct {
	HasJobs bool
	Here    string // path of the page
}

func (a *area) tabs(v *web.Visit) tabs { return tabs{a.i.Jobs != nil, v.Request.URL.Path} }

// reason is a refusal with its explanation.
type reason struct {
	Code    rejection.Code
	Subject string
	Detail  string
	Means   string
	Cure    string
}

func reasonOf(code, subject, detail string) reason {
	c := rejection.Code(code)
	return reason{c, subject, detail, c.Means(), c.Cure()}
}

func reasonOfError(e *rejection.Error) *reason {
	if e == nil {
		return nil
	}
	r := reasonOf(string(e.Code), e.Subject, e.Detail)
	return &r
}

type side struct {
	circle.Status
	Stale *reason
}

type overviewPage struct {
	tabs
	Name, Role, Enforcement string
	Platforms               []string
	Sides                   []side
	Jobs                    []*records.View
	Findings                []finding
	Queue                   []count
	Agents, Up              int
	Rejections              []rejected
	HasAgents               bool
}

type count struct {
	Name string
	N    int64
}

func (a *area) overview(v *web.Visit) error {
	ctx := v.Request.Context()
	now := v.Now
	p := overviewPage{tabs: a.tabs(v), Name: a.i.Part.Name, Role: string(a.i.Part.RoleNow()), Enforcement: string(a.i.Part.Enforcement(now)), HasAgents: a.i.Queue != nil}
	for n := range a.i.Platforms {
		p.Platforms = append(p.Platforms, n)
	}
	slices.Sort(p.Platforms)
	for _, s := range a.i.Circles.Status() {
		p.Sides = append(p.Sides, side{s, reasonOfError(s.Stale)})
	}
	var err error
	if a.i.Jobs != nil {
		if p.Jobs, err = a.i.Jobs.List(ctx, records.Filter{Limit: 5}); err != nil {
			return err
		}
	}
	if p.Findings, err = a.found(ctx, 0, 5); err != nil {
		return err
	}
	if q := a.i.Queue; q != nil {
		list, err := q.Agents(ctx)
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.State == store.AgentValid {
				p.Agents++
				if s.Up {
					p.Up++
				}
			}
		}
		counts, err := a.store.QueueCounts(ctx)
		if err != nil {
			return err
		}
		for _, s := range store.QueueStates() {
			p.Queue = append(p.Queue, count{string(s), counts[s]})
		}
		if p.Rejections, _, err = a.refusals(ctx, "", "", 0, 5); err != nil {
			return err
		}
	}
	return v.Page("overview.html", "Records", p)
}

type finding struct {
	records.Found
	Why     reason
	Record  string // for people
	Explain string // address of the page that explains it; empty: none
}

func (a *area) found(ctx context.Context, before int64, limit int) ([]finding, error) {
	list, err := a.i.Guard.Findings(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	var out []finding
	for _, f := range list {
		x := finding{Found: f, Why: reasonOf(f.Code, f.Subject, f.Detail), Record: f.Ref}
		if r, ok := refOf(f.Ref); ok {
			x.Record, x.Explain = r.String(), "/console/records/explain?"+url.Values{"table": {r.Table}, "key": r.Key}.Encode()
		}
		out = append(out, x)
	}
	return out, nil
}

// before is the number in the query that a page goes on from.
func before(v *web.Visit) (int64, error) {
	q := v.Query().Get("before")
	if q == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(q, 10, 64)
	if err != nil || n < 0 {
		return 0, web.Problemf(400, "malformed", "", "before: want a number")
	}
	return n, nil
}

func (a *area) findings(v *web.Visit) error {
	n, err := before(v)
	if err != nil {
		return err
	}
	list, err := a.found(v.Request.Context(), n, perPage)
	if err != nil {
		return err
	}
	next := int64(0)
	if len(list) == perPage {
		next = list[len(list)-1].ID
	}
	return v.Page("findings.html", "What did not verify", struct {
		tabs
		List []finding
		Next int64
	}{a.tabs(v), list, next})
}

type explained struct {
	tabs
	Asked    bool
	Platform string
	Table    string
	Key      string
	Purpose  string
	Report   *record.Report
	Why      *reason
	Each     []*reason
	Refused  *web.Problem // the rest is as it was typed
}

// explain says what each signature of a record is worth.
func (a *area) explain(v *web.Visit) error {
	q := v.Query()
	p := explained{tabs: a.tabs(v), Platform: q.Get("platform"), Table: q.Get("table"), Key: q.Get("key"), Purpose: q.Get("purpose"), Asked: q.Has("table")}
	if p.Purpose == "" {
		p.Purpose = record.Queue
	}
	if !p.Asked {
		return v.Page("explain.html", "A record's signatures", p)
	}
	ctx := v.Request.Context()
	refused := func(why *web.Problem) error {
		p.Refused = why
		return v.PageStatus(why.Status, "explain.html", "A record's signatures", p)
	}
	ref := record.Ref{Table: p.Table, Key: q["key"]}
	if err := ref.Check(); err != nil {
		return refused(web.Problemf(400, "malformed", "", "%v", err))
	}
	var err error
	if p.Platform == "" {
		if p.Platform, err = a.i.Guard.Home(ctx, p.Table); err != nil {
			return refused(web.Problemf(404, "not-found", "greatseal records tables lists what there is", "%v", err))
		}
	}
	if a.i.Platforms[p.Platform] == nil {
		return refused(web.Problemf(404, "not-found", "the page Records lists the platforms", "there is no platform %.64q", p.Platform))
	}
	if p.Report, err = a.i.Guard.Explain(ctx, p.Platform, ref, p.Purpose); err != nil {
		p.Report = nil
		return refused(web.Problemf(404, "not-found", "", "%v", err))
	}
	p.Why = reasonOfError(p.Report.Reason)
	for _, s := range p.Report.Signatures {
		p.Each = append(p.Each, reasonOfError(s.Reason))
	}
	return v.Page("explain.html", "A record's signatures", p)
}

// scanPatience bounds a scan that a page waits for: a large instance is scanned by the
// command line, and says so.
const scanPatience = 20 * time.Second

func (a *area) scan(v *web.Visit) error {
	type page struct {
		tabs
		Report *records.ScanReport
	}
	if !v.Query().Has("now") {
		return v.Page("scan.html", "Scan", page{tabs: a.tabs(v)})
	}
	if !a.scans.Enter(v.Who.Name) {
		return web.Problemf(503, "busy", "try again in a moment", "a scan runs already")
	}
	defer a.scans.Leave(v.Who.Name)
	ctx, cancel := context.WithTimeout(v.Request.Context(), scanPatience)
	defer cancel()
	r, err := a.i.Guard.Scan(ctx, records.ScanOptions{}, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return web.Problemf(503, "too-long", "greatseal records scan --csv does it with patience, and names each record", "the scan takes longer than a page waits for")
	}
	if errors.Is(err, platform.ErrField) || errors.Is(err, platform.ErrTable) {
		return web.Problemf(409, "configuration", "the charter and the application's tables differ: greatseal records lint says where", "%s", strings.ReplaceAll(err.Error(), "platform: ", ""))
	}
	if err != nil {
		return err
	}
	return v.Page("scan.html", "Scan", page{a.tabs(v), r})
}

func (a *area) jobs(v *web.Visit) error {
	ctx := v.Request.Context()
	f := records.Filter{Limit: perPage}
	if id := v.Query().Get("before"); id != "" {
		at, err := a.i.Jobs.Get(ctx, id)
		if err != nil {
			return web.Problemf(404, "not-found", "", "there is no such job")
		}
		f.Before = at
	}
	list, err := a.i.Jobs.List(ctx, f)
	if err != nil {
		return err
	}
	next := ""
	if len(list) == perPage {
		next = list[len(list)-1].ID
	}
	return v.Page("jobs.html", "Security jobs", struct {
		tabs
		List []*records.View
		Next string
	}{a.tabs(v), list, next})
}

func (a *area) job(v *web.Visit) error {
	ctx := v.Request.Context()
	id := v.Path("id")
	j, err := a.i.Jobs.Get(ctx, id)
	if err != nil {
		return web.Problemf(404, "not-found", "", "there is no such job")
	}
	entries, err := a.i.Jobs.Log(ctx, id, 0, perPage)
	if err != nil && !errors.Is(err, records.ErrState) {
		return err
	}
	skipped, err := a.i.Jobs.Skipped(ctx, id, 0, perPage)
	if err != nil && !errors.Is(err, records.ErrState) {
		return err
	}
	return v.Page("job.html", "Security job", struct {
		tabs
		*records.View
		Done             int // percent; -1: not known
		Entries, Omitted []records.Entry
	}{a.tabs(v), j, percent(j), entries, skipped})
}

func percent(j *records.View) int {
	if j.Total <= 0 {
		return -1
	}
	return int(min(100, j.Count*100/j.Total))
}

func (a *area) sets(v *web.Visit) error {
	list, err := a.i.Guard.Sets(v.Request.Context(), perPage)
	if err != nil {
		return err
	}
	return v.Page("sets.html", "Update sets", struct {
		tabs
		List []*records.SetView
	}{a.tabs(v), list})
}

func (a *area) set(v *web.Visit) error {
	s, err := a.i.Guard.Set(v.Request.Context(), v.Path("id"))
	if err != nil {
		return web.Problemf(404, "not-found", "", "there is no such update set")
	}
	type line struct {
		Table, ID, Action, Status string
		Why                       *reason
	}
	p := struct {
		tabs
		*records.SetView
		Counts   []count
		Findings []line
		More     int
		Problems int
	}{tabs: a.tabs(v), SetView: s}
	if s.Preview != nil {
		for n, c := range s.Preview.Counts {
			p.Counts = append(p.Counts, count{string(n), int64(c)})
		}
		slices.SortFunc(p.Counts, func(a, b count) int { return int(b.N - a.N) })
		p.Problems = len(s.Preview.Problems)
		for i, f := range s.Preview.Findings {
			if i == 4*perPage {
				p.More = len(s.Preview.Findings) - i
				break
			}
			p.Findings = append(p.Findings, line{f.Table, f.SysID, string(f.Action), string(f.Status), reasonOfError(f.Reason)})
		}
	}
	return v.Page("set.html", "Update set", p)
}

// health is an agent with what is wrong with it, in words.
type health struct {
	ecc.Status
	Trouble []string
}

func healthOf(s ecc.Status, now time.Time) health {
	h := health{Status: s}
	say := func(cond bool, text string) {
		if cond {
			h.Trouble = append(h.Trouble, text)
		}
	}
	if s.State != store.AgentValid {
		say(true, "invalid: "+s.Reason)
		return h
	}
	say(!s.Up, "no heartbeat")
	say(s.NotAfter.Before(now), "its certificate is over")
	say(s.NotAfter.After(now) && s.NotAfter.Sub(now) < 7*24*time.Hour, "its certificate ends in "+web.Span(s.NotAfter.Sub(now)))
	say(!s.TrustUntil.IsZero() && s.TrustUntil.Before(now), "what it knows of the trusted side is too old: it runs nothing")
	say(s.Rekey, "is to make a new key")
	say(s.Draining, "takes no new jobs")
	say(s.Spooled > 0, strconv.FormatInt(s.Spooled, 10)+" results wait on it")
	return h
}

// waitingShown is how many of those who wait to be let in a page shows: anybody may ask.
const waitingShown = 20

func (a *area) agents(v *web.Visit) error {
	ctx := v.Request.Context()
	list, err := a.i.Queue.Agents(ctx)
	if err != nil {
		return err
	}
	waiting, err := a.i.Queue.Enrolments(ctx, waitingShown+1)
	if err != nil {
		return err
	}
	// 1 000 agents are one page no longer: those in trouble come first.
	all := make([]health, 0, len(list))
	troubled := 0
	for _, s := range list {
		h := healthOf(s, v.Now)
		if len(h.Trouble) > 0 {
			troubled++
		}
		all = append(all, h)
	}
	slices.SortStableFunc(all, func(a, b health) int { return min(1, len(b.Trouble)) - min(1, len(a.Trouble)) })
	page, _ := strconv.Atoi(v.Query().Get("page"))
	page = max(0, min(page, len(all)/perPage))
	shown := all[page*perPage : min(len(all), (page+1)*perPage)]
	p := struct {
		All, Troubled, Page int
		More                bool
		List                []health
		Waiting             []store.AgentEnrolment
		MoreWait            bool
	}{len(all), troubled, page, (page+1)*perPage < len(all), shown, waiting[:min(len(waiting), waitingShown)], len(waiting) > waitingShown}
	return v.Page("agents.html", "Agents", p)
}

func (a *area) agent(v *web.Visit) error {
	ctx := v.Request.Context()
	s, err := a.i.Queue.Agent(ctx, v.Path("name"))
	if err != nil {
		return web.Problemf(404, "not-found", "", "there is no such agent")
	}
	list, _, err := a.refusals(ctx, s.Name, "", 0, 20)
	if err != nil {
		return err
	}
	jobs, err := a.i.Queue.Jobs(ctx, store.QueueFilter{Agent: s.Name, Limit: 20})
	if err != nil {
		return err
	}
	return v.Page("agent.html", "Agent "+s.Name, struct {
		health
		Rejections []rejected
		Jobs       []store.QueueRecord
	}{healthOf(*s, v.Now), list, jobs})
}

func (a *area) queue(v *web.Visit) error {
	n, err := before(v)
	if err != nil {
		return err
	}
	f := store.QueueFilter{Before: n, Limit: perPage, State: store.QueueState(v.Query().Get("state")), Agent: v.Query().Get("agent")}
	if f.State != "" && !slices.Contains(store.QueueStates(), f.State) {
		return web.Problemf(400, "malformed", "", "state: want one of ready, processing, processed, error")
	}
	list, err := a.i.Queue.Jobs(v.Request.Context(), f)
	if err != nil {
		return err
	}
	next := int64(0)
	if len(list) == perPage {
		next = list[len(list)-1].Sequence
	}
	return v.Page("queue.html", "Queue", struct {
		List   []store.QueueRecord
		States []store.QueueState
		State  store.QueueState
		Next   int64
	}{list, store.QueueStates(), f.State, next})
}

func (a *area) queued(v *web.Visit) error {
	ctx := v.Request.Context()
	j, err := a.i.Queue.Job(ctx, v.Path("id"))
	if err != nil {
		return web.Problemf(404, "not-found", "", "there is no such job")
	}
	list, _, err := a.refusals(ctx, "", j.ID, 0, 20)
	if err != nil {
		return err
	}
	asks, params, err := ecc.Asked(j)
	if err != nil {
		return err
	}
	// Names of parameters, never their values: they are for the agent.
	var names []string
	for n := range params {
		names = append(names, n)
	}
	slices.Sort(names)
	return v.Page("queued.html", "Job", struct {
		*store.QueueRecord
		Asks       []ecc.Ask
		Params     []string
		Rejections []rejected
	}{j, asks, names, list})
}

// rejected is a rejection with its explanation.
type rejected struct {
	store.AgentRejection
	Why  reason
	Refs []record.Ref
}

func rejectedOf(r store.AgentRejection) rejected {
	return rejected{r, reasonOf(r.Code, r.Subject, r.Detail), refsOf(r.Records)}
}

func (a *area) refusals(ctx context.Context, agent, job string, before int64, limit int) (out []rejected, next int64, err error) {
	list, err := a.i.Queue.Rejections(ctx, agent, job, before, limit)
	for _, r := range list {
		out = append(out, rejectedOf(r))
	}
	if len(list) == limit && limit > 0 {
		next = list[len(list)-1].Sequence
	}
	return out, next, err
}

func (a *area) rejections(v *web.Visit) error {
	n, err := before(v)
	if err != nil {
		return err
	}
	list, next, err := a.refusals(v.Request.Context(), v.Query().Get("agent"), v.Query().Get("job"), n, perPage)
	if err != nil {
		return err
	}
	return v.Page("rejections.html", "Rejections", struct {
		List []rejected
		Next int64
	}{list, next})
}

func (a *area) rejection(v *web.Visit) error {
	ctx := v.Request.Context()
	r, err := a.store.Rejection(ctx, v.Path("id"))
	if err != nil {
		return web.Problemf(404, "not-found", "", "there is no such rejection")
	}
	x := rejectedOf(*r)
	p := struct {
		rejected
		Now []explained
	}{rejected: x}
	// What is wrong may have been mended since: the record as it is now stands beside.
	for _, ref := range x.Refs[:min(len(x.Refs), 5)] {
		home, err := a.i.Guard.Home(ctx, ref.Table)
		if err != nil {
			continue
		}
		rep, err := a.i.Guard.Explain(ctx, home, ref, record.Queue)
		if err != nil {
			continue
		}
		p.Now = append(p.Now, explained{Platform: home, Table: ref.Table, Report: rep, Why: reasonOfError(rep.Reason)})
	}
	return v.Page("rejection.html", "Rejection", p)
}
