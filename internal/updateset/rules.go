package updateset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
	"github.com/greatseal-io/greatseal/rejection"
)

// Rules are the configurations in force, and how tables stand to each other.
type Rules struct {
	tables      map[string][]rule
	extends     map[string]string
	attachments bool // some configuration signs them
}

type rule struct {
	id     string
	config record.Configuration
	when   *condition.Condition // nil: always
}

// root is the table that the platform's tables of configuration extend; an operation
// on it reaches them all.
const rootTable = "sys_metadata"

// NewRules takes the configurations in force; the predefined ones are always among
// them. extends says which table extends which, as the platform has it; tables that it
// does not know are taken to extend sys_metadata.
func NewRules(configurations map[string]record.Configuration, extends map[string]string) (*Rules, error) {
	r := &Rules{tables: map[string][]rule{}, extends: maps.Clone(extends)}
	all := record.Predefined()
	maps.Copy(all, configurations)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		c := all[id]
		if err := c.Check(id); err != nil {
			return nil, fmt.Errorf("updateset: configuration %s: %w", id, err)
		}
		x := rule{id: id, config: c}
		if c.Condition != "" {
			var err error
			if x.when, err = condition.Compile(c.Condition); err != nil {
				return nil, fmt.Errorf("updateset: configuration %s: %w", id, err)
			}
		}
		r.tables[c.Table] = append(r.tables[c.Table], x)
		r.attachments = r.attachments || c.Attachments
	}
	return r, nil
}

// lineage is the table and those that it extends.
func (r *Rules) lineage(table string) []string {
	out := []string{table}
	for range 32 {
		parent := r.extends[out[len(out)-1]]
		if parent == "" || slices.Contains(out, parent) {
			break
		}
		out = append(out, parent)
	}
	if !slices.Contains(out, rootTable) && r.extends[table] == "" {
		out = append(out, rootTable)
	}
	return out
}

// reaches reports whether an operation on table can touch records that are signed:
// those of the table itself, of one that it extends, or of one that extends it.
func (r *Rules) reaches(table string) bool {
	if own(table) {
		return true
	}
	up := r.lineage(table)
	for protected := range r.tables {
		if slices.Contains(up, protected) || slices.Contains(r.lineage(protected), table) {
			return true
		}
	}
	return false
}

// of are the rules that a record falls under. A record that is to be deleted falls
// under all of its table: what it held is the sender's word.
func (r *Rules) of(rec *record.Record, deleted bool) ([]rule, error) {
	var out []rule
	for _, x := range r.tables[rec.Ref.Table] {
		if x.when == nil || deleted {
			out = append(out, x)
			continue
		}
		ok, err := x.when.Eval(rec.Fields)
		if err != nil {
			return nil, fmt.Errorf("updateset: condition of %s: %w", x.id, err)
		}
		if ok {
			out = append(out, x)
		}
	}
	return out, nil
}

// signs reports whether a configuration of the table signs a field of that name, in
// whatever case, or asks for it.
func (r *Rules) signs(table, low string) bool {
	same := func(f string) bool { return strings.ToLower(f) == low }
	return slices.ContainsFunc(r.tables[table], func(x rule) bool {
		return slices.ContainsFunc(x.config.Fields, same) || x.when != nil && slices.ContainsFunc(x.when.Fields(), same)
	})
}

// names reports whether a configuration of the table signs the field, or asks for it.
func (r *Rules) names(table, field string) bool {
	return slices.ContainsFunc(r.tables[table], func(x rule) bool {
		return x.config.Covers(field) || x.when != nil && slices.Contains(x.when.Fields(), field)
	})
}

