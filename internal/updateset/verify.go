package updateset

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// Verifier judges records: *record.Verifier.
type Verifier interface {
	VerifyUnder(ctx context.Context, rec *record.Record, configuration string, sigs []record.Signature, marks record.Marks) (*record.Trusted, error)
	VerifyDeletion(ctx context.Context, ref record.Ref, rec *record.Record, sigs []record.Signature, marks record.Marks) (*record.Deletion, error)
}

// Policy is what a set is judged by.
type Policy struct {
	Rules *Rules
	Marks record.Marks // read, never raised: whoever applies the set raises them when it is applied

	// Current, when not nil, gives the record that the target platform has now, or nil.
	// A record that falls under a configuration today stays protected when an update
	// would take it out of the condition.
	Current func(context.Context, record.Ref) (*record.Record, error)
}

// Status is the outcome for one operation.
type Status string

// The outcomes.
const (
	Valid        Status = "valid"
	Invalid      Status = "invalid"
	Missing      Status = "missing" // nobody signed it
	NotProtected Status = "not protected"
	Superseded   Status = "superseded" // a later update replaces it; it is never applied
)

// Refused reports whether the status keeps a set from being approved.
func (s Status) Refused() bool { return s == Invalid || s == Missing }

// Finding is the outcome for one operation.
type Finding struct {
	Index         int    // of the update
	Update        string // its name
	Operation     int    // its place in the payload
	Table         string
	SysID         string
	Action        Action
	Status        Status
	Reason        *rejection.Error // of Invalid and Missing
	Configuration string           // the one that it failed under, or the first it is valid under
	Signer        string           // subject of the certificate, when valid
}

// Preview is what Verify saw.
type Preview struct {
	Counts  map[Status]int
	set     *Set
	policy  Policy
	v       Verifier
	refused map[int]bool // updates
}

// still reads marks and raises none.
type still struct{ record.Marks }

func (still) Raise(context.Context, record.Ref, uint64) error { return nil }

// Verify judges every operation of the set and changes nothing. report is called for
// each, in order; nil: only counts are wanted. An error says that the judging failed,
// not that the set did.
func Verify(ctx context.Context, s *Set, v Verifier, p Policy, report func(*Finding) error) (*Preview, error) {
	if p.Rules == nil || p.Marks == nil {
		return nil, errors.New("updateset: verification needs rules and marks")
	}
	out := &Preview{Counts: map[Status]int{}, set: s, policy: p, v: v, refused: map[int]bool{}}
	return out, out.each(ctx, func(u *Update, o int, j *judged) error {
		op := &u.Operations[o]
		f := &Finding{Index: u.Index, Update: u.Name, Operation: o, Table: op.Table, SysID: op.SysID, Action: op.Action,
			Status: j.status, Reason: j.reason, Configuration: j.config}
		switch {
		case j.trusted != nil:
			f.Signer = j.trusted.SignedBy().Subject.String()
		case j.deletion != nil:
			f.Signer = j.deletion.SignedBy().Subject.String()
		}
		out.Counts[j.status]++
		if j.status.Refused() {
			out.refused[u.Index] = true
		}
		if report == nil {
			return nil
		}
		return report(f)
	})
}

// judged is the verdict on one operation.
type judged struct {
	status   Status
	reason   *rejection.Error
	config   string
	rules    []rule
	trusted  *record.Trusted
	deletion *record.Deletion
}

func refuse(why *rejection.Error) *judged {
	status := Invalid
	if why.Code == rejection.SigMissing || why.Code == rejection.DeleteUnsigned {
		status = Missing
	}
	return &judged{status: status, reason: why}
}

