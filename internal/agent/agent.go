package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/credentials"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/exec/javascript"
	"github.com/greatseal-io/greatseal/internal/agent/exec/rest"
	"github.com/greatseal-io/greatseal/internal/agent/exec/script"
	"github.com/greatseal-io/greatseal/internal/agent/exec/sql"
	"github.com/greatseal-io/greatseal/internal/agent/firewall"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/record"
)

// Helper is what cmd/greatseal asks first: whether the process was started by an
// agent to be a program's sandbox or the JavaScript engine, and with which code it
// ends then.
func Helper(args []string) (code int, is bool) {
	switch {
	case sandbox.Is(args):
		return sandbox.Main(args), true
	case javascript.Is(args):
		return javascript.Std(), true
	}
	return 0, false
}

// Deps is the world of an agent.
type Deps struct {
	Identity  *Identity
	Upstream  Upstream
	Belief    Belief
	Executors []exec.Executor
	Log       *slog.Logger
	Now       func() time.Time
	Version   string
}

// Agent is a running agent's state.
type Agent struct {
	cfg       *Config
	id        *Identity
	up        Upstream
	belief    Belief
	executors map[string]exec.Executor
	log       *slog.Logger
	now       func() time.Time
	version   string

	rules    atomic.Pointer[firewall.Firewall]
	seen     *seen
	marks    *marks
	spool    *spool
	refusals *refusals
	roots    *record.Roots
	unlock   func() error

	mu       sync.Mutex
	clusters []string
	judgeBy  *record.Verifier
	judgeOf  [sha256.Size]byte
	queue    []*Job // leased, waiting for room; highest priority first
	running  map[string]*run
	ignored  bool          // the instance does not keep to Want.Only
	drained  chan struct{} // closed: nothing new is leased
	wake     chan struct{} // has one element when there may be room, or something to do
	pull     chan struct{} // has one element when the circle is to be pulled now
	jobs     sync.WaitGroup
	bringing sync.WaitGroup
}

type run struct {
	topic    string
	priority Priority
	cancel   context.CancelCauseFunc
}

// Executors are those of this host. On a host without a sandbox scripts are refused,
// each by its executor. creds may be nil.
func Executors(ctx context.Context, cfg *Config, creds *credentials.Store, r exec.Resolver, log *slog.Logger) ([]exec.Executor, error) {
	sb, err := sandbox.New(ctx, cfg.Sandbox)
	switch {
	case errors.Is(err, sandbox.ErrUnsupported):
		log.Warn("agent: scripts do not run here", "reason", err.Error())
	case err != nil:
		return nil, err
	default:
		i := sb.Isolation()
		log.Info("agent: sandbox", "landlock", i.Landlock, "namespaces", i.Namespaces, "ownUser", i.OwnUser)
	}
	return []exec.Executor{
		&sql.Executor{Credentials: creds, Resolver: r},
		&script.Executor{Sandbox: sb, Interpreters: cfg.Interpreter},
		&javascript.Executor{Sandbox: sb},
		&rest.Executor{Credentials: creds, Resolver: r},
	}, nil
}

// Open prepares an agent: firewall, durable sets, spool. It refuses to go on where
// one of them cannot be trusted. One process has the state folder at a time.
func Open(cfg *Config, d Deps) (*Agent, error) {
	a := &Agent{
		cfg: cfg, id: d.Identity, up: d.Upstream, belief: d.Belief, executors: map[string]exec.Executor{}, log: d.Log, now: d.Now, version: d.Version,
		refusals: &refusals{path: filepath.Join(cfg.State, refusalsFile)}, roots: record.NewRoots(0), running: map[string]*run{},
		drained: make(chan struct{}), wake: make(chan struct{}, 1), pull: make(chan struct{}, 1),
	}
	for _, e := range d.Executors {
		for _, t := range e.Topics() {
			if _, twice := a.executors[t]; twice {
				return nil, fmt.Errorf("agent: two executors for %s", t)
			}
			a.executors[t] = e
		}
	}
	for t := range cfg.Topics {
		if a.executors[t] == nil {
			return nil, fmt.Errorf("agent: configuration: topics: there is no executor for %s", t)
		}
	}
	fw, err := firewall.Load(cfg.Firewall)
	if err != nil {
		return nil, err
	}
	a.rules.Store(fw)
	if a.unlock, err = lockState(filepath.Join(cfg.State, "agent.lock")); err != nil {
		return nil, err
	}
	fail := func(err error) (*Agent, error) { return nil, errors.Join(err, a.Close()) }
	if a.seen, err = openSeen(filepath.Join(cfg.State, "orders.log")); err != nil {
		return fail(err)
	}
	if a.marks, err = openMarks(filepath.Join(cfg.State, "marks.log")); err != nil {
		return fail(err)
	}
	if a.spool, err = openSpool(filepath.Join(cfg.State, "spool")); err != nil {
		return fail(err)
	}
	return a, nil
}

