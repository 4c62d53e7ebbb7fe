package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/agents/client"
	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/rejection"
)

// Slots that are kept for interactive jobs take no others, over the wire.
func TestLeaseOfOnePriority(t *testing.T) {
	s := newSite(t, "", nil)
	ctx := t.Context()
	c, _ := s.agent(t, "mid-1")
	s.submit(t, ecc.Job{Agent: "mid-1", Priority: order.Standard})
	urgent := s.submit(t, ecc.Job{Agent: "mid-1", Priority: order.Interactive})
	w := want(0)
	w.Only = agent.Interactive
	jobs, err := c.Lease(ctx, w)
	must(t, err)
	if len(jobs) != 1 || jobs[0].Lease.Job != urgent || jobs[0].Priority != agent.Interactive {
		t.Fatalf("%+v", jobs)
	}
	if jobs, err = c.Lease(ctx, w); err != nil || len(jobs) != 0 {
		t.Fatalf("%+v, %v", jobs, err)
	}
	w.Only = "urgent"
	if _, err = c.Lease(ctx, w); err == nil || !strings.Contains(err.Error(), "only") {
		t.Fatalf("a priority that there is not: %v", err)
	}
	if jobs, err = c.Lease(ctx, want(0)); err != nil || len(jobs) != 1 || jobs[0].Priority != agent.Standard {
		t.Fatalf("%+v, %v", jobs, err)
	}
}

