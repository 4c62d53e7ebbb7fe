package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// The kinds of job.
const (
	jobTimestamp = "timestamp" // Ref: request
	jobWebhook   = "webhook"   // and ":" and its name; Ref: message ID; Payload: the body
	jobReminder  = "reminder"  // Ref: request
)

const (
	jobLease = 5 * time.Minute
	// stampTurn and stampsOfTurn bound one turn of timestamping: it ends before
	// its lease, and requests take turns.
	stampTurn    = 3 * time.Minute
	stampsOfTurn = 512
	// maxAttempts is when a job gives up: with the backoff below, after about 13 hours.
	maxAttempts = 24
	maxBackoff  = time.Hour
)

// tell adds the messages that a change causes to it.
func (s *Server) tell(c *store.Change, e notify.Event, r *store.Request, reason string) {
	if e == notify.Pending {
		c.Jobs = append(c.Jobs, store.Job{Kind: jobReminder, Ref: r.ID.String(), RunAt: c.At.Add(r.Expires.Sub(c.At) / 2)})
	}
	s.tellPeople(c, e, r, reason)
	var body []byte
	for _, w := range s.cfg.Webhooks {
		if !w.Wants(e) {
			continue
		}
		if body == nil {
			state := c.State
			if c.New != nil {
				state = c.New.State
			}
			if state == "" {
				state = r.State
			}
			m := notify.Message{Type: e, Timestamp: statement.Seconds(c.At), Data: notify.Data{
				Deployment: s.Charter().Deployment, Request: r.ID.String(), Command: string(r.Command), Policy: r.Policy, Key: r.Key,
				Requester: r.Requester, Count: r.Count, State: string(state), Expires: r.Expires, Reason: reason,
			}}
			if e == notify.Pending || e == notify.Reminder {
				m.Data.Awaits = s.awaits(r)
			}
			var err error
			if body, err = m.Encode(); err != nil {
				s.log.Error("notification", "request", r.ID, "error", err)
				return
			}
		}
		ref := fmt.Sprintf("%s/%s/%s", w.Name, e, r.ID)
		c.Jobs = append(c.Jobs, store.Job{Kind: jobWebhook + ":" + w.Name, Ref: ref, Payload: body, RunAt: c.At})
	}
}

// errMore ends a turn of a job that has got on, and goes on in another turn.
var errMore = errors.New("server: more to do")

// runReminders and runTimestamps do what is due, apart from each other and from
// webhooks, of which each is apart: nobody who is slow holds up another's message.
func (s *Server) runReminders(ctx context.Context) error { return s.runJobs(ctx, jobReminder) }

func (s *Server) runTimestamps(ctx context.Context) error { return s.runJobs(ctx, jobTimestamp) }

