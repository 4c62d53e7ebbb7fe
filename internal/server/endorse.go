package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// maxSteps is how often a step is decided anew because the request has moved.
const maxSteps = 20

// Endorse takes an endorsement or a disapproval. One that has arrived before is
// no error. One that can never count is refused, and the refusal is logged.
func (s *Server) Endorse(ctx context.Context, envelope []byte) (*store.Request, error) {
	env, _, e, err := s.cache.Endorsement(envelope)
	if err != nil {
		return nil, malformed("endorsement", err)
	}
	r := s.recent.request(e.Request)
	for range maxSteps {
		// Nobody is refused, and nothing is taken for done, by what is remembered.
		remembered := r != nil
		if !remembered {
			if r, err = s.cfg.Store.Request(ctx, e.Request); err != nil {
				return nil, err
			}
			s.recent.keep(r, nil)
		}
		now := s.now()
		c, why, err := s.endorsement(r, env, e, envelope, now)
		switch {
		case remembered && c == nil:
			r = nil
			continue
		case err != nil:
			return nil, err
		case why != "":
			return nil, s.reject(ctx, env, e, envelope, why, now)
		case c == nil:
			return r, nil
		}
		s.cfg.Hook("endorse")
		err = s.cfg.Store.Apply(ctx, c)
		if errors.Is(err, store.ErrConflict) {
			s.recent.forget(r.ID)
			r = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		s.cfg.Hook("endorsed")
		s.Metrics.Endorsed.Add(1)
		s.changed(c)
		r = r.After(c)
		s.showAhead(r)
		if r.State == store.Endorsed {
			s.start(r.ID, r)
		}
		return r, nil
	}
	return nil, store.ErrConflict
}

// endorsement is the change of r by an endorsement that has just arrived; or why
// it can never count; or nothing of these for one that is there already.
func (s *Server) endorsement(r *store.Request, env *statement.Envelope, e *statement.Endorsement, envelope []byte, now time.Time) (c *store.Change, why string, err error) {
	id := env.ID()
	for _, old := range r.Endorsements {
		if old.ID == id {
			return nil, "", nil
		}
	}
	if r.Sent {
		return nil, "", executing(r)
	}
	// What is endorsed and waits can still be disapproved.
	if r.State != store.Pending && (r.State != store.Endorsed || e.Verdict != statement.Disapprove) {
		return nil, "", problem(409, "request-closed", "greatseal request show "+r.ID.String()[:12], "request %s is %s: it takes no more endorsements", r.ID.String()[:12], r.State)
	}
	ev := evidenceOf(r)
	ev.Endorsements = append(ev.Endorsements, envelope)
	d, _ := s.Chain().Judge(ev, now, quorum.Options{Cache: s.cache})
	if why := unfit(d); why != "" {
		return nil, why, nil
	}
	if n := said(r, e); n >= maxSaid {
		return nil, "", problem(409, "too-many-endorsements", "the last one counts", "%s has said %s to request %s %d times", e.Endorser, e.Verdict, r.ID.String()[:12], n)
	}
	c = &store.Change{
		Request: r.ID, Revision: r.Revision, At: now, Code: string(d.Code), Detail: d.Reason,
		Endorsement: &store.Endorsement{ID: id, Envelope: envelope, Endorser: e.Endorser, Verdict: e.Verdict, Arrived: now},
	}
	if err := s.enter(c, audit.KindEndorsement, r.ID, envelope, now); err != nil {
		return nil, "", err
	}
	s.settle(c, r, d)
	return c, "", nil
}

// executing is the problem of whoever comes when a request is with the keeper: what
// the keeper does is not withdrawn.
func executing(r *store.Request) *Problem {
	short := r.ID.String()[:12]
	return problem(409, "request-executing", "greatseal request show "+short+" says what became of it", "request %s is with the keeper, or may be: nothing is changed until it has answered", short)
}

// settle sets the state that a decision leads to, and whom to tell. What is granted
// is sent with the change that completes it, so that nothing can come between the
// two; a server that ends leaves it to another one.
func (s *Server) settle(c *store.Change, r *store.Request, d *quorum.Decision) {
	switch {
	case d.State == quorum.Granted:
		c.State, c.Sent = store.Endorsed, !s.closing.Load()
	case d.Code == quorum.NotYet, d.Code == quorum.OutsideWindow:
		c.State = store.Endorsed
	case d.State == quorum.Disapproved:
		c.State = store.Disapproved
		s.tell(c, notify.Disapproved, r, d.Reason)
	case d.State == quorum.Refused:
		c.State = store.Failed
		s.tell(c, notify.Failed, r, d.Reason)
	default:
		c.State = store.Pending
		if slices.ContainsFunc(d.Votes, func(v quorum.Vote) bool { return v.Verdict == statement.Disapprove }) {
			s.tellPeople(c, notify.Unreachable, r, "")
		}
	}
}

// unfit says why the last endorsement of what d judged cannot count, now or ever;
// it is empty for one that counts, or would if others did not.
func unfit(d *quorum.Decision) string {
	if len(d.Votes) == 0 {
		return d.Reason
	}
	if v := d.Votes[len(d.Votes)-1]; !v.Counted && !v.Standing {
		return v.Why
	}
	return ""
}

// Cancel withdraws an open request. The requester signs the withdrawal: the
// message is [CancelMessage].
func (s *Server) Cancel(ctx context.Context, id statement.ID, who string, sig statement.Signature) (*store.Request, error) {
	for range maxSteps {
		r, err := s.cfg.Store.Request(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.State == store.Cancelled {
			return r, nil
		}
		if !r.State.Open() {
			return nil, problem(409, "request-closed", "", "request %s is %s", id.String()[:12], r.State)
		}
		if r.Sent {
			return nil, executing(r)
		}
		if who != r.Requester {
			return nil, problem(403, "not-requester", "an endorser can disapprove it", "request %s is %s's: only its requester cancels it", id.String()[:12], r.Requester)
		}
		cred, err := s.credential(who, credential.ID(sig.KeyID))
		if err != nil {
			return nil, err
		}
		if err := cred.Verify(credential.Login, CancelMessage(id), sig.Sig); err != nil {
			return nil, problem(403, "requester-signature", "", "the withdrawal is not signed by %s", who)
		}
		after, err := s.withdraw(ctx, r, who)
		if errors.Is(err, store.ErrConflict) {
			continue // sent, or something else has changed
		}
		return after, err
	}
	return nil, store.ErrConflict
}

func (s *Server) withdraw(ctx context.Context, r *store.Request, who string) (*store.Request, error) {
	now := s.now()
	c := &store.Change{Request: r.ID, Revision: r.Revision, State: store.Cancelled, At: now}
	if err := s.enter(c, audit.KindCancel, r.ID, []byte(who), now); err != nil {
		return nil, err
	}
	s.tell(c, notify.Cancelled, r, "")
	if err := s.cfg.Store.Apply(ctx, c); err != nil {
		return nil, err
	}
	s.changed(c)
	return r.After(c), nil
}

// CancelMessage is what the requester signs to withdraw a request.
func CancelMessage(id statement.ID) []byte { return []byte("greatseal cancel v1\n" + id.String()) }

// credential finds a credential of a person or machine of the charter in force.
func (s *Server) credential(name string, id credential.ID) (credential.Credential, error) {
	head := s.Charter()
	list := head.People[name].Credentials
	if m, ok := head.Machines[name]; ok {
		list = m.Credentials
	}
	for _, c := range list {
		if cred, err := head.Credential(c); err == nil && cred.ID() == id {
			return cred, nil
		}
	}
	return nil, problem(403, "credential-unknown", "greatseal charter show lists the credentials", "%s is not a credential of %s", id, name)
}

func evidenceOf(r *store.Request) quorum.Evidence {
	ev := quorum.Evidence{Request: r.Envelope}
	for _, e := range r.Endorsements {
		ev.Endorsements = append(ev.Endorsements, e.Envelope)
	}
	return ev
}
