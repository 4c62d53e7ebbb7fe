package operations_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// look gets a page that is to be in order.
func look(b *webtest.Browser, path string) *webtest.Page {
	b.Helper()
	return b.Get(path).OK().Clean().Small()
}

func explainPath(i int) string {
	return "/console/records/explain?" + url.Values{"table": {ref(i).Table}, "key": ref(i).Key}.Encode()
}

// Both sides of one circle, as the pages show them: real keys, a real quorum, a real
// database that somebody writes to.
func TestPages(t *testing.T) {
	app := newApplication(t)
	s := newSide(t, app)
	p := newSite(t, s, app)

	officer, olga := s.As("carol"), p.as("olga")
	look(officer, "/console/records").Has("workshop", "trusted", erp, "no jobs", "everything verified", "none yet")
	look(olga, "/console/records").Has("prod", "none yet", "not believed", "0 of 0 send heartbeats")

	s.publish(p.Runtime)
	background(t, p.Instance.Run)
	until(t, "the circle is pulled", func() bool { _, err := p.Circles.Trusted(); return err == nil })
	t.Run("jobs", func(t *testing.T) { jobs(t, s, officer) })
	t.Run("records", func(t *testing.T) { recordPages(t, s, p, app) })
	t.Run("roles", func(t *testing.T) { roles(t, s, p) })
	t.Run("queue", func(t *testing.T) { queue(t, p, app) })
	t.Run("agents", func(t *testing.T) { agents(t, p) })
	t.Run("hostile", func(t *testing.T) { hostile(t, s, p) })
	t.Run("thousand", func(t *testing.T) { thousand(t, p) })
}

// A security job from its beginning to its result.
func jobs(t *testing.T, s *side, officer *webtest.Browser) {
	ctx, name := t.Context(), `<script>owned()</script>`
	v, err := s.Jobs.Create(ctx, &records.Spec{Kind: records.SignRecords, Name: name, Platform: erp, Policy: "records", Configurations: []string{"sources"}}, "bob")
	ok(t, err)
	v = s.job(v.ID, records.Waiting)
	path := "/console/records/jobs/" + v.ID
	look(officer, path).Has(name, "waiting", fmt.Sprintf("%d of %d records", rows, rows), "bob", "records", ref(0).Key[0])
	look(officer, "/console/records/jobs").Has(name, "waiting", "bob")
	look(officer, explainPath(1)).Has("missing", "it carries no signature", string(rejection.SigMissing))
	look(officer, "/console/records/scan?now=yes").Has("sources").Has(fmt.Sprintf("0 0 %d", rows))
	id, err := statement.ParseID(v.Request)
	ok(t, err)
	if page := look(officer, path); len(page.Find("a", "href", "/console/requests/"+v.Request)) != 1 {
		t.Error("the page does not lead to the request")
	}
	s.endorse(id, "bob", "dave")
	s.job(v.ID, records.Done)
	look(officer, path).Has("done", "Root", "Signed under sources", fmt.Sprintf("%d of %d records", rows, rows))
	look(officer, "/console/records").Has(name, "done", "believed")
	look(officer, "/console/records/scan?now=yes").Has(fmt.Sprintf("%d 0 0", rows))
	officer.Get("/console/records/jobs/0123").Want(404)
	officer.Get("/console/records/jobs?before=0123").Want(404)
}

