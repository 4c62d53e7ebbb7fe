package updateset

import (
	"context"

	"github.com/greatseal-io/greatseal/record"
)

// Target is what a preview asks of the platform that a set is to be applied to.
type Target interface {
	// Table reports whether there is a table.
	Table(ctx context.Context, name string) (bool, error)
	// Updated is a record's sys_updated_on, "2006-01-02 15:04:05" UTC; false: there is none.
	Updated(ctx context.Context, ref record.Ref) (string, bool, error)
	// Refers is the table that a field refers to; false: it is no reference, or unknown.
	Refers(ctx context.Context, table, field string) (string, bool, error)
	// Pending reports whether a change of the record there is in an update set that is
	// not complete.
	Pending(ctx context.Context, ref record.Ref) (bool, error)
}

// ProblemKind is what may go wrong although nothing is refused.
type ProblemKind string

// The kinds of problem. None is an attack: people decide.
const (
	Collision     ProblemKind = "collision"      // the platform's record is newer than the update's
	MissingObject ProblemKind = "missing object" // a reference, or a record to be deleted, that is neither there nor in the set
	MissingTable  ProblemKind = "missing table"
	Uncommitted   ProblemKind = "uncommitted update" // somebody is changing the record there
)

// Problem is one thing for people to decide on: accept, skip, compare.
type Problem struct {
	Index  int    // of the update
	Update string // its name
	Kind   ProblemKind
	Ref    record.Ref // the record of the update
	Field  string     // of MissingObject: the reference; empty: the record itself
	Wanted record.Ref // of MissingObject: what is missing
}

// Problems compares the set with its target and calls report for what people must
// decide on. Signatures are never a problem. It changes nothing.
func Problems(ctx context.Context, s *Set, t Target, report func(*Problem) error) error {
	tables := map[string]bool{}
	table := func(name string) (bool, error) {
		if has, known := tables[name]; known {
			return has, nil
		}
		has, err := t.Table(ctx, name)
		if err == nil && len(tables) < 1<<16 {
			tables[name] = has
		}
		return has, err
	}
	return s.Updates(ctx, func(u *Update) error {
		if u.Superseded {
			return nil
		}
		for i := range u.Operations {
			o := &u.Operations[i]
			if o.Action.Bulk() || o.SysID == "" || o.Table == "sys_attachment_doc" {
				continue
			}
			if err := s.problems(ctx, t, table, u, o, report); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Set) problems(ctx context.Context, t Target, table func(string) (bool, error), u *Update, o *Operation, report func(*Problem) error) error {
	problem := func(k ProblemKind) *Problem {
		return &Problem{Index: u.Index, Update: u.Name, Kind: k, Ref: o.Ref()}
	}
	if has, err := table(o.Table); err != nil {
		return err
	} else if !has {
		return report(problem(MissingTable))
	}
	updated, has, err := t.Updated(ctx, o.Ref())
	if err != nil {
		return err
	}
	if o.Action == Delete {
		if !has {
			p := problem(MissingObject)
			p.Wanted = o.Ref()
			return report(p)
		}
	} else if err := s.references(ctx, t, u, o, report); err != nil {
		return err
	}
	if !has {
		return nil
	}
	if updated > o.Fields["sys_updated_on"] {
		if err := report(problem(Collision)); err != nil {
			return err
		}
	}
	pending, err := t.Pending(ctx, o.Ref())
	if err != nil || !pending {
		return err
	}
	return report(problem(Uncommitted))
}

func (s *Set) references(ctx context.Context, t Target, u *Update, o *Operation, report func(*Problem) error) error {
	for _, field := range sortedKeys(o.References) {
		value := o.Fields[field]
		if !isHex(value) { // "global", names, several keys
			continue
		}
		to, known, err := t.Refers(ctx, o.Table, field)
		if err != nil {
			return err
		}
		wanted := record.Ref{Table: to, Key: []string{value}}
		if !known || s.Has(wanted) {
			continue
		}
		if _, has, err := t.Updated(ctx, wanted); err != nil {
			return err
		} else if has {
			continue
		}
		if err := report(&Problem{Index: u.Index, Update: u.Name, Kind: MissingObject, Ref: o.Ref(), Field: field, Wanted: wanted}); err != nil {
			return err
		}
	}
	return nil
}
