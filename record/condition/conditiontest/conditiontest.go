// Package conditiontest makes up conditions and values for tests: the values are those
// that collations, padding and case rules of databases confuse.
package conditiontest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Values are canonical texts that are all different, and that databases mix up.
func Values() []string {
	return []string{
		"", "a", "A", "a ", " a", "a  ", "A\t", "á", "a\u0301", "\u00e4", "ae", "\u00df", "ss", "SS", "i", "I", "\u0131", "\u0130",
		"true", "TRUE", "false", "1", "0", "01", "1 ", "+1", "-1", "1.0", "1e0", "-9223372036854775808", "9223372036854775807",
		"9223372036854775808", "-", "--1", "%", "_", "a%", "a_b", "\\", "\\\\", "'", "''", "\"", "`", "a'b", "a\nb", "a\r\nb", "a\n", "\n",
		"\U0001f600", "\U0001f601", "a\U0001f600b", "\ufffd", "\ufeffa", "a\u200b", "\u3000", "\u00a0a", "; DROP TABLE t; --", "$1", "?", ":a", "@a", "\\x61", "0x61", "NULL", "null",
	}
}

// Value is one of Values, or two of them joined.
func Value(r *rand.Rand) string {
	v := Values()
	s := v[r.IntN(len(v))]
	if r.IntN(4) == 0 {
		s += v[r.IntN(len(v))]
	}
	return s
}

// Expression is a condition over fields.
func Expression(r *rand.Rand, fields []string) string { return boolean(r, fields, 1+r.IntN(4)) }

func field(r *rand.Rand, fields []string) string {
	f := fields[r.IntN(len(fields))]
	if r.IntN(3) == 0 || strings.Trim(f, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "field(" + Quote(f) + ")"
	}
	return f
}

// Quote writes s as a constant of CEL.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func text(r *rand.Rand, fields []string) string {
	if r.IntN(3) == 0 {
		return Quote(Value(r))
	}
	return field(r, fields)
}

func number(r *rand.Rand, fields []string) string {
	if r.IntN(2) == 0 {
		return []string{"0", "1", "-1", "9223372036854775807", "-9223372036854775808", strconv.Itoa(r.IntN(20) - 10)}[r.IntN(6)]
	}
	return "integer(" + text(r, fields) + ")"
}

func boolean(r *rand.Rand, fields []string, depth int) string {
	if depth > 0 {
		l := func() string { return boolean(r, fields, depth-1) }
		switch r.IntN(6) {
		case 0, 1:
			return "(" + l() + " && " + l() + ")"
		case 2, 3:
			return "(" + l() + " || " + l() + ")"
		case 4:
			return "!(" + l() + ")"
		case 5:
			return "((" + l() + ") " + []string{"==", "!="}[r.IntN(2)] + " (" + l() + "))"
		}
	}
	switch r.IntN(9) {
	case 0, 1:
		return text(r, fields) + " " + []string{"==", "!="}[r.IntN(2)] + " " + text(r, fields)
	case 2:
		var list []string
		for range r.IntN(4) {
			list = append(list, text(r, fields))
		}
		return text(r, fields) + " in [" + strings.Join(append(list, Quote("a")), ", ") + "]"
	case 3, 4:
		return text(r, fields) + "." + []string{"startsWith", "endsWith", "contains"}[r.IntN(3)] + "(" + text(r, fields) + ")"
	case 5:
		return field(r, fields) + ".matches(" + Quote([]string{"^a", "a$", "^[a-z]+$", "(?i)ss", ".", "^$", "\\d", "\\x{1f600}"}[r.IntN(8)]) + ")"
	case 6:
		return number(r, fields) + " " + []string{"<", "<=", ">", ">=", "==", "!="}[r.IntN(6)] + " " + number(r, fields)
	case 7:
		return "truth(" + text(r, fields) + ")"
	default:
		return []string{"true", "false"}[r.IntN(2)]
	}
}
