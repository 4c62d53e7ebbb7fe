package client

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/greatseal-io/greatseal/internal/api/agents"
	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// Agents lists the agents of a protected instance.
func (c *Client) Agents(ctx context.Context) ([]agents.AgentView, error) {
	r, err := get[struct {
		Agents []agents.AgentView `json:"agents"`
	}](ctx, c, "/agents", nil, 0)
	if err != nil {
		return nil, err
	}
	return r.Agents, nil
}

// Agent is one agent.
func (c *Client) Agent(ctx context.Context, name string) (*agents.AgentView, error) {
	return get[agents.AgentView](ctx, c, "/agents/"+url.PathEscape(name), nil, 0)
}

// InvalidateAgent takes everything from an agent.
func (c *Client) InvalidateAgent(ctx context.Context, name, reason string) (*agents.AgentView, error) {
	return post[agents.AgentView](ctx, c, "/agents/"+url.PathEscape(name)+"/invalidate", map[string]string{"reason": reason}, false)
}

// RekeyAgent asks an agent for a new key.
func (c *Client) RekeyAgent(ctx context.Context, name string) (*agents.AgentView, error) {
	return decode[agents.AgentView](ctx, c, call{method: http.MethodPost, path: "/agents/" + url.PathEscape(name) + "/rekey"})
}

// Enrolments lists who waits to become an agent.
func (c *Client) Enrolments(ctx context.Context) ([]agents.AgentWaiting, error) {
	r, err := get[struct {
		Enrolments []agents.AgentWaiting `json:"enrolments"`
	}](ctx, c, "/agent-enrolments", url.Values{"limit": {"1000"}}, 0)
	if err != nil {
		return nil, err
	}
	return r.Enrolments, nil
}

// ValidateAgent makes the one with this key an agent.
func (c *Client) ValidateAgent(ctx context.Context, fingerprint string) (*agents.AgentView, error) {
	return decode[agents.AgentView](ctx, c, call{method: http.MethodPost, path: "/agent-enrolments/" + url.PathEscape(fingerprint) + "/validate"})
}

// RefuseAgent refuses an enrolment.
func (c *Client) RefuseAgent(ctx context.Context, fingerprint string) error {
	_, err := c.bytes(ctx, call{method: http.MethodPost, path: "/agent-enrolments/" + url.PathEscape(fingerprint) + "/refuse"})
	return err
}

// Rejections lists jobs that agents refused, newest first.
func (c *Client) Rejections(ctx context.Context, agent, job, before string, limit int) (*agents.AgentRejections, error) {
	q := values("agent", agent, "job", job, "before", before)
	q.Set("limit", strconv.Itoa(limit))
	return get[agents.AgentRejections](ctx, c, "/rejections", q, 0)
}

type clusters struct {
	Clusters []agents.AgentCluster `json:"clusters"`
}

// Clusters lists clusters of agents.
func (c *Client) Clusters(ctx context.Context) ([]agents.AgentCluster, error) {
	r, err := get[clusters](ctx, c, "/agent-clusters", nil, 0)
	if err != nil {
		return nil, err
	}
	return r.Clusters, nil
}

// PutCluster makes or replaces a cluster.
func (c *Client) PutCluster(ctx context.Context, k agents.AgentCluster) ([]agents.AgentCluster, error) {
	b, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	r, err := decode[clusters](ctx, c, call{method: http.MethodPut, path: "/agent-clusters/" + url.PathEscape(k.Name), body: b, content: wire.JSON})
	if err != nil {
		return nil, err
	}
	return r.Clusters, nil
}

// DeleteCluster removes a cluster.
func (c *Client) DeleteCluster(ctx context.Context, name string) ([]agents.AgentCluster, error) {
	r, err := decode[clusters](ctx, c, call{method: http.MethodDelete, path: "/agent-clusters/" + url.PathEscape(name)})
	if err != nil {
		return nil, err
	}
	return r.Clusters, nil
}

// SubmitJobs submits jobs for agents, all or none. Jobs with IDs may be submitted
// again.
func (c *Client) SubmitJobs(ctx context.Context, jobs ...agents.QueueJob) ([]string, error) {
	once := false
	for _, j := range jobs {
		once = once || j.ID == ""
	}
	r, err := post[agents.QueueIDs](ctx, c, "/queue/jobs", agents.QueueJobs{Jobs: jobs}, once)
	if err != nil {
		return nil, err
	}
	return r.IDs, nil
}

// QueueFilter selects jobs of the queue.
type QueueFilter struct {
	Agent, Cluster, Topic, Source, Parent, Correlator, State, Before string
	Limit                                                            int
}

// QueueJobs lists jobs, newest first.
func (c *Client) QueueJobs(ctx context.Context, f QueueFilter) (*agents.QueuePage, error) {
	q := values("agent", f.Agent, "cluster", f.Cluster, "topic", f.Topic, "source", f.Source, "parent", f.Parent, "agentCorrelator", f.Correlator, "state", f.State, "before", f.Before)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return get[agents.QueuePage](ctx, c, "/queue/jobs", q, 0)
}

// QueueJob is one job.
func (c *Client) QueueJob(ctx context.Context, id string) (*agents.QueueView, error) {
	return get[agents.QueueView](ctx, c, "/queue/jobs/"+url.PathEscape(id), nil, 0)
}

// CancelJob cancels a job, or asks one that has begun to stop.
func (c *Client) CancelJob(ctx context.Context, id string) (*agents.QueueView, error) {
	return decode[agents.QueueView](ctx, c, call{method: http.MethodPost, path: "/queue/jobs/" + url.PathEscape(id) + "/cancel"})
}

// JobResults are pages of a result, from a number on.
func (c *Client) JobResults(ctx context.Context, id, from string) (*agents.ResultPages, error) {
	return get[agents.ResultPages](ctx, c, "/queue/jobs/"+url.PathEscape(id)+"/results", values("from", from), large)
}
