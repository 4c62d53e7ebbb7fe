package quorum

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// Options are what a caller may add to a judgement. The zero value is good.
type Options struct {
	Cache *Cache // of verified signatures; nil: none
}

// judgement is one run over one piece of evidence.
type judgement struct {
	ix    *index
	known func(statement.CharterRef) *index // charters of the chain not newer than ix; nil for others
	at    time.Time
	cache *Cache
	d     *Decision

	id   statement.ID
	req  *statement.Request
	rule *rule
	next *charter.Charter // of charter.replace
}

// judge does the work. Its judgement carries what a grant needs.
func judge(ix *index, known func(statement.CharterRef) *index, ev Evidence, at time.Time, o Options) *judgement {
	at = statement.Seconds(at)
	j := &judgement{ix: ix, known: known, at: at, cache: o.Cache,
		d: &Decision{Charter: ix.ref, At: at, Votes: []Vote{}}}
	if r := j.request(ev); r != nil {
		return j.refused(r)
	}
	if r := j.command(); r != nil {
		return j.refused(r)
	}
	if r := j.times(); r != nil {
		return j.refused(r)
	}
	if j.rule.tree != nil {
		if !j.votes(ev.Endorsements) {
			return j
		}
	} else {
		for range ev.Endorsements {
			j.d.Votes = append(j.d.Votes, Vote{Why: "not asked: the rule is unattended"})
		}
	}
	switch p := j.policy(); {
	case j.req.Created.After(at.Add(Skew)):
		j.pend(NotYet, "made in the future, at %s: the requester's clock is wrong", clockTime(j.req.Created))
	case at.Before(j.req.NotBefore):
		j.pend(NotYet, "not to be executed before %s", clockTime(j.req.NotBefore))
	case p != nil && p.Window != nil && !p.Window.Contains(at):
		j.pend(OutsideWindow, "executed %s only", p.Window)
	default:
		j.d.State = Granted
	}
	return j
}

func clockTime(t time.Time) string { return t.Format(time.RFC3339) }

func (j *judgement) refused(r *Refusal) *judgement {
	j.d.State, j.d.Code, j.d.Reason = Refused, r.Code, r.Detail
	return j
}

func (j *judgement) pend(c Code, format string, args ...any) {
	j.d.State, j.d.Code, j.d.Reason = Pending, c, fmt.Sprintf(format, args...)
}

func (j *judgement) policy() *charter.Policy {
	if s := j.req.Command.Sign; s != nil {
		p := j.ix.c.Policies[s.Policy]
		return &p
	}
	return nil
}

// single reads an envelope with its one signature.
func single(b []byte) (*statement.Envelope, error) {
	e, err := statement.DecodeEnvelope(b)
	if err != nil {
		return nil, err
	}
	if n := len(e.Signatures); n != 1 {
		return nil, fmt.Errorf("%d signatures: want exactly one, the author's own", n)
	}
	return e, nil
}

// signed checks that e was signed by name, with one of his credentials of now.
func (j *judgement) signed(e *statement.Envelope, name string) (credential.ID, error) {
	s := e.Signatures[0]
	id := credential.ID(s.KeyID)
	c, ok := j.ix.who[name].creds[id]
	if !ok {
		return id, fmt.Errorf("credential %.100q is not one of %s in charter %d", s.KeyID, name, j.ix.ref.Version)
	}
	if err := j.cache.verify(c, credential.Statement, statement.PAE(e.Payload), s.Sig); err != nil {
		return id, fmt.Errorf("signature does not verify: %w", err)
	}
	return id, nil
}

