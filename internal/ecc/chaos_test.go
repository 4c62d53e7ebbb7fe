package ecc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/ecc/ecctest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/order"
)

// quick are times that let leases end within a test.
func quick(c *ecc.Config) {
	c.Times = ecc.Times{Order: time.Minute, Begin: 800 * time.Millisecond, Run: time.Second, Heartbeat: 200 * time.Millisecond, Down: 500 * time.Millisecond, Sweep: 40 * time.Millisecond, Poll: 40 * time.Millisecond}
	c.Limits.Attempts = 1000
}

func openStore(t testing.TB, dsn string) *store.SQL {
	t.Helper()
	s, err := store.Open(context.Background(), dsn)
	return ecctest.Must(t, s, err)
}

// replica is a process that can be killed: its service goes on running into a
// database that is closed.
type replica struct {
	svc    *ecc.Service
	st     *store.SQL
	cancel context.CancelFunc
	done   chan struct{}
}

func (w *world) boot(t testing.TB) *replica {
	st := openStore(t, w.dsn)
	r := &replica{svc: w.inst.Replica(t, st, quick), st: st, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { defer close(r.done); _ = r.svc.Run(ctx) }()
	return r
}

// kill takes the database away from a replica in the middle of whatever it does.
func (r *replica) kill() {
	r.st.Close()
	r.cancel()
	<-r.done
}

type world struct {
	dsn      string
	inst     *ecctest.Instance
	mu       sync.Mutex
	replicas []*replica
	agents   map[string]*ecctest.Identity

	ran     map[string][]string        // job: who has run it
	results map[string]map[string]bool // job: what was reported and taken in
	seen    map[string]map[[32]byte]bool

	deaths, slow atomic.Int64
}

func (w *world) any() *ecc.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replicas[rand.N(len(w.replicas))].svc
}

// errDead says that an agent's process has ended.
var errDead = errors.New("killed")

// retry speaks to one replica after the other, until one has understood.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || errors.Is(err, ecc.ErrLost) || errors.Is(err, ecc.ErrPage) || errors.Is(err, ecc.ErrInvalidated) || ctx.Err() != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// life is one process of an agent: it takes work until it dies somewhere.
func (w *world) life(ctx context.Context, t *testing.T, name string) error {
	id := w.agents[name]
	// After a while they all live: however slow the machine is, it comes to an end.
	die := func() bool { return w.deaths.Load() < 40 && rand.N(12) == 0 }
	leaf := id.Leaf(t)
	v := &order.Verifier{Instance: "prod", Keys: nil, Agent: name, Clusters: []string{"all"}}
	v.Keys = append(v.Keys, w.inst.Runtime.Public())
	for ctx.Err() == nil {
		svc := w.any()
		p, err := svc.Peer(ctx, leaf)
		if err != nil {
			continue
		}
		if _, err := svc.Heartbeat(ctx, p, ecc.Beat{}); err != nil {
			continue
		}
		works, err := svc.Next(ctx, p, ecc.Want{Topics: []string{"JDBCProbe", "Command"}, Max: 3, Wait: 50 * time.Millisecond})
		if err != nil {
			continue
		}
		for _, x := range works {
			if die() {
				return errDead // with jobs that it never began
			}
			signed, err := order.DecodeSigned(x.Delivery.Order)
			if err != nil {
				t.Error(err)
				return err
			}
			verified, err := v.Verify(signed, time.Now())
			if err != nil {
				t.Error(err)
				return err
			}
			if _, _, err := verified.Open(&x.Delivery); err != nil {
				t.Error(err)
				return err
			}
			call := func(f func(*ecc.Service, *ecc.Peer) error) error {
				return retry(ctx, func() error {
					s := w.any()
					p, err := s.Peer(ctx, leaf)
					if err != nil {
						return err
					}
					return f(s, p)
				})
			}
			if w.slow.Load() < 20 && rand.N(10) == 0 {
				w.slow.Add(1)
				time.Sleep(900 * time.Millisecond) // so slow that the lease may be over
			}
			if err := call(func(s *ecc.Service, p *ecc.Peer) error { _, err := s.Start(ctx, p, x.Lease); return err }); err != nil {
				continue // another's now
			}
			if die() {
				return errDead // begun, and never run
			}
			key := verified.Key()
			w.mu.Lock()
			replayed := w.seen[name][key]
			w.seen[name][key] = true
			if !replayed {
				w.ran[x.Lease.Job] = append(w.ran[x.Lease.Job], fmt.Sprint(name, x.Lease.Attempt))
			}
			w.mu.Unlock()
			if replayed {
				t.Errorf("job %s was granted to %s twice", x.Lease.Job, name)
				return errDead
			}
			if die() {
				return errDead // run, and never reported
			}
			body := []byte(fmt.Sprint(name, x.Lease.Attempt))
			for n := range int64(2) {
				err = call(func(s *ecc.Service, p *ecc.Peer) error {
					return s.Page(ctx, p, x.Lease, n, "text/plain", body)
				})
			}
			if err == nil {
				err = call(func(s *ecc.Service, p *ecc.Peer) error {
					return s.Finish(ctx, p, x.Lease, ecc.Outcome{Pages: 2})
				})
			}
			if err == nil && ctx.Err() == nil {
				w.mu.Lock()
				if w.results[x.Lease.Job] == nil {
					w.results[x.Lease.Job] = map[string]bool{}
				}
				w.results[x.Lease.Job][string(body)] = true
				w.mu.Unlock()
			}
		}
	}
	return nil
}

