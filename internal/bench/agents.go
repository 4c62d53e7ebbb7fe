package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/statement"
)

// AgentsOptions say how many agents work on how many jobs.
type AgentsOptions struct {
	Agents   int    // default 1000
	Jobs     int    // default 10 000
	Paced    int    // jobs of the phase in which the queue is idle; default a tenth of Jobs
	Temp     string // folder for everything; default the system's
	Progress Progress
}

// AgentsReport is what a fleet of agents made of the jobs of one instance with two
// replicas over one PostgreSQL. Every agent is a connection of its own over mutual TLS,
// with its own key and certificate; it speaks the real protocol by the real client, and
// verifies every order. What it runs takes a few milliseconds and does nothing.
//
// While the jobs are worked on, one replica is killed (its connections cut, its
// database gone, nothing drained), and later a tenth of the agents, each over a job
// that it has begun and not yet run. All jobs are repeatable, so that those go to other
// agents: each job is to be executed exactly once.
type AgentsReport struct {
	Agents         int `json:"agents"`
	Jobs           int `json:"jobs"`
	KilledReplicas int `json:"killed_replicas"`
	KilledAgents   int `json:"killed_agents"`
	KilledOver     int `json:"killed_over_jobs"` // agents that died over a job that they had begun

	Executed   int `json:"executed"`   // jobs that were executed
	Processed  int `json:"processed"`  // jobs whose result is there
	Duplicates int `json:"duplicates"` // executions beyond the first of a job
	Lost       int `json:"lost"`       // jobs that were not executed, or have no result
	Moved      int `json:"moved"`      // jobs that were handed out more than once

	Seconds float64 `json:"seconds"` // from the first submission to the last result
	Rate    float64 `json:"jobs_per_s"`

	// Added latency: from the call that submits a job to the answer to its result,
	// without the time of its execution.
	Paced       int     `json:"paced_jobs"`
	PacedRate   float64 `json:"paced_jobs_per_s"` // asked for
	PacedMedian float64 `json:"latency_p50_ms"`   // one job after the other, nothing waits
	PacedP99    float64 `json:"latency_p99_ms"`
	LoadMedian  float64 `json:"load_latency_p50_ms"` // all jobs at once, killing included: mostly time in the queue
	LoadP99     float64 `json:"load_latency_p99_ms"`

	Machine Machine   `json:"machine"`
	Date    time.Time `json:"date"`
}

// The times of the measurement. A lease is over soon, so that the end of the run does
// not wait for what the dead had.
const (
	paceEvery = 25 * time.Millisecond // between jobs of the idle phase
	execution = 5 * time.Millisecond
	beginTime = 15 * time.Second
	runTime   = 20 * time.Second
	clusterOf = 10 // agents; the tenth of each is killed
)

// Agents measures a fleet.
func Agents(ctx context.Context, o AgentsOptions) (rep *AgentsReport, err error) {
	if o.Agents == 0 {
		o.Agents = 1000
	}
	if o.Jobs == 0 {
		o.Jobs = 10_000
	}
	if o.Paced == 0 {
		o.Paced = max(1, o.Jobs/10)
	}
	if o.Agents < clusterOf || o.Jobs < o.Agents || o.Paced < 1 {
		return nil, fmt.Errorf("bench: %d agents, %d jobs: want at least %d agents, and as many jobs", o.Agents, o.Jobs, clusterOf)
	}
	dir, err := os.MkdirTemp(o.Temp, "gsbench")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.Progress.say("starting a temporary PostgreSQL")
	pg, err := pgtemp.Start()
	if err != nil {
		return nil, &MissingError{What: "PostgreSQL", Hint: "apt-get install postgresql", Err: err}
	}
	defer func() { err = errors.Join(err, pg.Close()) }()
	dsn, err := pg.Database()
	if err != nil {
		return nil, err
	}
	f, err := newFleet(ctx, dir, dsn, o.Agents)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	o.Progress.say("enrolling %d agents", o.Agents)
	if err := f.enrol(ctx); err != nil {
		return nil, err
	}
	f.start(ctx)
	rep = &AgentsReport{Agents: o.Agents, Jobs: o.Jobs, Paced: o.Paced, PacedRate: 1 / paceEvery.Seconds(), Machine: machine(), Date: statement.Seconds(time.Now())}
	o.Progress.say("%d jobs, one after the other", o.Paced)
	paced, err := f.paced(ctx, o.Paced)
	if err != nil {
		return nil, err
	}
	rep.PacedMedian, rep.PacedP99 = percentile(paced, 50), percentile(paced, 99)
	o.Progress.say("%d jobs at once, and the killing", o.Jobs)
	return rep, f.loaded(ctx, rep, o.Progress)
}

// track is what the measurement knows of one job, from outside.
type track struct {
	submitted time.Time
	runs      int
	ran       time.Duration
	finished  time.Time
}

// tracks are those of all jobs.
type tracks struct {
	mu   sync.Mutex
	m    map[string]*track
	done atomic.Int64 // jobs whose result was taken in
}

func (t *tracks) of(id string) *track {
	if t.m[id] == nil {
		t.m[id] = &track{}
	}
	return t.m[id]
}

