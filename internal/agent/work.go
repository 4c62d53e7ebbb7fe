package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/rejection"
)

// leaseWait is how long one call waits for work.
const leaseWait = 45 * time.Second

// lease takes jobs as long as there is room for them.
func (a *Agent) lease(ctx context.Context) {
	for failures := 0; ctx.Err() == nil && !a.draining(); {
		want := a.room()
		if want.Max <= 0 || len(want.Topics) == 0 || a.spool.full(a.cfg.spool()) {
			a.rest(ctx, time.Second)
			continue
		}
		// Draining ends the call: nothing new is leased.
		cctx, cancel := context.WithCancelCause(ctx)
		go func() {
			select {
			case <-a.drained:
				cancel(errDraining)
			case <-cctx.Done():
			}
		}()
		if want.Wait = leaseWait; want.Only != "" {
			want.Wait = 5 * time.Second // soon there may be room for the others
		}
		jobs, err := a.up.Lease(cctx, &want)
		cancel(nil)
		if err != nil {
			if ctx.Err() == nil && !a.draining() {
				a.log.Warn("agent: no work can be leased", "error", err.Error())
				failures++
				pause(ctx, failures)
			}
			continue
		}
		failures = 0
		a.enqueue(jobs, want.Only)
	}
}

// rest waits for a wake-up, at most d.
func (a *Agent) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-a.drained:
	case <-t.C:
	}
}

// room is for which topics, and for how many jobs, there is room. Where the rest of
// it is kept for interactive jobs, only those are wanted: the others would hold leases
// here that another agent could use.
func (a *Agent) room() (w Want) {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := map[string]int{}
	for _, r := range a.running {
		running[r.topic]++
	}
	w.Max = a.cfg.Jobs - a.cfg.Reserve - len(a.running)
	for _, j := range a.queue {
		// One that waits for its own topic keeps no other out.
		if limit, ok := a.cfg.Topics[j.Topic]; !ok || running[j.Topic] < limit {
			w.Max--
		}
	}
	if w.Max <= 0 {
		w.Only, w.Max = Interactive, a.cfg.Jobs-len(a.running)
		for _, j := range a.queue {
			if j.Priority == Interactive {
				w.Max--
			}
		}
		if a.ignored || w.Max <= 0 {
			return Want{}
		}
	}
	for _, t := range a.topics() {
		limit, ok := a.cfg.Topics[t]
		if !ok || a.taken(t) < limit {
			w.Topics = append(w.Topics, t)
		}
	}
	return w
}

// taken counts a topic's jobs, running and waiting. The caller holds a.mu.
func (a *Agent) taken(topic string) int {
	n := 0
	for _, r := range a.running {
		if r.topic == topic {
			n++
		}
	}
	for _, j := range a.queue {
		if j.Topic == topic {
			n++
		}
	}
	return n
}

func rank(p Priority) int {
	switch p {
	case Interactive:
		return 0
	case Expedited:
		return 1
	}
	return 2
}

// enqueue puts jobs in their places. More than was asked for stays with its leases.
func (a *Agent) enqueue(jobs []Job, only Priority) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range jobs {
		if only != "" && jobs[i].Priority != only {
			a.ignored = true // an instance that does not know the word
		}
		if a.draining() || len(a.queue) >= 2*a.cfg.Jobs {
			break
		}
		a.queue = append(a.queue, &jobs[i])
	}
	slices.SortStableFunc(a.queue, func(x, y *Job) int { return rank(x.Priority) - rank(y.Priority) })
	nudge(a.wake)
}

// next is the first job that there is room for, taken out of the queue.
func (a *Agent) next(jctx context.Context) (*Job, context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining() {
		return nil, nil
	}
	running := map[string]int{}
	for _, r := range a.running {
		running[r.topic]++
	}
	for i, j := range a.queue {
		limit, ok := a.cfg.Topics[j.Topic]
		if ok && running[j.Topic] >= limit {
			continue
		}
		room := a.cfg.Jobs
		if rank(j.Priority) > 0 {
			room -= a.cfg.Reserve
		}
		if len(a.running) >= room || a.running[j.Lease.Job] != nil {
			continue
		}
		a.queue = slices.Delete(a.queue, i, i+1)
		ctx, cancel := context.WithCancelCause(jctx)
		// Whole: it may be cancelled at once.
		a.running[j.Lease.Job] = &run{topic: j.Topic, priority: j.Priority, cancel: cancel}
		a.jobs.Add(1) // under the lock that Drain takes: who waits then counts it
		return j, ctx
	}
	return nil, nil
}