// Close gives the state folder back. Run must have returned.
func (a *Agent) Close() error {
	var errs []error
	if a.seen != nil {
		errs = append(errs, a.seen.j.close())
	}
	if a.marks != nil {
		errs = append(errs, a.marks.j.close())
	}
	return errors.Join(append(errs, a.unlock())...)
}

// Reload reads the firewall's file again (SIGHUP). With an error the old one stays.
func (a *Agent) Reload() error {
	fw, err := firewall.Load(a.cfg.Firewall)
	if err != nil {
		a.log.Error("agent: the firewall's file is refused: the old rules stay", "error", err.Error())
		return err
	}
	a.rules.Store(fw)
	a.log.Info("agent: the firewall's rules are new")
	return nil
}

// Drain lets what runs end, and leases nothing new; then Run returns.
func (a *Agent) Drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.draining() {
		close(a.drained)
		a.queue = nil // their leases end by themselves
	}
}

func (a *Agent) draining() bool {
	select {
	case <-a.drained:
		return true
	default:
		return false
	}
}

// PullCircle asks for the circle of trust to be pulled now.
func (a *Agent) PullCircle() { nudge(a.pull) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *Agent) memberships() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.clusters)
}

func (a *Agent) setMemberships(c []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clusters = slices.Clone(c)
}

// Run enrols where that is needed, and works until ctx ends, which stops jobs, or
// Drain was called and the last job has ended. Results that were not brought stay in
// the spool.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.enrol(ctx); err != nil {
		return err
	}
	left, err := a.spool.resume()
	if err != nil {
		return err
	}
	// What is left over is brought as long as ctx lives; bringing outlasts jobs.
	bctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, e := range left {
		a.log.Info("agent: results of an earlier process wait", "job", e.lease.Job, "attempt", e.lease.Attempt)
		a.bringing.Go(func() { a.bring(bctx, e) })
	}
	a.pullCircle(ctx)
	var loops sync.WaitGroup
	lctx, end := context.WithCancel(bctx)
	loops.Go(func() { a.every(lctx, a.cfg.Circle.or(time.Minute), a.pull, a.pullCircle) })
	loops.Go(func() { a.every(lctx, a.cfg.Heartbeat.or(5*time.Minute), nil, a.heartbeat) })
	loops.Go(func() { a.lease(lctx) })
	loops.Go(func() { a.dispatch(lctx, bctx) })
	select {
	case <-ctx.Done():
	case <-a.drained:
		a.log.Info("agent: draining", "running", a.count())
	}
	if ctx.Err() == nil {
		nudge(a.wake)
		a.jobs.Wait()
		a.heartbeat(ctx)
		// A little time for what the last jobs brought; the spool keeps the rest.
		a.settle(ctx, 10*time.Second)
	}
	end()
	stop()
	loops.Wait()
	a.jobs.Wait()
	a.bringing.Wait()
	return context.Cause(ctx)
}

// settle waits for deliveries, at most d.
func (a *Agent) settle(ctx context.Context, d time.Duration) {
	done := make(chan struct{})
	go func() { a.bringing.Wait(); close(done) }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a *Agent) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.running)
}

// every calls f now and then, with a little randomness so that agents do not call
// together.
func (a *Agent) every(ctx context.Context, d time.Duration, now <-chan struct{}, f func(context.Context)) {
	for {
		t := time.NewTimer(d - d/10 + rand.N(d/5+1))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-now:
			t.Stop()
		case <-t.C:
		}
		f(ctx)
	}
}

