// Package web is what the console's areas are made with: a site of pages with a
// layout, sessions, forms, events and the signing of statements with a passkey.
//
// Invariants (tests name them):
//
//  1. A page carries no script, style or handler of its own: the content security
//     policy of every answer takes those of this server's files only.
//  2. Nothing that changes anything is done for a call from another origin, or without
//     a token of the very session; and nothing at all for what a page of another origin
//     loads by itself.
//  3. A session is its secret, of which the database has the hash; it is new with every
//     sign-in, ends after an hour without use and eight in all, when it is used from
//     another browser, when somebody ends it, when its person leaves the charter, and when
//     what it began with does.
//     Where something else says who calls ([Config].Identify) there is none, and no
//     cookie: it is asked for every call, and tokens are of that person and this process.
//  4. A session never requests and never endorses: those are statements that a passkey
//     has signed ([Visit.Signed]), and the keeper checks them again.
//  5. What people wrote stays text, wherever it is shown.
//  6. A redirect leads to the console and nowhere else.
//  7. Bodies, rates, streams and what is kept in memory are bounded.
//
// What a caller may not conclude: that the page which a person saw is the page that was
// sent. Whoever has this server shows what he likes (docs/operate/console.md); he gets a
// signature for nothing but what the passkey was asked for.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/internal/challenge"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Store is what a site keeps things in; [*store.SQL] is one.
type Store interface {
	store.Store
	store.Sessions
}

// Config is what a site is made of.
type Config struct {
	Server   *server.Server
	Store    Store
	Clock    func() time.Time
	Logger   *slog.Logger // nil: none
	Version  string       // of the program
	URL      string       // where browsers reach it: https://HOST; empty: this machine only
	Admins   []string     // people who are operators
	Auditor  []string     // names, or groups of a sign-on as "group:NAME"
	Operator []string     // the same
	// Given are those of a session's groups that its issuer may give by the configuration of
	// now; nil: all.
	Given  func(issuer string, groups []string) []string
	Strict bool // of tests: what production makes good is a panic
	Limits Limits

	// Identify says who calls where there is no server of requests, and nobody signs in;
	// then Server is nil, and there are no sessions. Nobody is an error: a *Problem.
	Identify func(*http.Request) (*Person, error)
	Name     string // with Identify: what stands where the deployment does
}

// Limits bound what browsers may ask for; zero members mean the defaults.
type Limits struct {
	PerSecond float64 // calls of one person or address; 30
	Burst     int     // 120
	Streams   int     // event streams at a time; 2048
	StreamsOf int     // of one person; 8
}

// Site is the console's kit at work. It is safe for concurrent use after the last Add.
type Site struct {
	cfg    Config
	log    *slog.Logger
	url    *url.URL // nil: this machine only
	mux    *http.ServeMux
	origin *http.CrossOriginProtection
	static assets
	areas  []*area
	base   *template.Template
	kit    *area
	nav    []Nav
	routes []Route
	mark   string // stands for a call's token until the page is sent
	secret string // with Identify: of this process, what people's form tokens are made with

	people     atomic.Pointer[roll]
	challenges *challenge.Book
	addresses  *limit.Rates
	strangers  *limit.Rates // sign-ins that failed, by address
	persons    *limit.Rates
	streams    *limit.Waits

	stopping chan struct{}
	stop     sync.Once
}

// New makes a site without areas.
func New(cfg Config) (*Site, error) {
	if (cfg.Server == nil) == (cfg.Identify == nil) || cfg.Store == nil || cfg.Clock == nil {
		return nil, errors.New("web: a server or what says who calls, a store and a clock are wanted")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &cfg.Limits
	if l.PerSecond <= 0 {
		l.PerSecond = 30
	}
	if l.Burst <= 0 {
		l.Burst = 120
	}
	if l.Streams <= 0 {
		l.Streams = 2048
	}
	if l.StreamsOf <= 0 {
		l.StreamsOf = 8
	}
	s := &Site{
		cfg: cfg, log: cfg.Logger, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), mark: newMark(),
		challenges: challenge.New(cfg.Store), addresses: limit.NewRates(4*l.PerSecond, 4*l.Burst), strangers: limit.NewRates(1, 20),
		persons: limit.NewRates(l.PerSecond, l.Burst), streams: limit.NewWaits(l.Streams, l.StreamsOf), stopping: make(chan struct{}), secret: newSecret(),
	}
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("web: url %q: want https://HOST", cfg.URL)
		}
		s.url = u
		if err := s.origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("web: url: %w", err)
		}
	}
	if err := s.ownFiles(); err != nil {
		return nil, err
	}
	return s, nil
}

