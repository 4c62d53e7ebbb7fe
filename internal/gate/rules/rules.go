// Package rules is the check of a gate that judges files by an operator's rules, in
// CEL, the Common Expression Language, over the decoded plan.
//
//	when:   format == "pe"
//	demand: hardening.aslr && hardening.dep && facts["company-name"] == "Example Ltd"
//
// Variables:
//
//	name, format, digest, content, requester, policy, purpose, reason   string
//	size, index, count                                                  int
//	params, facts, claims, origin                                       map(string, string)
//	all        map(string, list(string)): every value of each fact, in the plan's order
//	entries    list(string): the values of the facts "entry"
//	hardening  map(string, bool) of a PE image, else empty: aslr, dep, cfg,
//	           high_entropy, force_integrity, appcontainer, no_seh
//
// and one function besides CEL's own, versions(a, b): -1, 0 or 1 as the version a,
// digits and words between dots and hyphens, is lower than b, like it, or higher.
//
// name, claims, requester's reason and origin are the requester's word. Facts are read
// from the bytes where the gate has them.
//
// Invariants:
//
//  1. A rule that does not compile, or is no bool, is refused by New.
//  2. A rule that has no value for a file, or costs too much, disapproves it.
//  3. A file to which no rule applies is disapproved.
package rules

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/greatseal-io/greatseal/internal/gate/check"
)

// Rule is one rule.
type Rule struct {
	Name   string
	When   string // the files it applies to; "": all
	Demand string // what must be true of them
	Reason string // what the requester is told if it is not
}

// Limits.
const (
	maxRules  = 256
	maxSource = 8 << 10
	maxCost   = 1_000_000
	maxText   = 300 // bytes of a rule's name or reason
)

type rule struct {
	Rule
	when, demand cel.Program
}

// Rules are the check.
type Rules struct {
	list     []rule
	planOnly bool
}

// New compiles rules. planOnly judges plans without the bytes: facts are the
// requester's word then, and hardening is empty.
func New(list []Rule, planOnly bool) (*Rules, error) {
	if len(list) == 0 || len(list) > maxRules {
		return nil, fmt.Errorf("gate: rules: want 1 to %d rules", maxRules)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("gate: rules: %w", err)
	}
	r := &Rules{planOnly: planOnly}
	seen := map[string]bool{}
	for i, x := range list {
		if x.Name == "" || seen[x.Name] || len(x.Name) > maxText || len(x.Reason) > maxText {
			return nil, fmt.Errorf("gate: rules: rule %d: want a name of its own, and texts of up to %d bytes", i+1, maxText)
		}
		seen[x.Name] = true
		c := rule{Rule: x}
		if x.When != "" {
			if c.when, err = compile(env, x.When); err != nil {
				return nil, fmt.Errorf("gate: rules: rule %q: when: %w", x.Name, err)
			}
		}
		if c.demand, err = compile(env, x.Demand); err != nil {
			return nil, fmt.Errorf("gate: rules: rule %q: demand: %w", x.Name, err)
		}
		r.list = append(r.list, c)
	}
	return r, nil
}

func environment() (*cel.Env, error) {
	text := cel.MapType(cel.StringType, cel.StringType)
	opts := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxSource), cel.ParserRecursionLimit(64),
		cel.Variable("all", cel.MapType(cel.StringType, cel.ListType(cel.StringType))),
		cel.Variable("entries", cel.ListType(cel.StringType)),
		cel.Variable("hardening", cel.MapType(cel.StringType, cel.BoolType)),
		cel.Function("versions", cel.Overload("versions_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.IntType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				x, ok1 := a.Value().(string)
				y, ok2 := b.Value().(string)
				if !ok1 || !ok2 {
					return types.NewErr("versions: want two strings")
				}
				return types.Int(Versions(x, y))
			}))),
	}
	for _, n := range [...]string{"name", "format", "digest", "content", "requester", "policy", "purpose", "reason"} {
		opts = append(opts, cel.Variable(n, cel.StringType))
	}
	for _, n := range [...]string{"size", "index", "count"} {
		opts = append(opts, cel.Variable(n, cel.IntType))
	}
	for _, n := range [...]string{"params", "facts", "claims", "origin"} {
		opts = append(opts, cel.Variable(n, text))
	}
	return cel.NewEnv(opts...)
}

