package ecc

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	groupSize    = 256
	groupTime    = 30 * time.Second
	groupRetries = 3
)

// group runs questions that come at the same time as one: a thousand agents that
// say the same thing share a transaction, and its flush to the disk. What one of
// them asks does not depend on the others, nor on whether they still wait.
type group[Q, A any] struct {
	run func(ctx context.Context, qs []Q) ([]A, error)

	mu      sync.Mutex
	waiting []*question[Q, A]
	busy    bool
}

type question[Q, A any] struct {
	q    Q
	a    A
	err  error
	done chan struct{}
}

func newGroup[Q, A any](run func(ctx context.Context, qs []Q) ([]A, error)) *group[Q, A] {
	return &group[Q, A]{run: run}
}

// do asks q. When ctx ends first the question may have been asked all the same.
func (g *group[Q, A]) do(ctx context.Context, q Q) (A, error) {
	var none A
	if err := ctx.Err(); err != nil {
		return none, err
	}
	w := &question[Q, A]{q: q, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if !g.busy {
		g.busy = true
		go g.work()
	}
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.a, w.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (g *group[Q, A]) work() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), groupSize)
		if n == 0 {
			g.busy = false
			g.mu.Unlock()
			return
		}
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.mu.Unlock()
		g.ask(batch)
	}
}

func (g *group[Q, A]) ask(batch []*question[Q, A]) {
	qs := make([]Q, len(batch))
	for i, w := range batch {
		qs[i] = w.q
	}
	ctx, cancel := context.WithTimeout(context.Background(), groupTime)
	defer cancel()
	as, err := g.run(ctx, qs)
	// Two replicas may have met in a circle of locks: one of them goes again.
	for n := 1; n < groupRetries && errors.Is(err, store.ErrBusy) && ctx.Err() == nil; n++ {
		select {
		case <-time.After(time.Duration(n) * 50 * time.Millisecond):
		case <-ctx.Done():
		}
		as, err = g.run(ctx, qs)
	}
	if err != nil && len(batch) > 1 && !errors.Is(err, store.ErrBusy) && ctx.Err() == nil {
		// One of them is at fault: it is not to take the others with it.
		for i := range batch {
			g.ask(batch[i : i+1])
		}
		return
	}
	for i, w := range batch {
		if w.err = err; err == nil {
			w.a = as[i]
		}
		close(w.done)
	}
}