// Server is the server that the site shows; nil where Identify says who calls.
func (s *Site) Server() *server.Server { return s.cfg.Server }

// Store is the store of the site.
func (s *Site) Store() Store { return s.cfg.Store }

// Logger is the site's log.
func (s *Site) Logger() *slog.Logger { return s.log }

// Now is the time.
func (s *Site) Now() time.Time { return s.cfg.Clock() }

// Challenges are the nonces that people sign to sign in.
func (s *Site) Challenges() *challenge.Book { return s.challenges }

// Routes lists the routes of all areas.
func (s *Site) Routes() []Route { return slices.Clone(s.routes) }

// Stop ends event streams, so that a server can drain.
func (s *Site) Stop() { s.stop.Do(func() { close(s.stopping) }) }

// Add adds an area. All are added before the first call.
func (s *Site) Add(a Area) error {
	x, err := s.newArea(a)
	if err != nil {
		return fmt.Errorf("web: area %s: %w", a.Name, err)
	}
	s.areas = append(s.areas, x)
	for _, r := range a.Routes {
		if err := s.addRoute(x, r); err != nil {
			return fmt.Errorf("web: area %s: %s %s: %w", a.Name, r.Method, r.Path, err)
		}
	}
	s.nav = append(s.nav, a.Nav...)
	slices.SortStableFunc(s.nav, func(a, b Nav) int { return a.Order - b.Order })
	return nil
}

func (s *Site) addRoute(x *area, r Route) (err error) {
	switch {
	case r.Serve == nil || r.Method == "" || !strings.HasPrefix(r.Path, Home):
		return errors.New("want a method, a path below /console/ and what serves it")
	case (r.Public || r.Program) && len(r.Roles) > 0:
		return errors.New("a public route has no roles")
	case r.Stream && r.Method != http.MethodGet:
		return errors.New("a stream is got")
	}
	if r.MaxBody <= 0 {
		r.MaxBody = 64 << 10
	}
	defer func() { // of a pattern that is malformed, or there already
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	s.mux.Handle(r.Method+" "+r.Path, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { s.visit(x, &r, w, q) }))
	s.routes = append(s.routes, r)
	return nil
}

// Handler serves everything below /console/.
func (s *Site) Handler() http.Handler {
	s.mux.HandleFunc("GET "+staticPrefix, s.serveStatic)
	s.mux.HandleFunc(Home, func(w http.ResponseWriter, r *http.Request) {
		v := &Visit{Writer: w, Request: r, Now: s.Now(), site: s, area: s.kit}
		var err error
		if v.Who, v.secret, err = s.person(w, r, false); err != nil && s.cfg.Identify != nil {
			s.fail(v, err)
			return
		}
		s.fail(v, Problemf(404, "not-found", "", "there is no such page"))
	})
	return http.HandlerFunc(s.serve)
}

// tracked knows whether an answer has begun.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (s *Site) serve(rw http.ResponseWriter, r *http.Request) {
	w := &tracked{ResponseWriter: rw}
	s.headers(w, r)
	v := &Visit{Writer: w, Request: r, Now: s.Now(), site: s, area: s.kit}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || s.cfg.Strict {
			panic(p)
		}
		s.log.Error("a page panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		if !w.begun {
			s.fail(v, Problemf(500, "internal", "the server's log says more", "internal error"))
		}
	}()
	if wait := s.addresses.Take(limit.Address(r), time.Now()); wait > 0 {
		s.tooMany(v, wait)
		return
	}
	if p := s.rightHost(r); p != nil {
		s.fail(v, p)
		return
	}
	if err := s.origin.Check(r); err != nil || loadedElsewhere(r) {
		s.fail(v, Problemf(403, "cross-origin", "", "a web page of another origin may not do that"))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Stranger counts a sign-in that failed, and is a problem when there were too many from
// there.
func (v *Visit) Stranger() error {
	wait := v.site.strangers.Take(limit.Address(v.Request), time.Now())
	if wait == 0 {
		return nil
	}
	v.Writer.Header().Set("Retry-After", fmt.Sprint(wait))
	return Problemf(429, "too-many-requests", "wait a little", "too many sign-ins failed")
}

func (s *Site) tooMany(v *Visit, wait int) {
	v.Writer.Header().Set("Retry-After", fmt.Sprint(wait))
	s.fail(v, Problemf(429, "too-many-requests", "wait a little", "too many calls"))
}

// loadedElsewhere reports whether a page of another origin loads this, as an image or a
// frame, and not a person who goes here. It could not read it, but have work done: client
// certificates go along with such calls, whatever cookies do.
func loadedElsewhere(r *http.Request) bool {
	h := r.Header
	switch h.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-Dest") != "document"
}

// rightHost refuses calls for hosts that are not this one: a page of somebody else's
// whose name leads here is not to be talked to.
func (s *Site) rightHost(r *http.Request) *Problem {
	switch {
	case s.url != nil && strings.EqualFold(r.Host, s.url.Host):
		return nil
	case s.url != nil:
		return Problemf(421, "wrong-host", "go to "+s.url.Scheme+"://"+s.url.Host+Home, "this console is not called %.100q", r.Host)
	case OwnName(r.Host):
		return nil
	}
	return Problemf(421, "wrong-host", "\"url\" in the server's configuration says where browsers reach it", "the server does not know that it is called %.100q", r.Host)
}

// OwnName reports whether host, with a port or without, is this machine itself.
func OwnName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// visit serves one route.
func (s *Site) visit(x *area, route *Route, w http.ResponseWriter, r *http.Request) {
	v := &Visit{Writer: w, Request: r, Now: s.Now(), site: s, area: x, route: route}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, route.MaxBody)
	}
	if err := s.admit(v); err != nil {
		s.fail(v, err)
		return
	}
	if err := route.Serve(v); err != nil {
		s.fail(v, err)
	}
}

