package agents

import (
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
)

// AgentView is an agent as administrators see it.
type AgentView struct {
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Up          bool      `json:"up"`
	Fingerprint string    `json:"fingerprint"`
	Clusters    []string  `json:"clusters"`
	Topics      []string  `json:"topics"`
	Version     string    `json:"version,omitzero"`
	OS          string    `json:"os,omitzero"`
	Arch        string    `json:"arch,omitzero"`
	Heartbeat   time.Time `json:"heartbeat,omitzero"`
	Running     int64     `json:"running"`
	Spooled     int64     `json:"spooled"`
	Draining    bool      `json:"draining,omitzero"`
	Rekey       bool      `json:"rekey,omitzero"`
	Circle      string    `json:"circle,omitzero"`
	TrustUntil  time.Time `json:"trustUntil,omitzero"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
	Validated   time.Time `json:"validated,omitzero"`
	Validator   string    `json:"validator,omitzero"`
	Reason      string    `json:"reason,omitzero"`
}

func viewAgent(a *ecc.Status) AgentView {
	return AgentView{Name: a.Name, State: string(a.State), Up: a.Up, Fingerprint: hex.EncodeToString(a.Key[:]), Clusters: notNil(a.Clusters), Topics: notNil(a.Topics), Version: a.Version,
		OS: a.OS, Arch: a.Arch, Heartbeat: a.Heartbeat, Running: a.Running, Spooled: a.Spooled, Draining: a.Draining, Rekey: a.Rekey, Circle: a.Circle, TrustUntil: a.TrustUntil,
		NotAfter: a.NotAfter, Validated: a.Validated, Validator: a.Validator, Reason: a.Reason}
}

func notNil[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// AgentWaiting is an enrolment that waits.
type AgentWaiting struct {
	Fingerprint string    `json:"fingerprint"`
	Name        string    `json:"name"`
	Version     string    `json:"version,omitzero"`
	OS          string    `json:"os,omitzero"`
	Arch        string    `json:"arch,omitzero"`
	Topics      []string  `json:"topics"`
	Address     string    `json:"address,omitzero"`
	Created     time.Time `json:"created"`
}

// AgentCluster is a cluster; the order of its members is that of fail-over.
type AgentCluster struct {
	Name    string   `json:"name,omitzero"`
	Mode    string   `json:"mode"` // balance or failover
	Members []string `json:"members"`
}

// QueueAsk names a record that a job needs.
type QueueAsk struct {
	Table   string   `json:"table"`
	Key     []string `json:"key"`
	Purpose string   `json:"purpose"`
}

// QueueJob is a job to be submitted.
type QueueJob struct {
	ID         string            `json:"id,omitzero"`
	Agent      string            `json:"agent,omitzero"` // a name, or "*" for a copy for each; or
	Cluster    string            `json:"cluster,omitzero"`
	Topic      string            `json:"topic"`
	Name       string            `json:"name,omitzero"`
	Correlator string            `json:"agentCorrelator,omitzero"`
	Priority   string            `json:"priority,omitzero"`
	Records    []QueueAsk        `json:"records"`
	Params     map[string]string `json:"params,omitzero"`
	Repeatable bool              `json:"repeatable,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
}

// QueueJobs are jobs to be submitted, all or none.
type QueueJobs struct {
	Jobs []QueueJob `json:"jobs"`
}

// QueueIDs are those of the jobs that were submitted, in their order.
type QueueIDs struct {
	IDs []string `json:"ids"`
}

// QueueView is a job as it is shown: names of parameters, never values.
type QueueView struct {
	ID         string         `json:"id"`
	Agent      string         `json:"agent,omitzero"`
	Cluster    string         `json:"cluster,omitzero"`
	Parent     string         `json:"parent,omitzero"`
	Correlator string         `json:"agentCorrelator,omitzero"`
	Topic      string         `json:"topic"`
	Name       string         `json:"name,omitzero"`
	Source     string         `json:"source,omitzero"`
	State      string         `json:"state"`
	Error      string         `json:"errorString,omitzero"`
	Priority   string         `json:"priority"`
	Records    []QueueAsk     `json:"records"`
	Params     []string       `json:"params"`
	Repeatable bool           `json:"repeatable,omitzero"`
	Attempt    uint64         `json:"attempt"`
	Cancel     bool           `json:"cancel,omitzero"`
	Pages      int64          `json:"pages"`
	Bytes      int64          `json:"bytes"`
	Created    time.Time      `json:"created"`
	Started    time.Time      `json:"started,omitzero"`
	Processed  time.Time      `json:"processed,omitzero"`
	Expires    time.Time      `json:"expires,omitzero"`
	Outcome    jsontext.Value `json:"outcome,omitzero"`
}