func compile(env *cel.Env, source string) (cel.Program, error) {
	if strings.TrimSpace(source) == "" {
		return nil, errors.New("an expression is wanted")
	}
	ast, iss := env.Compile(source)
	if iss != nil && iss.Err() != nil {
		return nil, iss.Err()
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it is a %s, not a bool", ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
}

// Bytes implements check.Check.
func (r *Rules) Bytes() bool { return !r.planOnly }

// File implements check.Check.
func (r *Rules) File(ctx context.Context, f *check.File) (check.Opinion, error) {
	vars, err := variables(f)
	if err != nil {
		return check.Opinion{}, err
	}
	applied := 0
	for _, x := range r.list {
		if x.when != nil {
			yes, err := x.eval(ctx, x.when, vars)
			if ctx.Err() != nil {
				return check.Opinion{}, ctx.Err()
			}
			if err != nil {
				return check.Against(err.Error()), nil
			}
			if !yes {
				continue
			}
		}
		applied++
		yes, err := x.eval(ctx, x.demand, vars)
		switch {
		case ctx.Err() != nil:
			return check.Opinion{}, ctx.Err()
		case err != nil:
			return check.Against(err.Error()), nil
		case !yes && x.Reason == "":
			return check.Against("rule " + x.Name + " is not met"), nil
		case !yes:
			return check.Against("rule " + x.Name + ": " + x.Reason), nil
		}
	}
	if applied == 0 {
		return check.Against("no rule is about files like this"), nil
	}
	return check.For(fmt.Sprintf("%d of %d rules apply and are met", applied, len(r.list))), nil
}

// eval is the value of an expression. An error is about the file.
func (x *rule) eval(ctx context.Context, p cel.Program, vars map[string]any) (bool, error) {
	v, _, err := p.ContextEval(ctx, vars)
	if err != nil {
		return false, fmt.Errorf("rule %s has no value for it: %w", x.Name, err)
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("rule %s has no value for it", x.Name)
	}
	return b, nil
}

func variables(f *check.File) (map[string]any, error) {
	d := f.Describe()
	facts, all := map[string]string{}, map[string][]string{}
	for _, x := range d.Facts {
		if _, ok := facts[x.Name]; !ok {
			facts[x.Name] = x.Value
		}
		all[x.Name] = append(all[x.Name], x.Value)
	}
	entries := all["entry"]
	if entries == nil {
		entries = []string{}
	}
	flags := map[string]bool{}
	if f.Path != "" && d.Format == "pe" {
		var err error
		if flags, err = hardening(f.Path); err != nil {
			return nil, err
		}
	}
	return map[string]any{
		"name": d.Name, "format": d.Format, "digest": d.Digest, "content": hex.EncodeToString(f.Plan.Content),
		"requester": d.Requester, "policy": d.Policy, "purpose": d.Purpose, "reason": d.Reason,
		"size": d.Size, "index": int64(d.Index), "count": int64(d.Count),
		"params": d.Params, "facts": facts, "claims": d.Claims, "origin": d.Origin,
		"all": all, "entries": entries, "hardening": flags,
	}, nil
}

// Versions compares two versions: parts between dots, commas, hyphens and spaces, those that
// are numbers by their value, and words before numbers, so that 1.0-beta is lower than 1.0.
func Versions(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(".-+, _", r) })
	}
	x, y := split(strings.TrimPrefix(a, "v")), split(strings.TrimPrefix(b, "v"))
	for i := range max(len(x), len(y)) {
		p, q := "0", "0"
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		if c := part(p, q); c != 0 {
			return c
		}
	}
	return 0
}

func part(p, q string) int {
	number := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	switch np, nq := number(p), number(q); {
	case np && nq:
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		if len(p) != len(q) {
			if len(p) < len(q) {
				return -1
			}
			return 1
		}
	case np != nq && np:
		return 1 // 1.0 is after 1.0-beta
	case np != nq:
		return -1
	}
	return strings.Compare(p, q)
}
