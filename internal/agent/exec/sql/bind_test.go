package sql

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/rejection"
)

func TestBind(t *testing.T) {
	for _, c := range []struct {
		d      Dialect
		in     string
		want   string // empty: refused
		params string
	}{
		{PostgreSQL, "SELECT :a, :b, :a", "SELECT $1, $2, $1", "a b"},
		{MariaDB, "SELECT :a, :b, :a", "SELECT ?, ?, ?", "a b a"},
		{SQLite, "SELECT :a, :b, :a", "SELECT ?, ?, ?", "a b a"},
		{PostgreSQL, "SELECT ':a', \":a\", 'it''s :a', x::text, y[1:2]", "SELECT ':a', \":a\", 'it''s :a', x::text, y[1:2]", ""},
		{PostgreSQL, `SELECT E'\' :a', e'\\', :b`, `SELECT E'\' :a', e'\\', $1`, "b"},
		{PostgreSQL, `SELECT '\', :b`, `SELECT '\', $1`, "b"},
		{MariaDB, `SELECT '\' :a', "\" :a", :b`, `SELECT '\' :a', "\" :a", ?`, "b"},
		{MariaDB, "SELECT `:a``:b` # :c\n, :d", "SELECT `:a``:b`  \n, ?", "d"},
		{MariaDB, "SELECT 1--:a", "SELECT 1--?", "a"}, // no comment there: two signs
		{MariaDB, "SELECT 1 -- :a\n", "SELECT 1  \n", ""},
		{SQLite, "SELECT [:a], `:b`, \":c\"", "SELECT [:a], `:b`, \":c\"", ""},
		{PostgreSQL, "SELECT $$ :a ; $$, $t$ :b $$ $t$, :c", "SELECT $$ :a ; $$, $t$ :b $$ $t$, $1", "c"},
		{PostgreSQL, "SELECT /* /* :a */ :b */ :c -- :d\n", "SELECT   $1  \n", "c"},
		{SQLite, "SELECT /* /* :a */ :b", "SELECT   ?", "b"},
		{PostgreSQL, "SELECT 1; ", "SELECT 1  ", ""},
		{PostgreSQL, "SELECT 1; -- end", "SELECT 1   ", ""},
		{PostgreSQL, "SELECT a ? 'b'", "SELECT a ? 'b'", ""},
		{PostgreSQL, "SELECT a$1", "SELECT a$1", ""},
		{MariaDB, "SELECT @x := :a", "SELECT @x := ?", "a"},
		{PostgreSQL, "SELECT 'ä', ä, :a", "SELECT 'ä', ä, $1", "a"},

		{PostgreSQL, "SELECT 1; DROP TABLE x", "", ""},
		{PostgreSQL, "SELECT 1;; ", "", ""},
		{PostgreSQL, "SELECT 1; /* x */ SELECT 2", "", ""},
		{PostgreSQL, "SELECT $1", "", ""},
		{MariaDB, "SELECT ?", "", ""},
		{SQLite, "SELECT ?1", "", ""},
		{SQLite, "SELECT @a", "", ""},
		{SQLite, "SELECT $a", "", ""},
		{SQLite, "SELECT :1", "", ""},
		{MariaDB, "SELECT /*!50000 :a */ 1", "", ""},
		{MariaDB, "SELECT /*M! 1 */", "", ""},
		{PostgreSQL, "SELECT 'x", "", ""},
		{PostgreSQL, `SELECT "x`, "", ""},
		{PostgreSQL, "SELECT $a$ x $b$", "", ""},
		{PostgreSQL, "SELECT /* /* */", "", ""},
		{PostgreSQL, `SELECT E'\'`, "", ""},
		{PostgreSQL, "SELECT 1)", "", ""},
		{PostgreSQL, "", "", ""},
		{PostgreSQL, " -- nothing\n/* x */", "", ""},
		{PostgreSQL, "SELECT \x00", "", ""},
		{PostgreSQL, "SELECT \xff", "", ""},
		{PostgreSQL, "SELECT :aä", "", ""},
		{PostgreSQL, "SELECT " + strings.Repeat("x", maxStatement), "", ""},
	} {
		s, err := Bind(c.d, c.in)
		if c.want == "" {
			if !errors.Is(err, &rejection.Error{Code: rejection.PayloadMalformed, Subject: "sql_statement"}) {
				t.Errorf("%s %.60q: %v, %v", c.d, c.in, s, err)
			}
			continue
		}
		if err != nil || s.Text != c.want || strings.Join(s.Params, " ") != c.params {
			t.Errorf("%s %q: %+v %v", c.d, c.in, s, err)
		}
	}
}

// Threat 9: no parameter is dropped, and none stands in.
func TestValues(t *testing.T) {
	s, err := Bind(MariaDB, "SELECT :a, :b, :a")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Values(map[string]string{"a": "1", "b": "2"}); err != nil || !reflect.DeepEqual(v, []any{"1", "2", "1"}) {
		t.Errorf("%v %v", v, err)
	}
	if _, err := s.Values(map[string]string{"a": "1"}); !errors.Is(err, &rejection.Error{Code: rejection.ParamMissing, Subject: "b"}) {
		t.Error(err)
	}
	if _, err := s.Values(map[string]string{"a": "1", "b": "2", "c": "3"}); !errors.Is(err, &rejection.Error{Code: rejection.ParamNotAllowed, Subject: "c"}) {
		t.Error(err)
	}
}

func TestIdentifier(t *testing.T) {
	for _, c := range []struct {
		d        Dialect
		in, want string
	}{
		{PostgreSQL, "orders", `"orders"`}, {PostgreSQL, "public.Orders", `"public"."Orders"`}, {MariaDB, "a b", "`a b`"},
		{PostgreSQL, `a"; DROP TABLE x; --`, ""}, {MariaDB, "a`b", ""}, {SQLite, "a..b", ""}, {SQLite, "", ""}, {SQLite, "a.b.c.d", ""}, {SQLite, "a\n", ""},
	} {
		got, err := Identifier(c.d, c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q %v", c.in, got, err)
		}
	}
}

func FuzzBind(f *testing.F) {
	for _, s := range []string{"SELECT :a, ':b', $$ :c $$ -- :d\n", "SELECT /* /* */ */ E'\\'' :x", "SELECT `a`, [b], \"c\"; #x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, d := range []Dialect{PostgreSQL, MariaDB, SQLite} {
			s, err := Bind(d, in)
			if err != nil {
				continue
			}
			// What is kept for a subquery binds to the same parameters.
			if k, err := strip(d, in); err == nil {
				again, err := Bind(d, k)
				if err != nil || !reflect.DeepEqual(again.Params, s.Params) {
					t.Errorf("%s %q: %q: %v %v", d, in, k, again, err)
				}
			}
			if strings.Contains(s.Text, "/*") && !strings.ContainsAny(s.Text, "'\"`[$") {
				t.Errorf("%s %q: a comment is left", d, in)
			}
		}
	})
}
