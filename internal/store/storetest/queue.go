package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
)

// Queue is a store with a queue.
type Queue interface {
	store.Queue
	Sequence(ctx context.Context, limit int) (int, error)
	Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]store.Job, error)
}

// RunQueue runs the suite of store.Queue; open returns an empty one.
func RunQueue(t *testing.T, open func(t *testing.T) Queue) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, q *queue)
	}{
		{"Invariant1EachLeaseHasTheNextAttempt", queueAttempts},
		{"Invariant1OneAgentAtATime", queueOneAtATime},
		{"Invariant2StartedOnce", queueStartedOnce},
		{"Invariant2StartAgainstSweep", queueStartAgainstSweep},
		{"Invariant3ResultOnce", queueResultOnce},
		{"Invariant3ResultOfTheLost", queueLateResult},
		{"Invariant4InvalidAgents", queueInvalid},
		{"Priorities", queuePriorities},
		{"Cancel", queueCancel},
		{"Expires", queueExpires},
		{"CommandNeverMoves", queueCommand},
		{"GoneAgents", queueGone},
		{"TooManyAttempts", queueTooMany},
		{"HostileText", queueHostile},
		{"Lists", queueLists},
		{"Enrolments", queueEnrolments},
		{"Keys", queueKeys},
		{"Clusters", queueClusters},
		{"PriorityAlone", queueOnly},
		{"RejectionOnce", queueRejection},
		{"RejectionAfterStart", queueRejectionAfterStart},
		{"Forget", queueForget},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &queue{Queue: open(t), t: t, now: epoch}
			for _, n := range []string{"a1", "a2"} {
				q.agent(n)
			}
			c.f(t, q)
		})
	}
}

type queue struct {
	Queue
	t   *testing.T
	now time.Time
	n   int
}

func keyOf(name string) (k [32]byte) { copy(k[:], "key of "+name); return k }

func (q *queue) agent(name string) {
	q.t.Helper()
	ctx := q.t.Context()
	_, err := q.Enrol(ctx, &store.AgentEnrolment{Key: keyOf(name), Name: name, Request: []byte("csr"), Topics: []string{"JDBCProbe"}, Created: q.now}, 100, 8)
	must(q.t, err)
	must(q.t, q.PutAgent(ctx, &store.Agent{Name: name, Key: keyOf(name), Certificate: []byte("cert"), NotAfter: q.now.Add(time.Hour), Created: q.now, Validated: q.now}))
	must(q.t, q.TouchAgent(ctx, name, q.now))
}

func id32(n int) string { return fmt.Sprintf("%032x", n) }

func (q *queue) submit(change func(*store.QueueRecord)) string {
	q.t.Helper()
	q.n++
	r := store.QueueRecord{ID: id32(q.n), Agent: "a1", Topic: "JDBCProbe", Name: "nightly", Source: "import", Priority: order.Standard, Payload: []byte("payload"), Created: q.now}
	if change != nil {
		change(&r)
	}
	added, err := q.SubmitWork(q.t.Context(), []store.QueueRecord{r})
	must(q.t, err)
	if !added[0] {
		q.t.Fatalf("%s was not added", r.ID)
	}
	return r.ID
}

func (q *queue) lease(agent string, clusters ...string) []store.QueueRecord {
	q.t.Helper()
	q.n++
	out, err := q.LeaseWork(q.t.Context(), []store.QueueAsk{{Agent: agent, Clusters: clusters, Topics: []string{"JDBCProbe", "Command"}, Max: 10, Token: id32(1<<20 + q.n), Now: q.now, Until: q.now.Add(time.Minute)}})
	must(q.t, err)
	return out[0]
}

func leaseOf(r *store.QueueRecord) store.QueueLease {
	return store.QueueLease{Job: r.ID, Agent: r.Agent, Attempt: r.Attempt, Token: r.Token}
}

func (q *queue) start(l store.QueueLease) error {
	q.t.Helper()
	errs, err := q.StartWork(q.t.Context(), []store.QueueLease{l}, q.now, q.now.Add(10*time.Minute))
	must(q.t, err)
	return errs[0]
}

