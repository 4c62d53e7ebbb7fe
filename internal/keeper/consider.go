package keeper

import (
	"context"
	"fmt"

	"github.com/greatseal-io/greatseal/quorum"
)

// maxConsidered is how many bytes of evidence are considered ahead of an order.
// More is possible in an order, and is checked there.
const maxConsidered = 1 << 20

// Consider implements [Keeper]. One consideration is under way at a time, in the
// whole keeper, and whoever comes meanwhile is sent away without one: a server
// that means ill, and sends evidence without end, takes one processor and the
// place of older signatures in the cache, which are then checked again. It takes
// no lock that executions wait for, and judging is pure: what is judged here
// reaches nothing but the cache.
func (k *Local) Consider(ctx context.Context, ev quorum.Evidence) error {
	n := len(ev.Request)
	for _, e := range ev.Endorsements {
		n += len(e)
	}
	if n > maxConsidered {
		return fmt.Errorf("%w: evidence of %d bytes: at most %d are considered", ErrLimit, n, maxConsidered)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !k.considering.TryLock() {
		return nil
	}
	defer k.considering.Unlock()
	chain, err := k.inForce()
	if err != nil {
		return err
	}
	at, err := k.now()
	if err != nil {
		return err
	}
	chain.Judge(ev, at, quorum.Options{Cache: k.cache}) // the finding is nobody's
	return nil
}

// inForce is the charter chain of a keeper that works.
func (k *Local) inForce() (*quorum.Chain, error) {
	k.law.RLock()
	defer k.law.RUnlock()
	if err := k.working(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chain, nil
}
