package records

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
)

// Store is what jobs are kept in: *store.SQL is one.
type Store interface {
	store.SecurityJobs
	store.Protection
	Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]store.Job, error)
	Done(ctx context.Context, id int64) error
	Again(ctx context.Context, id int64, at time.Time) error
	Retry(ctx context.Context, id int64, at time.Time, cause string) error
}

// Config is what Jobs works with.
type Config struct {
	Instance       *Instance
	Store          Store
	Platforms      map[string]platform.Platform           // by their names in the server's configuration
	Configurations func() map[string]record.Configuration // those of the charter in force
	Signer         Signer
	Now            func() time.Time
	Rand           io.Reader
	Log            *slog.Logger // nil: nowhere
	Batch          int          // records that are committed together; 0: 50 000
	Hook           func(string) // tests: called at points at which a process may die
}

// Jobs runs security jobs. It is safe for concurrent use, and several replicas may
// share a store.
type Jobs struct {
	c     Config
	mu    sync.Mutex
	trees map[string]*tree // of jobs prepared by this process and not signed yet
}

// lease is how long a worker may be silent before another takes its job.
const lease = 30 * time.Second

// NewJobs makes Jobs.
func NewJobs(c Config) (*Jobs, error) {
	if c.Instance == nil || c.Instance.Name == "" || c.Store == nil || c.Configurations == nil || c.Signer == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("records: instance, store, configurations, signer, clock and randomness are wanted")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Batch <= 0 {
		c.Batch = 50_000 // each commit waits for the disk
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	return &Jobs{c: c, trees: map[string]*tree{}}, nil
}

// configurations are those in force, with the predefined ones.
func (s *Jobs) configurations() map[string]record.Configuration { return with(s.c.Configurations()) }

func (s *Jobs) platform(name string) (platform.Platform, error) {
	p := s.c.Platforms[name]
	if p == nil {
		return nil, specError("no platform is called %.80q here", name)
	}
	return p, nil
}

// Create makes a job. It begins when its start has come and a window is open.
func (s *Jobs) Create(ctx context.Context, sp *Spec, requester string) (*View, error) {
	if err := s.c.Instance.MaySign(); err != nil {
		return nil, err
	}
	if err := sp.Check(s.configurations()); err != nil {
		return nil, err
	}
	if sp.onPlatform() {
		if _, err := s.platform(sp.Platform); err != nil {
			return nil, err
		}
	} else if err := s.checkSet(sp); err != nil {
		return nil, err
	}
	id, err := newID(s.c.Rand)
	if err != nil {
		return nil, err
	}
	return s.create(ctx, id, sp, requester)
}

func (s *Jobs) create(ctx context.Context, id string, sp *Spec, requester string) (*View, error) {
	b, err := json.Marshal(sp, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	now := s.c.Now()
	j := &store.SecurityJob{ID: id, Kind: string(sp.Kind), Name: sp.Name, State: string(New), Platform: sp.Platform, Requester: requester, Spec: b,
		Total: -1, Created: now, Updated: now}
	due := now
	if sp.Start.After(now) {
		due = sp.Start
	}
	if err := s.c.Store.PutSecurityJob(ctx, j, due); err != nil {
		return nil, err
	}
	return view(j)
}

// Get returns one job.
func (s *Jobs) Get(ctx context.Context, id string) (*View, error) {
	j, err := s.c.Store.SecurityJob(ctx, id)
	if err != nil {
		return nil, err
	}
	return view(j)
}

// Filter selects jobs, newest first.
type Filter struct {
	States   []State
	Kind     Kind
	Platform string
	Before   *View // page on: behind this one
	Limit    int   // default 100, at most 1000
}

// List lists jobs.
func (s *Jobs) List(ctx context.Context, f Filter) ([]*View, error) {
	sf := store.SecurityFilter{Kind: string(f.Kind), Platform: f.Platform, Limit: f.Limit}
	for _, st := range f.States {
		sf.States = append(sf.States, string(st))
	}
	if f.Before != nil {
		sf.Before, sf.BeforeID = f.Before.Created, f.Before.ID
	}
	js, err := s.c.Store.SecurityJobs(ctx, sf)
	if err != nil {
		return nil, err
	}
	out := make([]*View, len(js))
	for i, j := range js {
		if out[i], err = view(j); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ErrState means that a job is not in a state in which that can be done.
var ErrState = errors.New("records: the job's state does not allow that")

// change moves a job by hand, again when a worker moved it meanwhile.
func (s *Jobs) change(ctx context.Context, id string, f func(j *store.SecurityJob, p *place) error) (*View, error) {
	for {
		j, err := s.c.Store.SecurityJob(ctx, id)
		if err != nil {
			return nil, err
		}
		var p place
		if err := read(j.Place, &p); err != nil {
			return nil, fmt.Errorf("records: job %s was altered in the database: %w", id, err)
		}
		if err := f(j, &p); err != nil {
			return nil, err
		}
		err = s.step(ctx, j, &p, store.KeepChunks)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err == nil {
			err = s.c.Store.WakeSecurityJob(ctx, id, s.c.Now())
		}
		if err != nil {
			return nil, err
		}
		return view(j)
	}
}

// step writes a job back.
func (s *Jobs) step(ctx context.Context, j *store.SecurityJob, p *place, keep int64, chunks ...store.SecurityChunk) error {
	b, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	j.Place, j.Updated = b, s.c.Now()
	return s.c.Store.StepSecurityJob(ctx, j, keep, chunks...)
}

// Cancel ends a job that is not signed yet. What it has prepared goes away.
func (s *Jobs) Cancel(ctx context.Context, id, who string) (*View, error) {
	return s.change(ctx, id, func(j *store.SecurityJob, _ *place) error {
		if st := State(j.State); st.Final() || st == Signing {
			return fmt.Errorf("%w: it is %s", ErrState, st)
		}
		j.State, j.Finished, j.Error = string(Cancelled), s.c.Now(), "cancelled by "+who
		return nil
	})
}

// Pause holds a job that is prepared, or will be, until somebody resumes it.
func (s *Jobs) Pause(ctx context.Context, id string) (*View, error) {
	return s.change(ctx, id, func(j *store.SecurityJob, p *place) error {
		switch st := State(j.State); st {
		case New, Preparing:
			p.From = st
		case Paused:
		default:
			return fmt.Errorf("%w: it is %s", ErrState, st)
		}
		j.State, p.Held, p.Next = string(Paused), true, time.Time{}
		return nil
	})
}

// Resume lets a paused job go on: at once, or when its next window opens.
func (s *Jobs) Resume(ctx context.Context, id string) (*View, error) {
	return s.change(ctx, id, func(j *store.SecurityJob, p *place) error {
		if State(j.State) != Paused {
			return fmt.Errorf("%w: it is %s", ErrState, j.State)
		}
		p.Held = false
		return nil
	})
}

// Run works on jobs until ctx ends, two at a time.
func (s *Jobs) Run(ctx context.Context) error {
	if err := s.c.Instance.MaySign(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				worked, err := s.Work(ctx)
				if err != nil && ctx.Err() == nil {
					s.c.Log.Error("security job", "error", err)
				}
				if worked && err == nil {
					continue
				}
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.trees {
		t.close()
		delete(s.trees, id)
	}
	return ctx.Err()
}

// Work does what is due of one job. It returns false when nothing is due.
func (s *Jobs) Work(ctx context.Context) (bool, error) {
	due, err := s.c.Store.Lease(ctx, []string{store.SecurityKind}, 1, s.c.Now(), lease)
	if err != nil || len(due) == 0 {
		return false, err
	}
	q := due[0]
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var beat sync.WaitGroup
	ended := make(chan struct{})
	beat.Go(func() { // the lease goes on while we do
		for t := time.NewTicker(lease / 4); ; {
			select {
			case <-ended:
				t.Stop()
				return
			case <-t.C:
				if err := s.c.Store.Retry(ctx, q.ID, s.c.Now().Add(lease), q.Error); err != nil {
					s.c.Log.Warn("a security job's lease could not be prolonged", "job", q.Ref, "error", err)
				}
			}
		}
	})
	next, err := s.move(ctx, q.Ref)
	close(ended)
	beat.Wait()
	switch {
	case err == nil && next.IsZero():
		return true, s.c.Store.Done(ctx, q.ID)
	case err == nil:
		return true, s.c.Store.Again(ctx, q.ID, next)
	case errors.Is(err, store.ErrConflict): // somebody has moved it: look again
		return true, s.c.Store.Again(ctx, q.ID, s.c.Now().Add(time.Second))
	case ctx.Err() != nil: // we are stopped; the lease runs out
		return true, errors.Join(err, s.c.Store.Retry(context.WithoutCancel(ctx), q.ID, s.c.Now(), "stopped"))
	case permanent(err) || q.Attempts >= maxAttempts:
		if ferr := s.fail(ctx, q.Ref, err); ferr != nil {
			return true, errors.Join(err, ferr)
		}
		return true, s.c.Store.Again(ctx, q.ID, s.c.Now()) // for what is left to be cleared
	}
	wait := min(time.Second<<min(q.Attempts, 10), 5*time.Minute)
	return true, errors.Join(err, s.c.Store.Retry(ctx, q.ID, s.c.Now().Add(wait), err.Error()))
}

const maxAttempts = 30

func (s *Jobs) fail(ctx context.Context, id string, cause error) error {
	j, err := s.c.Store.SecurityJob(ctx, id)
	if err != nil {
		return err
	}
	var p place
	if err := read(j.Place, &p); err != nil {
		p = place{}
	}
	j.State, j.Error, j.Finished = string(Failed), cause.Error(), s.c.Now()
	s.c.Log.Warn("security job failed", "job", id, "name", j.Name, "error", cause)
	return s.step(ctx, j, &p, store.KeepChunks)
}

// move takes a job on until it is over (zero time), or has to wait until then.
func (s *Jobs) move(ctx context.Context, id string) (next time.Time, err error) {
	for {
		j, err := s.c.Store.SecurityJob(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		var p place
		if err := read(j.Place, &p); err != nil {
			return time.Time{}, specError("its place was altered in the database: %v", err)
		}
		sp, err := decodeSpec(j.Spec)
		if err != nil {
			return time.Time{}, specError("it was altered in the database: %v", err)
		}
		st := State(j.State)
		if !st.Final() {
			if err := s.c.Instance.MaySign(); err != nil {
				return time.Time{}, err
			}
		}
		w := &work{Jobs: s, j: j, p: &p, sp: sp}
		switch st {
		case New, Paused:
			next, err = w.begin(ctx)
		case Preparing:
			next, err = w.prepare(ctx)
		case Waiting:
			next, err = w.wait(ctx)
		case Signing:
			next, err = w.sign(ctx)
		case Done:
			return time.Time{}, w.recount(ctx)
		case Failed, Cancelled:
			return time.Time{}, w.clear(ctx)
		default:
			return time.Time{}, specError("its state %.40q is none", j.State)
		}
		if err != nil || !next.IsZero() {
			return next, err
		}
	}
}

// work is one job in a worker's hands.
type work struct {
	*Jobs
	j  *store.SecurityJob
	p  *place
	sp *Spec
}

func (w *work) save(ctx context.Context) error { return w.step(ctx, w.j, w.p, store.KeepChunks) }

// begin lets a job that is new or paused go on, if it may now.
func (w *work) begin(ctx context.Context) (time.Time, error) {
	now := w.c.Now()
	if w.p.Held {
		return now.Add(24 * time.Hour), nil // Resume wakes it
	}
	if now.Before(w.sp.Start) {
		return w.sp.Start, nil
	}
	open, _, next := Open(w.sp.Windows, now)
	if !open {
		if State(w.j.State) == New || !w.p.Next.Equal(next) {
			if State(w.j.State) == New {
				w.p.From = New
			}
			w.j.State, w.p.Next = string(Paused), next
			if err := w.save(ctx); err != nil {
				return time.Time{}, err
			}
		}
		return next, nil
	}
	if w.j.Started.IsZero() {
		w.j.Started = now
	}
	w.j.State, w.p.Next, w.p.From = string(Preparing), time.Time{}, ""
	return time.Time{}, w.save(ctx)
}

// pause stops a job whose window has ended.
func (w *work) pause(ctx context.Context, next time.Time) (time.Time, error) {
	w.p.From, w.p.Next = State(w.j.State), next
	w.j.State = string(Paused)
	return next, w.save(ctx)
}

// clear removes what a job has left on its platform.
func (w *work) clear(ctx context.Context) error {
	w.forget(w.j.ID)
	if !w.sp.onPlatform() {
		return nil
	}
	p, err := w.platform(w.sp.Platform)
	if err != nil {
		return nil // there is nothing to clear it from
	}
	return p.DropJob(ctx, w.j.ID)
}

func (s *Jobs) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.trees[id]; t != nil {
		t.close()
		delete(s.trees, id)
	}
}

func (s *Jobs) keep(id string, t *tree) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.trees[id]; old != nil {
		old.close()
	}
	s.trees[id] = t
	for len(s.trees) > maxTrees { // any of them: what is missing is built again
		for k := range s.trees {
			if k != id {
				s.trees[k].close()
				delete(s.trees, k)
				break
			}
		}
	}
}

// maxTrees bounds the temporary files.
const maxTrees = 16

// Entry is one line of a job's log.
type Entry struct {
	Index         int64      `json:"index"` // of the tree; of a skipped record, its place among those
	Ref           record.Ref `json:"ref"`
	Configuration string     `json:"configuration"`
	Version       uint64     `json:"version,omitzero"` // of the configuration
	Purpose       string     `json:"purpose,omitzero"`
	Revision      uint64     `json:"revision,omitzero"`
	Deleted       bool       `json:"deleted,omitzero"`
	Reason        string     `json:"reason,omitzero"` // why it was skipped
}

// stop ends a walk that has seen enough.
var errStop = errors.New("records: enough")

// Skipped lists records that a job was asked to sign and did not, from entry on. It reads
// as many as it lists, and no more pieces of them than they are in: whoever shows the
// first ones of many waits for those alone.
func (s *Jobs) Skipped(ctx context.Context, id string, from int64, limit int) ([]Entry, error) {
	if limit <= 0 || limit > 10_000 {
		limit = 10_000
	}
	out := []Entry{}
	chunks, err := s.c.Store.SecurityChunks(ctx, id, 0, 1)
	for n := int64(0); err == nil && len(chunks) > 0; {
		c := chunks[0]
		if n+c.Count > from {
			if out, err = skippedOf(&c, out, n, from, limit); err != nil {
				return nil, fmt.Errorf("records: job %s was altered in the database: %w", id, err)
			}
		}
		if n += c.Count; len(out) == limit {
			break
		}
		// The same one again, and the next.
		if chunks, err = s.c.Store.SecurityChunks(ctx, id, c.First, 2); err == nil {
			chunks = chunks[min(1, len(chunks)):]
		}
	}
	if err != nil {
		return nil, err
	}
	return slices.Clip(out), nil
}

// skippedOf adds the entries of a chunk to out: n were before it, and entry from is the
// first that is wanted.
func skippedOf(c *store.SecurityChunk, out []Entry, n, from int64, limit int) ([]Entry, error) {
	d := jsontext.NewDecoder(bytes.NewReader(c.Data))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '[' {
		return nil, errors.Join(errors.New("want a list"), err)
	}
	for ; len(out) < limit && d.PeekKind() != ']'; n++ {
		if n < from {
			if err := d.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		e := Entry{}
		if err := json.UnmarshalDecode(d, &e); err != nil {
			return nil, err
		}
		e.Index = n
		out = append(out, e)
	}
	return out, nil
}
