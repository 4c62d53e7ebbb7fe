// Package replay says what a charter that is only proposed would have made of past
// requests: it judges them again, with the endorsements that they got, and lists those
// that would have ended otherwise, with the reason in words.
//
// Invariants:
//
//  1. A replay reads and changes nothing: it gives no authority.
//  2. Its work is bounded: of each policy, and of each command, it takes the newest
//     requests up to a limit, and says of which it has left out older ones.
//  3. Requests to replace the charter are not judged: each follows one other charter.
//
// A caller may not conclude that nothing else changes: people would have endorsed
// otherwise had they been asked otherwise, what failed for its files fails again, and a
// request that names another key than the policy has now is refused although whoever
// asks today would name the new one.
package replay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// Past is one request as it ended, or stands.
type Past struct {
	ID        statement.ID
	Command   statement.CommandName
	Policy    string // of sign
	Key       string
	Requester string
	Count     int // files
	State     store.State
	Code      string // why it failed
	Updated   time.Time
	Expires   time.Time
}

// Source is where past requests come from.
type Source interface {
	// Past lists up to limit requests for a command, to sign those under a policy,
	// made since a time, newest first.
	Past(ctx context.Context, cmd statement.CommandName, policy string, since time.Time, limit int) ([]Past, error)
	// Evidence is a request and its endorsements as signed.
	Evidence(ctx context.Context, id statement.ID) (quorum.Evidence, error)
	// Items are the encoded items of a request to sign.
	Items(ctx context.Context, id statement.ID) ([][]byte, error)
}

// The defaults of Options.
const (
	DefaultPerRule = 1_000
	DefaultTotal   = 20_000
)

// maxItems is the number of files of a request up to which its names and options are
// judged too.
const maxItems = 1_000

// Options bound a replay.
type Options struct {
	Now     time.Time     // for requests that are open
	Since   time.Time     // requests made before are left out
	PerRule int           // requests of each policy and each command; 0: DefaultPerRule
	Total   int           // requests in all; 0: DefaultTotal
	Keep    int           // differences that are listed; 0: all
	Cache   *quorum.Cache // of verified signatures; nil: none
	Step    func()        // called after each request; nil: nobody
}

// Report is the result of a replay.
type Report struct {
	Version   uint64       `json:"version"` // of the charter that would judge
	Judged    int          `json:"judged"`
	Differ    int          `json:"differ"`    // of them, those that would have ended otherwise
	Otherwise []Difference `json:"otherwise"` // newest first; fewer than Differ where they are many
	Counts    []Count      `json:"counts"`
	PerRule   int          `json:"perRule"`          // the limit that was applied to each policy and command
	Sampled   []string     `json:"sampled,omitzero"` // policies and commands of which older requests were left out
	// Nameless are requests of so many files that names and options were not judged.
	Nameless int `json:"nameless,omitzero"`
}

// Count is how many requests ended in one way and would end in another.
type Count struct {
	Was   store.State  `json:"was"`
	Would quorum.State `json:"would"`
	Count int          `json:"count"`
}

// Difference is one request that the proposal would have decided otherwise.
type Difference struct {
	Request   string       `json:"request"`
	What      string       `json:"what"`
	Policy    string       `json:"policy,omitzero"`
	Requester string       `json:"requester"`
	Was       store.State  `json:"was"`
	Would     quorum.State `json:"would"`
	Why       string       `json:"why,omitzero"`
	// Already says that the charter in force would have it so too: somebody has left
	// since, say. Then it is not the proposal that makes the difference.
	Already bool      `json:"already,omitzero"`
	Updated time.Time `json:"updated"`
}

// Open reports whether the request still waits.
func (d *Difference) Open() bool { return d.Was.Open() }

// rule is a policy, or a command.
type rule struct {
	command statement.CommandName
	policy  string
}

func (r rule) String() string {
	if r.policy != "" {
		return "policy " + r.policy
	}
	return string(r.command)
}

