package condition

import (
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/greatseal-io/greatseal/record/condition/conditiontest"
)

func TestEval(t *testing.T) {
	rec := map[string]string{"name": "x_job", "active": "true", "count": "-12", "type": "jdbc", "in": "word", "it's": "odd", "big": "9223372036854775808", "two": "a\nb", "string": "s"}
	for source, want := range map[string]bool{
		`name == 'x_job'`:                                true,
		`name != "x_job"`:                                false,
		`'x_job' == name`:                                true,
		`missing == ''`:                                  true,
		`missing != ''`:                                  false,
		`missing == missing2`:                            true,
		`name.startsWith('x_') && truth(active)`:         true,
		`name.endsWith('job')`:                           true,
		`name.contains('_J')`:                            false,
		`name.matches('^x_[a-z]+$')`:                     true,
		`two.matches('a$')`:                              false,
		`two.matches('(?m)a$')`:                          true,
		`integer(count) < 0 && integer(count) >= -12`:    true,
		`integer(count) == -12`:                          true,
		`integer(count) > integer(missing)`:              false,
		`integer(big) == 0 && integer(name) == 0`:        true,
		`type in ['rest', 'jdbc']`:                       true,
		`!(type in ['rest', 'jdbc'])`:                    false,
		`type in []`:                                     false,
		`field("in") == 'word' && field("it's") != ''`:   true,
		`truth(active) == true`:                          true,
		`truth(active) != (name == 'x_job')`:             false,
		`truth(count) || false || !true`:                 false,
		`string == 's'`:                                  true,
		`-5 < integer(missing)`:                          true,
		`integer('7') == 7 && 'ab'.startsWith('a')`:      true,
		`integer(count) == -9223372036854775808 || true`: true,
	} {
		c, err := Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := c.Eval(rec); err != nil || got != want {
			t.Errorf("%s: %v, %v", source, got, err)
		}
		if got := byCEL(t, source, rec); got != want {
			t.Errorf("cel-go: %s: %v", source, got)
		}
		if c.String() != source {
			t.Error(c.String())
		}
	}
}

func TestFields(t *testing.T) {
	c, err := Compile(`b == 'x' || field("a b") == a || b.startsWith(field("c'\"")) || field('b') == ''`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "a b", "b", `c'"`}; !slices.Equal(c.Fields(), want) {
		t.Error(c.Fields())
	}
	c.Fields()[0] = "changed"
	if c.Fields()[0] != "a" {
		t.Error("fields can be changed from outside")
	}
}

// Invariant 2, and what is no part of the language.
func TestCompileRefuses(t *testing.T) {
	for source, limit := range map[string]bool{
		"":                               false,
		"  \n":                           false,
		"name":                           false,
		"name ==":                        false,
		"1":                              false,
		"name == 1":                      false,
		"name.size() > 3":                false,
		"size(name) > 3":                 false,
		"a.b == 'x'":                     false,
		"name + 'x' == 'y'":              false,
		"name < 'x'":                     false,
		"true ? name == '' : false":      false,
		"[1, 2].exists(x, x == 1)":       false,
		"['a'].all(x, x == name)":        false,
		"has(a.b)":                       false,
		"name.matches(other)":            false,
		"name.matches('(')":              false,
		"name.matches('(?<=a)b')":        false,
		"name in others":                 false,
		"name in [1]":                    false,
		"int(name) == 1":                 false,
		"name == b'x'":                   false,
		"name == null":                   false,
		"{'a': name} == {'a': 'b'}":      false,
		"name['x'] == 'y'":               false,
		`field(name) == 'x'`:             false,
		`field('') == 'x'`:               false,
		`@field_61 == 'x'`:               false,
		"name == 'a\\u0000b'":            false,
		"name == '\xff'":                 false,
		"integer(name) + 1 == 2":         false,
		"-integer(name) == 2":            false,
		"integer(name) == 2u":            false,
		"integer(name) == 1.5":           false,
		"dyn(name) == 1":                 false,
		"duration(name) == duration(x)":  false,
		strings.Repeat("a", MaxSource+1): true,
		"name.matches('" + strings.Repeat("a", MaxPattern+1) + "')":        true,
		"name.matches('((a{100}){100}){100}')":                             false,
		"false" + strings.Repeat("||name.matches('(a{31}){31}')", 5):       true,
		strings.Repeat("(", 2000) + "truth(a)" + strings.Repeat(")", 2000): false,
		"a in ['" + strings.Repeat("','", 2*MaxNodes/3*2) + "']":           true,
		"f0=='" + manyFields() + "'":                                       true,
	} {
		_, err := Compile(source)
		if err == nil {
			t.Errorf("%.80s: accepted", source)
		} else if limit && !errors.Is(err, ErrLimit) {
			t.Errorf("%.80s: %.200v", source, err)
		}
	}
}

