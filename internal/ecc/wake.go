package ecc

import (
	"context"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// hub wakes those who wait for work. However often one is woken before he looks, he
// looks once.
type hub struct {
	mu sync.Mutex
	m  map[string]map[chan struct{}]bool // by target
}

// wait registers for targets; done ends it.
func (h *hub) wait(targets []string) (woken <-chan struct{}, done func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = map[string]map[chan struct{}]bool{}
	}
	for _, t := range targets {
		if h.m[t] == nil {
			h.m[t] = map[chan struct{}]bool{}
		}
		h.m[t][c] = true
	}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, t := range targets {
			if delete(h.m[t], c); len(h.m[t]) == 0 {
				delete(h.m, t)
			}
		}
	}
}

// wake wakes those who wait for a target; "" is everybody.
func (h *hub) wake(target string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	each := func(l map[chan struct{}]bool) {
		for c := range l {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	if target != "" {
		each(h.m[target])
		return
	}
	for _, l := range h.m {
		each(l)
	}
}

func (h *hub) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.m) == 0
}

// listen hears of work that other replicas take in, where the database tells.
func (s *Service) listen(ctx context.Context) {
	for ctx.Err() == nil {
		s.complain(ctx, "listen", s.cfg.Store.WatchQueue(ctx, s.hub.wake))
		select {
		case <-ctx.Done():
		case <-time.After(s.cfg.Times.Poll):
		}
	}
}

// poll finds what nobody has told of: one question for all who wait here.
func (s *Service) poll(ctx context.Context) {
	if s.hub.empty() {
		return
	}
	targets, err := s.cfg.Store.ReadyTargets(ctx)
	if err != nil {
		s.complain(ctx, "poll", err)
		return
	}
	for _, t := range targets {
		s.hub.wake(t)
	}
}

// planAge is how long the members of clusters and who of them is up are
// remembered. It decides who is asked first, never who may begin.
const planAge = time.Second

// plan is who may have which cluster's jobs.
type plan struct {
	mu       sync.Mutex
	at       time.Time
	clusters []store.AgentCluster
	up       map[string]bool
}

func (s *Service) topology(ctx context.Context) ([]store.AgentCluster, map[string]bool, error) {
	p := &s.plan
	p.mu.Lock()
	defer p.mu.Unlock()
	now := s.now()
	if p.up != nil && !now.Before(p.at) && now.Before(p.at.Add(planAge)) {
		return p.clusters, p.up, nil
	}
	clusters, err := s.cfg.Store.Clusters(ctx)
	if err != nil {
		return nil, nil, err
	}
	up := map[string]bool{}
	if len(clusters) > 0 {
		agents, err := s.cfg.Store.Agents(ctx)
		if err != nil {
			return nil, nil, err
		}
		for i := range agents {
			up[agents[i].Name] = s.up(&agents[i], now) && !agents[i].Draining
		}
	}
	p.at, p.clusters, p.up = now, clusters, up
	return clusters, up, nil
}

// changed makes the next question read the clusters again.
func (s *Service) changed() {
	s.plan.mu.Lock()
	s.plan.up = nil
	s.plan.mu.Unlock()
	s.hub.wake("")
}

// clustersOf are the clusters that an agent is a member of, and those of them whose
// jobs it may have now: of a fail-over cluster the first member that is up.
func (s *Service) clustersOf(ctx context.Context, agent string) (member, now []string, err error) {
	clusters, up, err := s.topology(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range clusters {
		first := true
		for _, m := range c.Members {
			if m == agent {
				member = append(member, c.Name)
				if first || c.Mode == store.ClusterBalance {
					now = append(now, c.Name)
				}
				break
			}
			if up[m] {
				first = false
			}
		}
	}
	return member, now, nil
}

// up reports whether an agent is heard of.
func (s *Service) up(a *store.Agent, now time.Time) bool {
	return a.State == store.AgentValid && !a.Heartbeat.IsZero() && now.Before(a.Heartbeat.Add(s.cfg.Times.Down))
}
