package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// Who plays: Alice asks; Bob (release) and Carol (security) have endorsed before
// the clock starts, the scanner (gates) is the last.
const (
	requester = "alice"
	last      = "scanner"
)

var before = []string{"bob", "carol"}

// patience is how long a slice may stand still before it is given up.
const patience = 2 * time.Minute

// ready is a request that lacks one endorsement, and that endorsement.
type ready struct {
	id          statement.ID
	endorsement []byte
}

// prepare submits n requests for files programs each under a policy, and has all
// but the last endorser endorse them.
func (d *deployment) prepare(ctx context.Context, policy string, n, files int) ([]ready, error) {
	out := make([]ready, n)
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	seed := d.seed
	d.seed += uint64(n * files)
	d.entries += entriesBefore * int64(n)
	for range min(n, 8) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				r, err := d.prepareOne(ctx, policy, seed+uint64(i*files), files)
				if err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
					return
				}
				out[i] = *r
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return out, first
}

func (d *deployment) prepareOne(ctx context.Context, policy string, seed uint64, files int) (*ready, error) {
	items := make([][]byte, files)
	for i := range items {
		name := fmt.Sprintf("program-%d.exe", seed+uint64(i))
		p, err := pe.New().Plan(ctx, format.BytesArtifact(name, smallImage(seed+uint64(i))), nil)
		if err != nil {
			return nil, err
		}
		if items[i], err = author.Item(p, name, nil); err != nil {
			return nil, err
		}
	}
	cmd, err := author.SignCommand(d.trial.Charter, policy, "", items)
	if err != nil {
		return nil, err
	}
	env, id, err := d.trial.People[requester].Request(ctx, d.trial.Charter, d.trial.Ref(), cmd, author.RequestOptions{})
	if err != nil {
		return nil, err
	}
	if _, attached, err := d.server.Submit(ctx, env, items); err != nil || attached {
		return nil, fmt.Errorf("bench: submit: attached %v: %w", attached, err)
	}
	_, req, err := statement.DecodeEnveloped[statement.Request](env)
	if err != nil {
		return nil, err
	}
	for _, who := range before {
		b, err := d.trial.People[who].Endorsement(ctx, &req, id, statement.Endorse, "", 0, nil)
		if err != nil {
			return nil, err
		}
		if _, err := d.server.Endorse(ctx, b); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", who, err)
		}
	}
	b, err := d.trial.People[last].Endorsement(ctx, &req, id, statement.Endorse, "", 0, nil)
	return &ready{id, b}, err
}

// settled waits until the log holds every entry that was caused so far and the
// keeper has signed a checkpoint over them.
func (d *deployment) settled(ctx context.Context) error {
	end := time.Now().Add(patience)
	for {
		h, err := d.store.Head(ctx)
		switch {
		case err != nil:
			return err
		case h.Tree.Size > d.entries:
			return fmt.Errorf("bench: the log has %d entries: %d were expected", h.Tree.Size, d.entries)
		case h.Tree.Size == d.entries && h.Signed == d.entries:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("bench: the log has %d entries of %d, %d under a checkpoint, and does not get on", h.Tree.Size, d.entries, h.Signed)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// What is logged of a request before its last endorsement (itself and the two
// others), and after (that endorsement and the receipt).
const (
	entriesBefore = 3
	entriesAfter  = 2
)

// govern sends the last endorsement of every request, inflight of them on their
// way at a time, and takes the time until every signature, receipt and log entry
// is durable and under a checkpoint.
func (d *deployment) govern(ctx context.Context, list []ready, inflight int) (time.Duration, error) {
	if err := d.settled(ctx); err != nil {
		return 0, err
	}
	d.entries += entriesAfter * int64(len(list))
	m := &d.server.Metrics
	executed, refused := m.Executed.Load(), m.Refused.Load()
	var sent, failed atomic.Int64
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, inflight)
	var wg sync.WaitGroup
	done := make(chan struct{})
	start := time.Now()
	wg.Go(func() { // a slot is free again when a request has been executed
		freed, moved := int64(0), time.Now()
		for freed < int64(len(list)) {
			n := m.Executed.Load() - executed
			if n > freed {
				moved = time.Now()
			}
			for ; freed < n; freed++ {
				<-slots
			}
			if m.Refused.Load() > refused || failed.Load() > 0 || ctx.Err() != nil || time.Since(moved) > patience {
				close(done)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
send:
	for _, r := range list {
		select {
		case slots <- struct{}{}:
		case <-done:
			break send
		}
		wg.Go(func() {
			if _, err := d.server.Endorse(ctx, r.endorsement); err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
				failed.Add(1)
			}
			sent.Add(1)
		})
	}
	wg.Wait()
	if n := m.Executed.Load() - executed; first == nil && n != int64(len(list)) {
		first = fmt.Errorf("%d of %d requests were executed, %d refused", n, len(list), m.Refused.Load()-refused)
	}
	if err := errors.Join(first, ctx.Err()); err != nil {
		return 0, fmt.Errorf("bench: governed: %w", err)
	}
	err := d.settled(ctx)
	return time.Since(start), err
}

// latencies sends last endorsements at a steady rate, whether or not the earlier
// ones are done, and takes for each the time until its requester sees the
// signatures.
func (d *deployment) latencies(ctx context.Context, list []ready, every time.Duration) ([]time.Duration, error) {
	d.entries += entriesAfter * int64(len(list))
	out := make([]time.Duration, len(list))
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i, r := range list {
		if i > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			start := time.Now()
			q, err := d.server.Endorse(ctx, r.endorsement)
			for err == nil && q.State == store.Endorsed && ctx.Err() == nil {
				q, err = d.server.Await(ctx, r.id, q.Revision)
			}
			out[i] = time.Since(start)
			if err == nil && q.State != store.Executed {
				err = fmt.Errorf("request is %s: %s", q.State, q.Detail)
			}
			if err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if first != nil {
		return nil, fmt.Errorf("bench: latency: %w", first)
	}
	return out, ctx.Err()
}
