// Package lint warns about configurations of signatures that say less than they
// seem to: fields that change what a record does and are not signed, fields that
// change by themselves and are, conditions that somebody can step out of.
//
// Invariants:
//
//  1. Lint is pure, and its warnings come in one order.
//  2. A field gets one warning of a kind.
//
// A caller may not conclude from silence that a configuration is sufficient: names
// are judged here, not what a platform does with them.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
)

// Kind is a kind of warning.
type Kind string

// The kinds, the gravest first.
const (
	Unsigned    Kind = "unsigned"    // a field that changes what the record does can be changed
	Unknown     Kind = "unknown"     // a field is signed that the table does not have
	Escape      Kind = "escape"      // the condition depends on a field that can be changed
	Malformed   Kind = "malformed"   // the condition does not compile
	Attachments Kind = "attachments" // an attachment can take the place of a field
	Parameter   Kind = "parameter"   // an order may pass what a signed field is to say
	Volatile    Kind = "volatile"    // a signed field changes by itself: signatures become invalid
	Narrow      Kind = "narrow"      // little of the record, or few of the records, are signed
)

func kinds() []Kind {
	return []Kind{Unsigned, Unknown, Escape, Malformed, Attachments, Parameter, Volatile, Narrow}
}

// Warning is one thing to look at.
type Warning struct {
	Kind  Kind   `json:"kind"`
	Field string `json:"field,omitzero"`
	Text  string `json:"text"` // for people: why, and what to do
}

func (w Warning) String() string {
	if w.Field == "" {
		return string(w.Kind) + ": " + w.Text
	}
	return string(w.Kind) + ": " + w.Field + ": " + w.Text
}

// Lint looks at one configuration. columns are those of its table, in any order;
// without them only what is known of the table by its name is said of fields that
// are not signed. The warnings are sorted by kind, then field.
func Lint(id string, c record.Configuration, columns []string) []Warning {
	l := &linter{c: &c, columns: columns}
	l.unsigned()
	l.unknown()
	l.condition(id)
	l.attachments()
	l.parameters()
	l.volatile()
	l.narrow()
	order := kinds()
	slices.SortStableFunc(l.out, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Field, b.Field))
	})
	return l.out
}

type linter struct {
	c       *record.Configuration
	columns []string
	out     []Warning
}

func (l *linter) add(k Kind, field, format string, args ...any) {
	if !slices.ContainsFunc(l.out, func(w Warning) bool { return w.Kind == k && w.Field == field }) {
		l.out = append(l.out, Warning{k, field, fmt.Sprintf(format, args...)})
	}
}

func (l *linter) signs(field string) bool { return slices.Contains(l.c.Fields, field) }

// has reports whether the table has the column, as far as that is known.
func (l *linter) has(column string) bool {
	return len(l.columns) == 0 || slices.Contains(l.columns, column)
}

func (l *linter) unsigned() {
	for _, f := range meanings(l.c.Table) {
		// A platform calls one thing by one of several names.
		names := slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return !l.has(n) })
		if len(names) > 0 && !slices.ContainsFunc(names, l.signs) {
			l.add(Unsigned, names[0], "%s and is not signed: add it to the fields", f.why)
		}
	}
	for _, column := range l.columns {
		if why := suspicion(column); why != "" && !l.signs(column) && !isVolatile(column) {
			l.add(Unsigned, column, "by its name it %s, and it is not signed: add it to the fields", why)
		}
	}
}

func (l *linter) unknown() {
	if len(l.columns) == 0 {
		return
	}
	for _, f := range l.c.Fields {
		if !slices.Contains(l.columns, f) {
			l.add(Unknown, f, "the table has no such column: it is signed as absent, and what was meant is not signed")
		}
	}
}

func (l *linter) condition(id string) {
	if l.c.Condition == "" {
		return
	}
	c, err := condition.Compile(l.c.Condition)
	if err != nil {
		l.add(Malformed, "", "the condition of %s: %v", id, err)
		return
	}
	for _, f := range c.Fields() {
		if !l.signs(f) {
			l.add(Escape, f, "the condition depends on it, and it is not signed: whoever changes it takes the record out of the configuration")
		}
		if len(l.columns) > 0 && !slices.Contains(l.columns, f) {
			l.add(Unknown, f, "the condition depends on it, and the table has no such column: it is always empty")
		}
	}
}

func (l *linter) attachments() {
	if l.c.Attachments {
		return
	}
	switch {
	case slices.Contains(attachmentTables(), l.c.Table):
		l.add(Attachments, "", "records of %s carry code in attachments, which are not signed: set attachments", l.c.Table)
	case l.signs("use_attachment") || slices.Contains(l.columns, "use_attachment"):
		l.add(Attachments, "use_attachment", "an attachment can take the place of the script, and attachments are not signed: set attachments")
	}
}

func (l *linter) parameters() {
	for _, p := range l.c.Parameters {
		switch {
		case l.signs(p):
			l.add(Parameter, p, "is a signed field and a parameter: an order could pass another value than the one that was signed; take it off the parameters")
		case slices.Contains(l.columns, p):
			l.add(Parameter, p, "is a column of the table too: sign the column, or give the parameter another name")
		case suspicion(p) != "":
			l.add(Parameter, p, "by its name it %s: whoever sends orders decides that, and no author has signed it", suspicion(p))
		}
	}
}

func (l *linter) volatile() {
	for _, f := range l.c.Fields {
		if isVolatile(f) {
			l.add(Volatile, f, "changes without anybody editing the record: signatures over it become invalid; take it off the fields")
		}
	}
}

// isVolatile reports whether a platform writes the field itself.
func isVolatile(f string) bool {
	switch {
	case f == "last_run_database_field": // names a column, and is spliced into SQL
		return false
	case strings.HasPrefix(f, "last_run_"), strings.HasPrefix(f, "sys_updated_"), strings.HasPrefix(f, "sys_created_"):
		return true
	case f == "display_value", strings.HasSuffix(f, "_display_value"), strings.HasSuffix(f, ".display_value"):
		return true
	}
	return f == "sys_mod_count" || f == "sys_tags" || f == "payload_hash"
}

func (l *linter) narrow() {
	if len(l.c.Fields) == 0 {
		l.add(Narrow, "", "attachments alone are signed: every field of the record can be changed")
		return
	}
	steady := slices.DeleteFunc(slices.Clone(l.columns), isVolatile)
	if n := slices.DeleteFunc(slices.Clone(l.c.Fields), isVolatile); len(steady) >= 8 && len(n)*4 < len(steady) {
		l.add(Narrow, "", "%d of %d columns that somebody writes are signed: sign them all, or say of each why not", len(n), len(steady))
	}
	if l.c.Condition != "" {
		l.add(Narrow, "", "records for which the condition is false are not signed, and not held to this configuration")
	}
}