// What a signature is worth, before and after somebody wrote to the database: the field
// is named, and its value nowhere (invariant 2).
func recordPages(t *testing.T, s *side, p *site, app application) {
	officer, olga := s.As("carol"), p.as("olga")
	for _, b := range []*webtest.Browser{officer, olga} {
		look(b, explainPath(2)).Has("valid", "passes", "sql_statement: as it was signed").HasNot("SELECT 2")
	}
	app.tamper(t, 2)
	for _, b := range []*webtest.Browser{officer, olga} {
		page := look(b, explainPath(2)).Has("invalid", "refused", string(rejection.FieldChanged), "sql_statement: changed", "name: as it was signed").HasNot("DROP TABLE", "SELECT 2")
		if rejection.FieldChanged.Cure() == "" {
			t.Fatal("a code without a cure")
		}
		page.Has(rejection.FieldChanged.Means(), rejection.FieldChanged.Cure())
		look(b, "/console/records/scan?now=yes").Has(fmt.Sprintf("%d 1 0", rows-1))
	}
	// The watch of the protected instance looks at what changed, and tells.
	ok(t, p.Guard.Look(t.Context(), erp, platform.Event{Ref: ref(2), At: time.Now()}))
	look(olga, "/console/records/findings").Has("watch", string(rejection.FieldChanged), "(sql_statement)", ref(2).String()).HasNot("DROP TABLE", ref(2).ID())
	if links := look(olga, "/console/records/findings").Find("a", "href", explainPath(2)); len(links) != 1 {
		t.Errorf("%d links lead from the finding to the record", len(links))
	}
	look(olga, "/console/records").Has(string(rejection.FieldChanged))
	look(olga, "/console/records/sets").Has("nobody has brought a set here")
	olga.Get("/console/records/sets/0123").Want(404)
	for path, status := range map[string]int{
		"/console/records/explain?table=sys_data_source&key=ffff":                         404,
		"/console/records/explain?table=none_such&key=1":                                  404,
		"/console/records/explain?table=&key=1":                                           400,
		"/console/records/explain?platform=none&table=sys_data_source&key=1":              404,
		"/console/records/explain?table=" + url.QueryEscape("a; DROP TABLE b") + "&key=1": 0,
		"/console/records/findings?before=x":                                              400,
		"/console/records/findings?before=-1":                                             400,
	} {
		page := olga.Get(path).Clean()
		if status != 0 && page.Status != status || page.Status < 400 || page.Status >= 500 {
			t.Errorf("%s: %s", path, page)
		}
	}
}

// Who may look is told by the charter and the configuration, and where nobody signs in
// by whatever says who calls.
func roles(t *testing.T, s *side, p *site) {
	trusted := []string{"/console/records", "/console/records/jobs", "/console/records/findings", "/console/records/explain", "/console/records/scan", "/console/records/sets"}
	protected := []string{"/console/records", "/console/records/findings", "/console/records/explain", "/console/records/scan", "/console/records/sets",
		"/console/agents", "/console/queue", "/console/rejections"}
	for _, path := range trusted {
		for _, b := range []*webtest.Browser{s.As("carol"), s.As("audrey", web.Auditor), s.As("olga", web.Operator)} {
			if here := look(b, path).Find("a", "aria-current", "page"); len(here) == 0 || webtest.Attr(here[len(here)-1], "href") != path {
				t.Errorf("%s does not say which of the pages it is", path)
			}
		}
		s.As("bob").Get(path).Want(403)
		s.Browser().Get(path).Want(303)
	}
	for _, path := range protected {
		look(p.as("olga"), path)
		page := look(p.as("audrey"), path).Has("audrey").HasNot("sign out", "charter")
		if len(page.Find("a", "href", "/console/sessions")) != 0 || page.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s speaks of sessions", path)
		}
		if len(page.Find("a", "href", "/console/records/jobs")) != 0 {
			t.Errorf("%s leads to security jobs, which a protected instance has not", path)
		}
		p.as("ruth").Get(path).Want(403)
		p.as("").Get(path).Want(401)
		p.as("mallory").Get(path).Want(401)
	}
	s.As("carol").Get("/console/agents").Want(404)
	p.as("olga").Get("/console/records/jobs").Want(404)
	p.as("olga").Get("/console/login").Want(404)
}

