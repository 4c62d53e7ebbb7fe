package condition

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Dialect is a kind of SQL.
type Dialect uint8

// The dialects.
const (
	PostgreSQL Dialect = iota + 1
	MariaDB
	SQLite
)

// Column says how a field is read in SQL. The platform makes it; all of it is trusted
// text with quoted names.
type Column struct {
	// Text is the canonical value, "" where the field is absent and never NULL, in a
	// form whose comparisons are those of bytes: PostgreSQL text COLLATE "C", MariaDB
	// binary, SQLite a blob. "": it cannot be written in SQL.
	Text string
	// Int is what Integer makes of the canonical value, never NULL. "": as Text.
	Int string
	// Index is an expression that an index may be on. Index = 'constant' holds
	// wherever Text is the constant, which is not "". "": there is none.
	Index string
}

// Where is the part of a condition that SQL can judge.
type Where struct {
	Text  string // "": every record
	Args  []any  // for $n or ?, in order
	Exact bool   // it is the whole condition
}

// SQL writes the condition, as far as it can be, for a WHERE clause. Placeholders of
// PostgreSQL count from first. column says how to read a field; false: SQL cannot.
func (c *Condition) SQL(d Dialect, first int, column func(field string) (Column, bool)) Where {
	w := writer{d: d, next: first, column: column}
	text, exact, ok := w.positive(c.top)
	if !ok {
		return Where{}
	}
	return Where{text, w.args, exact}
}

type writer struct {
	d      Dialect
	next   int
	args   []any
	column func(string) (Column, bool)
}

// positive writes an expression that holds wherever n does; exact when nowhere else.
// Not ok: nothing better than true.
func (w *writer) positive(n node) (s string, exact, ok bool) {
	switch n := n.(type) {
	case and:
		l, le, lok := w.positive(n.l)
		r, re, rok := w.positive(n.r)
		switch {
		case lok && rok:
			return "(" + l + " AND " + r + ")", le && re, true
		case lok:
			return l, false, true
		default:
			return r, false, rok
		}
	case or:
		mark, next := len(w.args), w.next
		l, le, lok := w.positive(n.l)
		if lok {
			if r, re, rok := w.positive(n.r); rok {
				return "(" + l + " OR " + r + ")", le && re, true
			}
		}
		w.args, w.next = w.args[:mark], next
		return "", false, false
	case not:
		return w.negative(n.x)
	}
	s, ok = w.atom(n, true)
	return s, ok, ok
}

// negative is positive of "not n".
func (w *writer) negative(n node) (s string, exact, ok bool) {
	switch n := n.(type) {
	case and:
		return w.positive(or{not{n.l}, not{n.r}})
	case or:
		return w.positive(and{not{n.l}, not{n.r}})
	case not:
		return w.positive(n.x)
	}
	s, ok = w.atom(n, false)
	return "(NOT " + s + ")", ok, ok
}

// atom writes n exactly or not at all; what is written is true or false, never NULL.
// With index it may be joined by what an index serves.
func (w *writer) atom(n node, index bool) (string, bool) {
	mark, next := len(w.args), w.next
	s, ok := w.exact(n, index)
	if !ok {
		w.args, w.next = w.args[:mark], next
	}
	return s, ok
}

func (w *writer) exact(n node, index bool) (string, bool) {
	switch n := n.(type) {
	case constant:
		if n {
			return "(1=1)", true
		}
		return "(1=0)", true
	case equal:
		return w.equal(n.l, n.r, index)
	case among:
		if len(n.list) == 0 {
			return "(1=0)", true
		}
		var parts []string
		for _, t := range n.list {
			p, ok := w.equal(n.x, t, index)
			if !ok {
				return "", false
			}
			parts = append(parts, p)
		}
		return "(" + strings.Join(parts, " OR ") + ")", true
	case find:
		return w.find(n)
	case truth:
		s, ok1 := w.text(n.x)
		a, ok2 := w.text(text{value: "true"})
		b, ok3 := w.text(text{value: "1"})
		return "(" + s + " IN (" + a + ", " + b + "))", ok1 && ok2 && ok3
	case compare:
		l, ok1 := w.number(n.l)
		r, ok2 := w.number(n.r)
		return "(" + l + " " + n.op + " " + r + ")", ok1 && ok2
	case same:
		l, ok1 := w.whole(n.l)
		r, ok2 := w.whole(n.r)
		return "((" + l + ") = (" + r + "))", ok1 && ok2
	}
	return "", false // matches: a database's regular expressions are not RE2's
}