// run executes a job: it notes that it ran, and takes its time.
func (t *tracks) run(id string) {
	t.mu.Lock()
	x := t.of(id)
	x.runs++
	t.mu.Unlock()
	began := time.Now()
	time.Sleep(execution)
	d := time.Since(began)
	t.mu.Lock()
	x.ran = d
	t.mu.Unlock()
}

func (t *tracks) finish(id string) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.of(id); x.finished.IsZero() {
		x.finished = now
		t.done.Add(1)
	}
}

// added is the added latency of jobs, as far as they are finished.
func (t *tracks) added(ids []string) (out []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if x := t.of(id); !x.finished.IsZero() {
			out = append(out, x.finished.Sub(x.submitted)-x.ran)
		}
	}
	return out
}

// submit submits jobs, spread over the clusters, by whichever replica is there.
func (f *fleet) submit(ctx context.Context, from, n int) ([]string, error) {
	jobs := make([]ecc.Job, n)
	for i := range jobs {
		id, err := randomID()
		if err != nil {
			return nil, err
		}
		jobs[i] = ecc.Job{ID: id, Cluster: f.clusters[(from+i)%len(f.clusters)], Topic: benchTopic, Name: "bench", Source: "bench", Priority: order.Standard, Records: f.asked(), Repeatable: true}
	}
	now := time.Now()
	f.jobs.mu.Lock()
	for i := range jobs {
		f.jobs.of(jobs[i].ID).submitted = now
	}
	f.jobs.mu.Unlock()
	return f.alive().svc.Submit(ctx, jobs...)
}

// paced submits jobs one after the other.
func (f *fleet) paced(ctx context.Context, n int) ([]time.Duration, error) {
	t := time.NewTicker(paceEvery)
	defer t.Stop()
	var ids []string
	for i := range n {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
		}
		l, err := f.submit(ctx, i, 1)
		if err != nil {
			return nil, err
		}
		ids = append(ids, l...)
	}
	if err := f.wait(ctx, int64(n)); err != nil {
		return nil, err
	}
	return f.jobs.added(ids), nil
}

// wait waits for results of n jobs.
func (f *fleet) wait(ctx context.Context, n int64) error {
	for f.jobs.done.Load() < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// loaded submits all jobs, kills a replica when a third of them is done and a tenth of
// the agents when half is, and counts when all have ended.
func (f *fleet) loaded(ctx context.Context, rep *AgentsReport, p Progress) error {
	const chunk = 1000
	before := f.jobs.done.Load()
	began := time.Now()
	var ids []string
	for len(ids) < rep.Jobs {
		l, err := f.submit(ctx, len(ids), min(chunk, rep.Jobs-len(ids)))
		if err != nil {
			return err
		}
		ids = append(ids, l...)
	}
	if err := f.wait(ctx, before+int64(rep.Jobs/3)); err != nil {
		return err
	}
	p.say("killing a replica after %d jobs", f.jobs.done.Load()-before)
	f.replicas[0].kill()
	rep.KilledReplicas = 1
	if err := f.wait(ctx, before+int64(rep.Jobs/2)); err != nil {
		return err
	}
	p.say("killing %d agents after %d jobs", rep.Agents/10, f.jobs.done.Load()-before)
	rep.KilledAgents, rep.KilledOver = f.decimate(ctx)
	// Results may be taken in whose agents never heard of it: the database knows.
	st := f.alive().store
	for {
		counts, err := st.QueueCounts(ctx)
		if err != nil {
			return err
		}
		if counts[store.QueueReady]+counts[store.QueueProcessing] == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	took := time.Since(began)
	rep.Seconds, rep.Rate = round(took.Seconds(), 2), round(perSecond(int64(rep.Jobs), took), 1)
	added := f.jobs.added(ids)
	rep.LoadMedian, rep.LoadP99 = percentile(added, 50), percentile(added, 99)
	return f.count(ctx, rep, ids)
}

// count asks the database and the executors about every job.
func (f *fleet) count(ctx context.Context, rep *AgentsReport, ids []string) error {
	st := f.alive().store
	for _, id := range ids {
		r, err := st.QueueRecord(ctx, id)
		if err != nil {
			return err
		}
		f.jobs.mu.Lock()
		runs := f.jobs.of(id).runs
		f.jobs.mu.Unlock()
		if runs > 0 {
			rep.Executed++
			rep.Duplicates += runs - 1
		}
		if r.State == store.QueueProcessed {
			rep.Processed++
		}
		if runs == 0 || r.State != store.QueueProcessed {
			rep.Lost++
		}
		if r.Attempt > 1 {
			rep.Moved++
		}
	}
	return nil
}

// decimate kills the last agent of each cluster: each over the next job that it begins,
// or, where none comes to it, as it waits.
func (f *fleet) decimate(ctx context.Context) (killed, over int) {
	var doomed []*benchAgent
	for i, a := range f.agents {
		if i%clusterOf == clusterOf-1 {
			a.doomed.Store(true)
			doomed = append(doomed, a)
		}
	}
	patience := time.After(10 * time.Second)
	for slices.ContainsFunc(doomed, func(a *benchAgent) bool { return !a.dead.Load() }) {
		select {
		case <-ctx.Done():
		case <-patience:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	for _, a := range doomed {
		if a.dead.Load() {
			over++
		}
		a.kill()
	}
	return len(doomed), over
}
