package quorum

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/charter/threshold"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/statement"
)

// ballot is one endorsement that is its endorser's, for this request.
type ballot struct {
	index int // in the evidence
	e     statement.Endorsement
}

// votes judges the endorsements and fills the tree. It reports whether the quorum
// is there; if not, the decision says why.
func (j *judgement) votes(endorsements [][]byte) bool {
	latest := map[string]ballot{}
	var order []string // of endorsers, as they first appear
	for i, b := range endorsements {
		v, e := j.vote(b)
		j.d.Votes = append(j.d.Votes, v)
		if e == nil {
			continue
		}
		old, ok := latest[e.Endorser]
		if !ok {
			order = append(order, e.Endorser)
		} else if !newer(*e, old.e) {
			j.d.Votes[i].Why = again(*e, old.e)
			continue
		} else {
			j.d.Votes[old.index].Why = again(old.e, *e)
		}
		latest[e.Endorser] = ballot{i, *e}
	}

	actors := newSeats(j)
	for _, name := range order {
		b := latest[name]
		v := &j.d.Votes[b.index]
		if b.e.Verdict == statement.Disapprove {
			g, veto := j.rule.veto[name]
			v.Standing = veto || len(j.rule.stands[name]) > 0
			if veto {
				v.Counted, v.Why = true, "disapproves for "+g+", which has a veto"
				if j.d.State == "" {
					j.d.State, j.d.Code = Disapproved, Vetoed
					j.d.Reason = fmt.Sprintf("%s of %s disapproves", name, g)
					if b.e.Comment != "" {
						j.d.Reason += ": " + oneLine(b.e.Comment)
					}
				}
				continue
			}
			v.Why = "disapproves, and has no veto: takes back an own vote and no other"
			continue
		}
		if why := j.lapsed(b.e); why != "" {
			v.Why = why
			continue
		}
		v.Standing = true
		actors.sit(name, b.index)
	}
	f := j.rule.tree.Fill(actors.stands)
	actors.explain(f)
	j.d.Tree = j.branch(actors, f)
	if j.d.State == Disapproved {
		return false
	}
	if !f.Satisfied {
		j.d.Missing = actors.missing(f)
		j.pend(QuorumPending, "needs %s", j.d.Missing)
		return false
	}
	return true
}

// oneLine keeps what somebody wrote from moving the reader's cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// newer reports whether a is the endorser's word rather than b: the later one,
// and of two at one time the disapproval.
func newer(a, b statement.Endorsement) bool {
	if !a.Created.Equal(b.Created) {
		return a.Created.After(b.Created)
	}
	return a.Verdict == statement.Disapprove && b.Verdict == statement.Endorse
}

func again(old, by statement.Endorsement) string {
	if old.Verdict == by.Verdict {
		return "same person again"
	}
	return fmt.Sprintf("same person again: changed to %s", by.Verdict)
}

// vote reads one endorsement. The endorsement is nil when it says nothing about
// this request; the vote tells why. Times are not judged here: a disapproval
// never lapses by time.
func (j *judgement) vote(b []byte) (Vote, *statement.Endorsement) {
	env, id, e, err := j.cache.Endorsement(b)
	if env == nil {
		return Vote{Why: "malformed: " + err.Error()}, nil
	}
	v := Vote{Endorsement: id}
	if err != nil {
		v.Why = "malformed: " + err.Error()
		return v, nil
	}
	v.Endorser, v.Verdict, v.Created = e.Endorser, e.Verdict, e.Created
	if e.Deployment != j.req.Deployment {
		v.Why = "of another deployment: " + e.Deployment
		return v, nil
	}
	if e.Request != j.id {
		v.Why = "for another request: " + e.Request.String()
		return v, nil
	}
	if _, ok := j.ix.who[e.Endorser]; !ok {
		v.Why = fmt.Sprintf("lapsed: %s is not in charter %d", e.Endorser, j.ix.ref.Version)
		return v, nil
	}
	if v.Credential, err = j.signed(env, e.Endorser); err != nil {
		v.Why = err.Error()
		return v, nil
	}
	if v.Credential.Kind() == credential.KindOIDC { // whose signatures of anything but requests do not verify
		v.Why = "a workload's token never endorses"
		return v, nil
	}
	v.Why = "not counted"
	return v, e
}

// lapsed says why an endorsement does not count, apart from the tree; "" when it
// does.
func (j *judgement) lapsed(e statement.Endorsement) string {
	mine, his := j.ix.who[j.req.Requester], j.ix.who[e.Endorser]
	if mine.actor == his.actor {
		if e.Endorser == j.req.Requester {
			return "the requester's own"
		}
		return fmt.Sprintf("the requester's own: %s and %s belong together", e.Endorser, j.req.Requester)
	}
	if len(j.rule.stands[e.Endorser]) == 0 {
		return j.stranger(e.Endorser)
	}
	expires := e.Expires
	if d := j.rule.Endorsements; d != 0 {
		if t := e.Created.Add(time.Duration(d)); t.Before(expires) {
			expires = t
		}
	}
	switch {
	case e.Created.Before(j.req.Created.Add(-Skew)):
		return "made before the request, at " + clockTime(e.Created)
	case e.Created.After(j.at.Add(Skew)):
		return "made in the future, at " + clockTime(e.Created)
	case !j.at.Before(expires):
		return "expired at " + clockTime(expires)
	}
	return ""
}