// hazard is what no signature makes good: nil for an operation that may be judged by
// its record.
func (r *Rules) hazard(u *Update, o *Operation) *rejection.Error {
	switch {
	case o.Action.Bulk():
		if r.reaches(o.Table) || r.attachments && (o.Table == "sys_attachment" || o.Table == "sys_attachment_doc") {
			return rejection.New(rejection.ExtraOperation, o.Table, string(o.Action)+" reaches records that are signed")
		}
		if o.Action == Replace { // those that are not among its children are removed
			for i := range u.Operations {
				if c := &u.Operations[i]; c.Wrapper == o.Wrapper && r.reaches(c.Table) {
					return rejection.New(rejection.ExtraOperation, c.Table, "a wrapper replaces records that are signed")
				}
			}
		}
	case o.Table == "sys_attachment":
		table, id := o.Owner()
		for i := range u.Operations {
			if p := &u.Operations[i]; p.Table == table && p.SysID == id && id != "" && !p.Action.Bulk() {
				return nil // one of that record's attachments
			}
		}
		if r.attachments && (table == "" || r.reaches(table)) {
			return rejection.New(rejection.AttachmentExtra, o.Fields["file_name"], "an attachment without the record that it belongs to")
		}
	case len(r.tables[o.Table]) > 0:
		if o.SysID == "" {
			return rejection.New(rejection.RecordMismatch, o.Table, "a record without sys_id")
		}
		for _, name := range sortedKeys(o.Fields) {
			if !r.names(o.Table, name) && r.signs(o.Table, strings.ToLower(name)) {
				return rejection.New(rejection.RecordMismatch, name, "a field that a database may take for a signed one")
			}
		}
		if !o.Main && o.Wrapper == "" && slices.ContainsFunc(sortedKeys(o.Keys), func(k string) bool { return !strings.HasPrefix(k, "sys_") }) {
			return rejection.New(rejection.ExtraOperation, o.Table, "a record with keys that are not its own")
		}
	case r.reaches(o.Table):
		return rejection.New(rejection.ExtraOperation, o.Table, "the table shares its records with one that is signed")
	}
	return nil
}

// Item is one record that is to be signed.
type Item struct {
	Update         *Update
	Operation      *Operation
	Record         *record.Record
	Deleted        bool     // the set deletes it
	Configurations []string // under which it is to be signed, sorted
}

// Records calls f with everything in the set that falls under a configuration, in the
// set's order: what is to be signed. It refuses what no signature could make good, and
// a record that stands in two updates. What a later update of the same name replaces
// is left out.
func (s *Set) Records(ctx context.Context, r *Rules, f func(*Item) error) error {
	seen := map[digest16]bool{}
	return s.Updates(ctx, func(u *Update) error {
		if u.Superseded {
			return nil
		}
		for i := range u.Operations {
			o := &u.Operations[i]
			at := func(why *rejection.Error) error {
				return &Error{Reason: why, Update: u.Name, Offset: u.Offset, Line: s.units[u.Index].line}
			}
			if why := r.hazard(u, o); why != nil {
				return at(why)
			}
			if len(r.tables[o.Table]) == 0 || o.Action.Bulk() {
				continue
			}
			if key := refKey(o.Ref()); seen[key] {
				return at(twice(o))
			} else {
				seen[key] = true
			}
			item := &Item{Update: u, Operation: o, Record: o.Record(), Deleted: o.Action == Delete}
			rules, err := r.of(item.Record, item.Deleted)
			if err != nil {
				return err
			}
			if len(rules) == 0 {
				continue
			}
			for _, x := range rules {
				item.Configurations = append(item.Configurations, x.id)
			}
			if err := f(item); err != nil {
				return err
			}
		}
		return nil
	})
}

func twice(o *Operation) *rejection.Error {
	return rejection.New(rejection.ExtraOperation, o.Table, "the set holds the record twice")
}

// complete is what to write of an operation: its fields, and nothing in those that the
// table's configurations sign or ask for and that it leaves out.
func (r *Rules) complete(o *Operation) map[string]string {
	rules := r.tables[o.Table]
	if len(rules) == 0 {
		return o.Fields
	}
	out := maps.Clone(o.Fields)
	fill := func(names []string) {
		for _, n := range names {
			if _, has := out[n]; !has {
				out[n] = ""
			}
		}
	}
	for _, x := range rules {
		fill(x.config.Fields)
		if x.when != nil {
			fill(x.when.Fields())
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
