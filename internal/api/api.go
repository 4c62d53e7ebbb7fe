// Package api is the HTTP face of a server: OpenAPI 3.1, problem+json errors
// with reason codes, long-polls and server-sent events, resumable uploads, and
// the audit log in the layout of C2SP tlog-tiles.
//
// Who one is, is told by a client certificate, a bearer token (one of the server's, or
// an ID token of a workload) or a session, in this order, on every listener alike. It opens doors to reading and limits what
// one peer may use; it never suffices to request or to endorse: those are
// signatures of their own, which the keeper checks again.
//
// Invariants:
//
//  1. Every route names the scopes that open it; one that names none is public.
//     The scopes are checked before a byte of the body is read.
//  2. A name that the charter in force does not have gets nothing, whatever
//     certificate, token or session it holds, but the scopes read, log and
//     metrics of a token that was made for it.
//  3. Of tokens and sessions only the SHA-256 is kept; the secret is shown once.
//  4. A challenge is used once, within a minute, at whichever replica. Asking for
//     challenges takes up nothing that others need.
//  5. Bodies, headers, waiting times, open waits and rates are bounded, and a
//     peer that is slow is cut off.
//  6. An error shows its code and what the caller may know; what is internal goes
//     to the server's own log.
//
// What a caller may not conclude: that an answer is true. Tools check signatures
// (packages statement, quorum, receipt, audit, verify).
package api

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/greatseal-io/greatseal/internal/challenge"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Config is what an API is made of.
type Config struct {
	Server  *server.Server
	Store   store.Store
	Clock   func() time.Time
	Logger  *slog.Logger // nil: none
	Version string       // of the program
	URL     string       // where clients reach it; empty: this machine only
	Admins  []string     // people who make tokens for everybody
	Private bool         // log, charter and timestamps are for those who have authenticated
	Uploads bool         // the server has a blob folder
	Formats []string     // names of the formats that the server knows
	Limits  Limits

	Sessions store.Sessions // of the console; nil: there is none

	Registrations *registration.Service // of passkeys; nil: one of the store's, if it keeps them

	Issuers func(context.Context) ([]issuer.State, error) // what issuers of ID tokens publish; nil: nobody looks

	Instance *instance.Instance // the server's part in a circle of trust; nil: none
	Describe bool               // the document describes protected instances and agents too
}

// Limits bound what peers may ask for; zero members mean the defaults.
type Limits struct {
	Body          int64         // bytes of a submission; 256 MiB
	Chunk         int64         // bytes of one chunk of an upload; 64 MiB
	PerSecond     float64       // calls of one principal; 50
	Burst         int           // 200
	AnonPerSecond float64       // calls of one address without a principal; 20
	Waits         int           // long-polls and event streams at a time; 4096
	WaitsOf       int           // of one principal or address; 64
	Grace         time.Duration // how long a body may take besides its 16 KiB/s; 20 s
}

func (l *Limits) fill() {
	def(&l.Body, 256<<20)
	def(&l.Chunk, 64<<20)
	def(&l.PerSecond, 50)
	def(&l.Burst, 200)
	def(&l.AnonPerSecond, 20)
	def(&l.Waits, 4096)
	def(&l.WaitsOf, 64)
	def(&l.Grace, 20*time.Second)
}

func def[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// API serves one server. It is safe for concurrent use.
type API struct {
	cfg      Config
	log      *slog.Logger
	audience string // host of URL
	mux      *http.ServeMux
	huma     huma.API
	spec     spec
	origin   *http.CrossOriginProtection
	metrics  *metrics

	people     atomic.Pointer[roll]
	challenges *challenge.Book
	addresses  limiters // all calls of an address
	strangers  limiters // calls of an address without a principal, and failed logins
	principals limiters
	waits      *limit.Waits

	registrations *registration.Service // nil: none

	stopping chan struct{}
	stop     sync.Once
}

// New makes the API of a server.
func New(cfg Config) (*API, error) {
	if cfg.Server == nil || cfg.Store == nil || cfg.Clock == nil {
		return nil, errors.New("api: a server, its store and a clock are wanted")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Limits.fill()
	a := &API{cfg: cfg, log: cfg.Logger, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), stopping: make(chan struct{})}
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Host == "" {
			return nil, errors.New("api: url: want https://HOST")
		}
		a.audience = u.Host
	}
	l := cfg.Limits
	a.addresses.init(20*l.AnonPerSecond+l.PerSecond, 20*l.Burst)
	a.strangers.init(l.AnonPerSecond, max(1, int(4*l.AnonPerSecond)))
	a.principals.init(l.PerSecond, l.Burst)
	a.waits = limit.NewWaits(l.Waits, l.WaitsOf)
	a.challenges = challenge.New(cfg.Store)
	a.registrations = cfg.Registrations
	if st, ok := cfg.Store.(registration.Store); ok && a.registrations == nil {
		r, err := registration.New(registration.Config{Chain: cfg.Server.Chain, Store: st, Clock: cfg.Clock, Rand: rand.Reader})
		if err != nil {
			return nil, err
		}
		a.registrations = r
	}
	a.metrics = newMetrics(a)
	a.huma = humago.New(a.mux, humaConfig(cfg.Version))
	a.routes()
	if err := a.makeSpec(); err != nil {
		return nil, err
	}
	return a, nil
}

// Handler is the whole API.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// Stop ends long-polls and event streams, so that a server can drain.
func (a *API) Stop() { a.stop.Do(func() { close(a.stopping) }) }

// call is one request to the API on its way through.
type call struct {
	r       *http.Request
	w       *writer
	who     principal
	authErr *problem // why the caller's credential was refused
	route   string
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

func (a *API) serve(rw http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	w := newWriter(rw)
	c := &call{w: w, route: "none"}
	c.r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.log.Error("a handler panicked", "route", c.route, "panic", p, "stack", string(debug.Stack()))
			if w.status == 0 {
				writeProblem(w, newProblem(500, "internal", "the server's log says more", "internal error"))
			}
		}
		a.metrics.done(c.route, w.status, time.Since(begun))
		a.log.Debug("call", "method", r.Method, "route", c.route, "status", w.status, "who", c.who.Name, "took", time.Since(begun))
	}()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.extend()
	if c.r.Body != nil && c.r.Body != http.NoBody {
		c.r.Body = a.patient(c.r.Body, w)
	}
	address := limit.Address(r)
	if p := a.addresses.take(address, begun); p != nil {
		writeProblem(w, p)
		return
	}
	if err := a.origin.Check(c.r); err != nil {
		writeProblem(w, newProblem(403, "cross-origin", "", "a web page of another origin may not do that"))
		return
	}
	c.who, c.authErr = a.authenticate(c.r)
	var p *problem
	if c.authErr != nil || c.who.Name == "" {
		p = a.strangers.take(address, begun)
	} else {
		p = a.principals.take(c.who.Name, begun)
	}
	if p != nil {
		writeProblem(w, p)
		return
	}
	a.mux.ServeHTTP(w, c.r)
}