// dispatch starts jobs as there is room. ctx ends dispatching; jobs live as long as
// jctx.
func (a *Agent) dispatch(ctx, jctx context.Context) {
	for {
		for {
			j, c := a.next(jctx)
			if j == nil {
				break
			}
			go func() {
				defer a.jobs.Done()
				a.do(c, jctx, j)
				a.cancelJob(j.Lease.Job, nil)
				a.mu.Lock()
				delete(a.running, j.Lease.Job)
				a.mu.Unlock()
				nudge(a.wake)
			}()
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
	}
}

// do is one job, from its lease to its end in the spool. ctx is the job's; what it
// brings is brought as long as bctx lives.
func (a *Agent) do(ctx, bctx context.Context, j *Job) {
	log := a.log.With("job", j.Lease.Job, "attempt", j.Lease.Attempt)
	if !a.now().Before(j.Until) {
		log.Warn("agent: a lease ended before there was room")
		return
	}
	e, err := a.spool.begin(j.Lease)
	if err != nil {
		log.Error("agent: a job cannot be spooled", "error", err.Error())
		return
	}
	a.bringing.Go(func() { a.bring(bctx, e) })
	fail := func(o Outcome) {
		if err := e.finish(o); err != nil {
			log.Error("agent: an outcome cannot be spooled", "error", err.Error())
		}
	}
	var w about
	g, err := a.judge(ctx, j, &w, nil)
	if r := refused(err); r != nil {
		a.refuse(e, j, &w, r)
		return
	}
	if err != nil {
		log.Error("agent: a job could not be judged", "error", err.Error())
		fail(Outcome{Error: "the agent could not judge the job"})
		return
	}
	defer g.release()
	if g, err = a.start(ctx, j, &w, g); err != nil {
		if r := refused(err); r != nil {
			a.refuse(e, j, &w, r)
			return
		}
		log.Warn("agent: a job does not start", "error", err.Error())
		if errors.Is(err, ErrLost) {
			a.forget(e)
			return
		}
		fail(Outcome{Error: "the agent could not start the job"})
		return
	}
	log.Info("agent: runs", "topic", w.topic, "table", w.table, "rule", g.grant.Rule())
	a.execute(ctx, e, j, g, &w)
}

// start tells the instance, so that the job is this agent's alone, sees that it may
// still run, and then notes the order as begun. Nothing runs without all three.
func (a *Agent) start(ctx context.Context, j *Job, w *about, g *judged) (*judged, error) {
	var err error
	for n := 0; n < 4; n++ {
		if err = a.up.Start(ctx, j.Lease); !errors.Is(err, ErrUnreachable) {
			break
		}
		pause(ctx, n)
	}
	if err != nil {
		return nil, err
	}
	if g, err = a.still(ctx, j, w, g); err != nil {
		return nil, err
	}
	now := a.now()
	if !now.Before(g.expires) { // judging took its time
		return nil, rejection.New(rejection.OrderExpired, "expires", "the order expired while it was judged")
	}
	return g, a.seen.begin(g.key, g.expires, now)
}

// execute runs a job that has started.
func (a *Agent) execute(ctx context.Context, e *entry, j *Job, g *judged, w *about) {
	ctx, stop := context.WithTimeout(ctx, g.work.Limits.Time)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	kept := make(chan struct{})
	go func() { defer close(kept); a.keep(ctx, cancel, e, j, done) }()
	o := Outcome{Started: a.now()}
	res, err := runSafely(ctx, g, e)
	close(done)
	<-kept
	o.Ended, o.ExitCode, o.Rows, o.Truncated = a.now(), res.ExitCode, res.Rows, res.Truncated != ""
	o.Error = res.Truncated
	if r := refused(err); r != nil {
		// Found while it ran: an attachment that is not the signed one, before any of it
		// was run.
		a.refuse(e, j, w, r)
		return
	}
	if err != nil {
		o.Error = text(ctx, err)
	}
	o.Digest, o.Pages = e.digest()
	if err := e.finish(o); err != nil {
		a.log.Error("agent: an outcome cannot be spooled", "job", j.Lease.Job, "error", err.Error())
		return
	}
	a.log.Info("agent: ended", "job", j.Lease.Job, "attempt", j.Lease.Attempt, "pages", o.Pages, "rows", o.Rows, "exit", o.ExitCode, "error", o.Error)
}

// runSafely keeps an executor's panic to its job.
func runSafely(ctx context.Context, g *judged, out exec.Output) (res exec.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = exec.Failure("the executor broke")
		}
	}()
	return g.executor.Run(ctx, g.work, g.grant, out)
}

