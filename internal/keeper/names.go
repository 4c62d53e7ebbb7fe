package keeper

import (
	"context"
	"sync"
)

// names are locks by name. The zero value is ready.
type names[K comparable] struct {
	mu   sync.Mutex
	held map[K]chan struct{}
}

// lock waits until the name is free, takes it and returns what frees it.
func (n *names[K]) lock(ctx context.Context, name K) (unlock func(), err error) {
	for {
		n.mu.Lock()
		if n.held == nil {
			n.held = map[K]chan struct{}{}
		}
		ch, taken := n.held[name]
		if !taken {
			ch = make(chan struct{})
			n.held[name] = ch
			n.mu.Unlock()
			return func() {
				n.mu.Lock()
				delete(n.held, name)
				n.mu.Unlock()
				close(ch)
			}, nil
		}
		n.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