// admit lets a call in, or says why not.
func (s *Site) admit(v *Visit) error {
	if v.route.Program {
		return nil
	}
	var err error
	if v.Who, v.secret, err = s.person(v.Writer, v.Request, !v.route.Stream && v.Request.Header.Get(unattended) == ""); err != nil {
		return err
	}
	if v.Who == nil && !v.route.Public {
		return s.signInFirst(v)
	}
	if v.Who != nil {
		if wait := s.persons.Take(v.Who.Name, time.Now()); wait > 0 {
			v.Writer.Header().Set("Retry-After", fmt.Sprint(wait))
			return Problemf(429, "too-many-requests", "wait a little", "too many calls")
		}
		if len(v.route.Roles) > 0 && !v.Who.Is(v.route.Roles...) {
			return Problemf(403, "role", "", "that is for %s", roleNames(v.route.Roles))
		}
	}
	if v.Request.Method == http.MethodGet || v.Request.Method == http.MethodHead {
		return nil
	}
	return v.checkToken()
}

func roleNames(rs []Role) string {
	var out []string
	for _, r := range rs {
		out = append(out, string(r)+"s")
	}
	return strings.Join(out, " and ")
}

var errNobody = Problemf(401, "unauthorized", "", "nobody knows who you are")

var errAnswered = errors.New("web: answered")

// signInFirst leads people to where they sign in, and back.
func (s *Site) signInFirst(v *Visit) error {
	if s.cfg.Identify != nil {
		return errNobody
	}
	to := Home + "login"
	if v.Request.Method == http.MethodGet && !v.HTMX() && !v.wantsJSON() && !v.route.Stream {
		if p := v.Request.URL.RequestURI(); Local(p) && p != Home {
			to += "?to=" + url.QueryEscape(p)
		}
		if err := v.Redirect(to); err != nil {
			return err
		}
		return errAnswered
	}
	if v.HTMX() {
		v.Writer.Header().Set("HX-Redirect", to)
	}
	return Problemf(401, "signed-out", "sign in again", "you are not signed in, or no longer")
}

// fail answers with an error.
func (s *Site) fail(v *Visit, err error) {
	if errors.Is(err, errAnswered) || errors.Is(err, context.Canceled) && v.Request.Context().Err() != nil {
		return
	}
	if t, ok := v.Writer.(*tracked); ok && t.begun {
		s.log.Warn("a page was cut", "path", v.Request.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	p := s.problemOf(err)
	var failed error
	switch {
	case v.wantsJSON() || v.route != nil && v.route.Program:
		failed = v.JSON(p.Status, map[string]any{"status": p.Status, "code": p.Code, "detail": p.Detail, "hint": p.Hint})
	case v.HTMX():
		v.Writer.Header().Set("HX-Retarget", "#problem")
		v.Writer.Header().Set("HX-Reswap", "innerHTML")
		v.area = s.kit
		failed = v.render(p.Status, "problem.html", "part", http.StatusText(p.Status), p)
	default:
		v.area = s.kit
		failed = v.render(p.Status, "problem.html", "", http.StatusText(p.Status), p)
	}
	if failed != nil {
		s.log.Error("a problem could not be shown", "error", failed)
	}
}
