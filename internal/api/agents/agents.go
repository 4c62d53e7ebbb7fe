// Package agents is the HTTP face of package ecc: routes for agents over mutual TLS,
// and routes for those who administer them and submit jobs.
//
// Invariants:
//
//  1. Every call of an agent but its enrolment is made under a certificate of the
//     instance's authority, and is judged anew: an agent that is invalidated is
//     nobody at its next call, on connections that are open too.
//  2. What an agent says of a job is taken under that job's lease: its own name comes
//     from its certificate, never from the call.
//  3. Bodies, waiting times, open waits and rates are bounded, and a peer that is
//     slow is cut off.
//  4. A lease's token is shown to the agent that has it, and to nobody else.
//  5. An administrator's route does nothing before Authorize has agreed.
//
// What a caller may not conclude: that a result is true.
package agents

import (
	"context"
	"crypto/tls"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/rejection"
)

// Right is what somebody wants to do.
type Right string

// The rights.
const (
	ReadAgents   Right = "agents.read"   // see agents, clusters and rejections
	ManageAgents Right = "agents.manage" // validate, invalidate, rekey, group
	ReadJobs     Right = "jobs.read"     // see jobs and results
	SubmitJobs   Right = "jobs.submit"   // submit and cancel
)

// Authorize says who makes a call, if he may; the error is shown as it is when it
// is a huma.StatusError, and as 403 otherwise.
type Authorize func(r *http.Request, right Right) (who string, err error)

// Limits bound agents; zero members mean the defaults.
type Limits struct {
	PerSecond     float64 // calls of one agent; 200
	Burst         int     // 1000
	AnonPerSecond float64 // enrolments of one address; 2
	Waits         int     // open waits of one agent; 4
	Delivery      int     // bytes of records in one answer; 8 MiB
	Heavy         int     // calls at a time that read whole tables or hold large bodies; 8
	HeavyOf       int     // of them, of one caller; 2
}

func (l *Limits) fill() {
	if l.PerSecond <= 0 {
		l.PerSecond = 200
	}
	if l.Burst <= 0 {
		l.Burst = 1000
	}
	if l.AnonPerSecond <= 0 {
		l.AnonPerSecond = 2
	}
	if l.Waits <= 0 {
		l.Waits = 4
	}
	if l.Delivery <= 0 {
		l.Delivery = 8 << 20
	}
	if l.Heavy <= 0 {
		l.Heavy = 8
	}
	if l.HeavyOf <= 0 {
		l.HeavyOf = 2
	}
}

// mount is one service on one huma.API.
type mount struct {
	api       huma.API
	svc       *ecc.Service
	log       *slog.Logger
	limits    Limits
	authorize Authorize
	agents    limiters
	addresses limiters
	waits     waits
	heavy     room
	stopping  <-chan struct{}
}

func newMount(api huma.API, svc *ecc.Service, log *slog.Logger, l Limits, stopping <-chan struct{}) *mount {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l.fill()
	m := &mount{api: api, svc: svc, log: log, limits: l, stopping: stopping}
	m.agents.init(l.PerSecond, l.Burst)
	m.addresses.init(l.AnonPerSecond, max(20, int(10*l.AnonPerSecond)))
	m.waits.init(l.Waits)
	m.heavy.init(l.Heavy, l.HeavyOf)
	return m
}

// MountAgents registers the routes of agents on an API that package humago serves.
// The listener has to ask for client certificates ([TLSConfig]).
func MountAgents(api huma.API, svc *ecc.Service, log *slog.Logger, l Limits) {
	newMount(api, svc, log, l, nil).agentRoutes()
}

// MountAdmin registers the routes of those who administer agents and submit jobs.
func MountAdmin(api huma.API, svc *ecc.Service, log *slog.Logger, authorize Authorize) {
	m := newMount(api, svc, log, Limits{}, nil)
	m.authorize = authorize
	m.adminRoutes()
}

// op describes one route.
type op struct {
	method, path, id, tag, sum, doc string
	right                           Right // of administrators' routes
	public                          bool  // enrolment
	body                            int64 // limit in bytes; default 64 KiB
	content, answer                 string
	status                          int
	heavy                           bool // reads tables, or holds a large body: a few go on at a time
}

type callKey struct{}

// call is one request on its way through.
type call struct {
	r    *http.Request
	w    http.ResponseWriter
	peer *ecc.Peer
	who  string // of an administrator's
}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

