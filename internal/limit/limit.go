// Package limit bounds what peers may ask for: calls in a time, and calls that wait.
//
// Invariants:
//
//  1. Memory is bounded, however many names peers call themselves by, and nobody
//     gains more than a burst by others' being forgotten.
//  2. Nobody takes the places of others: waits are counted by peer as well as in all.
//
// What a caller may not conclude: that a peer is one person. An address is a network.
package limit

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxNames is how many peers are remembered. When there are more, those that have
// their whole burst again are forgotten, and if that leaves more than keptNames all are:
// whoever has many names does not have all of them looked through for each one more.
const (
	maxNames  = 1 << 16
	keptNames = maxNames / 4 * 3
)

// Rates are rate limits by name.
type Rates struct {
	mu    sync.Mutex
	per   rate.Limit
	burst int
	m     map[string]*rate.Limiter
}

// NewRates allows each name so many calls a second, and a burst.
func NewRates(perSecond float64, burst int) *Rates {
	return &Rates{per: rate.Limit(perSecond), burst: burst, m: map[string]*rate.Limiter{}}
}

// Take takes one call from name's allowance and returns 0, or says in how many
// seconds there is one again.
func (l *Rates) Take(name string, now time.Time) int {
	l.mu.Lock()
	r, ok := l.m[name]
	if !ok {
		if len(l.m) >= maxNames {
			l.forget(now)
		}
		r = rate.NewLimiter(l.per, l.burst)
		l.m[name] = r
	}
	l.mu.Unlock()
	if r.AllowN(now, 1) {
		return 0
	}
	missing := 1 - r.TokensAt(now)
	return max(1, int(math.Ceil(missing/float64(l.per))))
}

func (l *Rates) forget(now time.Time) {
	for n, r := range l.m {
		if r.TokensAt(now) >= float64(l.burst) {
			delete(l.m, n)
		}
	}
	if len(l.m) > keptNames {
		clear(l.m)
	}
}

// Waits bound how many calls wait, of all and of one peer.
type Waits struct {
	mu       sync.Mutex
	all, max int
	maxOf    int
	of       map[string]int
}

// NewWaits allows so many in all, and of one peer.
func NewWaits(most, mostOf int) *Waits {
	return &Waits{max: most, maxOf: mostOf, of: map[string]int{}}
}

// Enter takes a place, or reports that there is none.
func (w *Waits) Enter(who string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= w.max || w.of[who] >= w.maxOf {
		return false
	}
	w.all++
	w.of[who]++
	return true
}

// Leave gives a place back.
func (w *Waits) Leave(who string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.of[who]--; w.of[who] == 0 {
		delete(w.of, who)
	}
}

// Address is the network that a call comes from, as it is counted: an IPv4 address, an
// IPv6 /64, "local" for a Unix socket.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "local"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "local"
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