// A job whose agent refuses it, and what the pages say of it.
func queue(t *testing.T, p *site, app application) {
	ctx, olga := t.Context(), p.as("olga")
	a := ecctest.Agent(t, p.Queue, "mid-1")
	peer := a.Peer(t, p.Queue)
	_, err := p.Queue.Heartbeat(ctx, peer, ecc.Beat{Version: "1.2.3", Circle: strings.Repeat("ab", 32), TrustUntil: time.Now().Add(time.Hour)})
	ok(t, err)
	ids, err := p.Queue.Submit(ctx, ecc.Job{Agent: "mid-1", Topic: "JDBCProbe", Name: "nightly", Source: "import", Params: map[string]string{"minimum": "hunter2"},
		Records: []ecc.Ask{{Ref: ref(3), Purpose: record.Queue}}})
	ok(t, err)
	path := "/console/queue/" + ids[0]
	look(olga, "/console/queue").Has("ready", "JDBCProbe", "mid-1", "import")
	look(olga, path).Has("nightly", "ready", "minimum", ref(3).Key[0], "nothing was refused").HasNot("hunter2")
	work, err := p.Queue.Next(ctx, peer, ecc.Want{Topics: []string{"JDBCProbe"}, Max: 1, Wait: 10 * time.Second})
	ok(t, err)
	if len(work) != 1 {
		t.Fatalf("%d jobs", len(work))
	}
	look(olga, "/console/queue?state=processing").Has("mid-1", "JDBCProbe")
	look(olga, "/console/queue?state=processed").Has("no jobs")
	ok(t, p.Queue.Reject(ctx, peer, work[0].Lease, rejection.New(rejection.FieldChanged, "sql_statement", `digest of "><img src=x onerror=owned()>`)))
	app.tamper(t, 3)

	look(olga, path).Has("error", "FIELD_CHANGED(sql_statement)")
	page := look(olga, "/console/rejections").Has("mid-1", "JDBCProbe", ref(3).Key[0], string(rejection.FieldChanged), "sql_statement", `"><img src=x onerror=owned()>`)
	list, err := p.Queue.Rejections(ctx, "", "", 0, 10)
	ok(t, err)
	if len(list) != 1 || len(page.Find("a", "href", "/console/rejections/"+list[0].ID)) != 1 {
		t.Fatalf("%d rejections", len(list))
	}
	look(olga, "/console/rejections/"+list[0].ID).Has(rejection.FieldChanged.Means(), rejection.FieldChanged.Cure(), "sql_statement", "The record as it is now", "sql_statement: changed").HasNot("DROP TABLE", "hunter2")
	look(olga, "/console/rejections?agent=mid-1").Has("sql_statement")
	look(olga, "/console/rejections?agent=mid-2").Has("nothing was refused")
	look(olga, "/console/agents/mid-1").Has("well", "1.2.3", "JDBCProbe", "sql_statement", "admin")
	look(olga, "/console/records").Has("1 of 1 send heartbeats", "1 error")
	for path, status := range map[string]int{"/console/queue?state=none": 400, "/console/queue?before=x": 400, "/console/queue/0123": 404, "/console/rejections/0123": 404, "/console/agents/none": 404} {
		olga.Get(path).Want(status).Clean()
	}
}

func keyOf(name string) [32]byte { return sha256.Sum256([]byte(name)) }

func (p *site) put(name string, change func(*store.Agent)) {
	p.Helper()
	now := time.Now()
	a := &store.Agent{Name: name, Key: keyOf(name), Certificate: []byte("chain"), NotAfter: now.Add(60 * 24 * time.Hour), Version: "1.2.3", OS: "linux", Arch: "amd64",
		Topics: []string{"JDBCProbe"}, Created: now, Validated: now, Validator: "alice"}
	if change != nil {
		change(a)
	}
	ok(p, p.store.PutAgent(p.Context(), a))
}

func (p *site) beat(name string, change func(*store.AgentBeat)) {
	p.Helper()
	b := store.AgentBeat{Name: name, Version: "1.2.3", At: time.Now(), TrustUntil: time.Now().Add(time.Hour)}
	if change != nil {
		change(&b)
	}
	ok(p, p.store.Beat(p.Context(), []store.AgentBeat{b}))
}