func (q *queue) finish(l store.QueueLease, cause string, pages int64) error {
	q.t.Helper()
	errs, err := q.FinishWork(q.t.Context(), []store.QueueFinish{{QueueLease: l, Error: cause, Pages: pages, Outcome: []byte("{}"), Now: q.now}})
	must(q.t, err)
	return errs[0]
}

func (q *queue) page(l store.QueueLease, n int64, body string) error {
	q.t.Helper()
	errs, err := q.PutPages(q.t.Context(), []store.QueuePage{{QueueLease: l, ID: store.PageID(l.Job, l.Attempt, n), Number: n, Type: "text/plain", Body: []byte(body), Limit: 100, Now: q.now}})
	must(q.t, err)
	return errs[0]
}

func (q *queue) sweep() *store.QueueSweep {
	q.t.Helper()
	s, err := q.SweepWork(q.t.Context(), q.now, q.now.Add(-10*time.Minute), 5)
	must(q.t, err)
	return s
}

func (q *queue) want(id string, state store.QueueState, cause string) *store.QueueRecord {
	q.t.Helper()
	r, err := q.QueueRecord(q.t.Context(), id)
	must(q.t, err)
	if r.State != state || r.ErrorString != cause {
		q.t.Fatalf("job is %s %q: want %s %q", r.State, r.ErrorString, state, cause)
	}
	return r
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v: want %v", err, want)
	}
}

func queueAttempts(t *testing.T, q *queue) {
	id := q.submit(nil)
	tokens := map[string]bool{}
	for n := uint64(1); n <= 3; n++ {
		got := q.lease("a1")
		if len(got) != 1 || got[0].ID != id || got[0].Attempt != n || tokens[got[0].Token] || string(got[0].Payload) != "payload" || got[0].Name != "nightly" {
			t.Fatalf("lease %d: %+v", n, got)
		}
		tokens[got[0].Token] = true
		if again := q.lease("a1"); len(again) != 0 {
			t.Fatalf("leased twice: %+v", again)
		}
		q.sweep() // too early
		q.want(id, store.QueueProcessing, "")
		q.now = q.now.Add(time.Minute)
		if s := q.sweep(); !slices.Equal(s.Moved, []string{"a:a1"}) {
			t.Fatalf("%+v", s)
		}
		wantErr(t, q.start(leaseOf(&got[0])), store.ErrLost) // its time is over
	}
	added, err := q.SubmitWork(t.Context(), []store.QueueRecord{{ID: id, Agent: "a2", Topic: "JDBCProbe", Created: q.now}})
	must(t, err)
	if added[0] || q.want(id, store.QueueReady, "").Agent != "a1" {
		t.Fatal("the same ID again changed the job")
	}
}

