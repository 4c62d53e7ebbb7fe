// Package platformtest is the suite that every platform passes, against the real
// database.
package platformtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/condition"
	"github.com/greatseal-io/greatseal/record/condition/conditiontest"
)

// Database is an empty database of one kind.
type Database struct {
	Open  func(t testing.TB, o platform.Options) platform.Platform // anew, closed when t ends
	SQL   func(t testing.TB, statements string)                    // by hand
	Quote func(name string) string
	Text  string // type of a column with any text
	Key   string // type of a text that can be a key
	Int   string
	Bool  string
	Bytes string
	Fold  string // type of a text that the database compares without regard to case; "": none
	Serve string // type of a key that the database makes
}

type suite struct {
	*Database
	t   *testing.T
	ctx context.Context
	p   platform.Platform
}

// Run runs the suite; each test has a database of its own.
func Run(t *testing.T, empty func(t *testing.T) *Database) {
	for _, c := range []struct {
		name string
		f    func(*suite)
	}{
		{"Tables", tables}, {"Order", order}, {"Values", values}, {"Names", names}, {"Apply", apply}, {"Aliases", aliases}, {"Writers", writers},
		{"Jobs", jobs}, {"Imported", imported}, {"Conditions", conditions}, {"Attachments", attachments}, {"Watch", watches}, {"Cancel", cancel}, {"Unaltered", unaltered},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := empty(t)
			ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
			t.Cleanup(stop)
			c.f(&suite{d, t, ctx, nil})
		})
	}
}

// open prepares the platform once the tables are there.
func (s *suite) open(o platform.Options) {
	s.t.Helper()
	s.p = s.Open(s.t, o)
	s.must(s.p.Prepare(s.ctx))
	s.must(s.p.Prepare(s.ctx))
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) sql(format string, a ...any) {
	s.t.Helper()
	s.SQL(s.t, fmt.Sprintf(format, a...))
}

// scripts makes a table "script" of records with the key id.
func (s *suite) scripts() {
	s.sql("CREATE TABLE script (id %s NOT NULL PRIMARY KEY, name %s, body %s, active %s, size %s NOT NULL DEFAULT 0)", s.Key, s.Key, s.Text, s.Bool, s.Int)
}

func ref(table string, key ...string) record.Ref { return record.Ref{Table: table, Key: key} }

func (s *suite) put(id string, fields map[string]string) {
	s.t.Helper()
	s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Upsert, Ref: ref("script", id), Fields: fields}}))
}

func (s *suite) scan(q platform.Query) (out []*platform.Row) {
	s.t.Helper()
	s.must(s.p.Scan(s.ctx, q, func(r *platform.Row) error { out = append(out, r); return nil }))
	return out
}

func (s *suite) keys(q platform.Query) (out []string) {
	s.t.Helper()
	for _, r := range s.scan(q) {
		out = append(out, strings.Join(r.Record.Ref.Key, "/"))
	}
	return out
}

func tables(s *suite) {
	s.scripts()
	s.sql("CREATE TABLE pair (b %s NOT NULL, v %s, a %s NOT NULL, PRIMARY KEY (a, b))", s.Key, s.Text, s.Int)
	s.sql("CREATE TABLE keyless (a %s, b %s)", s.Int, s.Text)
	s.open(platform.Options{})
	all, err := s.p.Tables(s.ctx)
	s.must(err)
	var found []string
	for _, t := range all {
		found = append(found, t.Name+fmt.Sprint(t.Key))
	}
	if want := []string{"pair[a b]", "script[id]"}; !slices.Equal(found, want) {
		s.t.Error(found)
	}
	for _, c := range all[1].Columns {
		if want := c.Name != "id" && c.Name != "size"; c.Nullable != want || !c.Written || c.Type == "" {
			s.t.Errorf("%+v", c)
		}
	}
	for _, n := range []string{"keyless", "nothing", "SCRIPT", "", "greatseal_root", "script; DROP TABLE script", "a\x00b", "information_schema.tables"} {
		if err := s.p.Scan(s.ctx, platform.Query{Table: n}, func(*platform.Row) error { return nil }); !errors.Is(err, platform.ErrTable) {
			s.t.Errorf("table %q: %v", n, err)
		}
	}
	if err := s.p.Scan(s.ctx, platform.Query{Table: "script", Fields: []string{"nothing"}}, nil); !errors.Is(err, platform.ErrField) {
		s.t.Error(err)
	}
	c, err := condition.Compile("nothing == ''")
	s.must(err)
	if err := s.p.Scan(s.ctx, platform.Query{Table: "script", Where: c}, nil); !errors.Is(err, platform.ErrField) {
		s.t.Error("a condition over a field that is not there:", err)
	}
}