// Agents with everything that may be wrong with them, and those who wait.
func agents(t *testing.T, p *site) {
	ctx, olga := t.Context(), p.as("olga")
	p.put("silent", nil)
	p.put("ending", func(a *store.Agent) { a.NotAfter = time.Now().Add(49 * time.Hour) })
	p.beat("ending", nil)
	p.put("over", func(a *store.Agent) { a.NotAfter = time.Now().Add(-time.Hour) })
	p.beat("over", nil)
	p.put("stale", nil)
	p.beat("stale", func(b *store.AgentBeat) { b.TrustUntil = time.Now().Add(-time.Minute) })
	p.put("busy", nil)
	p.beat("busy", func(b *store.AgentBeat) { b.Spooled, b.Draining, b.Running = 7, true, 3 })
	p.put("gone", nil)
	ok(t, p.Queue.Invalidate(ctx, "gone", "its machine was sold", "alice"))
	p.put("changing", nil)
	p.beat("changing", nil)
	ok(t, p.Queue.AskRekey(ctx, "changing"))
	for name, says := range map[string]string{
		"silent": "no heartbeat", "ending": "its certificate ends in 2 d", "over": "its certificate is over", "stale": "it runs nothing",
		"busy": "7 results wait on it", "gone": "invalid: its machine was sold", "changing": "is to make a new key",
	} {
		look(olga, "/console/agents/"+name).Has("look", says)
	}
	look(olga, "/console/agents/mid-1").Has("well")
	x := ecctest.NewIdentity(t, "newcomer")
	_, err := p.Queue.Enrol(ctx, ecc.Enrolment{Name: "newcomer", Request: x.Request(t), Topics: []string{"JDBCProbe"}, OS: "linux", Arch: "arm64", Address: "192.0.2.7"})
	ok(t, err)
	page := look(olga, "/console/agents").Has("8 agents", "7 want a look", "Waiting to be let in", "newcomer", "linux arm64", "192.0.2.7")
	if !strings.Contains(page.Body, x.Fingerprint(t)) {
		t.Error("the fingerprint that is to be compared is not on the page")
	}
	// Those in trouble come first.
	if text := page.Text(); strings.Index(text, "no heartbeat") > strings.Index(text, "mid-1") {
		t.Error("who is well stands before who is not")
	}
}