func viewJob(r *store.QueueRecord) QueueView {
	v := QueueView{ID: r.ID, Agent: r.Agent, Cluster: r.Cluster, Parent: r.Parent, Correlator: r.AgentCorrelator, Topic: r.Topic, Name: r.Name, Source: r.Source, State: string(r.State),
		Error: r.ErrorString, Priority: r.Priority.String(), Records: []QueueAsk{}, Params: []string{}, Repeatable: r.Repeatable, Attempt: r.Attempt, Cancel: r.Cancel, Pages: r.Pages, Bytes: r.Bytes,
		Created: r.Created, Started: r.Started, Processed: r.Processed, Expires: r.Expires}
	if asked, params, err := ecc.Asked(r); err == nil {
		for _, a := range asked {
			v.Records = append(v.Records, QueueAsk{a.Ref.Table, a.Ref.Key, a.Purpose})
		}
		v.Params = notNil(slices.Sorted(maps.Keys(params)))
	}
	if o := jsontext.Value(r.Outcome); len(o) > 0 && o.IsValid() {
		v.Outcome = o
	}
	return v
}

// QueuePage is a list of jobs, newest first; Next, where it is set, is the value of
// "before" for the following page.
type QueuePage struct {
	Jobs []QueueView `json:"jobs"`
	Next string      `json:"next,omitzero"`
}

// ResultPage is one page of a result.
type ResultPage struct {
	ID     string `json:"id"`
	Number int64  `json:"number"`
	State  string `json:"state"`
	Type   string `json:"type"`
	Body   []byte `json:"body"`
}

// ResultPages are pages of a result; Next, where it is set, is the value of "from"
// for those that follow.
type ResultPages struct {
	Pages []ResultPage `json:"pages"`
	Next  string       `json:"next,omitzero"`
}

// AgentRejection is a job that an agent refused.
type AgentRejection struct {
	ID      string         `json:"id"`
	Time    time.Time      `json:"time"`
	Agent   string         `json:"agent"`
	Job     string         `json:"job"`
	Attempt uint64         `json:"attempt"`
	Topic   string         `json:"topic"`
	Code    string         `json:"code"`
	Subject string         `json:"subject,omitzero"`
	Detail  string         `json:"detail,omitzero"`
	Records jsontext.Value `json:"records"`
}

// AgentRejections are rejections, newest first.
type AgentRejections struct {
	Rejections []AgentRejection `json:"rejections"`
	Next       string           `json:"next,omitzero"`
}

// NameParam is the agent or cluster of a path.
type NameParam struct {
	Name string `path:"name" minLength:"1" maxLength:"64"`
}

// FingerprintParam is the key of a path.
type FingerprintParam struct {
	Fingerprint string `path:"fingerprint" minLength:"64" maxLength:"95" doc:"SHA-256 of the agent's public key, hexadecimal, as the agent shows it"`
}

func (m *mount) adminRoutes() {
	m.adminAgents()
	m.adminClusters()
	m.adminJobs()
}