// Agents die at any point, replicas are killed at any point, and every job ends;
// one that may not be repeated has run once at the most, and exactly once when it
// is processed.
func TestInvariant1ExactlyOnceUnderKills(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		pg := pgtest.Start(t)
		chaos(t, pg.Database(), 2, pg.Restart)
	})
	t.Run("SQLite", func(t *testing.T) { chaos(t, "sqlite:"+filepath.Join(t.TempDir(), "g.db"), 2, nil) })
}

func chaos(t *testing.T, dsn string, replicas int, restart func()) {
	w := &world{dsn: dsn, inst: ecctest.New(t), agents: map[string]*ecctest.Identity{}, ran: map[string][]string{}, results: map[string]map[string]bool{}, seen: map[string]map[[32]byte]bool{}}
	for range replicas {
		w.replicas = append(w.replicas, w.boot(t))
	}
	defer func() {
		for _, r := range w.replicas {
			r.kill()
		}
	}()
	first := w.replicas[0].svc
	var names []string
	for i := range 5 {
		name := fmt.Sprintf("mid-%d", i)
		names = append(names, name)
		w.agents[name] = ecctest.Agent(t, first, name)
		w.seen[name] = map[[32]byte]bool{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := first.PutCluster(ctx, store.AgentCluster{Name: "all", Mode: store.ClusterBalance, Members: names}); err != nil {
		t.Fatal(err)
	}
	var jobs []ecc.Job
	for i := range 120 {
		j := ecc.Job{Topic: "JDBCProbe", Records: ecctest.Ask(), Source: "test", Repeatable: i%4 == 0, Priority: order.Priority(i % 3)}
		switch i % 6 {
		case 5:
			j.Agent = names[i%len(names)]
		case 4:
			j.Topic, j.Cluster = "Command", "all"
		default:
			j.Cluster = "all"
		}
		jobs = append(jobs, j)
	}
	ids, err := first.Submit(ctx, jobs...)
	if err != nil {
		t.Fatal(err)
	}
	living, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() {
			for living.Err() == nil {
				if err := w.life(living, t, n); errors.Is(err, errDead) {
					w.deaths.Add(1)
					time.Sleep(time.Duration(rand.N(300)) * time.Millisecond)
				}
			}
		})
	}
	// Replicas come and go, and the database too.
	wg.Go(func() {
		for n := 0; n < 8 && living.Err() == nil; n++ {
			time.Sleep(300 * time.Millisecond)
			fresh := w.boot(t)
			w.mu.Lock()
			i := n % len(w.replicas)
			old := w.replicas[i]
			w.replicas[i] = fresh
			w.mu.Unlock()
			old.kill()
			if restart != nil && n == 2 {
				restart()
			}
		}
	})
	watch := openStore(t, dsn)
	defer watch.Close()
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		counts, err := watch.QueueCounts(ctx)
		if err == nil && counts[store.QueueProcessed]+counts[store.QueueError] == int64(len(ids)) {
			break
		}
	}
	stop()
	wg.Wait()
	processed, moved := 0, 0
	for i, id := range ids {
		r, err := watch.QueueRecord(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		ran := w.ran[id]
		if len(ran) > 1 && !jobs[i].Repeatable {
			t.Errorf("%s has run %v", id, ran)
		}
		if r.Attempt > 1 {
			moved++
		}
		switch {
		case r.State == store.QueueProcessed:
			processed++
			if len(ran) == 0 {
				t.Errorf("%s is processed and has never run", id)
			}
			pages, err := watch.ResultPages(context.Background(), id, 0, 10)
			if err != nil || len(pages) != 2 || string(pages[0].Payload) != fmt.Sprint(r.Agent, r.Attempt) || string(pages[1].Payload) != string(pages[0].Payload) {
				t.Errorf("%s: %d pages, %v", id, len(pages), err)
			}
		case r.State == store.QueueError && r.ErrorString == store.ErrorAgentLost && !jobs[i].Repeatable:
			if len(w.results[id]) != 0 {
				t.Errorf("%s is given up, and its result was taken in", id)
			}
		default:
			t.Errorf("%s (repeatable %v) is %s %s", id, jobs[i].Repeatable, r.State, r.ErrorString)
		}
		if len(w.results[id]) > 1 {
			t.Errorf("%s has several results: %v", id, w.results[id])
		}
	}
	if processed == 0 || w.deaths.Load() == 0 || moved == 0 {
		t.Errorf("%d processed, %d deaths, %d moved: the test shows nothing", processed, w.deaths.Load(), moved)
	}
	t.Logf("%d of %d processed, %d deaths of agents, %d handed out again", processed, len(ids), w.deaths.Load(), moved)
}
