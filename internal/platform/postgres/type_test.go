package postgres

import (
	"context"
	"maps"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/sqlplatform"
	"github.com/greatseal-io/greatseal/record"
)

type kind = sqlplatform.Kind

func newStmt(d *driver, s string) *sqlplatform.Stmt { return sqlplatform.NewStmt(d, s) }

// The canonical text of every type, whatever the role's and database's settings are,
// written and read again.
func TestTypes(t *testing.T) {
	dsn, do := database(t)
	do(t, `CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN flag AS boolean; CREATE DOMAIN flag2 AS flag; CREATE TYPE pair AS (a int, b text);
		CREATE TABLE t (id uuid PRIMARY KEY, b boolean, f2 flag2, i2 smallint, i8 bigint, n numeric(20,4), n0 numeric, r real, d double precision, tz timestamptz, ts timestamp, da date, ti time,
			iv interval, by bytea, j json, jb jsonb, m mood, arr text[], c char(5), money money, ip inet, bits bit varying(8), p pair, x xml, gen int GENERATED ALWAYS AS (i2 + 1) STORED, rng tstzrange)`)
	do(t, `ALTER ROLE greatseal SET timezone = 'Asia/Tokyo'; ALTER ROLE greatseal SET datestyle = 'German'; ALTER ROLE greatseal SET bytea_output = 'escape';
		ALTER ROLE greatseal SET extra_float_digits = -5; ALTER ROLE greatseal SET intervalstyle = 'postgres_verbose'; ALTER ROLE greatseal SET search_path = 'nowhere'`)
	defer do(t, "ALTER ROLE greatseal RESET ALL")
	p := open(t, dsn, platform.Options{})
	if err := p.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	ref := record.Ref{Table: "t", Key: []string{"0a1b2c3d-0000-4000-8000-000000000001"}}
	fields := map[string]string{"b": "true", "f2": "false", "i2": "-5", "i8": "9223372036854775807", "n": "1.5000", "n0": "100000000000000000000.10", "r": "0.1", "d": "1.0000000000000002",
		"tz": "2024-03-31 01:30:00.123456", "ts": "0044-03-15 12:00:00 BC", "da": "2024-02-29", "ti": "23:59:59.5", "iv": "P1Y2M3DT4H5M6.7S", "by": `\x00ff27`, "j": `{"b" : 1,  "a":2}`, "jb": `{"a": 2, "b": 1}`,
		"m": "it's ok", "arr": `{a,NULL,"b c"}`, "c": "ab", "money": "$1,234.50", "ip": "10.0.0.1", "bits": "0101", "p": `(1,"a b")`, "x": "<a>1</a>", "rng": `["2024-01-01 00:00:00+00","2024-02-01 00:00:00+00")`}
	apply(t, p, platform.Change{Op: platform.Insert, Ref: ref, Fields: fields})
	r, err := p.Get(context.Background(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(fields)
	want["id"], want["gen"] = ref.Key[0], "-4"
	for k, v := range want {
		if r.Record.Fields[k] != v {
			t.Errorf("%s: %q became %q", k, v, r.Record.Fields[k])
		}
	}
	if len(r.Record.Fields) != len(want) {
		t.Error(r.Record.Fields)
	}
	apply(t, p, platform.Change{Op: platform.Update, Ref: ref, Fields: map[string]string{"tz": "infinity"}, Expect: fields})
	if err := p.Apply(context.Background(), []platform.Change{{Op: platform.Update, Ref: ref, Fields: map[string]string{"gen": "1"}}}); err == nil {
		t.Error("a computed column is written")
	}
}
