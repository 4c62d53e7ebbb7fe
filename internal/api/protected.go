package api

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/limit"
)

// ProtectedConfig is what the API of a protected instance is made of.
type ProtectedConfig struct {
	Instance *instance.Instance
	Health   func(ctx context.Context) error
	Roles    config.Roles
	Logger   *slog.Logger
	Version  string
	Limits   Limits
}

// Protected is the API of a protected instance, for the people who run it: records,
// imports, the queue, agents. There is no charter here that says who is who: a client
// certificate does, and the configuration says what he may. Nothing can be signed.
type Protected struct {
	cfg       ProtectedConfig
	mux       *http.ServeMux
	addresses limiters
	stopping  chan struct{}
	stop      sync.Once
}

// NewProtected makes the API of a protected instance.
func NewProtected(cfg ProtectedConfig) (*Protected, error) {
	if cfg.Instance == nil || cfg.Logger == nil || cfg.Health == nil {
		return nil, errors.New("api: an instance, a logger and its health are wanted")
	}
	cfg.Limits.fill()
	p := &Protected{cfg: cfg, mux: http.NewServeMux(), stopping: make(chan struct{})}
	p.addresses.init(cfg.Limits.PerSecond, cfg.Limits.Burst)
	h := humago.New(p.mux, humaConfig(cfg.Version))
	agents.MountInstance(h, cfg.Instance, cfg.Logger, p.right)
	if q := cfg.Instance.Queue; q != nil {
		agents.MountAdmin(h, q, cfg.Logger, p.right)
		reg := prometheus.NewRegistry()
		for _, c := range q.Collectors() {
			if err := reg.Register(c); err != nil {
				return nil, err
			}
		}
		metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, DisableCompression: true})
		p.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
			if _, err := p.right(r, agents.ReadAgents); err != nil && !near(r) {
				writeProblem(newWriter(w), err.(*problem))
				return
			}
			metrics.ServeHTTP(w, r)
		})
	}
	p.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { p.answer(w, `{"ok":true}`) })
	p.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := cfg.Health(ctx); err != nil {
			cfg.Logger.Warn("not ready", "error", err)
			writeProblem(newWriter(w), newProblem(503, "not-ready", "the server's log says more", "the database cannot be used"))
			return
		}
		p.answer(w, `{"ok":true}`)
	})
	p.mux.HandleFunc("/", p.nothing)
	return p, nil
}

func (p *Protected) nothing(w http.ResponseWriter, _ *http.Request) {
	writeProblem(newWriter(w), newProblem(404, "no-such-route", "a protected instance signs nothing: ask the trusted one", "there is nothing here"))
}

func (p *Protected) answer(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", wire.JSON)
	_, _ = w.Write([]byte(text + "\n"))
}

// ServeHTTP implements http.Handler.
func (p *Protected) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	if pr := p.addresses.take(limit.Address(r), time.Now()); pr != nil {
		writeProblem(newWriter(rw), pr)
		return
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		writeProblem(newWriter(rw), newProblem(403, "cross-origin", "", "a web page of another origin may not do that"))
		return
	}
	_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(2 * time.Minute))
	p.mux.ServeHTTP(rw, r)
}

// Show gives the API pages, before it serves: below /console/, for whoever comes over
// TLS. A browser that asks for / is led there. Who calls is told by [Protected.Caller].
func (p *Protected) Show(pages http.Handler) {
	p.mux.HandleFunc(consolePath, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			writeProblem(newWriter(w), newProblem(404, "no-such-route", "listen with tls and its ca", "pages are for browsers, which show a certificate"))
			return
		}
		pages.ServeHTTP(w, r)
	})
	p.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || !strings.Contains(r.Header.Get("Accept"), "text/html") {
			p.nothing(w, r)
			return
		}
		http.Redirect(w, r, consolePath, http.StatusSeeOther)
	})
}

const consolePath = "/console/"

// Caller is whoever calls over TLS with a certificate that the configuration gives a
// role: all of them read, and those who run the instance may do more. refused says why
// it is nobody; nil: it is somebody.
func (p *Protected) Caller(r *http.Request) (name string, runs bool, refused *Refused) {
	err := error(newProblem(401, "unauthorized", "cert and key in the browser", "a client certificate is wanted"))
	if r.TLS != nil {
		name, err = p.right(r, agents.ReadAgents)
	}
	if err != nil {
		x, ok := errors.AsType[*problem](err)
		if !ok {
			x = newProblem(500, "internal", "", "internal error")
		}
		return "", false, &Refused{x.Status, x.Code, x.Detail, x.Hint}
	}
	_, no := p.right(r, agents.SubmitJobs)
	return name, no == nil, nil
}

// Refused is why somebody is nobody here.
type Refused struct {
	Status             int
	Code, Detail, Hint string
}

// Stop ends what waits, so that a server can drain.
func (p *Protected) Stop() { p.stop.Do(func() { close(p.stopping) }) }

// right judges a call by the caller's certificate and the configuration's roles.
// Whoever reaches a Unix socket is one whom its owner lets in. Loopback says nothing
// of that: every user of the machine reaches it, and every page in their browsers.
func (p *Protected) right(r *http.Request, right agents.Right) (string, error) {
	switch {
	case r.TLS == nil && isUnix(r) && near(r):
		return "local", nil
	case r.TLS == nil:
		return "", newProblem(403, "scope", "listen on unix:PATH, or with tls and its ca", "who calls without TLS may do something on a Unix socket alone, and not through a proxy")
	}
	if len(r.TLS.VerifiedChains) == 0 {
		return "", newProblem(401, "unauthorized", "cert and key in the client configuration", "a client certificate is wanted")
	}
	name := certificateName(r.TLS.VerifiedChains[0][0])
	if name == "" {
		return "", newProblem(401, "certificate", "ask whoever issued it", "client certificate: it names nobody, or two")
	}
	ro := p.cfg.Roles
	lists := [][]string{ro.Administrators}
	switch right {
	case agents.ReadAgents, agents.ReadJobs, agents.ReadCircle, agents.ReadRecords:
		lists = append(lists, ro.Operators, ro.Auditors)
	case agents.SubmitJobs, agents.ExportRecords:
		lists = append(lists, ro.Operators)
	}
	for _, l := range lists {
		if slices.Contains(l, name) {
			return name, nil
		}
	}
	return "", newProblem(403, "scope", "instance.roles in the server's configuration", "%s may not do that: it takes the right %s", name, right)
}

// certificateName is the one name in a certificate; "" for none, or more than one.
func certificateName(c *x509.Certificate) string {
	name := ""
	for _, u := range c.URIs {
		n, ok := strings.CutPrefix(u.String(), certPrefix)
		if !ok {
			continue
		}
		if n == "" || name != "" && n != name {
			return ""
		}
		name = n
	}
	return name
}
