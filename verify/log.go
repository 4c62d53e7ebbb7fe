package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// LogSource is where a log is read: a web site, a folder, a database. Nothing that
// it returns is believed.
type LogSource struct {
	// Fetch gets a path of the log: see audit.Client.
	Fetch func(ctx context.Context, path string) ([]byte, error)
	// Body gets a body that the log only names. It is called by several goroutines
	// at once. nil finds none.
	Body func(ctx context.Context, sum [32]byte, size int64) ([]byte, error)
	// Founding is the first charter in its envelope.
	Founding []byte
}

// LogOptions are what a caller may ask of Log. The zero value judges everything.
type LogOptions struct {
	// Progress is called now and then with the number of entries read, by the
	// goroutine that called Log.
	Progress func(done, total int64)
	// OldHead is the checkpoint that the caller kept from last time
	// (LogReport.Checkpoint): the log must extend it. Without it the log could be
	// another one than last time.
	OldHead []byte
	// From is the first entry that is judged. Those before are read, and followed
	// for requests and charters, but their signatures and quorums are not checked
	// again: OldHead, of at least this size, vouches that they are those of last
	// time.
	From int64
	// Memory bounds the bodies of open requests that are kept, in bytes; others are
	// read again. 0 is 64 MiB.
	Memory int64
}

const (
	// MaxProblems is the number of problems after which Log stops.
	MaxProblems = 100
	// MaxAhead is the number of receipts that wait for one with a lower number: a
	// server enters receipts as they come back from the keeper, which may be in
	// another order. When more wait, the missing one is taken for a gap.
	MaxAhead = 4096

	defaultMemory = 64 << 20
	maxBody       = 4 << 20 // of an envelope; package statement refuses more
	chunkSize     = 256
)

// logRun is one run of Log. Its fields are those of the goroutine that called Log,
// but for what stands under mu.
type logRun struct {
	ctx    context.Context
	cancel context.CancelFunc
	src    LogSource
	o      LogOptions
	client *audit.Client
	head   audit.Head
	chain  *quorum.Chain
	first  *charter.Charter
	keeper *receipt.Key
	report *LogReport

	book     book
	chained  chained
	charters charters

	jobs    chan func()
	workers sync.WaitGroup

	mu       sync.Mutex
	problems []Problem
	failed   error // of a job: not the log's fault
}

// Log reads a log and judges it, from the ID of the first charter, which the caller
// has pinned. What is wrong with the log is in the report; the error is about
// reading it, or about arguments, and leaves no report.
func Log(ctx context.Context, src LogSource, root statement.ID, o LogOptions) (*LogReport, error) {
	if src.Fetch == nil || o.From < 0 || o.Memory < 0 {
		return nil, errors.New("verify: log: want a source, and no negative number")
	}
	ch, err := quorum.NewChain(&root, src.Founding)
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	first, ref := ch.Head()
	pub, err := receipt.ParseKey(first.Keeper.Receipts)
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	keeper, err := receipt.NewKey(pub)
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	logKey, err := receipt.ParseKey(first.Keeper.LogKey)
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	v, err := audit.NewVerifier(first.Keeper.Log, logKey)
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	r := &logRun{
		src: src, o: o, chain: ch, first: first, keeper: keeper,
		client: &audit.Client{Fetch: src.Fetch, Origin: first.Keeper.Log, Verifier: v},
		report: newLogReport(root, ref, first.Keeper.Log, o.From),
		book:   newBook(o.Memory),
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	if err := r.run(v); err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	return r.finish(), nil
}

func (r *logRun) run(v note.Verifier) error {
	ok, err := r.readHead(v)
	if !ok || err != nil {
		return err
	}
	if r.o.From > r.head.Size() {
		return fmt.Errorf("from entry %d: the log has %d", r.o.From, r.head.Size())
	}
	if err := r.client.Fsck(r.ctx, r.head); err != nil {
		if !dishonest(err) {
			return err
		}
		r.problem(Problem{Index: -1, Code: ProblemTree, Detail: err.Error()})
	}
	n := runtime.GOMAXPROCS(0)
	r.jobs = make(chan func(), 64*n)
	for range n {
		r.workers.Go(func() {
			for job := range r.jobs {
				job()
			}
		})
	}
	err = r.read(n)
	if err == nil && r.ctx.Err() == nil {
		r.settle()
	}
	close(r.jobs)
	r.workers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.failed
	}
	return err
}

