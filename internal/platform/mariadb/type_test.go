package mariadb

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// The canonical text of every type, whatever the server's settings are, written and
// read again, through both of the driver's protocols.
func TestTypes(t *testing.T) {
	dsn, do := database(t)
	do(t, `SET GLOBAL time_zone = '+09:00'; SET GLOBAL sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'`)
	defer do(t, `SET GLOBAL time_zone = SYSTEM, sql_mode = DEFAULT`)
	do(t, `CREATE TABLE t (k1 ENUM('z', 'a') NOT NULL, k2 DECIMAL(10,2) NOT NULL, k3 DATETIME(3) NOT NULL, k4 BINARY(3) NOT NULL, k5 FLOAT NOT NULL,
		b BOOLEAN, b5 BOOLEAN, i SMALLINT, u BIGINT UNSIGNED, z INT(6) ZEROFILL, n DECIMAL(20,4), f FLOAT, d DOUBLE, dt DATETIME(6), ts TIMESTAMP(6) NULL, da DATE, ti TIME(2), y YEAR,
		bi BIT(9), vb VARBINARY(20), bl BLOB, e ENUM('sad', 'it''s'), s SET('x', 'y'), c CHAR(5), l VARCHAR(20) CHARACTER SET latin1, j JSON, ip INET6, id UUID, g INT AS (i + 1) STORED, PRIMARY KEY (k1, k2, k3, k4, k5))`)
	do(t, `CREATE TABLE aria (id INT PRIMARY KEY, v TEXT) ENGINE=Aria`)
	p := open(t, dsn, platform.Options{})
	ctx := context.Background()
	if err := p.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{"b": "true", "b5": "5", "i": "-5", "u": "18446744073709551615", "z": "42", "n": "1.5000", "f": "0.10000000149011612", "d": "1.0000000000000002",
		"dt": "2024-03-31 01:30:00.1234", "ts": "2024-03-31 01:30:00", "da": "2024-02-29", "ti": "-10:59:59.5", "y": "1999", "bi": "257", "vb": `\x00ff27`, "bl": `\x5c`, "e": "it's", "s": "x,y",
		"c": "ab", "l": "h\u00e9", "j": `{"b" : 1,  "a":2}`, "ip": "::1", "id": "0a1b2c3d-0000-4000-8000-000000000001"}
	keys := [][]string{
		{"a", "1.10", "2024-01-01 00:00:00.5", `\x0001ff`, "0.10000000149011612"}, {"a", "1.10", "2024-01-01 00:00:00.5", `\x0001ff`, "0.5"}, {"a", "9.00", "2024-01-01 00:00:00", `\x000000`, "1"},
		{"a", "10.00", "2024-01-01 00:00:00", `\x000000`, "1"}, {"z", "-3.00", "2024-01-01 00:00:00", `\x000000`, "1"},
	}
	for _, k := range keys {
		apply(t, p, platform.Change{Op: platform.Insert, Ref: record.Ref{Table: "t", Key: k}, Fields: fields})
	}
	for i, k := range keys {
		r, err := p.Get(ctx, record.Ref{Table: "t", Key: k}, nil)
		if err != nil {
			t.Fatal(k, err)
		}
		want := maps.Clone(fields)
		for j, n := range []string{"k1", "k2", "k3", "k4", "k5"} {
			want[n] = k[j]
		}
		want["g"] = "-4"
		for f, v := range want {
			if r.Record.Fields[f] != v {
				t.Errorf("%s: %q became %q", f, v, r.Record.Fields[f])
			}
		}
		if len(r.Record.Fields) != len(want) {
			t.Error(r.Record.Fields)
		}
		apply(t, p, platform.Change{Op: platform.Update, Ref: r.Record.Ref, Fields: map[string]string{"i": "-5"}, Expect: want})
		// After each key come the later ones.
		n := 0
		if err := p.Scan(ctx, platform.Query{Table: "t", After: k}, func(r *platform.Row) error {
			if n++; r.Record.Ref.Key[1] != keys[i+n][1] {
				t.Errorf("%v after %v", r.Record.Ref.Key, k)
			}
			return nil
		}); err != nil || n != len(keys)-1-i {
			t.Errorf("after %v come %d: %v", k, n, err)
		}
	}
	for f, v := range map[string]string{"b": "1", "i": "40000", "da": "2024-02-30", "vb": "zz", "l": "\u4e2d", "e": "none", "g": "1", "bi": "x", "d": "x"} {
		if err := p.Apply(ctx, []platform.Change{{Op: platform.Update, Ref: record.Ref{Table: "t", Key: keys[0]}, Fields: map[string]string{f: v}}}); !errors.Is(err, platform.ErrValue) && !errors.Is(err, platform.ErrField) {
			t.Errorf("%s = %q: %v", f, v, err)
		}
	}
	if err := p.Apply(ctx, []platform.Change{{Op: platform.Insert, Ref: record.Ref{Table: "aria", Key: []string{"1"}}}}); !errors.Is(err, platform.ErrTable) {
		t.Error("a table without transactions is written:", err)
	}
}

func apply(t testing.TB, p platform.Platform, c ...platform.Change) {
	t.Helper()
	if err := p.Apply(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}