// Scan goes through all keys, composite ones too, once each; it resumes behind any.
func order(s *suite) {
	s.sql("CREATE TABLE pair (b %s NOT NULL, v %s, a %s NOT NULL, PRIMARY KEY (a, b))", s.Key, s.Text, s.Int)
	s.open(platform.Options{})
	var changes []platform.Change
	want := map[string]bool{}
	for i := range 8 {
		for _, b := range conditiontest.Values()[1:] {
			if b != strings.TrimRight(b, " ") || strings.ToUpper(b) != b && b != "a" { // a collation may take them for others
				continue
			}
			k := []string{fmt.Sprint(i*37 - 500), b}
			if !want[strings.Join(k, "/")] {
				want[strings.Join(k, "/")] = true
				changes = append(changes, platform.Change{Op: platform.Insert, Ref: ref("pair", k...), Fields: map[string]string{"v": b}})
			}
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	var rows []string
	for i := range 4500 { // more than two pages
		want[fmt.Sprint(i*1000+1, "/x")] = true
		rows = append(rows, fmt.Sprintf("(%d, 'x')", i*1000+1))
	}
	s.sql("INSERT INTO pair (a, b) VALUES %s", strings.Join(rows, ", "))
	s.must(s.p.Apply(s.ctx, changes))
	all := s.scan(platform.Query{Table: "pair", Fields: []string{"v"}})
	var keys []string
	for _, r := range all {
		k := strings.Join(r.Record.Ref.Key, "/")
		if keys = append(keys, k); !want[k] {
			s.t.Fatalf("%q is twice or was never there", k)
		}
		delete(want, k)
		if v := r.Record.Fields["v"]; v != "" && v != r.Record.Ref.Key[1] || len(r.Record.Fields) > 1 {
			s.t.Errorf("%q: %q", k, r.Record.Fields)
		}
	}
	if len(want) > 0 {
		s.t.Fatalf("%d are missing", len(want))
	}
	if n, err := s.p.Count(s.ctx, platform.Query{Table: "pair"}); err != nil || n != int64(len(keys)) {
		s.t.Error(n, err)
	}
	for i := 0; i < len(all); i += 511 {
		rest := s.keys(platform.Query{Table: "pair", Fields: []string{}, After: all[i].Record.Ref.Key, Limit: 300})
		if !slices.Equal(rest, keys[i+1:min(i+301, len(keys))]) {
			s.t.Fatalf("after %q come %d others", keys[i], len(rest))
		}
	}
	some := [][]string{all[7].Record.Ref.Key, all[4000].Record.Ref.Key, all[7].Record.Ref.Key, {"-1", "none"}}
	if got := s.keys(platform.Query{Table: "pair", Keys: some}); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values([]string{keys[7], keys[4000]}))) {
		s.t.Error(got)
	}
	if got := s.keys(platform.Query{Table: "pair", Keys: [][]string{}}); len(got) != 0 {
		s.t.Error(got)
	}
	enough := errors.New("enough")
	n := 0
	if err := s.p.Scan(s.ctx, platform.Query{Table: "pair"}, func(*platform.Row) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	}); err != enough || n != 3 {
		s.t.Error(n, err)
	}
	for _, bad := range [][]string{{"1"}, {"1", "2", "3"}} {
		if err := s.p.Scan(s.ctx, platform.Query{Table: "pair", After: bad}, nil); !errors.Is(err, platform.ErrValue) {
			s.t.Error(err)
		}
	}
}