func queueOneAtATime(t *testing.T, q *queue) {
	ctx := t.Context()
	const jobs, workers = 60, 6
	var rows []store.QueueRecord
	for i := range jobs {
		rows = append(rows, store.QueueRecord{ID: id32(1000 + i), Cluster: "c", Topic: "JDBCProbe", Created: q.now})
	}
	_, err := q.SubmitWork(ctx, rows)
	must(t, err)
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := 0; ; n++ {
				out, err := q.LeaseWork(ctx, []store.QueueAsk{{Agent: []string{"a1", "a2"}[w%2], Clusters: []string{"c"}, Topics: []string{"JDBCProbe"}, Max: 4, Token: id32(w<<10 + n), Now: q.now, Until: q.now.Add(time.Minute)}})
				if err != nil {
					t.Error(err)
					return
				}
				if len(out[0]) == 0 {
					return
				}
				mu.Lock()
				for _, r := range out[0] {
					seen[r.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// A worker that saw only rows that another was taking has gone: the rest is left.
	for _, r := range q.lease("a1", "c") {
		seen[r.ID]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was leased %d times", id, n)
		}
	}
	if len(seen) < jobs-20 {
		t.Errorf("%d of %d jobs were leased", len(seen), jobs)
	}
}

func queueStartedOnce(t *testing.T, q *queue) {
	id := q.submit(func(r *store.QueueRecord) { r.Agent, r.Cluster = "", "c" })
	first := q.lease("a1", "c")[0]
	q.now = q.now.Add(time.Minute)
	q.sweep()
	second := q.lease("a2", "c")[0]
	if second.Attempt != 2 || second.Agent != "a2" {
		t.Fatalf("%+v", second)
	}
	wantErr(t, q.start(leaseOf(&first)), store.ErrLost)
	for _, forge := range []func(*store.QueueLease){
		func(l *store.QueueLease) { l.Agent = "a1" }, func(l *store.QueueLease) { l.Attempt = 1 }, func(l *store.QueueLease) { l.Attempt = 3 },
		func(l *store.QueueLease) { l.Token = first.Token }, func(l *store.QueueLease) { l.Token = "" }, func(l *store.QueueLease) { l.Job = id32(999) },
	} {
		l := leaseOf(&second)
		forge(&l)
		wantErr(t, q.start(l), store.ErrLost)
	}
	must(t, q.start(leaseOf(&second)))
	must(t, q.start(leaseOf(&second))) // the answer was lost
	wantErr(t, q.start(leaseOf(&first)), store.ErrLost)
	// It dies, and nobody else may have it.
	q.now = q.now.Add(time.Hour)
	if s := q.sweep(); !slices.Equal(s.Lost, []string{id}) || len(s.Moved) != 0 {
		t.Fatalf("%+v", s)
	}
	q.want(id, store.QueueError, "AGENT_LOST")
	if got := append(q.lease("a1", "c"), q.lease("a2", "c")...); len(got) != 0 {
		t.Fatalf("a begun job was handed out again: %+v", got)
	}
	wantErr(t, q.start(leaseOf(&second)), store.ErrLost)

	// One that may be repeated goes to another agent.
	id = q.submit(func(r *store.QueueRecord) { r.Agent, r.Cluster, r.Repeatable = "", "c", true })
	first = q.lease("a1", "c")[0]
	must(t, q.start(leaseOf(&first)))
	must(t, q.page(leaseOf(&first), 0, "of the first"))
	q.now = q.now.Add(time.Hour)
	q.sweep()
	q.want(id, store.QueueReady, "")
	second = q.lease("a2", "c")[0]
	must(t, q.start(leaseOf(&second)))
	for what, err := range map[string]error{"start": q.start(leaseOf(&first)), "page": q.page(leaseOf(&first), 1, "late"), "finish": q.finish(leaseOf(&first), "", 1)} {
		if !errors.Is(err, store.ErrLost) {
			t.Errorf("%s by the first attempt: %v", what, err)
		}
	}
	must(t, q.page(leaseOf(&second), 0, "of the second"))
	must(t, q.finish(leaseOf(&second), "", 1))
	pages, err := q.ResultPages(t.Context(), id, 0, 10)
	must(t, err)
	if len(pages) != 1 || string(pages[0].Payload) != "of the second" {
		t.Fatalf("%+v", pages)
	}
}

// However starts, sweeps and leases interleave, one attempt is started.
func queueStartAgainstSweep(t *testing.T, q *queue) {
	ctx := t.Context()
	const jobs = 25
	for range jobs {
		q.submit(func(r *store.QueueRecord) { r.Agent, r.Cluster = "", "c" })
	}
	q.now = q.now.Add(time.Second)
	var mu sync.Mutex
	started := map[string]int{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			agent := []string{"a1", "a2"}[w%2]
			for n := range 25 {
				// Leases that end when they begin: the sweep of the others meets the start.
				out, err := q.LeaseWork(ctx, []store.QueueAsk{{Agent: agent, Clusters: []string{"c"}, Topics: []string{"JDBCProbe"}, Max: 5, Token: id32(w<<12 + n + 1), Now: q.now, Until: q.now.Add(time.Millisecond)}})
				if err != nil {
					t.Error(err)
					return
				}
				var wg2 sync.WaitGroup
				wg2.Go(func() {
					if _, err := q.SweepWork(ctx, q.now.Add(time.Millisecond), epoch, 1000); err != nil && !errors.Is(err, store.ErrBusy) {
						t.Error(err)
					}
				})
				for i := range out[0] {
					errs, err := q.StartWork(ctx, []store.QueueLease{leaseOf(&out[0][i])}, q.now, q.now.Add(time.Hour))
					if err != nil {
						t.Error(err)
						continue
					}
					if errs[0] == nil {
						mu.Lock()
						started[out[0][i].ID]++
						mu.Unlock()
					}
				}
				wg2.Wait()
			}
		})
	}
	wg.Wait()
	if len(started) == 0 {
		t.Fatal("nothing was started")
	}
	for id, n := range started {
		if n != 1 {
			t.Errorf("%s was started %d times", id, n)
		}
	}
}

