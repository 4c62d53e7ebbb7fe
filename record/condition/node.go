package condition

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// evaluation is one Eval. left falls below zero when the work was too much; the value
// then means nothing.
type evaluation struct {
	fields map[string]string
	left   int64
}

func (e *evaluation) pay(units int) bool {
	e.left -= int64(units) + 1
	return e.left >= 0
}

// node is an expression of type bool.
type node interface{ holds(*evaluation) bool }

type (
	constant bool
	not      struct{ x node }
	and      struct{ l, r node }
	or       struct{ l, r node }
	same     struct{ l, r node } // both true or both false
	equal    struct{ l, r text }
	among    struct {
		x    text
		list []text
	}
	find struct { // startsWith, endsWith, contains
		how  string
		s, t text
	}
	matches struct {
		s    text
		re   *regexp.Regexp
		size int // instructions
	}
	compare struct { // of integers
		op   string
		l, r number
	}
	truth struct{ x text }
)

// text is an expression of type string: a field or a constant.
type text struct {
	field bool
	value string // the field's name, or the constant
}

// number is an expression of type int: integer(x) or a constant.
type number struct {
	of    *text
	value int64
}

func (t text) get(e *evaluation) string {
	if t.field {
		return e.fields[t.value]
	}
	return t.value
}

func (n number) get(e *evaluation) int64 {
	if n.of == nil {
		return n.value
	}
	return Integer(n.of.get(e))
}

