package ecc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Rejected is the event of webhooks about rejections.
const Rejected notify.Event = notify.Rejected

// kindRejection is the kind of the jobs that deliver rejections; ":" and the name of
// the receiver follow.
const kindRejection = "agent-rejection"

// maxListed is how many records a rejection names, and maxListedBytes how long their
// keys may be: the entry of the log holds its body.
const (
	maxListed      = 16
	maxListedBytes = 8 << 10
)

// Reject keeps an agent's refusal of a job, and ends the job.
func (s *Service) Reject(ctx context.Context, p *Peer, l Lease, r *rejection.Error) error {
	q, err := p.lease(l)
	if err != nil {
		return err
	}
	if r == nil || !r.Code.Valid() {
		return malformed("want one of the reason codes")
	}
	r = rejection.New(r.Code, r.Subject, r.Detail) // whatever was hostile, it is one line now
	job, err := s.cfg.Store.QueueRecord(ctx, q.Job)
	if errors.Is(err, store.ErrNotFound) {
		return ErrLost
	}
	if err != nil {
		return err
	}
	refs, size := []record.Ref{}, 0
	if asked, _, err := Asked(job); err == nil {
		for _, a := range asked[:min(len(asked), maxListed)] {
			for _, k := range a.Ref.Key {
				size += len(k)
			}
			if size > maxListedBytes {
				break
			}
			refs = append(refs, a.Ref)
		}
	}
	list, err := json.Marshal(refs, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("ecc: rejection: %w", err)
	}
	now := s.now()
	// One for each attempt: whatever else an agent says of it later fills no log.
	sum := sha256.Sum256(fmt.Appendf(nil, "greatseal rejection v2\x00%s\x00%s\x00%d", q.Agent, q.Job, q.Attempt))
	x := &store.AgentRejection{ID: hex.EncodeToString(sum[:16]), Time: now, Agent: q.Agent, Job: q.Job, Attempt: q.Attempt, Topic: job.Topic,
		Code: string(r.Code), Subject: r.Subject, Detail: r.Detail, Records: list}
	body, err := s.message(x)
	if err != nil {
		return err
	}
	e := audit.NewEntry(audit.KindRejection, now, [32]byte{}, body)
	data, err := e.Encode()
	if err != nil {
		return fmt.Errorf("ecc: rejection: %w", err)
	}
	if _, _, detached := e.Detached(); detached {
		return ErrTooLarge
	}
	entry := store.LogEntry{Kind: audit.KindRejection, Time: e.Time, Data: data}
	var jobs []store.Job
	for _, w := range s.cfg.Webhooks {
		if w.Wants(Rejected) {
			jobs = append(jobs, store.Job{Kind: kindRejection + ":" + w.Name, Ref: x.ID + "/" + w.Name, Payload: []byte(x.ID), RunAt: now})
		}
	}
	if s.cfg.Notices {
		j, err := notices.Alert(Rejected, x.ID, s.cfg.Instance, now, notify.Fact{Name: "Agent", Value: x.Agent}, notify.Fact{Name: "Job", Value: x.Job}, notify.Fact{Name: "Topic", Value: x.Topic},
			notify.Fact{Name: "Code", Value: x.Code}, notify.Fact{Name: "Subject", Value: x.Subject}, notify.Fact{Name: "Detail", Value: x.Detail})
		if err != nil {
			return fmt.Errorf("ecc: rejection: %w", err)
		}
		jobs = append(jobs, j)
	}
	fresh, err := s.cfg.Store.RejectWork(ctx, q, x, []store.LogEntry{entry}, jobs)
	if err != nil {
		return mapped(err)
	}
	if fresh {
		s.Metrics.Rejected.Add(1)
		s.log.Warn("an agent refused a job", "agent", x.Agent, "job", x.Job, "topic", x.Topic, "code", x.Code, "subject", x.Subject)
	}
	return nil
}

// rejected is a rejection as the log and webhooks show it.
type rejected struct {
	Instance string       `json:"instance"`
	Agent    string       `json:"agent"`
	Job      string       `json:"job"`
	Attempt  uint64       `json:"attempt"`
	Topic    string       `json:"topic"`
	Code     string       `json:"code"`
	Subject  string       `json:"subject,omitzero"`
	Detail   string       `json:"detail,omitzero"`
	Records  []record.Ref `json:"records"`
}

func (s *Service) about(x *store.AgentRejection) (*rejected, error) {
	out := &rejected{Instance: s.cfg.Instance, Agent: x.Agent, Job: x.Job, Attempt: x.Attempt, Topic: x.Topic, Code: x.Code, Subject: x.Subject, Detail: x.Detail}
	if err := json.Unmarshal(x.Records, &out.Records); err != nil {
		return nil, fmt.Errorf("ecc: rejection: %w", err)
	}
	return out, nil
}

// message is the body of the log entry.
func (s *Service) message(x *store.AgentRejection) ([]byte, error) {
	a, err := s.about(x)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(a, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("ecc: rejection: %w", err)
	}
	return b, nil
}

// webhook is the body of a message.
type webhook struct {
	Type      notify.Event `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      *rejected    `json:"data"`
}

const deliverTries = 12

// deliver sends what waits to be sent, to each receiver apart.
func (s *Service) deliver(ctx context.Context) {
	l := &notices.Lanes{Store: s.cfg.Store, Prefix: kindRejection, Clock: s.now, Logger: s.log, Do: func(ctx context.Context, j store.Job) {
		err := s.send(ctx, &j)
		if ctx.Err() != nil {
			return // the lease runs out and somebody else does it
		}
		if err == nil {
			s.Metrics.Notified.Add(1)
		}
		if err == nil || j.Attempts >= deliverTries {
			if err != nil {
				s.log.Error("a message about a rejection was given up", "rejection", string(j.Payload), "error", err)
			}
			s.complain(ctx, "messages", s.cfg.Store.Done(ctx, j.ID))
			return
		}
		s.Metrics.NotifyFailures.Add(1)
		wait := min(5*time.Second<<min(j.Attempts, 10), time.Hour)
		s.complain(ctx, "messages", s.cfg.Store.Retry(ctx, j.ID, s.now().Add(wait), err.Error()))
	}}
	l.Run(ctx)
}

func (s *Service) send(ctx context.Context, j *store.Job) error {
	x, err := s.cfg.Store.Rejection(ctx, string(j.Payload))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.cfg.Webhooks, func(w notify.Webhook) bool { return j.Ref == x.ID+"/"+w.Name })
	if i < 0 {
		return nil // it was taken out of the configuration
	}
	about, err := s.about(x)
	if err != nil {
		return err
	}
	body, err := json.Marshal(webhook{Rejected, x.Time, about}, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("ecc: message: %w", err)
	}
	return s.cfg.Sender.Send(ctx, s.cfg.Webhooks[i], "rej_"+x.ID, s.now(), body)
}

// Rejections lists rejections, newest first; agent and job may be empty.
func (s *Service) Rejections(ctx context.Context, agent, job string, before int64, limit int) ([]store.AgentRejection, error) {
	return s.cfg.Store.Rejections(ctx, agent, job, before, limit)
}