// The whole life of an agent, over TLS.
func TestLifeOfAnAgent(t *testing.T) {
	circles := &ecctest.Circles{List: [][]byte{[]byte("one"), []byte("two")}, Digest: "d1"}
	s := newSite(t, "", func(c *ecc.Config) { c.Circles = circles })
	ctx := t.Context()
	ref := s.inst.Source.Put("script", "1", map[string]string{"script": "x"}, map[string][]byte{"a.jar": bytes.Repeat([]byte("jar"), 1<<20)})
	id := ecctest.NewIdentity(t, "mid-1")
	c := s.client(t, id)
	_, err := c.Lease(ctx, want(0))
	wantErr(t, err, agent.ErrNotValidated)
	e := &agent.Enrolment{Name: "mid-1", Request: id.Request(t), Version: "1.0", OS: "linux", Arch: "amd64", Topics: []string{"JDBCProbe"}}
	got, err := c.Enrol(ctx, e)
	must(t, err)
	if got.State != agent.EnrolWaiting || got.RetryAfter <= 0 || len(got.Certificates) != 0 {
		t.Fatalf("%+v", got)
	}
	_, err = s.svc.Validate(ctx, id.Fingerprint(t), "admin")
	must(t, err)
	must(t, s.svc.PutCluster(ctx, store.AgentCluster{Name: "dc", Mode: store.ClusterBalance, Members: []string{"mid-1"}}))
	got, err = c.Enrol(ctx, e)
	must(t, err)
	if got.State != agent.EnrolValidated || len(got.Certificates) != 2 || !slices.Equal(got.Clusters, []string{"dc"}) {
		t.Fatalf("%+v", got)
	}
	id.Chain = got.Certificates
	p, err := c.Heartbeat(ctx, &agent.Beat{Time: time.Now(), Version: "1.0", Running: 1, Circle: "d0"})
	must(t, err)
	if !p.PullCircle || p.Rekey || !slices.Equal(p.Clusters, []string{"dc"}) {
		t.Fatalf("%+v", p)
	}
	bundles, err := c.CircleBundle(ctx)
	must(t, err)
	if len(bundles) != 2 || string(bundles[1]) != "two" {
		t.Fatalf("%q", bundles)
	}
	job := s.submit(t, ecc.Job{Cluster: "dc", Priority: order.Interactive})
	works, err := c.Lease(ctx, want(10*time.Second))
	must(t, err)
	if len(works) != 1 || works[0].Lease.Job != job || works[0].Lease.Attempt != 1 || works[0].Priority != agent.Interactive || works[0].Topic != "JDBCProbe" || !works[0].Until.After(time.Now()) {
		t.Fatalf("%+v", works)
	}
	w := works[0]
	signed, err := order.DecodeSigned(w.Order)
	must(t, err)
	v := &order.Verifier{Instance: "prod", Agent: "mid-1", Clusters: got.Clusters}
	v.Keys = append(v.Keys, s.inst.Runtime.Public())
	verified, err := v.Verify(signed, time.Now())
	must(t, err)
	sum, err := order.Content(&w.Records[0].Record)
	must(t, err)
	if o := verified.Order(); sum != o.Records[0].Digest {
		t.Fatal("the records are not those of the order")
	}
	a := w.Records[0].Record.Attachments[0]
	r, err := c.Attachment(ctx, w.Lease, ref, a)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	if sha256.Sum256(b) != a.SHA256 {
		t.Fatal("another attachment")
	}
	wantErr(t, c.Result(ctx, w.Lease, agent.Page{Number: 0, Type: "application/json", Body: []byte("[1]")}), agent.ErrLost) // not begun
	must(t, c.Start(ctx, w.Lease))
	must(t, c.Start(ctx, w.Lease))
	until, err := c.Progress(ctx, w.Lease, agent.Progress{Pages: 1})
	must(t, err)
	if !until.After(time.Now()) {
		t.Fatal(until)
	}
	page := agent.Page{Number: 0, Type: "application/json", Body: []byte("[1]")}
	must(t, c.Result(ctx, w.Lease, page))
	must(t, c.Result(ctx, w.Lease, page))
	page.Body = []byte("[2]")
	var no *client.ProblemError
	if err := c.Result(ctx, w.Lease, page); !errors.As(err, &no) || no.Code != wire.CodePage {
		t.Fatalf("%v", err)
	}
	must(t, c.Result(ctx, w.Lease, agent.Page{Number: 1, Type: "application/octet-stream"}))
	out := agent.Outcome{Pages: 2, Rows: 1, Digest: sha256.Sum256([]byte("[1]")), Started: time.Now(), Ended: time.Now()}
	must(t, c.Finish(ctx, w.Lease, out))
	must(t, c.Finish(ctx, w.Lease, out))
	pages, err := s.svc.Results(ctx, job, 0, 10)
	must(t, err)
	if len(pages) != 2 || string(pages[0].Payload) != "[1]" || pages[0].ContentType != "application/json" {
		t.Fatalf("%+v", pages)
	}
	// A job that it refuses.
	job = s.submit(t, ecc.Job{Agent: "mid-1"})
	works, err = c.Lease(ctx, want(time.Second))
	must(t, err)
	must(t, c.Reject(ctx, works[0].Lease, rejection.New(rejection.FirewallDenied, "rule 3", "no JDBC to that host")))
	list, err := s.svc.Rejections(ctx, "", job, 0, 10)
	must(t, err)
	if len(list) != 1 || list[0].Code != "FIREWALL_DENIED" || list[0].Subject != "rule 3" {
		t.Fatalf("%+v", list)
	}
	wantErr(t, c.Start(ctx, works[0].Lease), agent.ErrLost)
	// A new key: the old one ends with its first use.
	must(t, s.svc.AskRekey(ctx, "mid-1"))
	if p, err = c.Heartbeat(ctx, &agent.Beat{Circle: "d1"}); err != nil || !p.Rekey || p.PullCircle {
		t.Fatalf("%+v, %v", p, err)
	}
	fresh := ecctest.NewIdentity(t, "mid-1")
	got, err = c.Enrol(ctx, &agent.Enrolment{Name: "mid-1", Request: fresh.Request(t), Rekey: true})
	must(t, err)
	fresh.Chain = got.Certificates
	c2 := s.client(t, fresh)
	_, err = c2.Heartbeat(ctx, &agent.Beat{})
	must(t, err)
	_, err = c.Heartbeat(ctx, &agent.Beat{})
	wantErr(t, err, agent.ErrInvalidated)
	// Invalidated: at its next call, on the connection that is open.
	must(t, s.svc.Invalidate(ctx, "mid-1", "", "admin"))
	_, err = c2.Lease(ctx, want(0))
	wantErr(t, err, agent.ErrInvalidated)
	if got, err = c2.Enrol(ctx, &agent.Enrolment{Name: "mid-1", Request: fresh.Request(t)}); err != nil || got.State != agent.EnrolInvalidated {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A call that was on its way with the old key, as another one used the new key first, is
// made again; where the key stays refused, it is not.
func TestKeyChangesMeanwhile(t *testing.T) {
	s := newSite(t, "", nil)
	ctx := t.Context()
	c1, old := s.agent(t, "mid-1")
	must(t, s.svc.AskRekey(ctx, "mid-1"))
	fresh := ecctest.NewIdentity(t, "mid-1")
	got, err := c1.Enrol(ctx, &agent.Enrolment{Name: "mid-1", Request: fresh.Request(t), Rekey: true})
	must(t, err)
	fresh.Chain = got.Certificates
	_, err = s.client(t, fresh).Heartbeat(ctx, &agent.Beat{})
	must(t, err)
	asked := 0
	c, err := client.New(client.Config{URL: s.url, Roots: s.roots, UserAgent: "test", Certificate: func() *tls.Certificate {
		if asked++; asked == 1 {
			return old.TLS()
		}
		return fresh.TLS()
	}})
	must(t, err)
	defer c.Close()
	_, err = c.Heartbeat(ctx, &agent.Beat{})
	must(t, err)
	must(t, s.svc.Invalidate(ctx, "mid-1", "", "admin"))
	_, err = c.Heartbeat(ctx, &agent.Beat{})
	wantErr(t, err, agent.ErrInvalidated)
}

func TestInvariant2ForeignAgents(t *testing.T) {
	s := newSite(t, "", nil)
	ctx := t.Context()
	c1, id1 := s.agent(t, "mid-1")
	c2, id2 := s.agent(t, "mid-2")
	s.submit(t, ecc.Job{Agent: "mid-1"})
	works, err := c1.Lease(ctx, want(time.Second))
	must(t, err)
	l := works[0].Lease
	if others, err := c2.Lease(ctx, want(0)); err != nil || len(others) != 0 {
		t.Fatalf("%v, %v", others, err)
	}
	wantErr(t, c2.Start(ctx, l), agent.ErrLost)
	must(t, c1.Start(ctx, l))
	wantErr(t, c2.Result(ctx, l, agent.Page{Type: "text/plain", Body: []byte("forged")}), agent.ErrLost)
	wantErr(t, c2.Finish(ctx, l, agent.Outcome{}), agent.ErrLost)
	wantErr(t, c2.Reject(ctx, l, rejection.New(rejection.SigMissing, "", "")), agent.ErrLost)
	_, err = c2.Progress(ctx, l, agent.Progress{})
	wantErr(t, err, agent.ErrLost)
	_, err = c2.Enrol(ctx, &agent.Enrolment{Name: "mid-1", Request: ecctest.NewIdentity(t, "mid-1").Request(t), Rekey: true})
	if err == nil {
		t.Fatal("an agent changes another's key")
	}
	// The certificate of mid-1 without its key: TLS asks for the proof.
	stolen := s.client(t, &ecctest.Identity{Name: "mid-1", Key: id2.Key, Chain: id1.Chain})
	if _, err = stolen.Lease(ctx, want(0)); !errors.Is(err, agent.ErrUnreachable) || strings.Contains(err.Error(), "BEGIN") {
		t.Fatalf("%v", err)
	}
	// A certificate of another instance's authority.
	other := newSite(t, "", nil)
	_, stranger := other.agent(t, "mid-1")
	if _, err := s.client(t, stranger).Lease(ctx, want(0)); err == nil {
		t.Fatal("another instance's agent has work")
	}
	// And a server that is another's.
	c, err := client.New(client.Config{URL: s.url, Roots: other.roots, Certificate: id1.TLS})
	must(t, err)
	defer c.Close()
	_, err = c.Lease(ctx, want(0))
	wantErr(t, err, agent.ErrUnreachable)
}

// What is hostile is refused with a code, and nothing of it reaches an error raw.
func TestInvariant3HostileCalls(t *testing.T) {
	s := newSite(t, "", nil)
	c, id := s.agent(t, "mid-1")
	ctx := t.Context()
	s.submit(t, ecc.Job{Agent: "mid-1"})
	works, err := c.Lease(ctx, want(time.Second))
	must(t, err)
	l := works[0].Lease
	must(t, c.Start(ctx, l))
	var no *client.ProblemError
	if err := c.Result(ctx, l, agent.Page{Type: "text/plain", Body: make([]byte, agent.MaxPage+1)}); !errors.As(err, &no) || no.Status != 413 {
		t.Fatalf("%v", err)
	}
	must(t, c.Result(ctx, l, agent.Page{Type: "text/plain", Body: make([]byte, agent.MaxPage)}))
	if err := c.Result(ctx, l, agent.Page{Number: 7, Type: "text/plain"}); !errors.As(err, &no) || no.Code != wire.CodePage {
		t.Fatalf("%v", err)
	}
	evil := l
	evil.Job = "../../queue"
	if err := c.Start(ctx, evil); err == nil {
		t.Fatal("a path is a job")
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, Certificates: []tls.Certificate{*id.TLS()}}}}
	defer h.CloseIdleConnections()
	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}}}
	defer bare.CloseIdleConnections()
	lease := `"attempt":1,"token":"` + l.Token + `"`
	for _, x := range []struct {
		client             *http.Client
		method, path, kind string
		body               string
		want               int
	}{
		{bare, "POST", "/v1/agent/lease", wire.JSON, `{"topics":["JDBCProbe"],"max":1}`, 401},
		{bare, "GET", "/v1/agent/circle", "", "", 401},
		{bare, "GET", "/v1/agent/events", "", "", 401},
		{bare, "POST", "/v1/agent/enrol", wire.JSON, `{"name":"mid-1","request":"AA==","rekey":true}`, 401},
		{bare, "POST", "/v1/agent/enrol", wire.JSON, `{"name":"mid-1","request":"AA=="}`, 422},
		{bare, "POST", "/v1/agent/enrol", "text/plain", `{}`, 415},
		{bare, "GET", "/v1/agents", "", "", 404},
		{h, "GET", "/v1/queue/jobs", "", "", 404},
		{h, "GET", "/v1/agent/self", "", "", 200},
		{h, "POST", "/v1/agent/lease", wire.JSON, `{"topics":[],"max":1}`, 422},
		{h, "POST", "/v1/agent/lease", wire.JSON, `{"topics":["JDBCProbe"],"max":1,"agent":"mid-2"}`, 422},
		{h, "POST", "/v1/agent/lease", wire.JSON, `{"topics":["JDBCProbe"],"max":1`, 400},
		{h, "POST", "/v1/agent/lease", wire.JSON, `{"topics":["` + strings.Repeat("x", 70000) + `"]}`, 413},
		{h, "POST", "/v1/agent/jobs/" + l.Job + "/start", wire.JSON, `{"attempt":1,"attempt":2,"token":"x"}`, 400},
		{h, "POST", "/v1/agent/jobs/" + l.Job + "/finish", wire.JSON, `{` + lease + `,"pages":-1}`, 422},
		{h, "POST", "/v1/agent/jobs/" + l.Job + "/reject", wire.JSON, `{` + lease + `,"code":"MADE_UP"}`, 422},
		{h, "POST", "/v1/agent/jobs/" + l.Job + "/attachment", wire.JSON, `{` + lease + `,"record":{"table":"x","key":["y"]},"name":"a","sha256":"zz"}`, 422},
		{h, "POST", "/v1/agent/jobs/" + l.Job + "/attachment", wire.JSON, `{` + lease + `,"record":{"table":"script","key":["1"]},"name":"../../etc/passwd","sha256":"` + strings.Repeat("0", 64) + `"}`, 404},
		{h, "POST", "/v1/agent/jobs/" + strings.Repeat("0", 32) + "/start", wire.JSON, `{` + lease + `}`, 409},
	} {
		req, err := http.NewRequestWithContext(ctx, x.method, s.url+x.path, strings.NewReader(x.body))
		must(t, err)
		if x.kind != "" {
			req.Header.Set("Content-Type", x.kind)
		}
		resp, err := x.client.Do(req)
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		ok := resp.StatusCode == x.want || x.want == 400 && resp.StatusCode == 422 || x.want == 422 && resp.StatusCode == 400
		if !ok {
			t.Errorf("%s %s %.60s: %d %s", x.method, x.path, x.body, resp.StatusCode, b)
		}
		var p wire.Problem
		if resp.StatusCode >= 400 && (json.Unmarshal(b, &p) != nil || p.Code == "" || p.Status != resp.StatusCode || resp.Header.Get("Content-Type") != wire.ProblemJSON) {
			t.Errorf("%s %s: %d without a code: %s", x.method, x.path, resp.StatusCode, b)
		}
	}
	if _, err := s.svc.Job(ctx, l.Job); err != nil {
		t.Fatal(err)
	}
}