// pause waits after the nth failure in a row.
func pause(ctx context.Context, n int) {
	d := min(time.Minute, time.Second<<min(n, 6))
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// enrol asks until there is a certificate.
func (a *Agent) enrol(ctx context.Context) error {
	// It is renewed while it is good. Afterwards nobody takes it, and an administrator
	// looks at the agent anew.
	if end := a.id.expires(); !end.IsZero() && !a.now().Before(end) {
		return fmt.Errorf("agent: the certificate ended at %s: remove %s to enrol with a new key, which an administrator validates", end.UTC().Format(time.RFC3339), a.id.path)
	}
	for n := 0; a.id.Certificate() == nil; n++ {
		r, err := a.id.enrol(ctx, a.up, a.enrolment(false))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrInvalidated), err == nil && r.State == EnrolInvalidated:
			return fmt.Errorf("%w: remove %s to enrol with a new key", ErrInvalidated, a.id.path)
		case err != nil && !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrNotValidated):
			return err
		case err != nil:
			a.log.Warn("agent: cannot enrol", "error", err.Error())
		case r.State == EnrolValidated:
			a.setMemberships(r.Clusters)
			a.log.Info("agent: enrolled", "agent", a.cfg.Name, "until", a.id.expires())
			return nil
		default:
			if n == 0 {
				f, err := a.id.Fingerprint()
				if err != nil {
					return err
				}
				a.log.Info("agent: waits for an administrator to validate its key", "agent", a.cfg.Name, "fingerprint", f)
			}
		}
		if r != nil && r.RetryAfter > 0 {
			t := time.NewTimer(min(r.RetryAfter, time.Minute))
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
			continue
		}
		pause(ctx, n)
	}
	return nil
}

func (a *Agent) enrolment(rekey bool) Enrolment {
	return Enrolment{Rekey: rekey, Version: a.version, Topics: a.topics()}
}

func (a *Agent) topics() []string { return slices.Sorted(maps.Keys(a.executors)) }

// heartbeat says that the agent lives, and does what it is told.
func (a *Agent) heartbeat(ctx context.Context) {
	now := a.now()
	if err := a.seen.tick(now); err != nil {
		a.log.Error("agent: the time cannot be kept", "error", err.Error())
	}
	b := &Beat{Time: now, Version: a.version, Running: a.count(), Draining: a.draining(), TrustAge: a.belief.Until(now)}
	if names, err := os.ReadDir(a.spool.dir); err == nil {
		b.Spooled = len(names)
	}
	if v, err := a.belief.At(a.cfg.Instance, now); err == nil {
		b.Circle = fmt.Sprintf("%x", v.Digest)
	}
	p, err := a.up.Heartbeat(ctx, b)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("agent: no heartbeat", "error", err.Error())
		}
		return
	}
	a.setMemberships(p.Clusters)
	for _, job := range p.CancelJobs {
		a.cancelJob(job, exec.Failure("cancelled by the instance"))
	}
	if p.PullCircle {
		a.PullCircle()
	}
	if len(p.Certificate) > 0 {
		if err := a.id.renew(p.Certificate); err != nil {
			a.log.Error("agent: a renewed certificate is refused", "error", err.Error())
		}
	}
	if p.Rekey {
		if r, err := a.id.enrol(ctx, a.up, a.enrolment(true)); err != nil {
			a.log.Error("agent: the key could not be changed", "error", err.Error())
		} else {
			a.log.Info("agent: new key", "state", string(r.State))
		}
	}
}

// pullCircle takes up what the trusted sides have published. What is refused leaves
// what is believed as it is.
func (a *Agent) pullCircle(ctx context.Context) {
	bundles, err := a.up.CircleBundle(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("agent: the circle of trust cannot be pulled", "error", err.Error())
		}
		return
	}
	if len(bundles) > 64 {
		a.log.Error("agent: more sides are offered than anybody pins", "bundles", len(bundles))
		return
	}
	for _, b := range bundles {
		if err := a.belief.Apply(ctx, b, a.now()); err != nil {
			a.log.Error("agent: a circle of trust is refused", "error", err.Error())
		}
	}
}
