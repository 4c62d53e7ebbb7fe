package quorum

import (
	"errors"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/statement"
)

// Proposal is a charter that is only proposed, prepared to judge past evidence: what
// would it have decided? It gives no authority. It is safe for concurrent use.
type Proposal struct {
	ix    *index
	known func(statement.CharterRef) *index
}

// Propose prepares a charter that is only proposed. Evidence may name any charter of
// the chain as it is now. The error is that of the proposal's Check.
func (c *Chain) Propose(proposed *charter.Charter) (*Proposal, error) {
	payload, err := charter.Encode(proposed)
	if err != nil {
		return nil, err
	}
	next, err := charter.Decode(payload) // a copy, in canonical form
	if err != nil {
		return nil, err
	}
	ix, err := newIndex(next, next.Ref(payload))
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return &Proposal{ix, c.knownTo(c.versions[len(c.versions)-1])}, nil
}

// Charter is the proposal in its canonical form. The caller does not change it.
func (p *Proposal) Charter() (*charter.Charter, statement.CharterRef) { return p.ix.c, p.ix.ref }

// Judge judges evidence under the proposal at that time.
func (p *Proposal) Judge(ev Evidence, at time.Time, o Options) *Decision {
	return judge(p.ix, p.known, ev, at, o).d
}

// JudgeItems is Judge, and refuses what the conditions on items refuse: names and
// options. items are those of a request to sign.
func (p *Proposal) JudgeItems(ev Evidence, items [][]byte, at time.Time, o Options) *Decision {
	j := judge(p.ix, p.known, ev, at, o)
	if j.d.State != Granted || j.req.Command.Sign == nil {
		return j.d
	}
	a := j.authority()
	var r *Refusal
	if errors.As(a.Covers(items), &r) {
		j.refused(r)
	}
	return j.d
}
