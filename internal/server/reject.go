package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// maxSaid is how often one endorser says the same of one request. Evidence holds
// a limited number of endorsements: nobody may use up the others' places.
const maxSaid = 8

// said counts the verdicts of e's kind that e's endorser has given on r.
func said(r *store.Request, e *statement.Endorsement) int {
	n := 0
	for _, old := range r.Endorsements {
		if old.Endorser == e.Endorser && old.Verdict == e.Verdict {
			n++
		}
	}
	return n
}

const (
	forgeriesPerSecond = 2
	forgeriesBurst     = 200
	maxRejections      = 1 << 14 // remembered
)

// rejections keeps refused endorsements from filling the log: the same one is
// logged once, and those that nobody of the charter has signed at a bounded rate.
type rejections struct {
	mu      sync.Mutex
	seen    map[[32]byte]bool
	forged  *rate.Limiter
	started bool
}

// log reports whether a refused envelope is to be logged.
func (j *rejections) log(envelope []byte, authentic bool, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.started {
		j.seen, j.forged, j.started = map[[32]byte]bool{}, rate.NewLimiter(forgeriesPerSecond, forgeriesBurst), true
	}
	sum := sha256.Sum256(envelope)
	if j.seen[sum] || !authentic && !j.forged.AllowN(now, 1) {
		return false
	}
	if len(j.seen) >= maxRejections {
		clear(j.seen)
	}
	j.seen[sum] = true
	return true
}

// reject logs an endorsement that was refused, and says why.
func (s *Server) reject(ctx context.Context, env *statement.Envelope, e *statement.Endorsement, envelope []byte, why string, now time.Time) error {
	s.Metrics.Rejected.Add(1)
	short := e.Request.String()[:12]
	p := problem(403, "endorsement-refused", "greatseal request show "+short+" says whose endorsement is missing", "the endorsement does not count: %s", why)
	if !s.rejected.log(envelope, s.authentic(env, e.Endorser), now) {
		return p
	}
	c := &store.Change{At: now}
	if err := s.enter(c, audit.KindRejection, e.Request, envelope, now); err != nil {
		return err
	}
	if err := s.cfg.Store.Apply(ctx, c); err != nil {
		return errors.Join(p, err)
	}
	kick(s.sequence)
	return p
}

// authentic reports whether name has signed env with a credential of the charter
// in force.
func (s *Server) authentic(env *statement.Envelope, name string) bool {
	if len(env.Signatures) != 1 {
		return false
	}
	cred, err := s.credential(name, credential.ID(env.Signatures[0].KeyID))
	return err == nil && cred.Verify(credential.Statement, statement.PAE(env.Payload), env.Signatures[0].Sig) == nil
}
