// Package condition is the condition of a signature configuration: an expression in
// CEL, the Common Expression Language, over the fields of a record, which says whether
// the configuration applies to the record.
//
//	active == 'true' && name.startsWith('x_') && !(scope in ['global', 'sn_core'])
//
// A field is a variable of type string that holds the canonical value; an absent field
// is "". A field whose name is no identifier of CEL, or a word of CEL, is written
// field("the name"). Of CEL there are
//
//	== != on strings, integers and bools; < <= > >= on integers; in [list of strings];
//	&& || !; s.startsWith(t), s.endsWith(t), s.contains(t) and s.matches(pattern),
//	the pattern being a constant in the syntax RE2 that is searched for anywhere in s
//
// and two functions more:
//
//	integer(s)  the number that s is in decimal digits, with a sign or without;
//	            0 where s is none or does not fit 64 bits
//	truth(s)    whether s is "true" or "1"
//
// Nothing else of CEL is accepted: no macro, no arithmetic, no conversion.
//
// Invariants:
//
//  1. A condition has a value for every record: there are no errors of types, and no
//     missing fields. Eval agrees with cel-go's own evaluation.
//  2. Compile refuses what is too long, too deep, or needs a regular expression too
//     large; Eval refuses, by an error, work beyond MaxCost. A caller treats an error
//     as neither true nor false.
//  3. The WHERE clause of SQL never leaves out a record that Eval accepts, whatever
//     collation, padding or case rules the columns have; when it says Exact, it lets
//     through no other either.
//  4. No constant of the expression becomes part of SQL's text: constants are arguments.
//
// A caller may not conclude from a condition that is true that the record is signed,
// or from a condition that the fields exist in the table.
package condition

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// Limits of a condition.
const (
	MaxSource  = 8 << 10 // bytes of the expression
	MaxDepth   = 64      // nested operations
	MaxNodes   = 2048    // operations
	MaxFields  = 128     // different fields
	MaxPattern = 1 << 10 // bytes of one regular expression
	MaxProgram = 4 << 10 // instructions of all regular expressions together
	MaxCost    = 1 << 28 // units of one Eval: a byte compared is one, a byte matched one for each instruction of the expression
)

// ErrLimit is in the error of what is beyond a limit.
var ErrLimit = errors.New("limit exceeded")

// Condition is one compiled condition. It is safe for concurrent use.
type Condition struct {
	source string
	fields []string
	top    node
}

// mark begins the variables that stand for field("…"). No identifier of CEL has it.
const mark = "@field_"

// Compile reads an expression. An empty one is an error: a configuration without a
// condition has none.
func Compile(source string) (*Condition, error) {
	switch {
	case strings.TrimSpace(source) == "":
		return nil, errors.New("condition: it is empty")
	case len(source) > MaxSource:
		return nil, fmt.Errorf("condition: %d bytes: %w", len(source), ErrLimit)
	case !utf8.ValidString(source):
		return nil, errors.New("condition: not UTF-8")
	}
	env, err := cel.NewCustomEnv(append(library(),
		cel.ParserExpressionSizeLimit(MaxSource), cel.ParserRecursionLimit(MaxDepth),
		cel.Macros(cel.GlobalMacro("field", 1, fieldMacro)))...)
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	parsed, iss := env.Parse(source)
	if err := iss.Err(); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	names, err := variables(parsed.NativeRep().Expr())
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	var vars []cel.EnvOption
	for _, n := range names {
		vars = append(vars, cel.Variable(n, cel.StringType))
	}
	if env, err = env.Extend(vars...); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	checked, iss := env.Check(parsed)
	if err := iss.Err(); err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("condition: its value is of type %s, not bool", checked.OutputType())
	}
	b := builder{}
	top, err := b.boolean(checked.NativeRep().Expr())
	if err != nil {
		return nil, fmt.Errorf("condition: %w", err)
	}
	c := &Condition{source: source, top: top}
	for _, n := range names {
		c.fields = append(c.fields, fieldOf(n))
	}
	slices.Sort(c.fields)
	c.fields = slices.Compact(c.fields)
	return c, nil
}

