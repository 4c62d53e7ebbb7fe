package charters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/replay"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// The bounds of a replay in the console.
const (
	replayPerRule = 1_000
	replayTotal   = 4_000
	replayKeep    = 50
	replaysAtOnce = 2                    // of all readers
	replaysKept   = 8                    // results
	replayLasts   = time.Minute          // that a result is shown again
	replayLimit   = time.Minute          // of one replay
	replayWait    = 5 * time.Second      // of whoever waits for others'
	replayGlance  = 2 * time.Millisecond // of a page that asks again by itself
	replayLook    = 20 * time.Second     // of one that cannot
)

// judging is a replay that runs, or has ended. It goes on when its reader leaves: the
// page asks again, and somebody else may ask for the same.
type judging struct {
	id, head statement.ID // of the proposal, for its digest, and of what it follows
	judged   atomic.Int64
	done     chan struct{}

	// The next are set before done is closed.
	ended time.Time
	rep   *replay.Report
	err   error
}

// replays are those that run, and what the last ones came to.
type replays struct {
	permits chan struct{}
	mu      sync.Mutex
	all     []*judging // the oldest first
}

func newReplays() *replays { return &replays{permits: make(chan struct{}, replaysAtOnce)} }

// find is the replay of a proposal that runs, or whose result is shown again. The caller
// holds mu.
func (r *replays) find(id, head statement.ID, now time.Time) *judging {
	r.all = slices.DeleteFunc(r.all, func(j *judging) bool {
		select {
		case <-j.done:
			return j.err != nil || now.Sub(j.ended) >= replayLasts
		default:
			return false
		}
	})
	for _, j := range r.all {
		if j.id == id && j.head == head {
			return j
		}
	}
	return nil
}

// outcome is a replay as a page shows it.
type outcome struct {
	*replay.Report        // nil: there is none yet
	Judged         int64  // so far
	Waits          bool   // there will be one, for whoever asks again
	Again          string // address at which the page asks; "": it does not
	Busy           string // why there is no replay, where the page does not ask again
	Back           string // address of the proposal, on a page of its own
}

// replay is what a proposal would have decided otherwise. It waits for so long, and then
// says how far the judging is.
func (a *area) replay(ctx context.Context, next *charter.Charter, now time.Time, wait time.Duration) (*outcome, error) {
	chain := a.server.Chain()
	head, ref := chain.Head()
	same := *next
	same.Created = head.Created // a draft that is made again is the same one
	digest := same.Subject().Digest[charter.DigestName]
	if digest == "" {
		return nil, errors.New("charters: a proposal without a digest")
	}
	j := a.replays.begin(ctx, statement.IDOf([]byte(digest)), ref.ID, now, min(wait, replayWait), func(ctx context.Context, step func()) (*replay.Report, error) {
		return replay.Run(ctx, chain, next, replay.Server(a.server), replay.Options{Now: now, PerRule: replayPerRule, Total: replayTotal, Keep: replayKeep, Cache: quorum.NewCache(1 << 12), Step: step})
	})
	if j == nil {
		return &outcome{Waits: true, Busy: "others replay charters at this moment: try again in a moment; or greatseal charter replay"}, nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-j.done:
	case <-t.C:
	case <-ctx.Done():
	}
	select {
	case <-j.done:
	default:
		return &outcome{Waits: true, Judged: j.judged.Load(), Busy: "it takes longer than a page waits for: greatseal charter replay does it with patience"}, nil
	}
	switch {
	case errors.Is(j.err, context.DeadlineExceeded):
		return &outcome{Busy: "it takes too long for the console: greatseal charter replay does it with patience"}, nil
	case errors.Is(j.err, charter.ErrCharter):
		return nil, web.Problemf(422, "charter-invalid", "", "%v", j.err)
	case j.err != nil:
		return nil, fmt.Errorf("charters: replay: %w", j.err)
	}
	return &outcome{Report: j.rep}, nil
}

// begin finds a replay, or begins it within a time. nil: others run meanwhile.
func (r *replays) begin(ctx context.Context, id, head statement.ID, now time.Time, wait time.Duration, run func(context.Context, func()) (*replay.Report, error)) *judging {
	r.mu.Lock()
	j := r.find(id, head, now)
	r.mu.Unlock()
	if j != nil {
		return j
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case r.permits <- struct{}{}:
	case <-t.C:
		return nil
	case <-ctx.Done():
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.find(id, head, now); j != nil { // somebody else was faster
		<-r.permits
		return j
	}
	j = &judging{id: id, head: head, done: make(chan struct{})}
	if r.all = append(r.all, j); len(r.all) > replaysKept {
		// Those that run are among the newest: there are no more of them than permits.
		r.all = slices.Delete(r.all, 0, 1)
	}
	go func() {
		defer func() { <-r.permits }()
		defer close(j.done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayLimit)
		defer cancel()
		began := time.Now()
		j.rep, j.err = run(ctx, func() { j.judged.Add(1) })
		j.ended = now.Add(time.Since(began))
	}()
	return j
}
