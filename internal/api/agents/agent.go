package agents

import (
	"context"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

const maxWait = time.Minute

type octets struct{ Body func(huma.Context) }

// raw answers with bytes.
func raw(contentType string, b []byte) *octets {
	return &octets{func(hc huma.Context) {
		hc.SetHeader("Content-Type", contentType)
		_, _ = hc.BodyWriter().Write(b)
	}}
}

// JobParam is the job of a path. It is exported for reflection.
type JobParam struct {
	ID string `path:"id" minLength:"32" maxLength:"32" pattern:"^[0-9a-f]{32}$" doc:"ID of the job"`
}

func (p JobParam) lease(l wire.AgentLease) ecc.Lease {
	return ecc.Lease{Job: p.ID, Attempt: l.Attempt, Token: l.Token}
}

func enrolled(e *ecc.Enrolled) *wire.AgentEnrolled {
	return &wire.AgentEnrolled{State: e.State, Fingerprint: e.Fingerprint, Certificates: e.Certificates, Clusters: e.Clusters, RetryAfter: e.RetryAfter.Milliseconds()}
}

func (m *mount) agentRoutes() {
	const tag = "agent"
	type none struct{}
	svc := m.svc

	type enrolIn struct{ Body wire.AgentEnrolment }
	type enrolOut struct{ Body wire.AgentEnrolled }
	route(m, op{method: http.MethodPost, path: "/agent/enrol", id: "agent-enrol", tag: tag, public: true, sum: "Ask for an agent's certificate",
		doc: "With a PKCS #10 request signed by the agent's key; again, until an administrator has compared the fingerprint. With \"rekey\", under the certificate of the agent, another key takes the place of its own at its first use."},
		func(ctx context.Context, in *enrolIn) (*enrolOut, error) {
			c, b := callOf(ctx), &in.Body
			var e *ecc.Enrolled
			var err error
			switch {
			case b.Rekey && c.peer == nil:
				return nil, ecc.ErrInvalidated
			case b.Rekey && c.peer.Name() != b.Name:
				return nil, newProblem(403, wire.CodeForbidden, "", "an agent changes its own key alone")
			case b.Rekey:
				e, err = svc.Rekey(ctx, c.peer, b.Request)
			default:
				e, err = svc.Enrol(ctx, ecc.Enrolment{Name: b.Name, Request: b.Request, Version: b.Version, OS: b.OS, Arch: b.Arch, Topics: b.Topics, Address: addressOf(c.r)})
			}
			if err != nil {
				return nil, err
			}
			return &enrolOut{*enrolled(e)}, nil
		})

	type selfOut struct{ Body wire.AgentSelf }
	route(m, op{method: http.MethodGet, path: "/agent/self", id: "agent-self", tag: tag, sum: "What the instance knows of the agent that asks"},
		func(ctx context.Context, _ *none) (*selfOut, error) {
			a, err := svc.Agent(ctx, callOf(ctx).peer.Name())
			if err != nil {
				return nil, err
			}
			return &selfOut{wire.AgentSelf{Name: a.Name, Instance: svc.Instance(), Fingerprint: hex.EncodeToString(a.Key[:]), Clusters: a.Clusters, NotAfter: a.NotAfter}}, nil
		})

	type beatIn struct{ Body wire.AgentBeat }
	type beatOut struct{ Body wire.AgentPulse }
	route(m, op{method: http.MethodPost, path: "/agent/heartbeat", id: "agent-heartbeat", tag: tag, sum: "Say that the agent lives, and learn what it is to do"},
		func(ctx context.Context, in *beatIn) (*beatOut, error) {
			b := &in.Body
			p, err := svc.Heartbeat(ctx, callOf(ctx).peer, ecc.Beat{Version: b.Version, Running: b.Running, Spooled: b.Spooled, Draining: b.Draining, Circle: b.Circle, TrustUntil: b.TrustUntil})
			if err != nil {
				return nil, err
			}
			return &beatOut{wire.AgentPulse{Time: time.Now().UTC(), Every: svc.Times().Heartbeat.Milliseconds(), Clusters: p.Clusters, Rekey: p.Rekey, Cancel: p.Cancel, PullCircle: p.PullCircle, Certificates: p.Renewed}}, nil
		})

	type wantIn struct{ Body wire.AgentWant }
	route(m, op{method: http.MethodPost, path: "/agent/lease", id: "agent-lease", tag: tag, answer: wire.CBOR, sum: "Ask for work, and wait for it",
		doc: "docs/spec/orders.md describes the answer. It may be empty. What it holds is this agent's for two minutes, and begins with \"start\"."},
		func(ctx context.Context, in *wantIn) (*octets, error) {
			want := ecc.Want{Topics: in.Body.Topics, Max: in.Body.Max}
			if in.Body.Only != "" {
				only, err := order.ParsePriority(in.Body.Only)
				if err != nil {
					return nil, newProblem(422, wire.CodeMalformed, "", "only: want interactive, expedited or standard")
				}
				want.Only = &only
			}
			wait := min(max(time.Duration(in.Body.Wait)*time.Millisecond, 0), maxWait)
			want.Wait = wait
			wctx, done, err := m.waiting(ctx, wait+10*time.Second)
			if err != nil {
				return nil, err
			}
			defer done()
			works, err := svc.Next(wctx, callOf(ctx).peer, want)
			if err != nil {
				return nil, err
			}
			out := &wire.Leased{}
			size := 0
			for i := range works {
				w := &works[i]
				b, err := w.Delivery.Encode()
				if err != nil {
					return nil, err
				}
				// What would make the answer too long waits for the end of its lease:
				// it is this agent's, and comes again.
				if size += len(b); i > 0 && size > m.limits.Delivery {
					break
				}
				out.Works = append(out.Works, wire.Work{Job: w.Lease.Job, Attempt: w.Lease.Attempt, Token: w.Lease.Token, Until: w.Until.UnixMilli(), Topic: w.Topic, Priority: uint8(w.Priority), Delivery: b})
			}
			b, err := out.Encode()
			if err != nil {
				return nil, err
			}
			return raw(wire.CBOR, b), nil
		})

	route(m, op{method: http.MethodGet, path: "/agent/events", id: "agent-events", tag: tag, answer: wire.Events, sum: "Hear of work as server-sent events",
		doc: "Events \"work\" say that there may be some; however much there is, it is one event. The stream ends after an hour, and when the agent is invalidated."},
		func(ctx context.Context, _ *none) (*octets, error) {
			const life = time.Hour
			wctx, done, err := m.waiting(ctx, life)
			if err != nil {
				return nil, err
			}
			c := callOf(ctx)
			return &octets{func(huma.Context) {
				defer done()
				m.events(wctx, c)
			}}, nil
		})

	type leaseIn struct {
		JobParam
		Body wire.AgentLease
	}
	type untilOut struct{ Body wire.AgentUntil }
	route(m, op{method: http.MethodPost, path: "/agent/jobs/{id}/start", id: "agent-start", tag: tag, sum: "Say durably that a job begins",
		doc: "An agent begins nothing before the answer. Again under the same lease changes nothing."},
		func(ctx context.Context, in *leaseIn) (*untilOut, error) {
			until, err := svc.Start(ctx, callOf(ctx).peer, in.lease(in.Body))
			return &untilOut{wire.AgentUntil{Until: until.UTC()}}, err
		})
	route(m, op{method: http.MethodPost, path: "/agent/jobs/{id}/progress", id: "agent-progress", tag: tag, sum: "Prolong the lease of a job that runs"},
		func(ctx context.Context, in *leaseIn) (*untilOut, error) {
			until, cancel, err := svc.Progress(ctx, callOf(ctx).peer, in.lease(in.Body))
			return &untilOut{wire.AgentUntil{Until: until.UTC(), Cancel: cancel}}, err
		})

	type pageIn struct {
		JobParam
		Number  int64  `path:"number" minimum:"0" maximum:"2147483648" doc:"from 0, one after the other"`
		Attempt uint64 `header:"Lease-Attempt" required:"true"`
		Token   string `header:"Lease-Token" required:"true" maxLength:"32"`
		Type    string `header:"Page-Type" maxLength:"100" default:"application/octet-stream" doc:"media type of the page"`
	}
	route(m, op{method: http.MethodPut, path: "/agent/jobs/{id}/pages/{number}", id: "agent-page", tag: tag, content: wire.Octets, body: m.svc.Limits().Page, status: 204,
		sum: "Bring one page of a result", doc: "The same page again changes nothing; another one with its number is refused."},
		func(ctx context.Context, in *pageIn) (*none, error) {
			l := in.lease(wire.AgentLease{Attempt: in.Attempt, Token: in.Token})
			c := callOf(ctx)
			body, err := io.ReadAll(c.r.Body) // bounded; an empty page is a page
			if err != nil {
				return nil, err
			}
			return &none{}, svc.Page(ctx, c.peer, l, in.Number, in.Type, body)
		})

	type finishIn struct {
		JobParam
		Body wire.AgentFinish
	}
	route(m, op{method: http.MethodPost, path: "/agent/jobs/{id}/finish", id: "agent-finish", tag: tag, status: 204, sum: "End a job",
		doc: "Again with the same outcome changes nothing."},
		func(ctx context.Context, in *finishIn) (*none, error) {
			facts := []byte("{}")
			if in.Body.Facts != nil {
				var err error
				if facts, err = json.Marshal(in.Body.Facts, json.Deterministic(true)); err != nil {
					return nil, err
				}
			}
			return &none{}, svc.Finish(ctx, callOf(ctx).peer, in.lease(in.Body.AgentLease), ecc.Outcome{Error: in.Body.Error, Pages: in.Body.Pages, Facts: facts})
		})

	type rejectIn struct {
		JobParam
		Body wire.AgentReject
	}
	route(m, op{method: http.MethodPost, path: "/agent/jobs/{id}/reject", id: "agent-reject", tag: tag, status: 204, sum: "Refuse a job",
		doc: "With one of the reason codes, and names in the place of values. The job ends; the rejection is kept, logged and sent on."},
		func(ctx context.Context, in *rejectIn) (*none, error) {
			r := rejection.New(rejection.Code(in.Body.Code), in.Body.Subject, in.Body.Detail)
			return &none{}, svc.Reject(ctx, callOf(ctx).peer, in.lease(in.Body.AgentLease), r)
		})

	route(m, op{method: http.MethodGet, path: "/agent/circle", id: "agent-circle", tag: tag, answer: wire.CBOR, sum: "The bundles of the circle of trust",
		doc: "One for each trusted side. Agents judge them themselves."},
		func(ctx context.Context, _ *none) (*octets, error) {
			bundles, err := svc.Circle(ctx)
			if err != nil {
				return nil, err
			}
			b, err := (&wire.Bundles{Bundles: bundles}).Encode()
			if err != nil {
				return nil, err
			}
			return raw(wire.CBOR, b), nil
		})

	type attachmentIn struct {
		JobParam
		Body wire.AgentAttachment
	}
	route(m, op{method: http.MethodPost, path: "/agent/jobs/{id}/attachment", id: "agent-attachment", tag: tag, answer: wire.Octets, sum: "The bytes of an attachment",
		doc: "Of a record that came with the job. Agents digest them themselves."},
		func(ctx context.Context, in *attachmentIn) (*octets, error) {
			sum, err := hex.DecodeString(in.Body.SHA256)
			if err != nil || len(sum) != 32 {
				return nil, newProblem(422, wire.CodeMalformed, "", "sha256: want 64 hexadecimal digits")
			}
			c := callOf(ctx)
			r, err := svc.Attachment(ctx, c.peer, in.lease(in.Body.AgentLease), in.Body.Record, record.Attachment{Name: in.Body.Name, SHA256: [32]byte(sum)})
			if err != nil {
				return nil, err
			}
			return &octets{func(huma.Context) {
				defer r.Close()
				c.w.Header().Set("Content-Type", wire.Octets)
				if _, err := io.Copy(&pieces{c.w, http.NewResponseController(c.w)}, r); err != nil {
					m.log.Warn("an attachment was cut", "error", err)
					panic(http.ErrAbortHandler) // the peer is to notice
				}
			}}, nil
		})
}

// keepalive is how often a stream of events says that it is there, and whether its
// agent still is one.
const keepalive = 15 * time.Second

func (m *mount) events(ctx context.Context, c *call) {
	c.w.Header().Set("Content-Type", wire.Events)
	out := &pieces{c.w, http.NewResponseController(c.w)}
	// What came before is told as well.
	work := true
	for n := 1; ; n++ {
		text := ": still here\n\n"
		if work {
			text = fmt.Sprintf("event: work\nid: %d\ndata: {}\n\n", n)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return
		}
		if err := out.ctl.Flush(); err != nil || ctx.Err() != nil {
			return
		}
		var err error
		if work, err = m.svc.Await(ctx, c.peer, keepalive); err != nil {
			return
		}
		if ctx.Err() != nil {
			return
		}
		if c.peer, err = m.svc.Peer(ctx, c.r.TLS.PeerCertificates[0]); err != nil {
			return
		}
	}
}
