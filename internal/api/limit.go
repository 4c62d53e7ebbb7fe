package api

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters is how many peers are remembered. When there are more, those that
// have their whole burst again are forgotten, and if that is not enough all are:
// memory is bounded, and nobody gains more than a burst.
const maxLimiters = 1 << 16

// limiters are rate limits by name.
type limiters struct {
	mu    sync.Mutex
	per   rate.Limit
	burst int
	m     map[string]*rate.Limiter
}

func (l *limiters) init(perSecond float64, burst int) {
	l.per, l.burst, l.m = rate.Limit(perSecond), burst, map[string]*rate.Limiter{}
}

// take takes one call from name's allowance, or says when there is one again.
func (l *limiters) take(name string, now time.Time) *problem {
	l.mu.Lock()
	r, ok := l.m[name]
	if !ok {
		if len(l.m) >= maxLimiters {
			l.forget(now)
		}
		r = rate.NewLimiter(l.per, l.burst)
		l.m[name] = r
	}
	l.mu.Unlock()
	if r.AllowN(now, 1) {
		return nil
	}
	missing := 1 - r.TokensAt(now)
	return &problem{Status: 429, Code: "too-many-requests", Detail: "too many calls", Hint: "wait a little",
		retry: max(1, int(math.Ceil(missing/float64(l.per))))}
}

func (l *limiters) forget(now time.Time) {
	for n, r := range l.m {
		if r.TokensAt(now) >= float64(l.burst) {
			delete(l.m, n)
		}
	}
	if len(l.m) >= maxLimiters {
		clear(l.m)
	}
}

// waits bound how many calls wait, of all and of one peer.
type waits struct {
	mu       sync.Mutex
	all, max int
	maxOf    int
	of       map[string]int
}

func (w *waits) init(max, maxOf int) { w.max, w.maxOf, w.of = max, maxOf, map[string]int{} }

func (w *waits) enter(who string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= w.max || w.of[who] >= w.maxOf {
		return false
	}
	w.all++
	w.of[who]++
	return true
}

func (w *waits) leave(who string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.of[who]--; w.of[who] == 0 {
		delete(w.of, who)
	}
}
