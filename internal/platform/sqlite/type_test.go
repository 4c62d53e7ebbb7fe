package sqlite

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// Every storage class in every kind of column has one canonical text, or is refused.
func TestTypes(t *testing.T) {
	path, do := database(t)
	do(t, `CREATE TABLE t (id PRIMARY KEY, tx TEXT, i INT, r REAL, n NUMERIC, b BOOLEAN, dt DATETIME, bl BLOB, o, g INT AS (i + 1))`)
	p := open(t, path, platform.Options{})
	ctx := context.Background()
	if err := p.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	get := func(key string) (map[string]string, error) {
		r, err := p.Get(ctx, record.Ref{Table: "t", Key: []string{key}}, nil)
		if err != nil {
			return nil, err
		}
		return r.Record.Fields, nil
	}
	for _, c := range []struct {
		row  string
		want map[string]string // nil: refused
	}{
		{`1, '5', '5', 5, '5.0', 1, '2024-01-02 03:04:05', x'00ff', 7`, map[string]string{"id": "1", "tx": "5", "i": "5", "r": "5.0", "n": "5", "b": "true", "dt": "2024-01-02 03:04:05", "bl": `\x00ff`, "o": "7", "g": "6"}},
		{`'k', 5.5, 5.5, 1e300, 'abc', 0, 1700000000, 'text', 'x'`, map[string]string{"id": "k", "tx": "5.5", "i": "5.5", "r": "1e+300", "n": "abc", "b": "false", "dt": "1700000000", "bl": "text", "o": "x", "g": "6.5"}},
		{`x'01', '', NULL, NULL, 7, 7, NULL, x'', NULL`, map[string]string{"id": `\x01`, "n": "7", "b": "7"}},
		{`2, x'61', 0, 0, 0, 0, 0, 0, 0`, nil},    // bytes in a text
		{`2, 'a', x'61', 0, 0, 0, 0, 0, 0`, nil},  // bytes in a number
		{`2, 'a', 0, 0, 0, 'true', 0, 0, 0`, nil}, // a text that is not true to the application
		{`2, 'a', 0, 0, 0, 0, 0, '\x61', 0`, nil}, // a text that reads like bytes
		{`2, 'a', 0, 0, 0, 0, 0, 0, '\x61'`, nil}, // the same
		{`'2', 'a', 0, 0, 0, 0, 0, 0, 0`, nil},    // a key that reads like a number
		{`'\x02', 'a', 0, 0, 0, 0, 0, 0, 0`, nil}, // or like bytes
		{`NULL, 'a', 0, 0, 0, 0, 0, 0, 0`, nil},   // no key at all
	} {
		do(t, "DELETE FROM t; INSERT INTO t VALUES ("+c.row+")")
		err := p.Scan(ctx, platform.Query{Table: "t"}, func(*platform.Row) error { return nil })
		if c.want == nil {
			if !errors.Is(err, platform.ErrValue) {
				t.Errorf("%s: %v", c.row, err)
			}
			continue
		}
		got, err2 := get(c.want["id"])
		if err != nil || err2 != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v %v\n%q in place of\n%q", c.row, err, err2, got, c.want)
			continue
		}
		// Written and read again.
		again := maps.Clone(c.want)
		delete(again, "g")
		if err := p.Apply(ctx, []platform.Change{{Op: platform.Delete, Ref: record.Ref{Table: "t", Key: []string{c.want["id"]}}}, {Op: platform.Insert, Ref: record.Ref{Table: "t", Key: []string{c.want["id"]}}, Fields: again}}); err != nil {
			t.Fatal(err)
		}
		if got, err := get(c.want["id"]); err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v\n%q in place of\n%q", c.row, err, got, c.want)
		}
	}
}