func (m *mount) adminAgents() {
	const tag = "agents"
	type none struct{}
	svc := m.svc
	type listOut struct {
		Body struct {
			Agents []AgentView `json:"agents"`
		}
	}
	type oneOut struct{ Body AgentView }
	show := func(ctx context.Context, name string) (*oneOut, error) {
		a, err := svc.Agent(ctx, name)
		if err != nil {
			return nil, err
		}
		return &oneOut{viewAgent(a)}, nil
	}
	route(m, op{method: http.MethodGet, path: "/agents", id: "agents", tag: tag, right: ReadAgents, sum: "List agents"},
		func(ctx context.Context, _ *none) (*listOut, error) {
			list, err := svc.Agents(ctx)
			out := &listOut{}
			out.Body.Agents = []AgentView{}
			for i := range list {
				out.Body.Agents = append(out.Body.Agents, viewAgent(&list[i]))
			}
			return out, err
		})
	route(m, op{method: http.MethodGet, path: "/agents/{name}", id: "agents-show", tag: tag, right: ReadAgents, sum: "One agent"},
		func(ctx context.Context, in *NameParam) (*oneOut, error) { return show(ctx, in.Name) })

	type reasonIn struct {
		NameParam
		Body struct {
			Reason string `json:"reason,omitzero"`
		}
	}
	route(m, op{method: http.MethodPost, path: "/agents/{name}/invalidate", id: "agents-invalidate", tag: tag, right: ManageAgents, sum: "Take everything from an agent, at once",
		doc: "Its key is spent. What it runs is not stopped; its result is not taken in any more."},
		func(ctx context.Context, in *reasonIn) (*oneOut, error) {
			if err := svc.Invalidate(ctx, in.Name, in.Body.Reason, callOf(ctx).who); err != nil {
				return nil, err
			}
			return show(ctx, in.Name)
		})
	route(m, op{method: http.MethodPost, path: "/agents/{name}/rekey", id: "agents-rekey", tag: tag, right: ManageAgents, sum: "Ask an agent for a new key"},
		func(ctx context.Context, in *NameParam) (*oneOut, error) {
			if err := svc.AskRekey(ctx, in.Name); err != nil {
				return nil, err
			}
			return show(ctx, in.Name)
		})

	type waitingIn struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type waitingOut struct {
		Body struct {
			Enrolments []AgentWaiting `json:"enrolments"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/agent-enrolments", id: "agent-enrolments", tag: tag, right: ReadAgents, sum: "Who waits to become an agent",
		doc: "All of it is the word of whoever sent it. The fingerprint is that of a key which he has: compare it with what the agent shows on its own host."},
		func(ctx context.Context, in *waitingIn) (*waitingOut, error) {
			list, err := svc.Enrolments(ctx, in.Limit)
			out := &waitingOut{}
			out.Body.Enrolments = []AgentWaiting{}
			for _, e := range list {
				out.Body.Enrolments = append(out.Body.Enrolments, AgentWaiting{Fingerprint: hex.EncodeToString(e.Key[:]), Name: e.Name, Version: e.Version, OS: e.OS, Arch: e.Arch, Topics: notNil(e.Topics), Address: e.Address, Created: e.Created})
			}
			return out, err
		})
	route(m, op{method: http.MethodPost, path: "/agent-enrolments/{fingerprint}/validate", id: "agent-enrolments-validate", tag: tag, right: ManageAgents, sum: "Make the one with this key an agent",
		doc: "An agent of that name gets this key in the place of its own."},
		func(ctx context.Context, in *FingerprintParam) (*oneOut, error) {
			a, err := svc.Validate(ctx, in.Fingerprint, callOf(ctx).who)
			if err != nil {
				return nil, err
			}
			return show(ctx, a.Name)
		})
	type emptyOut struct{}
	route(m, op{method: http.MethodPost, path: "/agent-enrolments/{fingerprint}/refuse", id: "agent-enrolments-refuse", tag: tag, right: ManageAgents, status: 204, sum: "Refuse an enrolment"},
		func(ctx context.Context, in *FingerprintParam) (*emptyOut, error) {
			return &emptyOut{}, svc.Refuse(ctx, in.Fingerprint, callOf(ctx).who)
		})

	type rejectionsIn struct {
		Agent  string `query:"agent" maxLength:"64"`
		Job    string `query:"job" maxLength:"32"`
		Before int64  `query:"before" minimum:"0" doc:"page on: \"next\" of the page before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type rejectionsOut struct{ Body AgentRejections }
	route(m, op{method: http.MethodGet, path: "/rejections", id: "rejections", tag: tag, right: ReadAgents, sum: "Jobs that agents refused, newest first"},
		func(ctx context.Context, in *rejectionsIn) (*rejectionsOut, error) {
			list, err := svc.Rejections(ctx, in.Agent, in.Job, in.Before, in.Limit)
			out := &rejectionsOut{AgentRejections{Rejections: []AgentRejection{}}}
			for _, x := range list {
				records := jsontext.Value(x.Records)
				if !records.IsValid() {
					records = jsontext.Value("[]")
				}
				out.Body.Rejections = append(out.Body.Rejections, AgentRejection{ID: x.ID, Time: x.Time, Agent: x.Agent, Job: x.Job, Attempt: x.Attempt, Topic: x.Topic, Code: x.Code, Subject: x.Subject, Detail: x.Detail, Records: records})
			}
			if len(list) == in.Limit {
				out.Body.Next = strconv.FormatInt(list[len(list)-1].Sequence, 10)
			}
			return out, err
		})
}

func (m *mount) adminClusters() {
	const tag = "agents"
	type none struct{}
	svc := m.svc
	type clustersOut struct {
		Body struct {
			Clusters []AgentCluster `json:"clusters"`
		}
	}
	list := func(ctx context.Context) (*clustersOut, error) {
		l, err := svc.Clusters(ctx)
		out := &clustersOut{}
		out.Body.Clusters = []AgentCluster{}
		for _, c := range l {
			out.Body.Clusters = append(out.Body.Clusters, AgentCluster{c.Name, c.Mode, notNil(c.Members)})
		}
		return out, err
	}
	route(m, op{method: http.MethodGet, path: "/agent-clusters", id: "agent-clusters", tag: tag, right: ReadAgents, sum: "List clusters"},
		func(ctx context.Context, _ *none) (*clustersOut, error) { return list(ctx) })
	type putIn struct {
		NameParam
		Body AgentCluster
	}
	route(m, op{method: http.MethodPut, path: "/agent-clusters/{name}", id: "agent-clusters-put", tag: tag, right: ManageAgents, sum: "Make or replace a cluster",
		doc: "Mode balance: whoever has room. Mode failover: the first member that is up."},
		func(ctx context.Context, in *putIn) (*clustersOut, error) {
			if in.Body.Name != "" && in.Body.Name != in.Name {
				return nil, newProblem(422, wire.CodeMalformed, "", "name: is another than that of the path")
			}
			if err := svc.PutCluster(ctx, store.AgentCluster{Name: in.Name, Mode: in.Body.Mode, Members: in.Body.Members}); err != nil {
				return nil, err
			}
			return list(ctx)
		})
	route(m, op{method: http.MethodDelete, path: "/agent-clusters/{name}", id: "agent-clusters-delete", tag: tag, right: ManageAgents, sum: "Remove a cluster"},
		func(ctx context.Context, in *NameParam) (*clustersOut, error) {
			if err := svc.DeleteCluster(ctx, in.Name); err != nil {
				return nil, err
			}
			return list(ctx)
		})
}

func (m *mount) adminJobs() {
	const tag = "queue"
	svc := m.svc
	type submitIn struct{ Body QueueJobs }
	type idsOut struct{ Body QueueIDs }
	route(m, op{method: http.MethodPost, path: "/queue/jobs", id: "queue-submit", tag: tag, right: SubmitJobs, body: 64 << 20, status: 201, sum: "Submit jobs for agents, all or none",
		doc: "A job whose \"id\" is there already is left alone."},
		func(ctx context.Context, in *submitIn) (*idsOut, error) {
			jobs := make([]ecc.Job, len(in.Body.Jobs))
			for i, j := range in.Body.Jobs {
				p, err := order.ParsePriority(j.Priority)
				if err != nil {
					return nil, newProblem(422, wire.CodeMalformed, "", "priority: want interactive, expedited or standard")
				}
				jobs[i] = ecc.Job{ID: j.ID, Agent: j.Agent, Cluster: j.Cluster, Topic: j.Topic, Name: j.Name, Source: callOf(ctx).who, Correlator: j.Correlator, Priority: p, Params: j.Params, Repeatable: j.Repeatable, Expires: j.Expires}
				for _, r := range j.Records {
					jobs[i].Records = append(jobs[i].Records, ecc.Ask{Ref: record.Ref{Table: r.Table, Key: r.Key}, Purpose: r.Purpose})
				}
			}
			ids, err := svc.Submit(ctx, jobs...)
			return &idsOut{QueueIDs{ids}}, err
		})

	type listIn struct {
		Agent      string `query:"agent" maxLength:"64"`
		Cluster    string `query:"cluster" maxLength:"64"`
		Topic      string `query:"topic" maxLength:"64"`
		Source     string `query:"source" maxLength:"256"`
		Parent     string `query:"parent" maxLength:"32" doc:"of copies: the submission for every agent"`
		Correlator string `query:"agentCorrelator" maxLength:"256"`
		State      string `query:"state" maxLength:"16" doc:"ready, processing, processed or error"`
		Before     int64  `query:"before" minimum:"0" doc:"page on: \"next\" of the page before"`
		Limit      int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type pageOut struct{ Body QueuePage }
	route(m, op{method: http.MethodGet, path: "/queue/jobs", id: "queue-jobs", tag: tag, right: ReadJobs, sum: "List jobs, newest first"},
		func(ctx context.Context, in *listIn) (*pageOut, error) {
			if in.State != "" && !slices.Contains(store.QueueStates(), store.QueueState(in.State)) {
				return nil, newProblem(422, wire.CodeMalformed, "", "state: want one of %v", store.QueueStates())
			}
			list, err := svc.Jobs(ctx, store.QueueFilter{Agent: in.Agent, Cluster: in.Cluster, Topic: in.Topic, Source: in.Source, Parent: in.Parent, Correlator: in.Correlator, State: store.QueueState(in.State), Before: in.Before, Limit: in.Limit})
			out := &pageOut{QueuePage{Jobs: []QueueView{}}}
			for i := range list {
				out.Body.Jobs = append(out.Body.Jobs, viewJob(&list[i]))
			}
			if len(list) == in.Limit {
				out.Body.Next = strconv.FormatInt(list[len(list)-1].Sequence, 10)
			}
			return out, err
		})
	type oneOut struct{ Body QueueView }
	route(m, op{method: http.MethodGet, path: "/queue/jobs/{id}", id: "queue-job", tag: tag, right: ReadJobs, sum: "One job"},
		func(ctx context.Context, in *JobParam) (*oneOut, error) {
			r, err := svc.Job(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return &oneOut{viewJob(r)}, nil
		})
	route(m, op{method: http.MethodPost, path: "/queue/jobs/{id}/cancel", id: "queue-cancel", tag: tag, right: SubmitJobs, sum: "Cancel a job",
		doc: "One that has begun is asked to stop, and ends by its agent's word."},
		func(ctx context.Context, in *JobParam) (*oneOut, error) {
			r, err := svc.Cancel(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return &oneOut{viewJob(r)}, nil
		})
	type resultsIn struct {
		JobParam
		From  int64 `query:"from" minimum:"0"`
		Limit int   `query:"limit" minimum:"1" maximum:"16" default:"8"`
	}
	type resultsOut struct{ Body ResultPages }
	route(m, op{method: http.MethodGet, path: "/queue/jobs/{id}/results", id: "queue-results", tag: tag, right: ReadJobs, sum: "Pages of a result, once the job has ended"},
		func(ctx context.Context, in *resultsIn) (*resultsOut, error) {
			if _, err := svc.Job(ctx, in.ID); err != nil {
				return nil, err
			}
			list, err := svc.Results(ctx, in.ID, in.From, in.Limit)
			out := &resultsOut{ResultPages{Pages: []ResultPage{}}}
			for _, p := range list {
				out.Body.Pages = append(out.Body.Pages, ResultPage{ID: p.ID, Number: p.Pages, State: string(p.State), Type: p.ContentType, Body: p.Payload})
			}
			if len(list) == in.Limit {
				out.Body.Next = strconv.FormatInt(list[len(list)-1].Pages+1, 10)
			}
			return out, err
		})
}