// Texts come back as they were given; nothing and the empty text are absent.
func values(s *suite) {
	s.scripts()
	s.sql("CREATE TABLE firm (id %s NOT NULL PRIMARY KEY, must %s NOT NULL, b %s)", s.Key, s.Text, s.Bytes)
	s.open(platform.Options{})
	for i, v := range append(conditiontest.Values(), strings.Repeat("long \U0001f600 'quoted'\r\n", 1<<20/24), strings.Repeat(" ", 70000)) {
		id := fmt.Sprint("k", i)
		s.put(id, map[string]string{"body": v, "active": "true", "size": "-7"})
		r, err := s.p.Get(s.ctx, ref("script", id), nil)
		s.must(err)
		want := map[string]string{"id": id, "active": "true", "size": "-7"}
		if v != "" {
			want["body"] = v
		}
		if !maps.Equal(r.Record.Fields, want) {
			s.t.Errorf("%.100q became %.100q", v, r.Record.Fields)
		}
	}
	s.sql("INSERT INTO script (id, name, body, active) VALUES ('e', '', NULL, NULL)")
	if r, err := s.p.Get(s.ctx, ref("script", "e"), []string{"name", "body", "active"}); err != nil || len(r.Record.Fields) != 0 {
		s.t.Error(r, err)
	}
	must := []platform.Change{{Op: platform.Insert, Ref: ref("firm", "a"), Fields: map[string]string{"must": "", "b": `\x00ff27`}}}
	s.must(s.p.Apply(s.ctx, must))
	if r, err := s.p.Get(s.ctx, ref("firm", "a"), nil); err != nil || !maps.Equal(r.Record.Fields, map[string]string{"id": "a", "b": `\x00ff27`}) {
		s.t.Error(r, err)
	}
	for _, f := range []map[string]string{{"size": "many"}, {"size": ""}, {"size": "1; DROP TABLE script"}} {
		if err := s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "e"), Fields: f}}); !errors.Is(err, platform.ErrValue) && s.p.Name() != "sqlite" {
			s.t.Error(f, err)
		}
	}
	if err := s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "e"), Fields: map[string]string{"body": strings.Repeat("a", platform.MaxField+1)}}}); !errors.Is(err, platform.ErrLimit) {
		s.t.Error(err)
	}
	if _, err := s.p.Get(s.ctx, ref("script", "e2"), nil); !errors.Is(err, platform.ErrNotFound) {
		s.t.Error(err)
	}
}

// Names are quoted, whatever is in them, and no value is anything but a value.
func names(s *suite) {
	hostile := []string{`a"b`, "a`b", "a'b", "a b", "select", "a?b", "a$1b", "a;b--", "a%b", "ü", `a\b`, "a.b", "A", "a:b@c"}
	for i, n := range hostile {
		q := s.Quote(n)
		other := s.Quote(hostile[(i+1)%len(hostile)] + "_")
		s.sql("CREATE TABLE %s (%s %s NOT NULL PRIMARY KEY, %s %s)", q, q, s.Key, other, s.Text)
	}
	s.open(platform.Options{})
	for i, n := range hostile {
		other := hostile[(i+1)%len(hostile)] + "_"
		for _, v := range []string{"'; DROP TABLE x; --", "\"`", "\\'", "?"} {
			s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Insert, Ref: ref(n, v), Fields: map[string]string{other: v}}}))
			c, err := condition.Compile("field(" + conditiontest.Quote(other) + ") == " + conditiontest.Quote(v))
			s.must(err)
			rows := s.scan(platform.Query{Table: n, Where: c})
			if len(rows) != 1 || rows[0].Record.Ref.Key[0] != v || !maps.Equal(rows[0].Record.Fields, map[string]string{n: v, other: v}) {
				s.t.Fatalf("%q %q: %v", n, v, rows)
			}
			s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref(n, v), Fields: map[string]string{other: "x" + v}, Expect: map[string]string{other: v}}}))
		}
		if got := len(s.scan(platform.Query{Table: n, After: []string{" "}})); got != 4 {
			s.t.Error(n, got)
		}
		s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Delete, Ref: ref(n, "?")}}))
	}
	all, err := s.p.Tables(s.ctx)
	s.must(err)
	if len(all) != len(hostile) {
		s.t.Errorf("%d tables", len(all))
	}
}