// Open waits of one agent are bounded.
func TestWaitsAreBounded(t *testing.T) {
	s := newSite(t, "", nil)
	c, _ := s.agent(t, "mid-1")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range 8 {
		wg.Go(func() {
			_, err := c.Lease(ctx, want(time.Minute))
			if errors.Is(err, agent.ErrUnreachable) {
				if refused.Add(1) == 4 {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if refused.Load() < 4 {
		t.Fatalf("%d were refused", refused.Load())
	}
}

func TestEventsTellOfWork(t *testing.T) {
	s := newSite(t, "", nil)
	c, _ := s.agent(t, "mid-1")
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan bool, 16)
	done := make(chan error)
	go func() { done <- c.Follow(ctx, func() { woken <- true }) }()
	<-woken // what came before
	s.submit(t, ecc.Job{Agent: "mid-1"})
	<-woken
	cancel()
	wantErr(t, <-done, context.Canceled)
}

// An administrator's routes: rights, no tokens, no values.
func TestInvariant4And5Administration(t *testing.T) {
	s := newSite(t, "", nil)
	h := s.administration(t, map[string][]agents.Right{"root": {agents.ReadAgents, agents.ManageAgents, agents.ReadJobs, agents.SubmitJobs}, "auditor": {agents.ReadAgents, agents.ReadJobs}})
	call := func(who, method, path, body string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, strings.NewReader(body))
		must(t, err)
		req.Header.Set("Who", who)
		if body != "" {
			req.Header.Set("Content-Type", wire.JSON)
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != want {
			t.Fatalf("%s %s by %q: %d %s", method, path, who, resp.StatusCode, b)
		}
		return string(b)
	}
	id := ecctest.NewIdentity(t, "mid-1")
	c := s.client(t, id)
	_, err := c.Enrol(t.Context(), &agent.Enrolment{Name: "mid-1", Request: id.Request(t), Topics: []string{"JDBCProbe"}})
	must(t, err)
	if out := call("auditor", "GET", "/v1/agent-enrolments", "", 200); !strings.Contains(out, id.Fingerprint(t)) {
		t.Fatal(out)
	}
	validate := "/v1/agent-enrolments/" + id.Fingerprint(t) + "/validate"
	for _, x := range []struct{ who, method, path, body string }{
		{"", "GET", "/v1/agents", ""}, {"auditor", "POST", validate, ""}, {"auditor", "POST", "/v1/agents/mid-1/invalidate", "{}"}, {"auditor", "PUT", "/v1/agent-clusters/c", `{"mode":"balance","members":[]}`},
		{"auditor", "POST", "/v1/queue/jobs", `{"jobs":[]}`}, {"", "GET", "/v1/rejections", ""}, {"auditor", "POST", "/v1/queue/jobs/" + strings.Repeat("0", 32) + "/cancel", ""},
	} {
		if out := call(x.who, x.method, x.path, x.body, 403); !strings.Contains(out, wire.CodeForbidden) {
			t.Fatal(out)
		}
	}
	if out := call("root", "POST", validate, "", 200); !strings.Contains(out, `"validator":"root"`) {
		t.Fatal(out)
	}
	call("root", "POST", validate, "", 409)
	call("root", "PUT", "/v1/agent-clusters/dc", `{"mode":"failover","members":["mid-1"]}`, 200)
	call("root", "PUT", "/v1/agent-clusters/dc", `{"mode":"failover","members":["mid-9"]}`, 404)
	call("root", "PUT", "/v1/agent-clusters/dc", `{"mode":"other","members":[]}`, 422)
	out := call("root", "POST", "/v1/queue/jobs", `{"jobs":[{"agent":"mid-1","topic":"JDBCProbe","name":"nightly","priority":"interactive","records":[{"table":"script","key":["1"],"purpose":"ecc_queue"}],"params":{"password":"hunter2"}}]}`, 201)
	var ids agents.QueueIDs
	must(t, json.Unmarshal([]byte(out), &ids, json.MatchCaseInsensitiveNames(true), json.RejectUnknownMembers(false)))
	call("root", "POST", "/v1/queue/jobs", `{"jobs":[{"agent":"mid-1","topic":"JDBCProbe","records":[{"table":"script","key":["1"],"purpose":"*"}]}]}`, 422)
	call("root", "POST", "/v1/queue/jobs", `{"jobs":[{"agent":"mid-1","topic":"JDBCProbe","priority":"urgent","records":[]}]}`, 422)
	got, err := c.Enrol(t.Context(), &agent.Enrolment{Name: "mid-1", Request: id.Request(t)})
	must(t, err)
	id.Chain = got.Certificates
	works, err := c.Lease(t.Context(), want(10*time.Second))
	must(t, err)
	must(t, c.Start(t.Context(), works[0].Lease))
	must(t, c.Result(t.Context(), works[0].Lease, agent.Page{Type: "text/plain", Body: []byte("the result")}))
	job := "/v1/queue/jobs/" + ids.IDs[0]
	out = call("auditor", "GET", job, "", 200) + call("auditor", "GET", "/v1/queue/jobs?agent=mid-1&state=processing", "", 200)
	if strings.Contains(out, works[0].Lease.Token) || strings.Contains(out, "hunter2") || !strings.Contains(out, `"password"`) || strings.Count(out, ids.IDs[0]) != 2 || !strings.Contains(out, "interactive") {
		t.Fatal(out)
	}
	if out := call("root", "POST", job+"/cancel", "", 200); !strings.Contains(out, `"cancel":true`) {
		t.Fatal(out)
	}
	if p, err := c.Heartbeat(t.Context(), &agent.Beat{}); err != nil || !slices.Equal(p.CancelJobs, ids.IDs) {
		t.Fatalf("%+v, %v", p, err)
	}
	must(t, c.Finish(t.Context(), works[0].Lease, agent.Outcome{Error: "stopped", Pages: 1}))
	if out := call("auditor", "GET", job+"/results", "", 200); !strings.Contains(out, "dGhlIHJlc3VsdA==") {
		t.Fatal(out)
	}
	call("auditor", "GET", "/v1/queue/jobs?state=none", "", 422)
	call("auditor", "GET", "/v1/queue/jobs/"+strings.Repeat("0", 32), "", 404)
	call("root", "POST", "/v1/agents/mid-1/rekey", "", 200)
	if out := call("root", "POST", "/v1/agents/mid-1/invalidate", `{"reason":"sold"}`, 200); !strings.Contains(out, "sold") {
		t.Fatal(out)
	}
	_, err = c.Lease(t.Context(), want(0))
	wantErr(t, err, agent.ErrInvalidated)
	call("root", "DELETE", "/v1/agent-clusters/dc", "", 200)
	if out := call("auditor", "GET", "/v1/rejections", "", 200); !strings.Contains(out, `"rejections":[]`) {
		t.Fatal(out)
	}
}

// crowd lets agents with n jobs each do them all, and counts how often each ran.
func crowd(t testing.TB, s *site, agentsN, jobsN int) (wall, cpu time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	clients := make([]*client.Client, agentsN)
	for i := range clients {
		clients[i], _ = s.agent(t, fmt.Sprintf("mid-%d", i))
	}
	begun, used := time.Now(), processorTime(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ran := map[string]int{}
	for _, c := range clients {
		wg.Go(func() {
			for done := 0; done < jobsN && ctx.Err() == nil; {
				works, err := c.Lease(ctx, want(30*time.Second))
				if err != nil {
					if ctx.Err() == nil && !errors.Is(err, agent.ErrUnreachable) {
						t.Error(err)
						return
					}
					continue
				}
				for _, w := range works {
					if err := c.Start(ctx, w.Lease); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					ran[w.Lease.Job]++
					mu.Unlock()
					err := c.Result(ctx, w.Lease, agent.Page{Type: "application/json", Body: []byte(`[{"a":1}]`)})
					if err == nil {
						err = c.Finish(ctx, w.Lease, agent.Outcome{Pages: 1})
					}
					if err != nil {
						t.Error(err)
						return
					}
					done++
				}
			}
		})
	}
	jobs := make([]ecc.Job, 0, agentsN*jobsN)
	for i := range agentsN * jobsN {
		jobs = append(jobs, ecc.Job{Agent: fmt.Sprintf("mid-%d", i%agentsN), Topic: "JDBCProbe", Records: ecctest.Ask()})
	}
	_, err := s.svc.Submit(ctx, jobs...)
	must(t, err)
	wg.Wait()
	wall, cpu = time.Since(begun), processorTime(t)-used
	for id, n := range ran {
		if n != 1 {
			t.Errorf("%s has run %d times", id, n)
		}
	}
	counts, err := s.st.QueueCounts(context.Background())
	must(t, err)
	if counts[store.QueueProcessed] != int64(agentsN*jobsN) {
		t.Errorf("%v", counts)
	}
	return wall, cpu
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var r syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func TestManyAgents(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { crowd(t, newSite(t, "", nil), 40, 5) })
	t.Run("PostgreSQL", func(t *testing.T) { crowd(t, newSite(t, pgtest.Start(t).Database(), nil), 40, 5) })
}

// Jobs end to end: order, delivery, beginning, one page, end; over TLS, agents and
// server in one process. Processor time is that of both.
func BenchmarkAgents(b *testing.B) {
	for _, db := range []string{"SQLite", "PostgreSQL"} {
		for _, n := range []int{100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", db, n), func(b *testing.B) {
				var wall, cpu time.Duration
				for range b.N {
					dsn := ""
					if db == "PostgreSQL" {
						dsn = pgtest.Start(b).Database()
					}
					w, c := crowd(b, newSite(b, dsn, nil), n, 10)
					wall, cpu = wall+w, cpu+c
				}
				jobs := float64(n * 10 * b.N)
				b.ReportMetric(jobs/wall.Seconds(), "jobs/s")
				b.ReportMetric(jobs/cpu.Seconds(), "jobs/cpu-s")
			})
		}
	}
}
