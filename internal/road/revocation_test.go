package road

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// fleet is how many agents work in TestRevocationReachesEveryAgent.
const fleet = 50

// noted is an executor that notes what it is given to run, and takes a moment.
type noted struct {
	mu  sync.Mutex
	ran map[string]int // by record key
}

func (*noted) Topics() []string                      { return []string{"JDBCProbe"} }
func (*noted) Needs(*exec.Work) (*exec.Needs, error) { return &exec.Needs{}, nil }
func (n *noted) Run(ctx context.Context, w *exec.Work, _ *firewall.Grant, out exec.Output) (exec.Result, error) {
	n.mu.Lock()
	n.ran[w.Main().Ref().Key[0]]++
	n.mu.Unlock()
	select {
	case <-ctx.Done():
		return exec.Result{}, exec.Stopped(ctx, ctx.Err())
	case <-time.After(20 * time.Millisecond):
	}
	return exec.Result{Rows: 1}, out.Write(ctx, exec.JSON, []byte(`{"rows":[[1]]}`))
}

// told is what a fleet has said of the circle that it believes.
type told struct {
	mu    sync.Mutex
	circ  map[string]string
	first map[string]time.Time // when an agent first said the digest that is waited for
	want  string
}

// beats is a way to the instance on which heartbeats are listened to.
type beats struct {
	agent.Upstream
	name string
	told *told
}

func (b beats) Heartbeat(ctx context.Context, x *agent.Beat) (*agent.Pulse, error) {
	b.told.mu.Lock()
	b.told.circ[b.name] = x.Circle
	if x.Circle == b.told.want && b.told.first[b.name].IsZero() {
		b.told.first[b.name] = time.Now()
	}
	b.told.mu.Unlock()
	return b.Upstream.Heartbeat(ctx, x)
}

func (t *told) all(digest string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, d := range t.circ {
		if d == digest {
			n++
		}
	}
	return n == fleet
}

func keyOf(i int) string { return fmt.Sprintf("%032x", i) }

func plain(i int) *updateset.Row {
	return &updateset.Row{Table: "sys_data_source", SysID: keyOf(i), Target: fmt.Sprint("source ", i), Kind: "Data Source",
		Fields: map[string]string{"name": fmt.Sprint("source ", i), "type": "JDBC", "format": "sqlite", "database_name": "/srv/shop.db", "sql_statement": fmt.Sprint("SELECT ", i)}}
}

// The records of the story, by who signed them.
const (
	byAuthors   = 1
	byReviewers = 2
	byBoth      = 3
)

