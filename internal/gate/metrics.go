package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Collectors are the gate's metrics. No name of a request or file is in them.
func (g *Gate) Collectors() []prometheus.Collector {
	var out []prometheus.Collector
	m := &g.Metrics
	for _, c := range []struct {
		name, help string
		v          *atomic.Int64
	}{
		{"endorsed", "Requests that the gate endorsed.", &m.Endorsed},
		{"disapproved", "Requests that the gate disapproved.", &m.Disapproved},
		{"undecided", "Times that a request could not be judged; it is tried again.", &m.Undecided},
		{"unwanted", "Verdicts that the server did not take, and requests that were not what they were called.", &m.Unwanted},
		{"inbox_errors", "Times that the inbox could not be read.", &m.InboxErrors},
	} {
		out = append(out, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "greatseal_gate_" + c.name + "_total", Help: c.help, ConstLabels: prometheus.Labels{"gate": g.Kind},
		}, func() float64 { return float64(c.v.Load()) }))
	}
	return out
}

// serve offers /metrics and /healthz at address until ctx ends. The address that it
// listens on is told to ready.
func (g *Gate) serve(ctx context.Context, address string, ready func(net.Addr)) (wait func(), err error) {
	reg := prometheus.NewRegistry()
	for _, c := range g.Collectors() {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("gate: metrics: %w", err)
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("gate: metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.Logger.Error("gate: metrics", "error", err)
		}
	}()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	ready(l.Addr())
	return func() { stop(); s.Close(); <-done }, nil
}
