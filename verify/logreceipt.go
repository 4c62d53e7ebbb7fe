package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
)

// chained puts receipts into the order of their numbers.
type chained struct {
	next    uint64 // the number that is wanted; 0 at the beginning
	last    *statement.Receipt
	lastID  statement.ID
	gap     bool                // before next numbers are missing: last is not its predecessor
	waiting map[uint64]*decoded // with higher numbers
}

// charters are the entries of charters, held against those that came into force.
type charters struct {
	entries map[statement.ID]int64 // by request
	links   []link
}

type link struct {
	request statement.ID
	index   int64 // of the receipt
	number  uint64
}

// entered notes the entry of a charter, and reports whether it is the first.
func (c *charters) entered(d *decoded) bool {
	if c.entries == nil {
		c.entries = map[statement.ID]int64{}
	}
	if _, ok := c.entries[d.id]; ok {
		return false
	}
	c.entries[d.id] = d.index
	return true
}

// arrive takes a receipt as it stands in the log, and executes it in the book once
// all with lower numbers were there.
func (r *logRun) arrive(d *decoded) {
	c := &r.chained
	if c.next == 0 {
		c.next, c.waiting = 1, map[uint64]*decoded{}
	}
	n := d.receipt.Number
	if _, twice := c.waiting[n]; n < c.next || twice {
		r.say(d, ProblemReceiptTwice, "number %d was there before, or was missed", n)
		return
	}
	if r.report.Receipts.First == 0 || n < r.report.Receipts.First {
		r.report.Receipts.First = n
	}
	c.waiting[n] = d
	if n != c.next {
		r.report.Receipts.Reordered++
	}
	r.advance()
	for len(c.waiting) > MaxAhead {
		r.skip()
		r.advance()
	}
}

// advance handles the receipts whose turn it is.
func (r *logRun) advance() {
	c := &r.chained
	for d := c.waiting[c.next]; d != nil; d = c.waiting[c.next] {
		delete(c.waiting, c.next)
		c.next++
		r.ordered(d)
	}
}

// skip gives up on the numbers before the lowest that waits.
func (r *logRun) skip() {
	c := &r.chained
	lowest := uint64(0)
	for n := range c.waiting {
		if lowest == 0 || n < lowest {
			lowest = n
		}
	}
	d := c.waiting[lowest]
	r.say(d, ProblemReceiptGap, "numbers %d to %d are missing", c.next, lowest-1)
	c.next, c.gap = lowest, true
}

// ordered handles receipts in the order of their numbers.
func (r *logRun) ordered(d *decoded) {
	c, rc := &r.chained, d.receipt
	if c.last != nil {
		next := *rc
		if c.gap { // the link to what is missing cannot be seen; time can
			next.Number, next.Previous = c.last.Number+1, c.lastID
		}
		if err := receipt.Follows(c.last, c.lastID, &next); err != nil {
			r.say(d, ProblemReceiptChain, "%v", err)
		}
	}
	c.last, c.lastID, c.gap = rc, d.id, false
	_, ref := r.chain.Head()
	if rc.Charter != ref {
		r.say(d, ProblemReceiptCharter, "judged under charter %d (%s): charter %d (%s) was in force", rc.Charter.Version, rc.Charter.ID, ref.Version, ref.ID)
		// Judged all the same, under the one in force.
	}
	l, known := r.book.requests[rc.Request]
	if !known || l.standing != isExecuted && l.index > d.index {
		r.say(d, ProblemRequestUnknown, "receipt of a request that is not in the log before")
		return
	}
	if rc.Outcome == statement.Refused {
		r.report.Receipts.Refused++
		return
	}
	r.report.Receipts.Executed++
	if rc.Signed != nil {
		r.report.Receipts.Signed += int64(rc.Signed.Count)
	}
	switch {
	case l.standing == isExecuted:
		r.say(d, ProblemExecutedTwice, "the request was executed before")
		return
	case l.standing == isWithdrawn && statement.Seconds(l.withdrawn).Before(rc.Time):
		r.say(d, ProblemExecutedWithdrawn, "withdrawn at %s, executed at %s", l.withdrawn.Format(time.RFC3339), rc.Time.Format(time.RFC3339))
	}
	ev := r.evidence(l, d.index)
	r.book.execute(rc.Request)
	if rc.Next != nil {
		r.replace(d, ev)
		return
	}
	if d.index < r.o.From {
		return
	}
	r.report.Receipts.Judged++
	r.job(func() { r.judge(d, ev, ref.Version) })
}

// evidence copies the references to what stood in the log before index.
func (r *logRun) evidence(l *logged, index int64) []ref {
	out := make([]ref, 1, 1+len(l.endorsements))
	out[0] = l.ref
	for _, v := range l.endorsements {
		if v.index < index {
			out = append(out, *v.ref)
		}
	}
	return out
}

// load reads bodies that were dropped again. What was decoded before decodes
// again, or is not there any more, which is no fault of the log's history.
func (r *logRun) load(refs []ref) (quorum.Evidence, error) {
	var ev quorum.Evidence
	for i, x := range refs {
		body := x.body
		if body == nil {
			for e, err := range r.client.Entries(r.ctx, r.head, x.index, x.index+1) {
				if err != nil {
					return ev, err
				}
				d := r.decode(r.ctx, e)
				if d.problem != nil {
					return ev, fmt.Errorf("entry %d, read again: %s", x.index, d.problem.Detail)
				}
				body = d.body
			}
		}
		if i == 0 {
			ev.Request = body
		} else {
			ev.Endorsements = append(ev.Endorsements, body)
		}
	}
	return ev, nil
}