// stranger says why an endorser has no seat: never had one, or lost it since the
// request was made.
func (j *judgement) stranger(name string) string {
	if then := j.known(j.req.Charter); then != nil {
		if r, refusal := then.rule(j.req.Command); refusal == nil && r.tree != nil {
			for _, l := range r.stands[name] {
				return fmt.Sprintf("lapsed: %s is no longer a member of %s", name, r.leaves[l].Name())
			}
		}
	}
	return "not asked: " + name + " has no vote here"
}

// seats are the actors that vote, and how.
type seats struct {
	j      *judgement
	number map[int]int // by actor: index below
	stands [][]int     // leaves that the actor's votes can fill
	votes  [][]seat    // of each actor
}

type seat struct {
	name  string
	index int // in the evidence
}

func newSeats(j *judgement) *seats { return &seats{j: j, number: map[int]int{}} }

func (s *seats) sit(name string, index int) {
	a := s.j.ix.who[name].actor
	n, ok := s.number[a]
	if !ok {
		n = len(s.stands)
		s.number[a] = n
		s.stands = append(s.stands, nil)
		s.votes = append(s.votes, nil)
	}
	s.stands[n] = append(s.stands[n], s.j.rule.stands[name]...)
	s.votes[n] = append(s.votes[n], seat{name, index})
}

// voter is which of the actor's votes fills leaf l.
func (s *seats) voter(n, l int) seat {
	for _, v := range s.votes[n] {
		for _, own := range s.j.rule.stands[v.name] {
			if own == l {
				return v
			}
		}
	}
	return s.votes[n][0]
}

// explain writes into the votes what became of each.
func (s *seats) explain(f threshold.Filling) {
	for n, votes := range s.votes {
		l := f.Leaf[n]
		for _, v := range votes {
			vote := &s.j.d.Votes[v.index]
			switch {
			case l >= 0 && s.voter(n, l) == v:
				vote.Counted = true
				vote.Why = "counts for " + leafName(s.j.rule.leaves[l])
			case l >= 0:
				vote.Why = fmt.Sprintf("same person again: counts as %s", s.voter(n, l).name)
			default:
				vote.Why = "not needed: others fill " + s.places(v.name)
			}
		}
	}
}

func (s *seats) places(name string) string {
	var out []string
	for _, l := range s.j.rule.stands[name] {
		out = append(out, leafName(s.j.rule.leaves[l]))
	}
	return strings.Join(out, " and ")
}

// leafName is what a vote counts for: the group, or "itself" for a leaf that is
// one person or machine.
func leafName(n *charter.Node) string {
	if n.Group != "" {
		return n.Group
	}
	return n.Member + "'s own place"
}

// missing says for people what the way taken lacks.
func (s *seats) missing(f threshold.Filling) string {
	have := make([]int, len(s.j.rule.leaves))
	for _, l := range f.Leaf {
		if l >= 0 {
			have[l]++
		}
	}
	requester := s.j.ix.who[s.j.req.Requester].actor
	var out []string
	for _, l := range f.Choice {
		n := s.j.rule.leaves[l]
		short := n.Needs() - have[l]
		if short <= 0 {
			continue
		}
		if n.Member != "" {
			out = append(out, n.Member)
			continue
		}
		var who []string
		for _, m := range s.j.ix.c.Members(n.Group) {
			a := s.j.ix.who[m].actor
			if _, voted := s.number[a]; !voted && a != requester {
				who = append(who, m)
			}
		}
		text := fmt.Sprintf("%d more of %s", short, n.Group)
		if len(who) > 0 {
			text += ": " + oneOf(who)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// oneOf lists names: "carol or dave".
func oneOf(who []string) string {
	const most = 5
	if len(who) > most {
		return fmt.Sprintf("%s or %d others", strings.Join(who[:most], ", "), len(who)-most)
	}
	if len(who) == 1 {
		return who[0]
	}
	return strings.Join(who[:len(who)-1], ", ") + " or " + who[len(who)-1]
}

// branch draws the tree as it is filled.
func (j *judgement) branch(s *seats, f threshold.Filling) *Branch {
	by := make([][]string, len(j.rule.leaves))
	for n, l := range f.Leaf {
		if l >= 0 {
			by[l] = append(by[l], s.voter(n, l).name)
		}
	}
	leaf := 0
	var draw func(n *charter.Node) *Branch
	draw = func(n *charter.Node) *Branch {
		b := &Branch{Label: n.String(), Need: n.Needs()}
		if len(n.Of) == 0 {
			b.By, b.Have = by[leaf], len(by[leaf])
			leaf++
		}
		for i := range n.Of {
			c := draw(&n.Of[i])
			b.Of = append(b.Of, c)
			if c.Satisfied {
				b.Have++
			}
		}
		b.Satisfied = b.Have >= b.Need
		return b
	}
	return draw(j.rule.Quorum)
}