func route[I, O any](m *mount, o op, h func(context.Context, *I) (*O, error)) {
	if o.body == 0 {
		o.body = 64 << 10
	}
	_, takesBody := reflect.TypeFor[I]().FieldByName("Body")
	if o.content == "" && takesBody {
		o.content = wire.JSON
	}
	ho := huma.Operation{OperationID: o.id, Method: o.method, Path: "/v1" + o.path, Summary: o.sum, Description: o.describe(), Tags: []string{o.tag}, DefaultStatus: o.status,
		MaxBodyBytes: o.body, BodyReadTimeout: -1, SkipValidateBody: true,
		Responses: map[string]*huma.Response{"default": {Description: "A problem (RFC 9457) with a reason code.",
			Content: map[string]*huma.MediaType{wire.ProblemJSON: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}}}}}
	switch {
	case o.public:
		ho.Security = []map[string][]string{}
	case o.right != "":
		ho.Security = []map[string][]string{{"bearer": {}}, {"certificate": {}}}
	default:
		ho.Security = []map[string][]string{{"certificate": {}}}
	}
	if o.answer != "" {
		schema := &huma.Schema{Type: "string"}
		if o.answer != wire.Events {
			schema.Format = "binary"
		}
		ho.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{o.answer: {Schema: schema}}}
	}
	if o.content != "" && o.content != wire.JSON {
		ho.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{o.content: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	}
	ho.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		c := &call{r: r, w: w}
		if err := m.admit(c, &o); err != nil {
			writeProblem(w, m.problemOf(r.Context(), err))
			return
		}
		after := answer
		if o.heavy {
			after = heavyAnswer
			leave, err := m.heavy.enter(c.who)
			if err != nil {
				writeProblem(w, m.problemOf(r.Context(), err))
				return
			}
			defer leave()
		}
		r.Body = http.MaxBytesReader(w, patient(r.Body, w, after), o.body)
		next(huma.WithValue(hc, callKey{}, c))
	}}
	huma.Register(m.api, ho, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, m.problemOf(ctx, err)
		}
		return out, nil
	})
}

func (o *op) describe() string {
	switch {
	case o.public:
		return strings.TrimSpace(o.doc + " Needs no authentication.")
	case o.right != "":
		return strings.TrimSpace(o.doc + " Right: " + string(o.right) + ".")
	}
	return strings.TrimSpace(o.doc + " Under the agent's certificate.")
}

// admit judges a call before anything of its body is read.
func (m *mount) admit(c *call, o *op) error {
	if o.content != "" {
		if mt, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";"); strings.TrimSpace(strings.ToLower(mt)) != o.content {
			return newProblem(415, wire.CodeType, "", "want a body of type %s", o.content)
		}
	}
	if c.r.ContentLength > o.body {
		return newProblem(413, wire.CodeTooLarge, "", "the body has more than %d bytes", o.body)
	}
	if o.right != "" {
		who, err := m.authorize(c.r, o.right)
		if err != nil {
			var s huma.StatusError
			if errors.As(err, &s) {
				return err
			}
			return newProblem(403, wire.CodeForbidden, "", "that takes the right %s", o.right)
		}
		c.who = who
		return nil
	}
	now := time.Now()
	if o.public && (c.r.TLS == nil || len(c.r.TLS.PeerCertificates) == 0) {
		return m.addresses.take(addressOf(c.r), now)
	}
	if c.r.TLS == nil || len(c.r.TLS.PeerCertificates) == 0 {
		if err := m.addresses.take(addressOf(c.r), now); err != nil {
			return err
		}
		return newProblem(401, wire.CodeNotValidated, "enrol first", "an agent shows its certificate")
	}
	p, err := m.svc.Peer(c.r.Context(), c.r.TLS.PeerCertificates[0])
	if err != nil {
		if o.public && errors.Is(err, ecc.ErrInvalidated) { // it may enrol like anybody
			return m.addresses.take(addressOf(c.r), now)
		}
		return err
	}
	c.peer = p
	return m.agents.take(p.Name(), now)
}

// problem is an error as callers see it. It is a huma.StatusError.
type problem struct {
	wire.Problem
	retry int // seconds
}

func newProblem(status int, code, hint, detail string, args ...any) *problem {
	return &problem{Problem: wire.Problem{Type: "https://greatseal.io/problems/" + code, Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(detail, args...), Code: code, Hint: hint}}
}

func (p *problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{wire.ReasonCode: {p.Code}}
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *problem) ContentType(string) string { return wire.ProblemJSON }

// MarshalJSON is that of wire.Problem.
func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(p.Problem, json.Deterministic(true))
}

func writeProblem(w http.ResponseWriter, err error) {
	var p *problem
	if !errors.As(err, &p) {
		var s huma.StatusError
		p = newProblem(500, wire.CodeInternal, "the server's log says more", "internal error")
		if errors.As(err, &s) {
			if h, ok := s.(huma.HeadersError); ok {
				for k, v := range h.GetHeaders() {
					w.Header()[k] = v
				}
			}
			w.Header().Set("Content-Type", wire.ProblemJSON)
			w.WriteHeader(s.GetStatus())
			_ = json.MarshalWrite(w, s, json.Deterministic(true))
			return
		}
	}
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", wire.ProblemJSON)
	w.WriteHeader(p.Status)
	b, err := p.MarshalJSON()
	if err == nil {
		_, _ = w.Write(b)
	}
}

