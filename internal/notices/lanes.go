package notices

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// Jobs is what lanes need of a store.
type Jobs interface {
	Lease(ctx context.Context, kinds []string, limit int, now time.Time, d time.Duration) ([]store.Job, error)
	DueKinds(ctx context.Context, prefix string, t time.Time) ([]string, error)
}

const (
	// laneLease is longer than any batch of a lane takes.
	laneLease = 5 * time.Minute
	laneWidth = 4 // jobs of one kind at a time, here
	laneLook  = time.Second
)

// Lanes runs the jobs whose kinds begin with a prefix. Each kind is a lane of its
// own: the jobs of one do not wait for another's.
type Lanes struct {
	Store  Jobs
	Prefix string
	Clock  func() time.Time
	Logger *slog.Logger
	// Do does one job, and ends it in the store.
	Do   func(ctx context.Context, j store.Job)
	Kick <-chan struct{} // there may be something; nil: look every second
}

// Run works until ctx ends and what is under way has ended.
func (l *Lanes) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	busy := map[string]bool{}
	t := time.NewTicker(laneLook)
	defer t.Stop()
	for {
		kinds, err := l.Store.DueKinds(ctx, l.Prefix, l.Clock())
		if err != nil && ctx.Err() == nil {
			l.Logger.Error("messages", "error", err)
		}
		for _, k := range kinds {
			mu.Lock()
			taken := busy[k]
			busy[k] = true
			mu.Unlock()
			if taken {
				continue
			}
			wg.Go(func() {
				if err := l.lane(ctx, k); err != nil && ctx.Err() == nil {
					l.Logger.Error("messages", "error", err)
				}
				mu.Lock()
				delete(busy, k)
				mu.Unlock()
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-l.Kick:
		}
	}
}

// lane does what is due of one kind.
func (l *Lanes) lane(ctx context.Context, kind string) error {
	for ctx.Err() == nil {
		jobs, err := l.Store.Lease(ctx, []string{kind}, laneWidth, l.Clock(), laneLease)
		if err != nil || len(jobs) == 0 {
			return err
		}
		var wg sync.WaitGroup
		for _, j := range jobs {
			wg.Go(func() { l.Do(ctx, j) })
		}
		wg.Wait()
	}
	return nil
}