// A certificate is revoked by a new circle under quorum, and nobody is restarted. The
// instance that hands jobs out here judges nothing: every agent must know by itself.
func TestRevocationReachesEveryAgent(t *testing.T) {
	pg := pgtest.Start(t)
	devApp, prodApp := pg.Database(), pg.Database()
	pg.SQL(devApp, schema)
	pg.SQL(prodApp, schema)
	s := newSide(t, pg.Database(), devApp)
	p := newSite(t, s, pg.Database(), prodApp)
	s.publish(p.instance.Runtime)
	p.believes(1)
	p.bring(s.signed("authors", "one", set(t, "One", plain(byAuthors))))
	p.bring(s.signed("reviewers", "two", set(t, "Two", plain(byReviewers))))
	p.bring(s.signed("reviewers", "three, again", s.signed("authors", "three", set(t, "Three", plain(byBoth)))))
	q := p.stolen(t)
	p.front.to(p.serve(q))

	ran := &noted{ran: map[string]int{}}
	heard := &told{circ: map[string]string{}, first: map[string]time.Time{}}
	p.wrap = func(name string, u agent.Upstream) agent.Upstream { return beats{u, name, heard} }
	var workers []*worker
	for i := range fleet {
		workers = append(workers, p.work(fmt.Sprintf("mid-%d", i), fmt.Sprintf("version: 1\nrules:\n  - {name: all, action: accept, topics: [JDBCProbe], instances: [%s]}\n", prod), func(*agent.Config) []exec.Executor { return []exec.Executor{ran} }))
	}
	p.validate(workers...)
	submit := func(of int) (ids []string) {
		var list []ecc.Job
		for _, w := range workers {
			list = append(list, ecc.Job{Agent: w.name, Topic: "JDBCProbe", Name: "test", Source: "ann", Records: []ecc.Ask{{Ref: record.Ref{Table: "sys_data_source", Key: []string{keyOf(of)}}, Purpose: record.Queue}}})
		}
		ids, err := q.Submit(t.Context(), list...)
		ok(t, err)
		return ids
	}
	outcome := func(ids []string) (processed int, refused []string) {
		for _, id := range ids {
			switch r := p.ended(id); {
			case r.State == store.QueueProcessed:
				processed++
			case r.ErrorString == string(rejection.CertRevoked):
				refused = append(refused, id)
			default:
				t.Fatalf("job %s is %s: %s", id, r.State, r.ErrorString)
			}
		}
		return processed, refused
	}
	for _, of := range []int{byAuthors, byReviewers, byBoth} {
		if n, _ := outcome(submit(of)); n != fleet {
			t.Fatalf("before the revocation %d of %d jobs of record %d ran", n, fleet, of)
		}
	}

	// Jobs are in the queue, on their way and running as the circle changes.
	queued := map[int][]string{}
	for range 4 {
		for _, of := range []int{byAuthors, byReviewers, byBoth} {
			queued[of] = append(queued[of], submit(of)...)
		}
	}
	leaf, _ := s.certificates("reviewers")
	revoked := record.Revocation{Fingerprint: record.Fingerprint(leaf.Raw), Reason: "lost"}
	s.publish(p.instance.Runtime, func(n *trust.Statement) { n.Revocations = append(n.Revocations, revoked) })
	p.believes(2)
	began := time.Now()
	_, digest, err := p.instance.Circles.Bundles(t.Context())
	ok(t, err)
	heard.mu.Lock()
	heard.want = digest
	heard.mu.Unlock()
	until(t, "every agent believes the new circle", func() bool { return heard.all(digest) })

	// From here on nobody runs what the revoked certificate alone has signed.
	heard.mu.Lock()
	var took []time.Duration
	for _, at := range heard.first {
		took = append(took, max(0, at.Sub(began)))
	}
	heard.mu.Unlock()
	slices.Sort(took)
	n, refused := outcome(submit(byReviewers))
	if n != 0 || len(refused) != fleet {
		t.Errorf("%d jobs of the revoked certificate ran, %d were refused", n, len(refused))
	}
	for i, id := range refused {
		workers[i].told(t, id, rejection.CertRevoked, "")
		l, err := p.instance.Queue.Rejections(t.Context(), workers[i].name, id, 0, 10)
		ok(t, err)
		if len(l) != 1 || l[0].Code != string(rejection.CertRevoked) {
			t.Errorf("the instance's rejections of job %s: %+v", id, l)
		}
	}

	// No job is lost: each ran or was refused with its reason, and those of others went on.
	early, late := outcome(queued[byReviewers])
	if early+len(late) != 4*fleet {
		t.Errorf("%d ran before the news and %d were refused after, of %d", early, len(late), 4*fleet)
	}
	ran.mu.Lock()
	if n := ran.ran[keyOf(byReviewers)]; n != fleet+early { // none of those that were refused
		t.Errorf("the executor ran %d jobs of the revoked certificate, not the %d before the news", n, fleet+early)
	}
	ran.mu.Unlock()
	for _, of := range []int{byAuthors, byBoth} {
		if n, _ := outcome(append(queued[of], submit(of)...)); n != 5*fleet {
			t.Errorf("%d of %d jobs of record %d ran", n, 5*fleet, of)
		}
	}
	t.Logf("%d agents that pull every %s, and say what they believe every second, said the new circle after %s (median), %s (last); of %d jobs in the queue %d had run and %d were refused",
		fleet, polling, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), 4*fleet, early, len(late))
}