// problemOf gives an error its code and hides what is internal.
func (m *mount) problemOf(ctx context.Context, err error) error {
	var s huma.StatusError
	if errors.As(err, &s) {
		return err
	}
	var large *http.MaxBytesError
	busy := newProblem(503, wire.CodeBusy, "try again; nothing was lost", "the database is busy or away")
	busy.retry = 2
	many := newProblem(429, wire.CodeTooMany, "an administrator validates or refuses some of them", "too many enrolments wait")
	many.retry = 60
	switch {
	case errors.As(err, &large):
		return newProblem(413, wire.CodeTooLarge, "", "the body has more than %d bytes", large.Limit)
	case errors.Is(err, ecc.ErrInvalidated):
		return newProblem(401, wire.CodeInvalidated, "enrol with a new key", "this is no agent's certificate, or not any more")
	case errors.Is(err, ecc.ErrNotValidated):
		return newProblem(401, wire.CodeNotValidated, "an administrator compares the fingerprint and validates it", "this agent is not validated yet")
	case errors.Is(err, ecc.ErrLost), errors.Is(err, store.ErrLost):
		return newProblem(409, wire.CodeLost, "stop working on it", "the lease is another's, or over")
	case errors.Is(err, ecc.ErrPage):
		return newProblem(409, wire.CodePage, "pages come one after the other, from 0, and stay as they are", "another page has this number, or one is missing")
	case errors.Is(err, ecc.ErrTooLarge):
		return newProblem(413, wire.CodeTooLarge, "", "it is larger than allowed")
	case errors.Is(err, ecc.ErrTooMany):
		return many
	case rejection.Of(err) != nil:
		r := rejection.Of(err)
		return newProblem(422, wire.CodeRefused, "", "%s", r.Error())
	case errors.Is(err, ecc.ErrMalformed):
		return newProblem(422, wire.CodeMalformed, "/openapi.yaml describes what is wanted", "%s", strings.TrimPrefix(err.Error(), "ecc: "))
	case errors.Is(err, store.ErrNotFound):
		return newProblem(404, wire.CodeNotFound, "", "there is no such thing")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return newProblem(409, wire.CodeConflict, "look at it again", "it has changed meanwhile, or is there already")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrBusy):
		return busy
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return newProblem(499, "cancelled", "", "the caller has gone")
	}
	m.log.Error("internal error", "error", err)
	return newProblem(500, wire.CodeInternal, "the server's log says more", "internal error")
}

// plain turns huma's errors into ours.
func plain(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(e.Status, wire.CodeMalformed, "/openapi.yaml describes what is wanted", "%s", e.Detail)
	switch e.Status {
	case http.StatusRequestEntityTooLarge:
		p.Code, p.Detail, p.Hint = wire.CodeTooLarge, "the body is too large", ""
	case http.StatusInternalServerError:
		p.Code, p.Detail, p.Hint = wire.CodeInternal, "internal error", "the server's log says more"
	}
	for _, x := range e.Errors {
		if x != nil && len(p.Detail) < 600 {
			p.Detail += "; " + x.Location + ": " + x.Message
		}
	}
	return p, nil
}

// Handler is the API of agents alone, for a listener of its own.
type Handler struct {
	mux  *http.ServeMux
	stop chan struct{}
	api  huma.API
}

// NewHandler makes the API of agents. Stop ends its waits.
func NewHandler(svc *ecc.Service, log *slog.Logger, l Limits, version string) *Handler {
	h := &Handler{mux: http.NewServeMux(), stop: make(chan struct{})}
	f := huma.Format{
		Marshal:   func(w io.Writer, v any) error { return json.MarshalWrite(w, v, json.Deterministic(true)) },
		Unmarshal: func(b []byte, v any) error { return json.Unmarshal(b, v, json.RejectUnknownMembers(true)) },
	}
	c := huma.Config{OpenAPI: &huma.OpenAPI{OpenAPI: "3.1.0", Info: &huma.Info{Title: "Greatseal agents", Version: version},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)}},
		Formats: map[string]huma.Format{wire.JSON: f, "json": f}, DefaultFormat: wire.JSON, Transformers: []huma.Transformer{plain}, RejectUnknownQueryParameters: true}
	c.AllowAdditionalPropertiesByDefault = true
	h.api = humago.New(h.mux, c)
	newMount(h.api, svc, log, l, h.stop).agentRoutes()
	h.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(404, "no-such-route", "", "there is nothing here"))
	})
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * time.Minute)) // a wait, and its answer
	h.mux.ServeHTTP(w, r)
}

// TLSConfig is that of a listener for agents: it asks for certificates of the
// instance's authority; who comes without one may enrol.
func TLSConfig(svc *ecc.Service, certs *config.Certs) *tls.Config {
	pool := svc.Authority().Pool()
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certs.Now().Pair}, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true,
			ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}, nil
	}}
}

// drain is how long calls may go on after Serve is told to end.
const drain = 30 * time.Second

// Serve serves agents on a listener until ctx ends.
func Serve(ctx context.Context, ln net.Listener, svc *ecc.Service, certs *config.Certs, log *slog.Logger, l Limits, version string) error {
	h := NewHandler(svc, log, l, version)
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &http.Server{Handler: h, TLSConfig: TLSConfig(svc, certs), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	s.RegisterOnShutdown(func() { close(h.stop) })
	failed := make(chan error, 1)
	go func() { failed <- s.ServeTLS(ln, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("agents: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		s.Close()
		return fmt.Errorf("agents: some calls were cut off: %w", err)
	}
	return nil
}
