package ecc

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what this replica has done.
type Metrics struct {
	Submitted, Leased, Started, Pages, Finished, Rejected, Lost, Expired, Undeliverable, Beats, Notified, NotifyFailures atomic.Int64
}

// Collectors are the service's metrics. No name of an agent or a job is in them.
func (s *Service) Collectors() []prometheus.Collector {
	var out []prometheus.Collector
	m := &s.Metrics
	for _, c := range []struct {
		name, help string
		v          *atomic.Int64
	}{
		{"jobs_submitted", "Jobs taken in.", &m.Submitted},
		{"jobs_leased", "Jobs handed out to agents, with an order each.", &m.Leased},
		{"jobs_started", "Beginnings that agents were granted.", &m.Started},
		{"result_pages", "Pages of results taken in.", &m.Pages},
		{"jobs_finished", "Jobs that their agents have ended.", &m.Finished},
		{"jobs_rejected", "Jobs that agents refused.", &m.Rejected},
		{"jobs_lost", "Jobs whose agents were given up while they ran.", &m.Lost},
		{"jobs_expired", "Jobs that nobody began in time.", &m.Expired},
		{"jobs_undeliverable", "Jobs whose records could not be delivered.", &m.Undeliverable},
		{"agent_heartbeats", "Heartbeats.", &m.Beats},
		{"rejection_notifications", "Messages about rejections delivered.", &m.Notified},
		{"rejection_notification_failures", "Messages about rejections that no receiver took; they are tried again.", &m.NotifyFailures},
	} {
		out = append(out, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "greatseal_" + c.name + "_total", Help: c.help}, func() float64 { return float64(c.v.Load()) }))
	}
	return append(out, &present{s})
}

// present collects what the database says when somebody asks.
type present struct{ s *Service }

// Describe says nothing: the metrics are what Collect finds.
func (c *present) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *present) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	jobs := prometheus.NewDesc("greatseal_queue_jobs", "Jobs in the queue by state.", []string{"state"}, nil)
	agents := prometheus.NewDesc("greatseal_agents", "Agents by state.", []string{"state"}, nil)
	if counts, err := c.s.cfg.Store.QueueCounts(ctx); err == nil {
		for state, n := range counts {
			ch <- prometheus.MustNewConstMetric(jobs, prometheus.GaugeValue, float64(n), string(state))
		}
	}
	if list, err := c.s.Agents(ctx); err == nil {
		n := map[string]float64{"up": 0, "down": 0, "invalid": 0}
		for _, a := range list {
			switch {
			case a.Up:
				n["up"]++
			case a.State == "valid":
				n["down"]++
			default:
				n["invalid"]++
			}
		}
		for state, v := range n {
			ch <- prometheus.MustNewConstMetric(agents, prometheus.GaugeValue, v, state)
		}
	}
}
