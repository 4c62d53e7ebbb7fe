package server

import (
	"context"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// watchers wakes those who wait for news. Another replica's news is found by
// looking at the database now and then.
type watchers struct {
	mu   sync.Mutex
	next chan struct{}
}

const watchPoll = time.Second

func (w *watchers) init() { w.next = make(chan struct{}) }

func (w *watchers) news() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.next)
	w.next = make(chan struct{})
}

func (w *watchers) wait() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// Await returns the request as soon as its revision differs from revision, or
// when ctx ends, as it is then.
func (s *Server) Await(ctx context.Context, id statement.ID, revision int64) (*store.Request, error) {
	for {
		news := s.watch.wait()
		r, err := s.cfg.Store.Request(context.WithoutCancel(ctx), id)
		if err != nil || r.Revision != revision || ctx.Err() != nil || s.closing.Load() {
			return r, err
		}
		t := time.NewTimer(watchPoll)
		select {
		case <-ctx.Done():
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// AwaitNews returns when something has changed anywhere, or ctx has ended.
func (s *Server) AwaitNews(ctx context.Context) {
	news := s.watch.wait()
	t := time.NewTimer(2 * watchPoll)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-news:
	case <-t.C:
	}
}
