package quorum

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// authority is what was found to be authorised. Grant and Past are made of it.
type authority struct {
	id     statement.ID
	req    *statement.Request
	ref    statement.CharterRef
	policy *charter.Policy
	next   *charter.Charter
	counts []statement.ID
	at     time.Time
}

// Grant is authority to execute one command, now, under the charter in force. Only
// [Chain.Judge] makes it. The zero Grant has no request and covers nothing.
type Grant struct {
	authority
	_ [0]func() // not comparable, and no conversion leads from Past to here
}

// Past is the finding that a command could be executed at some time, under the
// charter of then: for those who check afterwards. It is no authority. Only
// [Chain.JudgeUnder] makes it.
type Past struct {
	authority
	_ [0]map[int]int
}

func (j *judgement) authority() authority {
	a := authority{id: j.id, req: j.req, ref: j.ix.ref, policy: j.policy(), next: j.next, at: j.at, counts: []statement.ID{}}
	for _, v := range j.d.Votes {
		if v.Counted {
			a.counts = append(a.counts, v.Endorsement)
		}
	}
	return a
}

// Request is the request that was granted. The caller does not change it.
func (a *authority) Request() *statement.Request { return a.req }

// RequestID is the request's ID.
func (a *authority) RequestID() statement.ID { return a.id }

// Charter is the charter that judged.
func (a *authority) Charter() statement.CharterRef { return a.ref }

// Endorsements are the endorsements that were counted, in the order of the
// evidence.
func (a *authority) Endorsements() []statement.ID { return slices.Clone(a.counts) }

// At is the time for which it was judged.
func (a *authority) At() time.Time { return a.at }

// Policy is the policy of a request to sign, nil for other commands.
func (a *authority) Policy() *charter.Policy { return a.policy }

// Next is the charter that charter.replace brings into force, nil for other
// commands.
func (a *authority) Next() *charter.Charter { return a.next }

// Covers checks that items, encoded, are exactly those that the request is about,
// in order, and that each satisfies the policy: formats, names, parameters. The
// error is a [*Refusal].
func (a *authority) Covers(items [][]byte) error {
	_, err := a.Covered(items)
	return err
}

// Covered is Covers, and returns the plans of the items, so that whoever goes on
// with them need not decode them again.
func (a *authority) Covered(items [][]byte) ([]*format.Plan, error) {
	if a.req == nil || a.req.Command.Sign == nil || a.policy == nil {
		return nil, refuse(ItemsMismatch, "not a grant to sign")
	}
	s, p := a.req.Command.Sign, a.policy
	if len(items) != s.Count {
		return nil, refuse(ItemsMismatch, "%d items: the request is about %d", len(items), s.Count)
	}
	root, err := format.ItemsRoot(items)
	if err != nil || root.String() != s.Items {
		return nil, refuse(ItemsMismatch, "not the items that were endorsed")
	}
	plans := make([]*format.Plan, len(items))
	seen := map[string]bool{}
	for i, b := range items {
		it, plan, err := format.DecodeItem(b)
		if err != nil {
			return nil, refuse(Malformed, "item %d: %v", i, err)
		}
		if r := a.item(p, it, plan); r != nil {
			r.Detail = fmt.Sprintf("item %d, %.200q: %s", i, it.Name, r.Detail)
			return nil, r
		}
		seen[plan.Format] = true
		plans[i] = plan
	}
	for _, f := range s.Formats {
		if !seen[f] {
			return nil, refuse(FormatNotAllowed, "the request announces %s, and no item is", f)
		}
	}
	return plans, nil
}

func (a *authority) item(p *charter.Policy, it *format.Item, plan *format.Plan) *Refusal {
	// The request's formats are among the policy's: Judge has looked.
	if !slices.Contains(a.req.Command.Sign.Formats, plan.Format) {
		return refuse(FormatNotAllowed, "is %.40q: the request announces %s", plan.Format, strings.Join(a.req.Command.Sign.Formats, ", "))
	}
	if len(p.Names) > 0 && !slices.ContainsFunc(p.Names, func(pattern string) bool {
		ok, err := path.Match(pattern, it.Name)
		return ok && err == nil
	}) {
		return refuse(NameNotAllowed, "matches none of %s", strings.Join(p.Names, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		want := p.Params[name]
		if got := plan.Param(name); got != want {
			return refuse(ParamNotAllowed, "option %s is %.80q: the policy wants %q", name, got, want)
		}
	}
	return nil
}