// String is the expression as it was given.
func (c *Condition) String() string { return c.source }

// Fields are the names of the fields that the value depends on, sorted. They may be
// none.
func (c *Condition) Fields() []string { return slices.Clone(c.fields) }

// Eval says whether the condition holds for a record with these canonical values.
func (c *Condition) Eval(fields map[string]string) (bool, error) {
	e := evaluation{fields: fields, left: MaxCost}
	v := c.top.holds(&e)
	if e.left < 0 {
		return false, fmt.Errorf("condition: evaluation: %w", ErrLimit)
	}
	return v, nil
}

// library declares the part of CEL that there is.
func library() []cel.EnvOption {
	s, i, b := cel.StringType, cel.IntType, cel.BoolType
	two := func(name string, types ...*cel.Type) cel.EnvOption {
		var o []cel.FunctionOpt
		for _, t := range types {
			o = append(o, cel.Overload(name+"_"+t.String(), []*cel.Type{t, t}, b))
		}
		return cel.Function(name, o...)
	}
	member := func(name string) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload(name+"_string", []*cel.Type{s, s}, b))
	}
	return []cel.EnvOption{
		two("_==_", s, i, b), two("_!=_", s, i, b),
		two("_<_", i), two("_<=_", i), two("_>_", i), two("_>=_", i),
		two("_&&_", b), two("_||_", b),
		cel.Function("!_", cel.Overload("not_bool", []*cel.Type{b}, b)),
		cel.Function("-_", cel.Overload("negate_int", []*cel.Type{i}, i)),
		cel.Function("@in", cel.Overload("in_strings", []*cel.Type{s, cel.ListType(s)}, b)),
		member("startsWith"), member("endsWith"), member("contains"), member("matches"),
		cel.Function("integer", cel.Overload("integer_string", []*cel.Type{s}, i)),
		cel.Function("truth", cel.Overload("truth_string", []*cel.Type{s}, b)),
	}
}

// fieldMacro makes field("name") a variable.
func fieldMacro(h parser.ExprHelper, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	name, ok := types.String(""), false
	if args[0].Kind() == ast.LiteralKind {
		name, ok = args[0].AsLiteral().(types.String)
	}
	if !ok || name == "" {
		return nil, h.NewError(args[0].ID(), "field takes the name of a field as a constant")
	}
	return h.NewIdent(mark + hex.EncodeToString([]byte(name))), nil
}

// fieldOf is the field that a variable stands for.
func fieldOf(variable string) string {
	if h, ok := strings.CutPrefix(variable, mark); ok {
		b, _ := hex.DecodeString(h) // fieldMacro wrote it
		return string(b)
	}
	return variable
}

// variables lists the variables of an expression, sorted.
func variables(top ast.Expr) ([]string, error) {
	var names []string
	nodes := 0
	var walk func(e ast.Expr, depth int) error
	walk = func(e ast.Expr, depth int) error {
		if nodes++; nodes > MaxNodes || depth > MaxDepth {
			return fmt.Errorf("nested %d deep, %d operations: %w", depth, nodes, ErrLimit)
		}
		switch e.Kind() {
		case ast.IdentKind:
			if !slices.Contains(names, e.AsIdent()) {
				names = append(names, e.AsIdent())
			}
			if len(names) > MaxFields {
				return fmt.Errorf("more than %d fields: %w", MaxFields, ErrLimit)
			}
		case ast.LiteralKind:
		case ast.ListKind:
			for _, x := range e.AsList().Elements() {
				if err := walk(x, depth+1); err != nil {
					return err
				}
			}
		case ast.CallKind:
			c := e.AsCall()
			if c.IsMemberFunction() {
				if err := walk(c.Target(), depth+1); err != nil {
					return err
				}
			}
			for _, x := range c.Args() {
				if err := walk(x, depth+1); err != nil {
					return err
				}
			}
		case ast.SelectKind:
			return fmt.Errorf("a field has no parts: %q", e.AsSelect().FieldName())
		default:
			return errors.New("only fields, constants, lists, and calls of what the package names")
		}
		return nil
	}
	err := walk(top, 0)
	slices.Sort(names)
	return names, err
}