// text is an error as an outcome may tell it: what executors have worded for that,
// and nothing else.
func text(ctx context.Context, err error) string {
	var f exec.Failure
	switch {
	case errors.As(err, &f):
		return rejection.New("", "", string(f)).Detail
	case errors.Is(context.Cause(ctx), ErrLost):
		return "the lease was lost"
	case errors.As(context.Cause(ctx), &f):
		return string(f)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return exec.CutTime
	case ctx.Err() != nil:
		return "the agent was stopped"
	}
	return "the executor failed"
}

// keep prolongs a lease while its job runs, and stops the job when the lease is
// another's.
func (a *Agent) keep(ctx context.Context, cancel context.CancelCauseFunc, e *entry, j *Job, done <-chan struct{}) {
	until := j.Until
	for {
		t := time.NewTimer(max(time.Second, until.Sub(a.now())/3))
		select {
		case <-done:
			t.Stop()
			return
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		_, pages := e.digest()
		next, err := a.up.Progress(ctx, j.Lease, Progress{Pages: int64(pages)})
		switch {
		case err == nil:
			until = next
		case errors.Is(err, ErrLost):
			cancel(ErrLost)
			return
		}
	}
}

// refuse tells everybody: the log, the agent's own file, the instance.
func (a *Agent) refuse(e *entry, j *Job, w *about, r *rejection.Error) {
	a.log.Warn("agent: refused", "code", string(r.Code), "subject", r.Subject, "detail", r.Detail, "job", j.Lease.Job, "attempt", j.Lease.Attempt,
		"topic", w.topic, "table", w.table, "order", w.order)
	err := a.refusals.add(&Refusal{Time: a.now().UTC(), Job: j.Lease.Job, Attempt: j.Lease.Attempt, Order: w.order, Topic: w.topic, Instance: a.cfg.Instance, Table: w.table, Circle: w.circle, Reason: r})
	if err != nil {
		a.log.Error("agent: a refusal cannot be kept", "error", err.Error())
	}
	if err := e.refuse(r); err != nil {
		a.log.Error("agent: a refusal cannot be spooled", "error", err.Error())
	}
}

// forget leaves a job to whoever has it now.
func (a *Agent) forget(e *entry) {
	if err := e.drop(); err != nil {
		a.log.Error("agent: the spool", "error", err.Error())
	}
	e.ping()
}

// bring gives upstream what a job leaves in the spool, until it has all of it.
func (a *Agent) bring(ctx context.Context, e *entry) {
	for failures := 0; ; {
		if failures == 0 {
			select {
			case <-ctx.Done():
				return
			case <-e.changed:
			}
		}
		done, err := e.bring(ctx, a.up)
		switch {
		case ctx.Err() != nil:
			return
		case e.gone():
			return
		case errors.Is(err, ErrUnreachable), errors.Is(err, ErrNotValidated):
			failures++
			pause(ctx, failures)
			continue
		case err != nil:
			// Final: the lease is another's, or the instance will not have it.
			a.log.Warn("agent: results are not wanted", "job", e.lease.Job, "attempt", e.lease.Attempt, "error", fmt.Sprint(err))
			a.cancelJob(e.lease.Job, err)
			if done {
				a.forget(e)
				return
			}
			failures = 0
			if _, enderr := e.end(); enderr == nil {
				a.forget(e)
				return
			}
			continue
		case done:
			a.forget(e)
			return
		}
		failures = 0
	}
}

// cancelJob stops a running job.
func (a *Agent) cancelJob(job string, why error) {
	a.mu.Lock()
	r := a.running[job]
	a.mu.Unlock()
	if r != nil {
		r.cancel(why)
	}
}
