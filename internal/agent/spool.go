package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/rejection"
)

// spool keeps what upstream has not taken yet: a folder for each lease, with the
// lease, pages, and at the end an outcome or a refusal. What is in it when the agent
// starts belongs to an earlier process.
type spool struct {
	dir string

	mu    sync.Mutex
	bytes int64
}

const (
	leaseFile   = "lease.json"
	outcomeFile = "outcome.json"
	refusalFile = "refusal.json"
	pagePrefix  = "page-"
)

// entry is one lease's folder.
type entry struct {
	s     *spool
	dir   string
	lease Lease

	mu      sync.Mutex
	pages   int
	size    int64
	sum     hash.Hash
	changed chan struct{} // has one element when there may be something to bring
}

func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return &spool{dir: dir}, nil
}

// full reports whether more than a limit waits.
func (s *spool) full(limit int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes > limit
}

func (s *spool) grow(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += n
}

// begin makes the folder of a lease; it must not be there.
func (s *spool) begin(l Lease) (*entry, error) {
	if !order.ValidName(l.Job) {
		return nil, errors.New("agent: a job's ID is no name")
	}
	dir := filepath.Join(s.dir, l.Job+"-"+strconv.FormatUint(uint64(l.Attempt), 10))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	e := &entry{s: s, dir: dir, lease: l, sum: sha256.New(), changed: make(chan struct{}, 1)}
	b, err := json.Marshal(l)
	if err == nil {
		err = writeFile(filepath.Join(dir, leaseFile), b)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	return e, err
}

// resume opens what an earlier process left. A job of it that has no end was running
// when that process ended: its end is that.
func (s *spool) resume() ([]*entry, error) {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	var out []*entry
	for _, n := range names {
		dir := filepath.Join(s.dir, n.Name())
		b, err := os.ReadFile(filepath.Join(dir, leaseFile))
		var l Lease
		if errors.Is(err, os.ErrNotExist) { // killed before anything was in it
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("agent: %w", err)
			}
			continue
		}
		if err != nil || json.Unmarshal(b, &l) != nil {
			return nil, fmt.Errorf("agent: spool: %s is damaged: %w", dir, err)
		}
		e := &entry{s: s, dir: dir, lease: l, changed: make(chan struct{}, 1)}
		pages, err := e.waiting()
		if err != nil {
			return nil, err
		}
		for _, p := range pages {
			e.pages = max(e.pages, p.number+1)
			e.size += p.size
		}
		s.grow(e.size)
		if _, err := e.end(); errors.Is(err, os.ErrNotExist) {
			err = e.finish(Outcome{Error: "the agent ended while the job ran", Pages: e.pages})
			if err != nil {
				return nil, err
			}
		}
		e.ping()
		out = append(out, e)
	}
	return out, nil
}

func (e *entry) ping() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Write keeps a page durably: exec.Output.
func (e *entry) Write(_ context.Context, typ string, body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(body) > MaxPage || strings.ContainsAny(typ, "\n") {
		return errors.New("agent: a page is too large")
	}
	b := append([]byte(typ+"\n"), body...)
	if err := writeFile(filepath.Join(e.dir, fmt.Sprintf("%s%08d", pagePrefix, e.pages)), b); err != nil {
		return err
	}
	e.sum.Write(body)
	e.pages++
	e.size += int64(len(b))
	e.s.grow(int64(len(b)))
	e.ping()
	return nil
}

// finish keeps the outcome of a job that ran.
func (e *entry) finish(o Outcome) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.dir, outcomeFile), b); err != nil {
		return err
	}
	e.ping()
	return nil
}

// digest is over the pages that were written.
func (e *entry) digest() (sum [32]byte, pages int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return [32]byte(e.sum.Sum(nil)), e.pages
}

// refuse keeps the refusal of a job that did not run.
func (e *entry) refuse(r *rejection.Error) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.dir, refusalFile), b); err != nil {
		return err
	}
	e.ping()
	return nil
}

// ending is how a job ended: one of the two.
type ending struct {
	outcome *Outcome
	refusal *rejection.Error
}

func (e *entry) end() (ending, error) {
	if b, err := os.ReadFile(filepath.Join(e.dir, refusalFile)); err == nil {
		var r rejection.Error
		if err := json.Unmarshal(b, &r); err != nil {
			return ending{}, fmt.Errorf("agent: spool: %s is damaged", e.dir)
		}
		return ending{refusal: &r}, nil
	}
	b, err := os.ReadFile(filepath.Join(e.dir, outcomeFile))
	if err != nil {
		return ending{}, err
	}
	var o Outcome
	if err := json.Unmarshal(b, &o); err != nil {
		return ending{}, fmt.Errorf("agent: spool: %s is damaged", e.dir)
	}
	return ending{outcome: &o}, nil
}

type waitingPage struct {
	number int
	size   int64
	path   string
}

// waiting lists the pages that were not taken yet, in order.
func (e *entry) waiting() ([]waitingPage, error) {
	names, err := os.ReadDir(e.dir)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	var out []waitingPage
	for _, n := range names {
		s, ok := strings.CutPrefix(n.Name(), pagePrefix)
		i, err := strconv.Atoi(s)
		if !ok || err != nil { // a page that a kill cut off ends in .new
			continue
		}
		st, err := n.Info()
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		out = append(out, waitingPage{i, st.Size(), filepath.Join(e.dir, n.Name())})
	}
	slices.SortFunc(out, func(a, b waitingPage) int { return a.number - b.number })
	return out, nil
}

func (p waitingPage) read() (Page, error) {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return Page{}, fmt.Errorf("agent: %w", err)
	}
	typ, body, ok := strings.Cut(string(b), "\n")
	if !ok {
		return Page{}, fmt.Errorf("agent: spool: %s is damaged", p.path)
	}
	return Page{Number: p.number, Type: typ, Body: []byte(body)}, nil
}

// bring gives upstream what there is. done: all of it, and the end, was taken.
func (e *entry) bring(ctx context.Context, up Upstream) (done bool, err error) {
	end, enderr := e.end() // before the pages: what is written after it is none
	if enderr != nil && !errors.Is(enderr, os.ErrNotExist) {
		return false, enderr
	}
	if end.refusal != nil {
		return true, up.Reject(ctx, e.lease, end.refusal)
	}
	pages, err := e.waiting()
	if err != nil {
		return false, err
	}
	for _, p := range pages {
		page, err := p.read()
		if err != nil {
			return false, err
		}
		if err := up.Result(ctx, e.lease, page); err != nil {
			return false, err
		}
		if err := os.Remove(p.path); err != nil {
			return false, fmt.Errorf("agent: %w", err)
		}
		e.mu.Lock()
		e.size -= p.size
		e.mu.Unlock()
		e.s.grow(-p.size)
	}
	if end.outcome == nil {
		return false, nil
	}
	return true, up.Finish(ctx, e.lease, *end.outcome)
}

// drop removes the folder.
func (e *entry) drop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.grow(-e.size)
	e.size = 0
	if err := os.RemoveAll(e.dir); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

var _ exec.Output = (*entry)(nil)

// gone reports whether the entry was dropped.
func (e *entry) gone() bool {
	_, err := os.Stat(e.dir)
	return errors.Is(err, os.ErrNotExist)
}