// rules are those of either charter.
func rules(a, b *charter.Charter) (out []rule) {
	names := map[string]bool{}
	for _, c := range []*charter.Charter{a, b} {
		for n := range c.Policies {
			names[n] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		out = append(out, rule{statement.Sign, n})
	}
	for _, c := range statement.Commands() {
		_, old := a.Commands[c]
		_, new := b.Commands[c]
		if c != statement.Sign && c != statement.CharterReplace && (old || new) {
			out = append(out, rule{c, ""})
		}
	}
	return out
}

// Run judges the past requests of a source under a proposed charter. The errors are
// those of the source, and of the proposal's Check (charter.ErrCharter).
func Run(ctx context.Context, chain *quorum.Chain, proposed *charter.Charter, src Source, o Options) (*Report, error) {
	p, err := chain.Propose(proposed)
	if err != nil {
		return nil, err
	}
	head, _ := chain.Head()
	next, ref := p.Charter()
	r := &run{chain: chain, proposal: p, head: head, next: next, src: src, o: o, counts: map[Count]int{}}
	r.rep = &Report{Version: ref.Version, Otherwise: []Difference{}, Counts: []Count{}}
	all := rules(head, next)
	r.rep.PerRule = cmp.Or(o.PerRule, DefaultPerRule)
	if n := len(all); n > 0 {
		r.rep.PerRule = min(r.rep.PerRule, max(1, cmp.Or(o.Total, DefaultTotal)/n))
	}
	for _, x := range all {
		if err := r.rule(ctx, x); err != nil {
			return nil, err
		}
	}
	return r.report(), nil
}

type run struct {
	chain      *quorum.Chain
	proposal   *quorum.Proposal
	head, next *charter.Charter
	src        Source
	o          Options
	rep        *Report
	counts     map[Count]int
}

func (r *run) report() *Report {
	for c, n := range r.counts {
		c.Count = n
		r.rep.Counts = append(r.rep.Counts, c)
	}
	slices.SortFunc(r.rep.Counts, func(a, b Count) int { return cmp.Or(cmp.Compare(a.Was, b.Was), cmp.Compare(a.Would, b.Would)) })
	slices.SortStableFunc(r.rep.Otherwise, func(a, b Difference) int {
		if a.Open() != b.Open() { // what can still happen is read first
			if a.Open() {
				return -1
			}
			return 1
		}
		return b.Updated.Compare(a.Updated)
	})
	r.rep.Differ = len(r.rep.Otherwise)
	if r.o.Keep > 0 && r.rep.Differ > r.o.Keep {
		r.rep.Otherwise = r.rep.Otherwise[:r.o.Keep]
	}
	return r.rep
}

func (r *run) rule(ctx context.Context, x rule) error {
	list, err := r.src.Past(ctx, x.command, x.policy, r.o.Since, r.rep.PerRule+1)
	if err != nil {
		return err
	}
	if len(list) > r.rep.PerRule {
		list = list[:r.rep.PerRule]
		r.rep.Sampled = append(r.rep.Sampled, x.String())
	}
	for i := range list {
		if err := r.request(ctx, &list[i]); err != nil {
			return err
		}
		if r.o.Step != nil {
			r.o.Step()
		}
	}
	return nil
}

// expected lists what a judgement may come to for a request that ended in a state,
// or stands in it.
func expected(s store.State) []quorum.State {
	switch s {
	case store.Executed, store.Endorsed:
		return []quorum.State{quorum.Granted}
	case store.Disapproved:
		return []quorum.State{quorum.Disapproved}
	case store.Cancelled:
		return []quorum.State{quorum.Pending, quorum.Refused, quorum.Disapproved}
	case store.Pending:
		return []quorum.State{quorum.Pending}
	}
	return []quorum.State{quorum.Pending, quorum.Refused} // expired, failed
}

func (r *run) request(ctx context.Context, q *Past) error {
	ev, err := r.src.Evidence(ctx, q.ID)
	if err != nil {
		return err
	}
	at := q.Updated
	if !at.Before(q.Expires) {
		at = q.Expires.Add(-time.Second)
	}
	if q.State.Open() {
		at = r.o.Now
	}
	at = statement.Seconds(at)
	o := quorum.Options{Cache: r.o.Cache}
	d := r.proposal.Judge(ev, at, o)
	if d.State == quorum.Granted && r.conditions(q) {
		switch {
		case q.Count > maxItems:
			r.rep.Nameless++
		default:
			items, err := r.src.Items(ctx, q.ID)
			if err != nil {
				return err
			}
			d = r.proposal.JudgeItems(ev, items, at, o)
		}
	}
	r.rep.Judged++
	r.counts[Count{q.State, d.State, 0}]++
	// What failed for its files fails again: they are no part of the evidence.
	ofItems := []string{string(quorum.ItemsMismatch), string(quorum.NameNotAllowed), string(quorum.ParamNotAllowed)}
	if slices.Contains(expected(q.State), d.State) || q.State == store.Failed && slices.Contains(ofItems, q.Code) {
		return nil
	}
	now, _ := r.chain.Judge(ev, at, o)
	r.rep.Otherwise = append(r.rep.Otherwise, Difference{
		Request: q.ID.String(), What: q.what(), Policy: q.Policy, Requester: q.Requester, Was: q.State, Would: d.State,
		Why: r.why(q, d), Already: now.State == d.State && now.Code == d.Code, Updated: q.Updated,
	})
	return nil
}

// conditions reports whether the proposal judges the files of a request's policy by
// other conditions, those of a policy that is not in force included.
func (r *run) conditions(q *Past) bool {
	a, ok1 := r.head.Policies[q.Policy]
	b, ok2 := r.next.Policies[q.Policy]
	return q.Command == statement.Sign && ok2 && (!ok1 || !slices.Equal(a.Names, b.Names) || !maps.Equal(a.Params, b.Params))
}

func (q *Past) what() string {
	switch {
	case q.Command == statement.Sign && q.Count == 1:
		return "sign 1 file under " + q.Policy
	case q.Command == statement.Sign:
		return fmt.Sprintf("sign %d files under %s", q.Count, q.Policy)
	case q.Key != "":
		return string(q.Command) + " " + q.Key
	}
	return string(q.Command)
}

// why is the reason in words.
func (r *run) why(q *Past, d *quorum.Decision) string {
	switch d.State {
	case quorum.Granted:
		x := r.next.Commands[q.Command]
		if q.Command == statement.Sign {
			x = r.next.Policies[q.Policy].Rule
		}
		if x.Quorum == nil {
			return "would need nobody's endorsement"
		}
		return "the endorsements that it got would be enough: " + r.next.Demands(x)
	case quorum.Pending:
		if d.Missing != "" {
			return "would still wait for " + d.Missing
		}
	case quorum.Disapproved:
		return "a disapproval would end it: " + d.Reason
	}
	return d.Reason
}
