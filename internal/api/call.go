package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/greatseal-io/greatseal/internal/limit"
)

const (
	writePatience = time.Minute // for each piece of an answer
	piece         = 256 << 10
	slowest       = 16 << 10 // bytes a second that a body must bring on average
)

// writer keeps a peer that does not read from holding a handler: each piece of
// the answer has its own deadline. It also remembers the status.
type writer struct {
	http.ResponseWriter
	ctl    *http.ResponseController
	status int
}

func newWriter(w http.ResponseWriter) *writer {
	return &writer{ResponseWriter: w, ctl: http.NewResponseController(w)}
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// extend gives the next piece its time. Writers without deadlines (tests) have none.
func (w *writer) extend() { _ = w.ctl.SetWriteDeadline(time.Now().Add(writePatience)) }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n := 0
	for {
		w.extend()
		m, err := w.ResponseWriter.Write(p[n:min(len(p), n+piece)])
		n += m
		if err != nil || n >= len(p) {
			return n, err
		}
	}
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.ctl.Flush() }

// patientBody reads a body for as long as it comes at a decent rate.
type patientBody struct {
	io.ReadCloser
	ctl   *http.ResponseController
	begun time.Time
	grace time.Duration
	n     int64
}

func (a *API) patient(body io.ReadCloser, w *writer) io.ReadCloser {
	return &patientBody{ReadCloser: body, ctl: w.ctl, begun: time.Now(), grace: a.cfg.Limits.Grace}
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.ctl.SetReadDeadline(b.begun.Add(b.grace + time.Duration(b.n/slowest)*time.Second))
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// near reports whether the peer is on this machine and speaks for itself.
func near(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return isUnix(r)
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func isUnix(r *http.Request) bool {
	_, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return ok
}

// waiting is a context for a long-poll: it ends after d, with ctx, and when the
// API stops. done must be called.
func (a *API) waiting(ctx context.Context, d time.Duration) (wctx context.Context, done func(), p *problem) {
	c := callOf(ctx)
	who := c.who.Name
	if who == "" {
		who = "@" + limit.Address(c.r)
	}
	if !a.waits.Enter(who) {
		return nil, nil, &problem{Status: 429, Code: "too-many-waits", Detail: "too many calls are waiting", Hint: "wait in fewer places", retry: 5}
	}
	wctx, cancel := context.WithTimeout(ctx, d)
	go func() {
		select {
		case <-a.stopping:
			cancel()
		case <-wctx.Done():
		}
	}()
	return wctx, func() { cancel(); a.waits.Leave(who) }, nil
}