func (s *Server) runJobs(ctx context.Context, kinds ...string) error {
	for {
		jobs, err := s.cfg.Store.Lease(ctx, kinds, 32, s.now(), jobLease)
		if err != nil || len(jobs) == 0 {
			return err
		}
		var wg sync.WaitGroup
		for _, j := range jobs {
			wg.Go(func() { s.runJob(ctx, j) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (s *Server) runJob(ctx context.Context, j store.Job) {
	s.cfg.Hook("job")
	err := s.doJob(ctx, j)
	s.cfg.Hook("job.done")
	if ctx.Err() != nil {
		return // the lease runs out and somebody else does it
	}
	if err == nil {
		err = s.cfg.Store.Done(ctx, j.ID)
	} else if errors.Is(err, errMore) {
		err = s.cfg.Store.Again(ctx, j.ID, s.now())
	} else if j.Attempts >= maxAttempts {
		s.log.Error("a job is given up", "kind", j.Kind, "ref", j.Ref, "attempts", j.Attempts, "error", err)
		err = s.cfg.Store.Done(ctx, j.ID)
	} else {
		d := min(maxBackoff, time.Second<<min(j.Attempts, 12))
		s.log.Warn("a job is tried again", "kind", j.Kind, "ref", j.Ref, "in", d, "error", err)
		err = s.cfg.Store.Retry(ctx, j.ID, s.now().Add(d), err.Error())
	}
	if err != nil {
		s.log.Error("job", "kind", j.Kind, "ref", j.Ref, "error", err)
	}
}

func (s *Server) doJob(ctx context.Context, j store.Job) error {
	switch {
	case j.Kind == jobTimestamp:
		return s.stamp(ctx, j)
	case strings.HasPrefix(j.Kind, jobWebhook):
		return s.deliver(ctx, j)
	case j.Kind == jobReminder:
		return s.remind(ctx, j)
	}
	return fmt.Errorf("server: unknown job %q", j.Kind)
}

func (s *Server) deliver(ctx context.Context, j store.Job) error {
	for _, w := range s.cfg.Webhooks {
		if len(j.Ref) > len(w.Name) && j.Ref[:len(w.Name)+1] == w.Name+"/" {
			err := s.cfg.Sender.Send(ctx, w, messageID(j.Ref), s.now(), j.Payload)
			if err != nil {
				s.Metrics.NotifyFailures.Add(1)
			} else {
				s.Metrics.Notified.Add(1)
			}
			return err
		}
	}
	return nil // the webhook was taken out of the configuration
}

func (s *Server) remind(ctx context.Context, j store.Job) error {
	id, err := statement.ParseID(j.Ref)
	if err != nil {
		return err
	}
	r, err := s.cfg.Store.Request(ctx, id)
	if err != nil || r.State != store.Pending {
		return err
	}
	c := &store.Change{At: s.now()}
	s.tell(c, notify.Reminder, r, "")
	return s.cfg.Store.Enqueue(ctx, c.Jobs...)
}

// stamp gets a timestamp for every signature of a request that has none.
func (s *Server) stamp(ctx context.Context, j store.Job) error {
	id, err := statement.ParseID(j.Ref)
	if err != nil {
		return err
	}
	r, err := s.cfg.Store.Request(ctx, id)
	if err != nil {
		return err
	}
	out, _, err := s.Outcome(ctx, id)
	if err != nil {
		return err
	}
	policy, ok := s.Charter().Policies[r.Policy]
	if !ok || len(policy.Timestamp) == 0 || s.cfg.Stamper == nil {
		return nil
	}
	have, err := s.cfg.Store.Timestamps(ctx, id)
	if err != nil {
		return err
	}
	turn, cancel := context.WithTimeout(ctx, stampTurn)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	failed := func() bool { mu.Lock(); defer mu.Unlock(); return first != nil }
	slots := make(chan struct{}, 8)
	begun, more := 0, false
	var done atomic.Int64
	for i, rounds := range out.Signatures {
		if _, ok := have[i]; ok || len(rounds) == 0 {
			continue
		}
		slots <- struct{}{} // ends: every turn does
		if more = begun == stampsOfTurn || turn.Err() != nil; more || failed() {
			<-slots
			break
		}
		begun++
		wg.Go(func() {
			defer func() { <-slots }()
			token, err := s.cfg.Stamper.Stamp(turn, policy.Timestamp, rounds[len(rounds)-1])
			if err == nil {
				err = s.cfg.Store.SetTimestamp(ctx, id, i, token)
			}
			if err == nil {
				s.Metrics.Timestamps.Add(1)
				done.Add(1)
				return
			}
			s.Metrics.TimestampFailures.Add(1)
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	s.watch.news()
	if done.Load() > 0 && ctx.Err() == nil && (more && first == nil || turn.Err() != nil) {
		return errMore
	}
	return first
}

// expire closes requests whose time is over.
func (s *Server) expire(ctx context.Context) error {
	ids, err := s.cfg.Store.Due(ctx, s.now(), 1000)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, err := s.cfg.Store.Request(ctx, id)
		if err != nil {
			return err
		}
		if err := s.expireOne(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// expireOne closes r, whose time is over, unless it has moved on or is with the
// keeper.
func (s *Server) expireOne(ctx context.Context, r *store.Request) error {
	if !r.State.Open() || r.Sent {
		return nil
	}
	now := s.now()
	c := &store.Change{Request: r.ID, Revision: r.Revision, State: store.Expired, Code: "expired", Detail: r.Detail, At: now}
	if err := s.enter(c, audit.KindExpire, r.ID, []byte{}, now); err != nil {
		return err
	}
	s.tell(c, notify.Expired, r, r.Detail)
	s.cfg.Hook("expire")
	err := s.cfg.Store.Apply(ctx, c)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	s.cfg.Hook("expired")
	s.changed(c)
	return nil
}

// messageID is the webhook-id of a message: the same for every attempt.
func messageID(ref string) string {
	h := sha256.Sum256([]byte("greatseal message v1\x00" + ref))
	return "msg_" + hex.EncodeToString(h[:16])
}
