package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// rawKey is a key on its own: nothing but signing and checking the signature just
// made, as whoever uses a key must (one wrong RSA signature gives it away).
type rawKey struct {
	key     key.Key
	callers int // as many as keep it busy
}

// run signs for d and returns the signatures made and the time taken.
func (r rawKey) run(ctx context.Context, d time.Duration) (int64, time.Duration, error) {
	scheme := r.key.Algorithm().Default()
	message := []byte("greatseal bench: what is signed does not matter to the key")
	var n atomic.Int64
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for range r.callers {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				sig, err := r.key.Sign(ctx, scheme, scheme.Input(message))
				if err == nil {
					err = sigalg.Verify(r.key.Public(), scheme, message, sig)
				}
				if err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if first == nil {
		first = ctx.Err()
	}
	if first != nil {
		return 0, 0, fmt.Errorf("bench: raw: %w", first)
	}
	return n.Load(), took, nil
}

// softCallers is a caller for each core: a software key waits for nothing.
func softCallers() int { return runtime.GOMAXPROCS(0) }