func queueResultOnce(t *testing.T, q *queue) {
	ctx := t.Context()
	id := q.submit(nil)
	r := q.lease("a1")[0]
	l := leaseOf(&r)
	wantErr(t, q.page(l, 0, "before the beginning"), store.ErrLost)
	wantErr(t, q.finish(l, "", 0), store.ErrLost)
	must(t, q.start(l))
	wantErr(t, q.page(l, 1, "two"), store.ErrPage)
	must(t, q.page(l, 0, "one"))
	must(t, q.page(l, 0, "one"))
	wantErr(t, q.page(l, 0, "another"), store.ErrPage)
	must(t, q.page(l, 1, "two"))
	wantErr(t, q.page(l, 2, strings.Repeat("x", 95)), store.ErrTooLarge)
	foreign := l
	foreign.Agent = "a2"
	wantErr(t, q.page(foreign, 2, "three"), store.ErrLost)
	wantErr(t, q.finish(foreign, "", 2), store.ErrLost)
	wantErr(t, q.finish(l, "", 3), store.ErrPage)
	if pages, err := q.ResultPages(ctx, id, 0, 10); err != nil || len(pages) != 0 {
		t.Fatalf("%d pages before the end, %v", len(pages), err)
	}
	must(t, q.finish(l, "", 2))
	must(t, q.finish(l, "", 2))
	wantErr(t, q.finish(l, "no, it failed", 2), store.ErrLost)
	wantErr(t, q.page(l, 2, "late"), store.ErrLost)
	must(t, q.page(l, 1, "two"))
	q.want(id, store.QueueProcessed, "")
	pages, err := q.ResultPages(ctx, id, 1, 10)
	must(t, err)
	if len(pages) != 1 || string(pages[0].Payload) != "two" || pages[0].ResponseTo != id || pages[0].Queue != store.QueueInput || pages[0].State != store.QueueReady || pages[0].Agent != "a1" || pages[0].Pages != 1 {
		t.Fatalf("%+v", pages)
	}
	must(t, q.TakePage(ctx, pages[0].ID, "", q.now))
	wantErr(t, q.TakePage(ctx, pages[0].ID, "", q.now), store.ErrConflict)
	wantErr(t, q.TakePage(ctx, id32(77), "", q.now), store.ErrNotFound)

	id = q.submit(nil)
	r = q.lease("a1")[0]
	must(t, q.start(leaseOf(&r)))
	must(t, q.finish(leaseOf(&r), "it failed", 0))
	must(t, q.finish(leaseOf(&r), "it failed", 0))
	q.want(id, store.QueueError, "it failed")
}

func queueLateResult(t *testing.T, q *queue) {
	id := q.submit(nil)
	r := q.lease("a1")[0]
	l := leaseOf(&r)
	must(t, q.start(l))
	must(t, q.page(l, 0, "one"))
	q.now = q.now.Add(time.Hour)
	q.sweep()
	q.want(id, store.QueueError, "AGENT_LOST")
	must(t, q.page(l, 1, "two")) // it was cut off, not dead
	cancel, errs, err := q.ProlongWork(t.Context(), []store.QueueLease{l}, q.now, q.now.Add(time.Minute))
	must(t, err)
	if cancel[0] || errs[0] != nil {
		t.Fatalf("%v %v", cancel, errs)
	}
	q.want(id, store.QueueProcessing, "")
	q.now = q.now.Add(time.Hour)
	q.sweep()
	must(t, q.finish(l, "", 2))
	q.want(id, store.QueueProcessed, "")
	if pages, err := q.ResultPages(t.Context(), id, 0, 10); err != nil || len(pages) != 2 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
}