func apply(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	s.put("a", map[string]string{"name": "one", "body": "b"})
	change := func(op platform.Op, id string, fields map[string]string) platform.Change {
		return platform.Change{Op: op, Ref: ref("script", id), Fields: fields}
	}
	good := change(platform.Update, "a", map[string]string{"name": "two"})
	for _, c := range []struct {
		bad  platform.Change
		want error
	}{
		{change(platform.Insert, "a", nil), platform.ErrExists},
		{change(platform.Update, "z", map[string]string{"name": "x"}), platform.ErrNotFound},
		{change(platform.Delete, "z", nil), platform.ErrNotFound},
		{change(platform.Update, "a", map[string]string{"nothing": "x"}), platform.ErrField},
		{change(platform.Update, "a", map[string]string{"id": "other"}), platform.ErrValue},
		{platform.Change{Op: platform.Update, Ref: ref("nothing", "a")}, platform.ErrTable},
		{platform.Change{Op: platform.Update, Ref: ref("greatseal_root", "1")}, platform.ErrTable},
		{platform.Change{Op: platform.Update, Ref: ref("script", "a", "b")}, platform.ErrValue},
		{platform.Change{Op: platform.Update, Ref: ref("script", "a"), Fields: map[string]string{"body": "x"}, Expect: map[string]string{"name": "one"}}, platform.ErrConflict},
		{platform.Change{Op: platform.Update, Ref: ref("script", "a"), Expect: map[string]string{"nothing": ""}}, platform.ErrField},
		{platform.Change{Op: platform.Update, Ref: ref("script", "a"), Attachments: []platform.File{{Name: "x"}}}, platform.ErrTable},
		{platform.Change{Op: platform.Sign, Ref: ref("script", "a"), Fields: map[string]string{"body": "x"}}, nil},
		{platform.Change{Op: 99, Ref: ref("script", "a")}, nil},
	} {
		err := s.p.Apply(s.ctx, []platform.Change{good, c.bad})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			s.t.Errorf("%+v: %v", c.bad, err)
		}
		if r, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil || r.Record.Fields["name"] != "one" {
			s.t.Fatalf("after %+v: %v %v", c.bad, r, err)
		}
	}
	s.must(s.p.Apply(s.ctx, []platform.Change{good, {Op: platform.Update, Ref: ref("script", "a"), Fields: map[string]string{"body": "x"}, Expect: map[string]string{"name": "two", "active": ""}},
		change(platform.Insert, "b", map[string]string{"id": "b"}), change(platform.Upsert, "b", map[string]string{"name": "u"}), change(platform.Upsert, "c", nil), change(platform.Delete, "c", nil)}))
	r, err := s.p.Get(s.ctx, ref("script", "a"), nil)
	s.must(err)
	if want := map[string]string{"id": "a", "name": "two", "body": "x", "size": "0"}; !maps.Equal(r.Record.Fields, want) {
		s.t.Error(r.Record.Fields)
	}
	if got := s.keys(platform.Query{Table: "script"}); !slices.Equal(got, []string{"a", "b"}) {
		s.t.Error(got)
	}
	s.must(s.p.Apply(s.ctx, nil))
}

// A collation that takes two keys for one does not make two names of one record.
func aliases(s *suite) {
	if s.Fold == "" {
		s.t.Fatal("the database has no such collation")
	}
	s.sql("CREATE TABLE fold (id %s NOT NULL PRIMARY KEY, v %s)", s.Fold, s.Fold)
	s.open(platform.Options{})
	s.must(s.p.Apply(s.ctx, []platform.Change{{Op: platform.Insert, Ref: ref("fold", "Key"), Fields: map[string]string{"v": "Value"}}}))
	if _, err := s.p.Get(s.ctx, ref("fold", "KEY"), nil); !errors.Is(err, platform.ErrNotFound) {
		s.t.Error(err)
	}
	for _, op := range []platform.Op{platform.Insert, platform.Update, platform.Upsert, platform.Delete} {
		if err := s.p.Apply(s.ctx, []platform.Change{{Op: op, Ref: ref("fold", "KEY"), Fields: map[string]string{"v": "x"}}}); err == nil {
			s.t.Error("operation", op, "took KEY for Key")
		}
	}
	if r, err := s.p.Get(s.ctx, ref("fold", "Key"), nil); err != nil || r.Record.Fields["v"] != "Value" {
		s.t.Error(r, err)
	}
	for source, want := range map[string]int{"v == 'value'": 0, "v == 'Value'": 1, "v != 'value'": 1, "v.startsWith('val')": 0, "v in ['VALUE', 'vALUE']": 0, "!(v in ['VALUE'])": 1} {
		c, err := condition.Compile(source)
		s.must(err)
		if n := len(s.scan(platform.Query{Table: "fold", Where: c})); n != want {
			s.t.Errorf("%s: %d", source, n)
		}
	}
}