// each judges every operation in order.
func (p *Preview) each(ctx context.Context, f func(*Update, int, *judged) error) error {
	seen := map[digest16]bool{}
	return p.set.Updates(ctx, func(u *Update) error {
		for i := range u.Operations {
			j, err := p.judge(ctx, u, i, seen)
			if err != nil {
				return err
			}
			if err := f(u, i, j); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *Preview) judge(ctx context.Context, u *Update, i int, seen map[digest16]bool) (*judged, error) {
	o := &u.Operations[i]
	if u.Superseded {
		return &judged{status: Superseded}, nil
	}
	if why := p.policy.Rules.hazard(u, o); why != nil {
		return refuse(why), nil
	}
	if len(p.policy.Rules.tables[o.Table]) == 0 || o.Action.Bulk() {
		return &judged{status: NotProtected}, nil
	}
	key := refKey(o.Ref())
	if seen[key] {
		return refuse(twice(o)), nil
	}
	seen[key] = true
	rec := o.Record()
	rules, err := p.rules(ctx, rec, o.Action == Delete)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return &judged{status: NotProtected}, nil
	}
	j, err := p.judgeRecord(ctx, o, rec, rules)
	if err == nil && j.status == Missing && !o.Main && o.Wrapper == "" {
		j.reason = rejection.New(rejection.ExtraOperation, o.Table, "beside the record that the update is named after, and nobody signed it")
		j.status = Invalid
	}
	return j, err
}

// rules are those that the record falls under as it would be, and as it is.
func (p *Preview) rules(ctx context.Context, rec *record.Record, deleted bool) ([]rule, error) {
	rules, err := p.policy.Rules.of(rec, deleted)
	if err != nil || deleted || p.policy.Current == nil {
		return rules, err
	}
	now, err := p.policy.Current(ctx, rec.Ref)
	if err != nil || now == nil {
		return rules, err
	}
	more, err := p.policy.Rules.of(&record.Record{Ref: rec.Ref, Fields: now.Fields}, false)
	for _, x := range more {
		if !slices.ContainsFunc(rules, func(y rule) bool { return y.id == x.id }) {
			rules = append(rules, x)
		}
	}
	return rules, err
}

func (p *Preview) judgeRecord(ctx context.Context, o *Operation, rec *record.Record, rules []rule) (*judged, error) {
	sigs, err := p.set.Signatures(rec.Ref)
	if err != nil {
		return nil, err
	}
	marks := still{p.policy.Marks}
	out := &judged{status: Valid, rules: rules, config: rules[0].id}
	refused := func(err error, config string) (*judged, error) {
		why := rejection.Of(err)
		if why == nil {
			return nil, fmt.Errorf("updateset: verify: %w", err)
		}
		j := refuse(why)
		j.config = config
		return j, nil
	}
	if o.Action == Delete {
		if out.deletion, err = p.v.VerifyDeletion(ctx, rec.Ref, p.deleted(rec, o), sigs, marks); err != nil {
			return refused(err, rules[0].id)
		}
		return out, nil
	}
	for _, x := range rules {
		t, err := p.v.VerifyUnder(ctx, rec, x.id, sigs, marks)
		if err != nil {
			return refused(err, x.id)
		}
		if out.trusted == nil {
			out.trusted = t
		}
	}
	return out, nil
}

// deleted is the record that a deletion removes, as the set has it; attachments whose
// content an export of a deletion leaves out cannot be compared.
func (p *Preview) deleted(rec *record.Record, o *Operation) *record.Record {
	if slices.ContainsFunc(o.Attachments, func(a Attachment) bool { return len(a.chunks) == 0 }) {
		return nil
	}
	return rec
}

// RefusedError is in the error of Approve when updates are refused that are not left out.
type RefusedError struct{ Updates []int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("updateset: %d updates are refused, the first at place %d: leave them out, or have them signed", len(e.Updates), e.Updates[0])
}

// Approved is a set of which everything protected was valid, or is left out. Only
// Preview.Approve makes one.
type Approved struct {
	preview *Preview
	skip    map[int]bool
}

// Approve gives the set to be applied without the updates in skip, places in the set
// that Finding.Index names. It refuses while any other holds something refused.
func (p *Preview) Approve(skip ...int) (*Approved, error) {
	a := &Approved{p, map[int]bool{}}
	for _, n := range skip {
		a.skip[n] = true
	}
	var left []int
	for n := range p.refused {
		if !a.skip[n] {
			left = append(left, n)
		}
	}
	if slices.Sort(left); len(left) > 0 {
		return nil, &RefusedError{left}
	}
	return a, nil
}

// Effect is one operation to be applied.
type Effect struct {
	Update    *Update
	Operation *Operation

	// Write is what to write: the operation's fields, and "" (nothing) for every field
	// that a configuration signs or asks for and the payload leaves out. A column that
	// kept its old value would be one that the signature says is absent.
	Write map[string]string

	Trusted  *record.Trusted  // of a protected record
	Deletion *record.Deletion // of a protected record that is deleted
	// Signatures to be stored with the record.
	Signatures []record.Signature
}

// Each calls f with every operation that is to be applied, in order, each judged anew
// from the bytes that are handed out. Operations on sys_attachment and its chunks are
// among them; Operation.Attachments of their owner has them whole. When everything is
// applied, and not before, the caller raises the marks to the revisions of
// Trusted.Statement and Deletion.Statement.
func (a *Approved) Each(ctx context.Context, f func(*Effect) error) error {
	return a.preview.each(ctx, func(u *Update, i int, j *judged) error {
		if a.skip[u.Index] || j.status == Superseded {
			return nil
		}
		if j.status.Refused() { // revoked, or overtaken, since the preview
			return &Error{Reason: j.reason, Update: u.Name, Offset: u.Offset, Line: a.preview.set.units[u.Index].line}
		}
		o := &u.Operations[i]
		e := &Effect{Update: u, Operation: o, Write: o.Fields, Trusted: j.trusted, Deletion: j.deletion}
		if o.Action == Upsert {
			e.Write = a.preview.policy.Rules.complete(o)
		}
		if j.trusted != nil || j.deletion != nil {
			var err error
			if e.Signatures, err = a.preview.set.Signatures(o.Ref()); err != nil {
				return err
			}
		}
		return f(e)
	})
}