// Texts that agents, people and databases bring stay text (package web, invariant 5).
func hostile(t *testing.T, s *side, p *site) {
	ctx, olga, now := t.Context(), p.as("olga"), time.Now()
	for i, h := range webtest.Hostile() {
		name := fmt.Sprintf("%d %s", i, h)
		p.put(name, func(a *store.Agent) {
			a.Version, a.OS, a.Arch, a.Validator, a.Topics = h, h, h, h, strings.Fields(h)
		})
		_, err := p.store.Enrol(ctx, &store.AgentEnrolment{Key: keyOf("enrolment of " + name), Name: name, Request: []byte("request"), OS: h, Arch: h, Address: h, Created: now}, 1000, 10)
		ok(t, err)
		token := strings.Repeat("0", 30) + hex.EncodeToString([]byte{byte(i)})
		id := "f" + token[1:]
		_, err = p.store.SubmitWork(ctx, []store.QueueRecord{{ID: id, Agent: name, Topic: "JDBCProbe", Name: h, Source: h, Queue: "output", State: store.QueueReady, Created: now, Updated: now, Payload: payload(t, p)}})
		ok(t, err)
		got, err := p.store.LeaseWork(ctx, []store.QueueAsk{{Agent: name, Topics: []string{"JDBCProbe"}, Max: 1, Token: token, Now: now, Until: now.Add(time.Minute)}})
		ok(t, err)
		if len(got) != 1 || len(got[0]) != 1 {
			t.Fatalf("%q: no job", name)
		}
		_, err = p.store.RejectWork(ctx, store.QueueLease{Job: id, Agent: name, Attempt: got[0][0].Attempt, Token: token},
			&store.AgentRejection{ID: id, Time: now, Agent: name, Job: id, Attempt: got[0][0].Attempt, Topic: "JDBCProbe", Code: h, Subject: h, Detail: h, Records: []byte(`[{"table":"x"}]`)}, nil, nil)
		ok(t, err)
		ok(t, p.store.InvalidateAgent(ctx, name, h, now))
		ok(t, p.store.AddFindings(ctx, store.Finding{At: now, Source: h, Table: h, Ref: []byte(h), Code: h, Subject: h, Detail: h}))
		ok(t, s.store.AddFindings(ctx, store.Finding{At: now, Source: h, Table: h, Ref: []byte(h), Code: h, Subject: h, Detail: h}))
		look(olga, "/console/agents/"+url.PathEscape(name)).Has(h)
		look(olga, "/console/queue/"+id).Has(h)
		look(olga, "/console/rejections/"+id).Has(h)
		for _, q := range []string{"/console/records/explain?table=%s&key=%[1]s&purpose=%[1]s&platform=%[1]s", "/console/queue?state=%s", "/console/queue?agent=%s", "/console/rejections?agent=%s&job=%[1]s", "/console/agents?page=%s"} {
			olga.Get(fmt.Sprintf(q, url.QueryEscape(h))).Clean().Small()
		}
	}
	all := []string{webtest.Hostile()[0], webtest.Hostile()[1]}
	for _, path := range []string{"/console/agents", "/console/queue", "/console/rejections", "/console/records/findings"} {
		look(olga, path).Has(all...)
	}
	look(s.As("carol"), "/console/records/findings").Has(all...)
	look(olga, "/console/records")
	look(s.As("carol"), "/console/records")
}

// payload is that of a job without records.
func payload(t *testing.T, p *site) []byte {
	t.Helper()
	list, err := p.Queue.Jobs(t.Context(), store.QueueFilter{Agent: "mid-1", Limit: 1})
	ok(t, err)
	if len(list) != 1 {
		t.Fatal("no job to take a payload from")
	}
	return list[0].Payload
}

// A page stays small whatever there is of agents, reasons and those who wait.
func thousand(t *testing.T, p *site) {
	ctx, olga := t.Context(), p.as("olga")
	long := strings.Repeat("<", 500)
	for i := range 1000 {
		name := fmt.Sprintf("agent-%04d", i)
		p.put(name, nil)
		if i%10 == 0 {
			ok(t, p.store.InvalidateAgent(ctx, name, long, time.Now()))
		}
	}
	for i := range 200 {
		name := fmt.Sprintf("waits-%04d", i)
		_, err := p.store.Enrol(ctx, &store.AgentEnrolment{Key: keyOf(name), Name: name, Request: []byte("request"), OS: "linux", Arch: "amd64", Address: "192.0.2.7", Created: time.Now()}, 1000, 10)
		ok(t, err)
	}
	seen := map[string]bool{}
	path := "/console/agents"
	for pages := 0; path != ""; pages++ {
		if pages > 30 {
			t.Fatal("the pages have no end")
		}
		page := look(olga, path)
		for _, a := range page.Find("a", "href", "") {
			if n, is := strings.CutPrefix(webtest.Attr(a, "href"), "/console/agents/agent-"); is {
				seen[n] = true
			}
		}
		path = ""
		if next := page.Find("a", "rel", "next"); len(next) == 1 {
			path = webtest.Attr(next[0], "href")
		}
	}
	if len(seen) != 1000 {
		t.Errorf("the pages list %d agents", len(seen))
	}
	look(olga, "/console/agents").Has("More wait")
	look(olga, "/console/agents?page=99999")
	look(olga, "/console/agents?page=-1")
	look(olga, "/console/records")
}