// Several that change the same records, with what they expect, lose nothing.
func writers(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	s.put("n", map[string]string{"size": "0"})
	const each = 6
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for done := 0; done < each; {
				r, err := s.p.Get(s.ctx, ref("script", "n"), []string{"size"})
				if err != nil {
					s.t.Error(err)
					return
				}
				old := r.Record.Fields["size"]
				err = s.p.Apply(s.ctx, []platform.Change{{Op: platform.Update, Ref: ref("script", "n"), Fields: map[string]string{"size": fmt.Sprint(condition.Integer(old) + 1)}, Expect: map[string]string{"size": old}}})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, platform.ErrConflict):
					s.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if r, err := s.p.Get(s.ctx, ref("script", "n"), []string{"size"}); err != nil || r.Record.Fields["size"] != fmt.Sprint(4*each) {
		s.t.Error(r, err)
	}
}

// What SQL lets through and Eval accepts is what Eval accepts of everything: nothing
// is left out, whatever the collation.
func conditions(s *suite) {
	s.sql("CREATE TABLE cond (id %s NOT NULL PRIMARY KEY, a %s, b %s, c %s, n %s, t %s)", s.Int, s.Text, s.Key, s.Fold, s.Int, s.Bool)
	s.open(platform.Options{})
	r := rand.New(rand.NewPCG(5, 6))
	var changes []platform.Change
	for i, v := range conditiontest.Values() {
		f := map[string]string{"a": v, "b": conditiontest.Value(r), "c": v, "n": []string{"", "0", "1", "-1", "7"}[r.IntN(5)], "t": []string{"", "true", "false"}[r.IntN(3)]}
		changes = append(changes, platform.Change{Op: platform.Insert, Ref: ref("cond", fmt.Sprint(i)), Fields: f})
	}
	s.must(s.p.Apply(s.ctx, changes))
	all := s.scan(platform.Query{Table: "cond"})
	hits := 0
	for range 150 {
		source := conditiontest.Expression(r, []string{"a", "b", "c", "n", "t"})
		c, err := condition.Compile(source)
		s.must(err)
		var want []string
		for _, row := range all {
			ok, err := c.Eval(row.Record.Fields)
			s.must(err)
			if ok {
				want = append(want, row.Record.Ref.Key[0])
			}
		}
		if got := s.keys(platform.Query{Table: "cond", Fields: []string{"b"}, Where: c}); !slices.Equal(got, want) {
			s.t.Fatalf("%s:\n%v in place of\n%v", source, got, want)
		}
		if n, err := s.p.Count(s.ctx, platform.Query{Table: "cond", Where: c}); err != nil || n != int64(len(want)) {
			s.t.Fatalf("%s: %d, %v", source, n, err)
		}
		hits += len(want)
	}
	if hits == 0 || hits == 150*len(all) {
		s.t.Error("conditions that say nothing")
	}
}

func cancel(s *suite) {
	s.scripts()
	s.open(platform.Options{})
	s.put("a", nil)
	ctx, stop := context.WithCancel(s.ctx)
	b, err := s.p.Begin(ctx, "j")
	s.must(err)
	s.must(b.Put(ctx, ref("script", "a"), 1, statementOf(s.t, ref("script", "a"), 1), 0))
	stop()
	for name, err := range map[string]error{
		"scan":   s.p.Scan(ctx, platform.Query{Table: "script"}, func(*platform.Row) error { return nil }),
		"apply":  s.p.Apply(ctx, []platform.Change{{Op: platform.Delete, Ref: ref("script", "a")}}),
		"commit": b.Commit(ctx),
		"watch":  s.p.Watch(ctx, platform.Watch{Name: "w", Tables: []string{"script"}}, func([]platform.Event) error { return nil }),
	} {
		if !errors.Is(err, context.Canceled) {
			s.t.Errorf("%s: %v", name, err)
		}
	}
	s.must(b.Rollback())
	if pr, err := s.p.Progress(s.ctx, "j"); err != nil || pr.Count != 0 {
		s.t.Error(pr, err)
	}
	if _, err := s.p.Get(s.ctx, ref("script", "a"), nil); err != nil {
		s.t.Error(err)
	}
}

// The application's tables are as they were.
func unaltered(s *suite) {
	s.scripts()
	p := s.Open(s.t, platform.Options{})
	before, err := p.Tables(s.ctx)
	s.must(err)
	s.open(platform.Options{})
	after, err := p.Tables(s.ctx)
	s.must(err)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		s.t.Error(before, after)
	}
}