// Integer is the function integer of conditions.
func Integer(s string) int64 {
	if len(s) > 32 {
		return 0
	}
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Truth is the function truth of conditions.
func Truth(s string) bool { return s == "true" || s == "1" }

func (n constant) holds(*evaluation) bool  { return bool(n) }
func (n not) holds(e *evaluation) bool     { return !n.x.holds(e) }
func (n and) holds(e *evaluation) bool     { return n.l.holds(e) && n.r.holds(e) }
func (n or) holds(e *evaluation) bool      { return n.l.holds(e) || n.r.holds(e) }
func (n same) holds(e *evaluation) bool    { return n.l.holds(e) == n.r.holds(e) }
func (n truth) holds(e *evaluation) bool   { return e.pay(1) && Truth(n.x.get(e)) }
func (n equal) holds(e *evaluation) bool   { return cheap(e, n.l.get(e), n.r.get(e)) }
func (n compare) holds(e *evaluation) bool { return e.pay(32) && ordered(n.op, n.l.get(e), n.r.get(e)) }

func cheap(e *evaluation, a, b string) bool { return e.pay(min(len(a), len(b))) && a == b }

func ordered(op string, a, b int64) bool {
	switch op {
	case "=":
		return a == b
	case "<":
		return a < b
	default: // "<="
		return a <= b
	}
}

func (n among) holds(e *evaluation) bool {
	s := n.x.get(e)
	for _, t := range n.list {
		if cheap(e, s, t.get(e)) {
			return true
		}
	}
	return false
}

func (n find) holds(e *evaluation) bool {
	s, t := n.s.get(e), n.t.get(e)
	if !e.pay(len(s) + len(t)) {
		return false
	}
	switch n.how {
	case "startsWith":
		return strings.HasPrefix(s, t)
	case "endsWith":
		return strings.HasSuffix(s, t)
	default:
		return strings.Contains(s, t)
	}
}

func (n matches) holds(e *evaluation) bool {
	s := n.s.get(e)
	if len(s) > MaxCost || !e.pay(len(s)*n.size) {
		return false
	}
	return n.re.MatchString(s)
}

// builder turns a checked expression into nodes.
type builder struct{ program int }

func (b *builder) boolean(x ast.Expr) (node, error) {
	switch x.Kind() {
	case ast.LiteralKind:
		if v, ok := x.AsLiteral().(types.Bool); ok {
			return constant(v), nil
		}
	case ast.CallKind:
		return b.call(x.AsCall())
	}
	return nil, errors.New("a bool is expected")
}

func (b *builder) call(c ast.CallExpr) (node, error) {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	switch name := c.FunctionName(); name {
	case "!_":
		x, err := b.boolean(args[0])
		return not{x}, err
	case "_&&_", "_||_":
		l, err1 := b.boolean(args[0])
		r, err2 := b.boolean(args[1])
		if name == "_&&_" {
			return and{l, r}, errors.Join(err1, err2)
		}
		return or{l, r}, errors.Join(err1, err2)
	case "_==_", "_!=_":
		n, err := b.equality(args[0], args[1])
		if name == "_!=_" {
			n = not{n}
		}
		return n, err
	case "_<_", "_<=_", "_>_", "_>=_":
		l, err1 := b.number(args[0])
		r, err2 := b.number(args[1])
		if name[1] == '>' {
			l, r = r, l
		}
		return compare{strings.ReplaceAll(strings.Trim(name, "_"), ">", "<"), l, r}, errors.Join(err1, err2)
	case "@in":
		return b.among(args[0], args[1])
	case "startsWith", "endsWith", "contains":
		s, err1 := b.text(args[0])
		t, err2 := b.text(args[1])
		return find{name, s, t}, errors.Join(err1, err2)
	case "matches":
		return b.matches(args[0], args[1])
	case "truth":
		s, err := b.text(args[0])
		return truth{s}, err
	default:
		return nil, fmt.Errorf("there is no function %q that is a bool", name)
	}
}

func (b *builder) equality(l, r ast.Expr) (node, error) {
	if x, err := b.text(l); err == nil {
		y, err := b.text(r)
		return equal{x, y}, err
	} else if errors.Is(err, errConstant) {
		return nil, err
	}
	if x, err := b.number(l); err == nil {
		y, err := b.number(r)
		return compare{"=", x, y}, err
	}
	x, err1 := b.boolean(l)
	y, err2 := b.boolean(r)
	return same{x, y}, errors.Join(err1, err2)
}

var errConstant = errors.New("no field holds this constant: it has a NUL or is not UTF-8")

func (b *builder) text(x ast.Expr) (text, error) {
	switch x.Kind() {
	case ast.IdentKind:
		return text{true, fieldOf(x.AsIdent())}, nil
	case ast.LiteralKind:
		if v, ok := x.AsLiteral().(types.String); ok {
			if strings.ContainsRune(string(v), 0) || !utf8.ValidString(string(v)) {
				return text{}, errConstant // a bound argument of no database holds it
			}
			return text{false, string(v)}, nil
		}
	}
	return text{}, errors.New("a field or a constant string is expected")
}

func (b *builder) number(x ast.Expr) (number, error) {
	switch x.Kind() {
	case ast.LiteralKind:
		if v, ok := x.AsLiteral().(types.Int); ok {
			return number{value: int64(v)}, nil
		}
	case ast.CallKind:
		switch c := x.AsCall(); c.FunctionName() {
		case "integer":
			t, err := b.text(c.Args()[0])
			return number{of: &t}, err
		case "-_":
			n, err := b.number(c.Args()[0])
			if err == nil && n.of == nil && n.value != math.MinInt64 {
				return number{value: -n.value}, nil
			}
		}
	}
	return number{}, errors.New("integer(…) or a constant integer is expected")
}

func (b *builder) among(x, list ast.Expr) (node, error) {
	s, err := b.text(x)
	if err != nil {
		return nil, err
	}
	if list.Kind() != ast.ListKind {
		return nil, errors.New("in takes a list that is written out")
	}
	n := among{x: s}
	for _, e := range list.AsList().Elements() {
		t, err := b.text(e)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, t)
	}
	return n, nil
}

func (b *builder) matches(x, pattern ast.Expr) (node, error) {
	s, err1 := b.text(x)
	p, err2 := b.text(pattern)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if p.field {
		return nil, errors.New("a pattern is a constant: whoever writes the record does not choose it")
	}
	if len(p.value) > MaxPattern {
		return nil, fmt.Errorf("a pattern of %d bytes: %w", len(p.value), ErrLimit)
	}
	parsed, err := syntax.Parse(p.value, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if b.program += len(prog.Inst); b.program > MaxProgram {
		return nil, fmt.Errorf("patterns of %d instructions: %w", b.program, ErrLimit)
	}
	re, err := regexp.Compile(p.value)
	if err != nil {
		return nil, err
	}
	return matches{s, re, len(prog.Inst)}, nil
}
