package record

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/greatseal-io/greatseal/rejection"
)

func rollback(revision, floor uint64) *rejection.Error {
	return rejection.New(rejection.RevisionRollback, "", "revision "+strconv.FormatUint(revision, 10)+" is below "+strconv.FormatUint(floor, 10))
}

// missing is the reason where there is no signature that is about the question.
func (j *judgement) missing() *rejection.Error {
	if j.deletion {
		return rejection.New(rejection.DeleteUnsigned, "", "nobody signed the deletion")
	}
	return rejection.New(rejection.SigMissing, "", "the record has no signature")
}

// decide finds a signature that passes every step, raises the mark, and makes the
// verdict.
func (j *judgement) decide(ctx context.Context, sigs []Signature, marks Marks) (*Trusted, error) {
	if marks == nil {
		return nil, errors.New("record: a verifier needs marks, or old versions pass")
	}
	all, why, err := j.examine(ctx, sigs, marks)
	if err != nil {
		return nil, err
	}
	if why != nil {
		return nil, why
	}
	i := slices.IndexFunc(all, func(c *candidate) bool { return c.newest && c.failed == nil })
	if i < 0 {
		return nil, reason(all)
	}
	c := all[i]
	if err := marks.Raise(ctx, j.ref, c.statement.Revision); err != nil {
		if errors.Is(err, ErrLower) {
			return nil, rollback(c.statement.Revision, c.statement.Revision+1)
		}
		return nil, fmt.Errorf("record: raise mark: %w", err)
	}
	return j.trusted(c), nil
}

// examine takes every signature through the steps. The candidates come back with
// the best first.
func (j *judgement) examine(ctx context.Context, sigs []Signature, marks Marks) ([]*candidate, *rejection.Error, error) {
	if err := j.ref.Check(); err != nil {
		return nil, rejection.New(rejection.RecordMismatch, "", err.Error()), nil
	}
	if len(sigs) == 0 {
		return nil, j.missing(), nil
	}
	if len(sigs) > j.v.checks.most {
		return nil, rejection.New(rejection.SigMalformed, "", fmt.Sprintf("%d signatures: at most %d are looked at", len(sigs), j.v.checks.most)), nil
	}
	j.floor = j.v.floors[j.ref.ID()]
	if marks != nil {
		mark, err := marks.Highest(ctx, j.ref)
		if err != nil {
			return nil, nil, fmt.Errorf("record: mark: %w", err)
		}
		j.floor = max(j.floor, mark)
	}
	all := make([]*candidate, len(sigs))
	newest := map[[sha256.Size]byte]*candidate{}
	for i := range sigs {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		c := &candidate{place: i, sig: &sigs[i]}
		all[i] = c
		if !j.pass(c, j.v.checks.relevant) {
			continue
		}
		if old, ok := newest[c.signed.leaf]; !ok || c.age(old) > 0 {
			newest[c.signed.leaf] = c
		}
	}
	for _, c := range all {
		if c.failed != nil {
			continue
		}
		c.newest = j.v.checks.newest(c, newest[c.signed.leaf])
		if !c.newest {
			c.failed = rejection.New(rejection.RevisionRollback, "", "there is a newer signature by the same certificate")
			continue
		}
		// A statement that is believed forbids the older ones of other signers.
		if j.pass(c, j.v.checks.believed) {
			j.floor = max(j.floor, c.statement.Revision)
		}
	}
	for _, c := range all {
		if c.failed == nil {
			j.pass(c, j.v.checks.matching)
		}
	}
	slices.SortStableFunc(all, func(a, b *candidate) int {
		if (a.failed == nil) != (b.failed == nil) {
			return map[bool]int{true: -1, false: 1}[a.failed == nil]
		}
		if a.step != b.step {
			return b.step - a.step
		}
		if a.signed == nil || b.signed == nil || a.statement == nil || b.statement == nil {
			return 0
		}
		return b.age(a)
	})
	return all, nil, nil
}

// age orders signatures by the time of signing that they state, then by revision.
func (c *candidate) age(o *candidate) int {
	return cmp.Or(cmp.Compare(c.signed.root.SignedAt, o.signed.root.SignedAt), cmp.Compare(c.statement.Revision, o.statement.Revision))
}

// reason is that of the signature that came furthest, the newest of a certificate
// before the others.
func reason(all []*candidate) *rejection.Error {
	for _, c := range all {
		if c.newest {
			return c.failed
		}
	}
	return all[0].failed
}

// trusted copies what was verified.
func (j *judgement) trusted(c *candidate) *Trusted {
	t := &Trusted{
		purpose: j.purpose, statement: c.statement.clone(), signer: c.signed.chain[0], signedAt: c.signed.at, stamped: c.signed.stamped, job: c.signed.job.ID,
		record: Record{Ref: Ref{j.ref.Table, slices.Clone(j.ref.Key)}, Fields: map[string]string{}},
	}
	if c.config != nil {
		t.configuration = c.config.clone()
	}
	if j.rec != nil {
		for _, f := range c.statement.Fields {
			if v := j.rec.Fields[f.Name]; v != "" {
				t.record.Fields[f.Name] = v
			}
		}
		t.record.Attachments = slices.Clone(c.statement.Attachments)
	}
	return t
}