// judge judges the evidence of an executed command again. It is called by many
// goroutines.
func (r *logRun) judge(d *decoded, refs []ref, version uint64) {
	ev, err := r.load(refs)
	if err != nil {
		r.fail(err)
		return
	}
	dec, past, err := r.chain.JudgeUnder(version, ev, d.receipt.Time, quorum.Options{})
	if err != nil {
		r.fail(err) // a version that was the head a moment ago
		return
	}
	err = granted(dec, past, d.receipt)
	if err == nil && d.receipt.Signed != nil {
		err = r.declared(version, d.receipt.Signed)
	}
	if err != nil {
		r.say(d, ProblemUnauthorised, "%v", err)
	}
	for i, v := range dec.Votes {
		if v.Counted || v.Standing {
			continue // its signature was checked
		}
		if i+1 < len(refs) {
			r.own(refs[i+1].index, ev.Endorsements[i], true, version)
		}
	}
}

// declared checks that the charter has the key of a receipt, of a kind that signs
// under its scheme.
func (r *logRun) declared(version uint64, s *statement.SignedResult) error {
	c, _, err := r.chain.Version(version)
	if err != nil {
		return err
	}
	if err := asked(c, s); err != nil {
		return err
	}
	for _, k := range s.Keys() {
		ck, ok := c.Keys[k.Key]
		if !ok {
			return fmt.Errorf("the charter has no key %s", k.Key)
		}
		if k.Scheme != ck.SignatureScheme() {
			return fmt.Errorf("key %s signed under %s: the charter says %s", k.Key, k.Scheme, ck.SignatureScheme())
		}
	}
	return nil
}

// own checks that a request or endorsement that granted nothing is by whom it
// names, all the same.
func (r *logRun) own(index int64, envelope []byte, endorsement bool, version uint64) {
	var who string
	var env *statement.Envelope
	var err error
	if endorsement {
		var e statement.Endorsement
		e, env, err = single[statement.Endorsement](envelope)
		who = e.Endorser
	} else {
		var q statement.Request
		q, env, err = single[statement.Request](envelope)
		who = q.Requester
	}
	if err == nil {
		err = authentic(r.chain, version, env, who)
	}
	if err != nil {
		r.problem(Problem{Index: index, Code: ProblemSignature, Detail: err.Error()})
	}
}

// replace brings the next charter into force.
func (r *logRun) replace(d *decoded, refs []ref) {
	rc := d.receipt
	ev, err := r.load(refs)
	if err != nil {
		r.fail(err)
		return
	}
	head, ref := r.chain.Head()
	dec, past, err := r.chain.JudgeUnder(ref.Version, ev, rc.Time, quorum.Options{})
	if err == nil {
		err = granted(dec, past, rc)
	}
	if err == nil {
		err = r.chain.Extend(ev, rc.Time)
	}
	r.report.Receipts.Judged++
	if err != nil {
		r.say(d, ProblemUnauthorised, "%v", err)
		return
	}
	r.charters.links = append(r.charters.links, link{rc.Request, d.index, rc.Number})
	next, _ := r.chain.Head()
	if next.Keeper != head.Keeper {
		r.say(d, ProblemKeeperChanged, "charter %d names another keeper or log: what they sign is not judged", next.Version)
	}
}

// settle ends the run: gaps, charters, and those requests that granted nothing.
func (r *logRun) settle() {
	for len(r.chained.waiting) > 0 && r.ctx.Err() == nil {
		r.skip()
		r.advance()
	}
	r.settleCharters()
	_, head := r.chain.Head()
	var left []*logged
	for _, l := range r.book.requests {
		if l.standing != isExecuted {
			left = append(left, l)
		}
	}
	slices.SortFunc(left, func(a, b *logged) int { return int(a.index - b.index) })
	for _, l := range left {
		if r.ctx.Err() != nil {
			return
		}
		refs := r.evidence(l, r.head.Size())
		refs = slices.DeleteFunc(refs, func(x ref) bool { return x.index < r.o.From })
		if len(refs) == 0 {
			continue
		}
		request := refs[0].index == l.index
		r.job(func() { r.ownAll(refs, request, head.Version) })
	}
}

func (r *logRun) ownAll(refs []ref, request bool, version uint64) {
	for i, x := range refs {
		ev, err := r.load([]ref{x})
		if err != nil {
			r.fail(err)
			return
		}
		r.own(x.index, ev.Request, !request || i > 0, version)
	}
}

func (r *logRun) settleCharters() {
	c := &r.charters
	for _, l := range c.links {
		if _, ok := c.entries[l.request]; ok {
			delete(c.entries, l.request)
		} else if l.index+1 < r.head.Size() { // the last entry's charter may come with the next head
			r.problem(Problem{Index: l.index, Code: ProblemCharterEntry, Detail: "the charter that came into force was not entered", Request: l.request, Receipt: l.number})
		}
	}
	delete(c.entries, r.report.Root)
	for id, index := range c.entries {
		r.problem(Problem{Index: index, Code: ProblemCharterEntry, Detail: "no charter came into force by this request", Request: id})
	}
}