// whole writes all of n exactly.
func (w *writer) whole(n node) (string, bool) {
	s, exact, ok := w.positive(n)
	return s, ok && exact
}

func (w *writer) equal(l, r text, index bool) (string, bool) {
	if !l.field {
		l, r = r, l
	}
	var hint string
	if index && l.field && !r.field && r.value != "" {
		if c, ok := w.column(l.value); ok && c.Index != "" && c.Text != "" {
			hint = c.Index + " = " + w.arg(r.value) + " AND "
		}
	}
	a, ok1 := w.text(l)
	b, ok2 := w.text(r)
	return "(" + hint + a + " = " + b + ")", ok1 && ok2
}

func (w *writer) find(n find) (string, bool) {
	if !n.t.field && n.t.value == "" {
		return "(1=1)", true
	}
	if n.t.field {
		return "", false // lengths of fields on the right: not worth their SQL
	}
	s, ok := w.text(n.s)
	if !ok {
		return "", false
	}
	if w.d == PostgreSQL {
		t, _ := w.text(n.t)
		switch n.how {
		case "startsWith":
			return "starts_with(" + s + ", " + t + ")", true
		case "endsWith":
			return fmt.Sprintf("(right(%s, %d) = %s)", s, utf8.RuneCountInString(n.t.value), t), true
		default:
			return "(strpos(" + s + ", " + t + ") > 0)", true
		}
	}
	size := len(n.t.value)
	switch n.how {
	case "startsWith":
		t, _ := w.text(n.t)
		return fmt.Sprintf("(substr(%s, 1, %d) = %s)", s, size, t), true
	case "endsWith":
		t, _ := w.text(n.t)
		if w.d == MariaDB {
			return fmt.Sprintf("(right(%s, %d) = %s)", s, size, t), true
		}
		return fmt.Sprintf("(substr(%s, -%d) = %s)", s, size, t), true
	default:
		t, _ := w.text(n.t)
		return "(instr(" + s + ", " + t + ") > 0)", true
	}
}

func (w *writer) text(t text) (string, bool) {
	if t.field {
		c, ok := w.column(t.value)
		return c.Text, ok && c.Text != ""
	}
	switch w.d {
	case PostgreSQL:
		return w.arg(t.value) + `::text COLLATE "C"`, true
	case MariaDB:
		return "CAST(" + w.arg([]byte(t.value)) + " AS BINARY)", true
	default:
		return "CAST(" + w.arg([]byte(t.value)) + " AS BLOB)", true
	}
}

func (w *writer) number(n number) (string, bool) {
	if n.of == nil {
		switch w.d {
		case PostgreSQL:
			return w.arg(n.value) + "::bigint", true
		case MariaDB:
			return "CAST(" + w.arg(n.value) + " AS SIGNED)", true
		default:
			return "CAST(" + w.arg(n.value) + " AS INTEGER)", true
		}
	}
	if !n.of.field {
		return w.number(number{value: Integer(n.of.value)})
	}
	c, ok := w.column(n.of.value)
	return c.Int, ok && c.Int != ""
}

func (w *writer) arg(v any) string {
	w.args = append(w.args, v)
	if w.d != PostgreSQL {
		return "?"
	}
	w.next++
	return fmt.Sprintf("$%d", w.next-1)
}