func manyFields() string {
	var b strings.Builder
	for i := range MaxFields + 1 {
		b.WriteString("'||f" + strings.Repeat("i", i) + "=='")
	}
	return b.String()
}

// Invariant 2: work has a limit, and what is beyond it is no verdict.
func TestEvalCost(t *testing.T) {
	c, err := Compile("name.matches('(a{30}){30}b') || !name.matches('(a{30}){30}c')")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Eval(map[string]string{"name": strings.Repeat("a", 1<<20)}); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	if v, err := c.Eval(map[string]string{"name": "a"}); err != nil || !v {
		t.Error(v, err)
	}
}

// byCEL is the value that cel-go gives.
func byCEL(t testing.TB, source string, rec map[string]string) bool {
	t.Helper()
	c, err := Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	s := cel.StringType
	opts := []cel.EnvOption{
		cel.ClearMacros(), cel.Macros(cel.GlobalMacro("field", 1, fieldMacro)),
		cel.Function("integer", cel.Overload("integer_string", []*cel.Type{s}, cel.IntType, cel.UnaryBinding(func(v ref.Val) ref.Val { return types.Int(Integer(string(v.(types.String)))) }))),
		cel.Function("truth", cel.Overload("truth_string", []*cel.Type{s}, cel.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val { return types.Bool(Truth(string(v.(types.String)))) }))),
	}
	values := map[string]any{}
	for _, f := range c.Fields() {
		opts = append(opts, cel.Variable(f, s), cel.Variable(mark+hex.EncodeToString([]byte(f)), s))
		values[f], values[mark+hex.EncodeToString([]byte(f))] = rec[f], rec[f]
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		t.Fatal(err)
	}
	a, iss := env.Compile(source)
	if iss.Err() != nil {
		t.Fatalf("cel-go: %s: %v", source, iss.Err())
	}
	p, err := env.Program(a)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := p.Eval(values)
	if err != nil {
		t.Fatalf("cel-go: %s: %v", source, err)
	}
	return bool(v.(types.Bool))
}

// Invariant 1, over what conditiontest makes up.
func TestAgreesWithCEL(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 700 {
		source, rec := conditiontest.Expression(r, []string{"a", "b", "c"}), map[string]string{}
		for _, f := range []string{"a", "b", "c"} {
			rec[f] = conditiontest.Value(r)
		}
		c, err := Compile(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		maps.DeleteFunc(rec, func(_, v string) bool { return v == "" })
		got, err := c.Eval(rec)
		if err != nil {
			t.Fatal(err)
		}
		if want := byCEL(t, source, rec); got != want {
			t.Fatalf("%s of %q: %v, cel-go says %v", source, rec, got, want)
		}
	}
}

// Whatever is accepted says the same when it is compiled again, and has a value.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"a == 'b'", "truth(a) && !(b in ['x'])", `field("a b").matches("^x")`, "integer(a) >= -3", "a.contains(b)"} {
		f.Add(s)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		f.Add(conditiontest.Expression(r, []string{"a", "b'", "c"}))
	}
	f.Fuzz(func(t *testing.T, source string) {
		c, err := Compile(source)
		if err != nil {
			return
		}
		d, err := Compile(c.String())
		if err != nil || !slices.Equal(c.Fields(), d.Fields()) {
			t.Fatal(err)
		}
		rec := map[string]string{}
		for i, n := range c.Fields() {
			rec[n] = conditiontest.Values()[i%len(conditiontest.Values())]
		}
		v, err := c.Eval(rec)
		if w, err2 := d.Eval(rec); v != w || (err == nil) != (err2 == nil) {
			t.Fatal("two values")
		}
		for _, dialect := range []Dialect{PostgreSQL, MariaDB, SQLite} {
			w := c.SQL(dialect, 1, func(string) (Column, bool) { return Column{Text: "t", Int: "i", Index: "x"}, true })
			if n := strings.Count(w.Text, "?") + strings.Count(w.Text, "$"); n != len(w.Args) || strings.ContainsAny(w.Text, `'";\`+"`") && dialect != PostgreSQL {
				t.Fatalf("%s: %d arguments", w.Text, len(w.Args))
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile("a == 'b' && c.startsWith('x')"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	c, err := Compile("a == 'b' && c.startsWith('x') || d in ['1', '2', '3']")
	if err != nil {
		b.Fatal(err)
	}
	rec := map[string]string{"a": "b", "c": "y", "d": "3"}
	for b.Loop() {
		if v, err := c.Eval(rec); err != nil || !v {
			b.Fatal(err)
		}
	}
}
