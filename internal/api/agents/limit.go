package agents

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
)

// maxLimiters is how many peers are remembered; beyond it all are forgotten, and
// nobody gains more than a burst.
const maxLimiters = 1 << 16

type limiters struct {
	mu    sync.Mutex
	per   rate.Limit
	burst int
	m     map[string]*rate.Limiter
}

func (l *limiters) init(per float64, burst int) { l.per, l.burst = rate.Limit(per), burst }

func (l *limiters) take(name string, now time.Time) error {
	l.mu.Lock()
	r := l.m[name]
	if r == nil {
		if l.m == nil || len(l.m) >= maxLimiters {
			l.m = map[string]*rate.Limiter{}
		}
		r = rate.NewLimiter(l.per, l.burst)
		l.m[name] = r
	}
	l.mu.Unlock()
	if r.AllowN(now, 1) {
		return nil
	}
	p := newProblem(429, wire.CodeRate, "wait a little", "too many calls")
	p.retry = max(1, int(math.Ceil((1-r.TokensAt(now))/float64(l.per))))
	return p
}

// waits bound how many calls of one agent wait.
type waits struct {
	mu  sync.Mutex
	max int
	of  map[string]int
}

func (w *waits) init(max int) { w.max, w.of = max, map[string]int{} }

func (w *waits) enter(name string) (leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[name] >= w.max {
		p := newProblem(429, wire.CodeWaits, "wait in fewer places", "too many calls of this agent are waiting")
		p.retry = 5
		return nil, p
	}
	w.of[name]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.of[name]--; w.of[name] == 0 {
			delete(w.of, name)
		}
	}, nil
}

// CodeNoRoom means that as many calls of a kind go on as there is room for.
const CodeNoRoom = "no-room"

// room bounds calls that take much of the machine: of everybody, and of one caller, so
// that nobody takes all of it.
type room struct {
	mu       sync.Mutex
	max, one int
	n        int
	of       map[string]int
}

func (r *room) init(max, one int) { r.max, r.one, r.of = max, one, map[string]int{} }

func (r *room) enter(who string) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n >= r.max || r.of[who] >= r.one {
		p := newProblem(503, CodeNoRoom, "wait until one of them has ended", "as many calls of this kind go on as there is room for")
		p.retry = 5
		return nil, p
	}
	r.n++
	r.of[who]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.n--
		if r.of[who]--; r.of[who] == 0 {
			delete(r.of, who)
		}
	}, nil
}

// waiting is a context for a wait: it ends after d, with the caller, and when the
// API stops.
func (m *mount) waiting(ctx context.Context, d time.Duration) (context.Context, func(), error) {
	leave, err := m.waits.enter(callOf(ctx).peer.Name())
	if err != nil {
		return nil, nil, err
	}
	wctx, cancel := context.WithTimeout(ctx, d)
	if m.stopping != nil {
		go func() {
			select {
			case <-m.stopping:
				cancel()
			case <-wctx.Done():
			}
		}()
	}
	return wctx, func() { cancel(); leave() }, nil
}

const (
	grace   = 20 * time.Second
	slowest = 16 << 10 // bytes a second that a body must bring on average
	piece   = 256 << 10
	minute  = time.Minute

	answer      = 2 * time.Minute // how long it may take after the body has come
	heavyAnswer = 20 * time.Minute
)

// patientBody reads a body for as long as it comes at a decent rate.
type patientBody struct {
	io.ReadCloser
	ctl   *http.ResponseController
	begun time.Time
	n     int64
	after time.Duration // from the end of the body to the answer
	moved time.Time     // when the answer's deadline was, last
}

func patient(b io.ReadCloser, w http.ResponseWriter, after time.Duration) io.ReadCloser {
	if b == nil || b == http.NoBody {
		return http.NoBody
	}
	return &patientBody{ReadCloser: b, ctl: http.NewResponseController(w), begun: time.Now(), after: after}
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.ctl.SetReadDeadline(b.begun.Add(grace + time.Duration(b.n/slowest)*time.Second))
	// The answer's time begins when the body has come: HTTP/2 resets a stream whose
	// write deadline passes, also while it is read.
	if now := time.Now(); now.Sub(b.moved) > b.after/8 {
		b.moved = now
		_ = b.ctl.SetWriteDeadline(now.Add(b.after))
	}
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// pieces writes an answer whose length is not known: each piece has its own time.
type pieces struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func (p *pieces) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		_ = p.ctl.SetWriteDeadline(time.Now().Add(minute))
		m, err := p.w.Write(b[n:min(len(b), n+piece)])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// addressOf is what a peer is known by before it has said who it is: an IPv6 peer
// owns the whole /64.
func addressOf(r *http.Request) string {
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