func queueInvalid(t *testing.T, q *queue) {
	ctx := t.Context()
	id := q.submit(nil)
	r := q.lease("a1")[0]
	must(t, q.InvalidateAgent(ctx, "a1", "stolen", q.now))
	wantErr(t, q.start(leaseOf(&r)), store.ErrLost)
	q.now = q.now.Add(time.Minute)
	q.sweep()
	if got := q.lease("a1"); len(got) != 0 {
		t.Fatalf("an invalid agent has %+v", got)
	}
	if got := q.lease("nobody"); len(got) != 0 {
		t.Fatalf("nobody has %+v", got)
	}
	q.want(id, store.QueueReady, "")
	a, err := q.Agent(ctx, "a1")
	must(t, err)
	if a.State != store.AgentInvalid || a.Reason != "stolen" {
		t.Fatalf("%+v", a)
	}
	must(t, q.Beat(ctx, []store.AgentBeat{{Name: "a1", At: q.now}}))
	if a, _ = q.Agent(ctx, "a1"); !a.Heartbeat.IsZero() {
		t.Fatal("an invalid agent's heart beats")
	}
	wantErr(t, q.InvalidateAgent(ctx, "a9", "", q.now), store.ErrNotFound)
}

// An attachment that turns out to be another when a job has begun: what it brought
// until then is no result, and nothing but the rejection ends it.
func queueRejectionAfterStart(t *testing.T, q *queue) {
	ctx := t.Context()
	reject := func(l store.QueueLease, n int) bool {
		t.Helper()
		x := &store.AgentRejection{ID: id32(n), Time: q.now, Agent: l.Agent, Job: l.Job, Attempt: l.Attempt, Topic: "JDBCProbe", Code: "ATTACHMENT_CHANGED", Subject: "a.jar", Records: []byte("[]")}
		fresh, err := q.RejectWork(ctx, l, x, []store.LogEntry{entry("rejection", [32]byte{}, "body")}, nil)
		must(t, err)
		return fresh
	}
	begin := func(repeatable bool) store.QueueLease {
		t.Helper()
		q.submit(func(r *store.QueueRecord) { r.Repeatable = repeatable })
		r := q.lease("a1")[0]
		must(t, q.start(leaseOf(&r)))
		must(t, q.page(leaseOf(&r), 0, "half a result"))
		return leaseOf(&r)
	}
	l := begin(false)
	if !reject(l, 1) || reject(l, 1) {
		t.Fatal("not once")
	}
	r := q.want(l.Job, store.QueueError, "ATTACHMENT_CHANGED(a.jar)")
	if r.Lost || !r.Processed.Equal(q.now) {
		t.Fatalf("%+v", r)
	}
	for what, err := range map[string]error{"start": q.start(l), "page": q.page(l, 1, "x"), "finish": q.finish(l, "", 1), "finish with an error": q.finish(l, "x", 1)} {
		if !errors.Is(err, store.ErrLost) {
			t.Errorf("%s after the rejection: %v", what, err)
		}
	}
	if pages, err := q.ResultPages(ctx, l.Job, 0, 10); err != nil || len(pages) != 0 {
		t.Fatalf("%d pages of a job that was refused, %v", len(pages), err)
	}
	if n, err := q.Sequence(ctx, 10); err != nil || n != 1 {
		t.Fatalf("%d entries, %v", n, err)
	}
	// It stays ended, whether it may be repeated or not, and when its lease is over.
	again := begin(true)
	reject(again, 2)
	lost := begin(false)
	q.now = q.now.Add(time.Hour)
	must(t, q.TouchAgent(ctx, "a1", q.now))
	q.sweep()
	q.want(lost.Job, store.QueueError, "AGENT_LOST")
	reject(lost, 3)
	q.sweep()
	for _, l := range []store.QueueLease{l, again, lost} {
		q.want(l.Job, store.QueueError, "ATTACHMENT_CHANGED(a.jar)")
	}
	if got := q.lease("a1"); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}