// request reads the request and checks who made it, under which charter.
func (j *judgement) request(ev Evidence) *Refusal {
	if n := len(ev.Endorsements); n > MaxEndorsements {
		return refuse(Malformed, "%d endorsements: at most %d", n, MaxEndorsements)
	}
	e, id, req, err := j.cache.Request(ev.Request)
	if e != nil {
		j.id, j.d.Request = id, id
	}
	if err != nil {
		return refuse(Malformed, "request: %v", err)
	}
	j.req = req
	if req.Deployment != j.ix.c.Deployment {
		return refuse(DeploymentMismatch, "a request of %s: this is %s", req.Deployment, j.ix.c.Deployment)
	}
	if j.known(req.Charter) == nil {
		return refuse(CharterUnknown, "names charter %d (%.12s…), which is not in the chain up to version %d", req.Charter.Version, req.Charter.ID, j.ix.ref.Version)
	}
	if _, ok := j.ix.who[req.Requester]; !ok {
		return refuse(RequesterUnknown, "%s is not in charter %d", req.Requester, j.ix.ref.Version)
	}
	if _, err := j.signed(e, req.Requester); err != nil {
		return refuse(RequesterSignature, "%v", err)
	}
	return nil
}

// command finds the rule and checks the command's arguments against the charter.
func (j *judgement) command() *Refusal {
	cmd := j.req.Command
	r, refusal := j.ix.rule(cmd)
	if refusal != nil {
		return refusal
	}
	j.rule = r
	j.d.Rule = r.name
	if !r.requesters[j.req.Requester] {
		return refuse(RequesterNotAllowed, "%s does not let %s ask", r.name, j.req.Requester)
	}
	if k := cmd.KeyName(); cmd.Sign == nil && cmd.Charter == nil {
		if _, ok := j.ix.c.Keys[k]; !ok {
			return refuse(KeyUnknown, "the charter has no key %s", k)
		}
	}
	if cmd.Charter != nil {
		return j.successor(cmd.Charter.Statement)
	}
	if s := cmd.Sign; s != nil {
		p := j.policy()
		if s.Key != p.Key {
			return refuse(KeyMismatch, "policy %s signs with %s, not with %s", s.Policy, p.Key, s.Key)
		}
		for _, f := range s.Formats {
			if !slices.Contains(p.Formats, f) {
				return refuse(FormatNotAllowed, "policy %s does not sign %s: it signs %s", s.Policy, f, strings.Join(p.Formats, ", "))
			}
		}
		switch {
		case len(p.Purposes) == 0 && s.Purpose != "":
			return refuse(PurposeNotAllowed, "policy %s names no purposes: the request is for %s", s.Policy, s.Purpose)
		case len(p.Purposes) > 0 && !slices.Contains(p.Purposes, s.Purpose):
			return refuse(PurposeNotAllowed, "policy %s signs for %s, not for %q", s.Policy, strings.Join(p.Purposes, ", "), s.Purpose)
		case p.MaxItems > 0 && s.Count > p.MaxItems:
			return refuse(TooManyItems, "%d items: policy %s takes %d", s.Count, s.Policy, p.MaxItems)
		}
	}
	return nil
}

// successor checks that the charter that is carried can follow the one that judges.
func (j *judgement) successor(payload []byte) *Refusal {
	next, err := charter.Decode(payload)
	if err != nil {
		return refuse(CharterInvalid, "%v", err)
	}
	head := j.ix
	switch {
	case next.Deployment != head.c.Deployment:
		return refuse(CharterInvalid, "a charter of %s: this is %s", next.Deployment, head.c.Deployment)
	case next.Version != head.ref.Version+1:
		return refuse(CharterInvalid, "version %d: version %d is in force, the next is %d", next.Version, head.ref.Version, head.ref.Version+1)
	case next.Previous != head.ref.ID:
		return refuse(CharterInvalid, "follows charter %.12s…: %.12s… is in force", next.Previous, head.ref.ID)
	case next.Created.Before(head.c.Created):
		return refuse(CharterInvalid, "made at %s, before the charter in force", clockTime(next.Created))
	}
	j.next = next
	return nil
}

func (j *judgement) times() *Refusal {
	r := j.req
	if life := r.Expires.Sub(r.Created); life > j.rule.Lifetime() {
		return refuse(LifetimeTooLong, "waits %s: %s allows %s", charter.Duration(life), j.rule.name, charter.Duration(j.rule.Lifetime()))
	}
	if !j.at.Before(r.Expires) {
		return refuse(Expired, "expired at %s", clockTime(r.Expires))
	}
	return nil
}
