package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// metrics are what /metrics shows. No name of a person, key or file is in them.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
}

func newMetrics(a *API) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "greatseal_http_request_duration_seconds", Help: "Calls by route and status, long-polls included.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"route", "status"})
	m.registry.MustRegister(m.calls, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &state{a: a})
	s := &a.cfg.Server.Metrics
	for _, c := range []struct {
		name, help string
		v          *atomic.Int64
	}{
		{"requests_submitted", "Requests taken in.", &s.Submitted},
		{"requests_attached", "Submissions that attached to a request.", &s.Attached},
		{"endorsements", "Endorsements and disapprovals taken in.", &s.Endorsed},
		{"endorsements_rejected", "Endorsements that can never count.", &s.Rejected},
		{"commands_executed", "Commands that the keeper has executed.", &s.Executed},
		{"commands_refused", "Commands that the keeper has refused.", &s.Refused},
		{"signatures", "Signatures made.", &s.Signatures},
		{"timestamps", "Timestamps obtained.", &s.Timestamps},
		{"timestamp_failures", "Timestamps that no authority gave; they are tried again.", &s.TimestampFailures},
		{"notifications", "Messages delivered to webhooks.", &s.Notified},
		{"notification_failures", "Messages that no webhook took; they are tried again.", &s.NotifyFailures},
		{"log_entries_sequenced", "Entries given their place in the log by this process.", &s.Sequenced},
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "greatseal_" + c.name + "_total", Help: c.help},
			func() float64 { return float64(c.v.Load()) }))
	}
	if e := a.cfg.Server.Notices(); e != nil {
		n := &e.Metrics
		for _, c := range []struct {
			name, help string
			v          *atomic.Int64
		}{
			{"sent", "Messages that a mail server or chat service has taken.", &n.Sent},
			{"failures", "Attempts that failed; they are made again.", &n.Failures},
			{"unsure", "Messages that were handed over twice without an answer.", &n.Unsure},
			{"given_up", "Messages that were refused for good, or for too long.", &n.GivenUp},
			{"held", "Messages that went into a digest.", &n.Held},
			{"dropped", "Messages whose recipient was no longer there.", &n.Dropped},
		} {
			m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "greatseal_notices_" + c.name + "_total", Help: c.help},
				func() float64 { return float64(c.v.Load()) }))
		}
	}
	return m
}

func (m *metrics) done(route string, status int, d time.Duration) {
	m.calls.WithLabelValues(route, strconv.Itoa(status)).Observe(d.Seconds())
}

// state collects what database and keeper say when somebody asks.
type state struct{ a *API }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("greatseal_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector; which jobs there are is not known before.
func (s *state) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s.a.issuers(ctx, gauge)
	up := 0.0
	if st, err := s.a.cfg.Server.Status(ctx); err == nil {
		up = 1
		stopped := 0.0
		if st.Stopped != "" {
			stopped = 1
		}
		gauge(desc("keeper_stopped", "1 when the keeper executes nothing."), stopped)
		gauge(desc("keeper_receipts", "Receipts that the keeper has issued."), float64(st.Receipts))
		for _, k := range st.Keys {
			usable := 0.0
			if k.Health == "" && k.State == "active" {
				usable = 1
			}
			gauge(desc("key_usable", "1 for a key that can sign.", "key", "state"), usable, k.Name, k.State)
		}
	}
	gauge(desc("receipts_missing", "Receipts of the keeper that this server lacks and could not fetch."), float64(s.a.cfg.Server.Lacking()))
	gauge(desc("keeper_up", "1 when the keeper answers."), up)
	if h, err := s.a.cfg.Store.Head(ctx); err == nil {
		gauge(desc("log_size", "Entries of the log."), float64(h.Tree.Size))
		gauge(desc("log_unsigned", "Entries that no checkpoint covers yet."), float64(h.Tree.Size-h.Signed))
	}
	if jobs, err := s.a.cfg.Store.Jobs(ctx); err == nil {
		for _, k := range []string{"timestamp", "webhook", "reminder"} {
			if _, ok := jobs[k]; !ok {
				jobs[k] = 0
			}
		}
		for k, n := range work(jobs) {
			gauge(desc("jobs", "Work that waits.", "kind"), float64(n), k)
		}
	}
	gauge(desc("charter_version", "Version of the charter in force."), float64(s.a.cfg.Server.Charter().Version))
}

func (a *API) healthRoutes() {
	type none struct{}
	type healthOut struct {
		Status int
		Body   wire.Health
	}
	route(a, op{method: http.MethodGet, path: "/healthz", root: true, id: "healthz", tag: "operation", access: public(), sum: "The process answers"},
		func(context.Context, *none) (*healthOut, error) {
			return &healthOut{Status: 200, Body: wire.Health{OK: true}}, nil
		})
	route(a, op{method: http.MethodGet, path: "/readyz", root: true, id: "readyz", tag: "operation", access: public(), sum: "Requests can be executed", doc: "503 with a problem where not. Where something else is not as it should be, \"reason\" says what."},
		func(ctx context.Context, _ *none) (*healthOut, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			select {
			case <-a.stopping:
				return nil, &problem{Status: 503, Code: "stopping", Detail: "the server is stopping", retry: 2}
			default:
			}
			if err := a.cfg.Server.Health(ctx); err != nil {
				a.log.Warn("not ready", "error", err)
				return nil, &problem{Status: 503, Code: "not-ready", Detail: "database or keeper cannot be used", Hint: "the server's log says more", retry: 2}
			}
			return &healthOut{Status: 200, Body: wire.Health{OK: true, Reason: a.cfg.Server.Degraded()}}, nil
		})
	prom := promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: false, DisableCompression: true})
	route(a, op{method: http.MethodGet, path: "/metrics", root: true, id: "metrics", tag: "operation", access: public(), answer: wire.Metrics, sum: "Counters for Prometheus",
		doc: "From this machine, or with the scope metrics."},
		func(ctx context.Context, _ *none) (*stream, error) {
			c := callOf(ctx)
			if !near(c.r) {
				if p := a.admit(c, only(scopeMetrics)); p != nil {
					return nil, p
				}
			}
			return a.stream(ctx, wire.Metrics, func(w *writer) error {
				prom.ServeHTTP(w, c.r)
				return nil
			}), nil
		})
}

// work counts jobs without the names of receivers, which kinds may end with.
func work(jobs map[string]int) map[string]int {
	out := map[string]int{}
	for k, n := range jobs {
		if i := strings.IndexAny(k, ".:"); i >= 0 && (k[:i] == "notice" || k[:i] == "webhook") {
			k = k[:i]
		}
		out[k] += n
	}
	return out
}