// dishonest tells an answer that is wrong from one that did not come.
func dishonest(err error) bool {
	for _, e := range []error{audit.ErrMalformed, audit.ErrLimit, audit.ErrSignature, audit.ErrOrigin, audit.ErrInconsistent, audit.ErrRollback, audit.ErrFork} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// readHead reads the head, and compares it with the one of last time.
func (r *logRun) readHead(v note.Verifier) (bool, error) {
	var err error
	if r.o.OldHead == nil {
		if r.o.From > 0 {
			return false, errors.New("entries before From are believed only with the checkpoint of last time: want OldHead")
		}
		r.head, err = r.client.Checkpoint(r.ctx)
	} else {
		var old audit.Head
		if old, err = audit.ParseCheckpoint(r.o.OldHead, r.client.Origin, v); err != nil {
			return false, fmt.Errorf("old head: %w", err)
		}
		if r.o.From > old.Size() {
			return false, fmt.Errorf("from entry %d: the old head has %d", r.o.From, old.Size())
		}
		r.report.OldSize = old.Size()
		r.head, err = r.client.Update(r.ctx, old)
	}
	switch {
	case err == nil:
	case !dishonest(err):
		return false, err
	default:
		code := ProblemCheckpoint
		if errors.Is(err, audit.ErrRollback) {
			code = ProblemRollback
		} else if errors.Is(err, audit.ErrFork) {
			code = ProblemFork
		}
		r.problem(Problem{Index: -1, Code: code, Detail: err.Error()})
		if r.head.Origin() == "" || code == ProblemRollback {
			return false, nil
		}
		r.o.From = 0 // what was judged last time is another log
	}
	root := r.head.Root()
	r.report.Size, r.report.TreeRoot, r.report.Checkpoint = r.head.Size(), tlog.Hash(root).String(), string(r.head.Note())
	return true, nil
}

// chunk is some entries on their way through the decoders, in order.
type chunk struct {
	raw  []audit.IndexedEntry
	out  []decoded
	done chan struct{}
}

// read decodes all entries on all cores and takes them in order.
func (r *logRun) read(workers int) error {
	queue := make(chan *chunk, 2*workers)
	work := make(chan *chunk, 2*workers)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel() // before the wait
	for range workers {
		wg.Go(func() {
			for c := range work {
				c.out = make([]decoded, len(c.raw))
				for i, e := range c.raw {
					if ctx.Err() != nil {
						break
					}
					c.out[i] = r.decode(ctx, e)
				}
				c.raw = nil
				close(c.done)
			}
		})
	}
	var readErr error
	wg.Go(func() {
		defer close(queue)
		defer close(work)
		send := func(c *chunk) bool {
			c.done = make(chan struct{})
			for _, ch := range []chan *chunk{queue, work} {
				select {
				case ch <- c:
				case <-ctx.Done():
					return false
				}
			}
			return true
		}
		c := &chunk{}
		for e, err := range r.client.Entries(ctx, r.head, 0, r.head.Size()) {
			if err != nil {
				readErr = err // read after queue is closed
				return
			}
			if c.raw = append(c.raw, e); len(c.raw) == chunkSize {
				if !send(c) {
					return
				}
				c = &chunk{}
			}
		}
		if len(c.raw) > 0 {
			send(c)
		}
	})
	done := int64(0)
	for c := range queue {
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil // the caller's end, or too many problems
		}
		for i := range c.out {
			if r.ctx.Err() != nil {
				return nil
			}
			r.take(&c.out[i])
		}
		done += int64(len(c.out))
		r.report.Entries = done
		if r.o.Progress != nil {
			r.o.Progress(done, r.head.Size())
		}
	}
	if readErr != nil && ctx.Err() == nil {
		if !dishonest(readErr) {
			return readErr
		}
		r.problem(Problem{Index: done, Code: ProblemTree, Detail: readErr.Error()})
	}
	return nil
}

// problem notes what is wrong. After MaxProblems the run ends. Any goroutine may
// call it.
func (r *logRun) problem(p Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) < MaxProblems {
		r.problems = append(r.problems, p)
	}
	if len(r.problems) == MaxProblems {
		r.cancel()
	}
}

// job hands work to the judges, and waits while they are busy.
func (r *logRun) job(do func()) {
	select {
	case r.jobs <- do:
	case <-r.ctx.Done():
	}
}

// fail ends the run for a reason that is not the log's.
func (r *logRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil && r.ctx.Err() == nil {
		r.failed = err
		r.cancel()
	}
}
