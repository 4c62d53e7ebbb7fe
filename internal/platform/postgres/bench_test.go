package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// BenchmarkScan compares a scan with a query that reads the same.
func BenchmarkScan(b *testing.B) {
	const n = 200_000
	dsn, do := database(b)
	do(b, fmt.Sprintf(`CREATE TABLE script (id text PRIMARY KEY, name text, body text, active boolean, n int);
		INSERT INTO script SELECT md5(i::text), 'name ' || i, repeat('x', 200), i %% 2 = 0, i FROM generate_series(1, %d) i; ANALYZE script`, n))
	p := open(b, dsn, platform.Options{})
	ctx := context.Background()
	if err := p.Prepare(ctx); err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			rows, err := p.d.pool.Query(ctx, "SELECT id, name, body, active, n FROM public.script ORDER BY id")
			if err != nil {
				b.Fatal(err)
			}
			var id, name, body string
			var active bool
			var k, seen int
			for rows.Next() {
				if err := rows.Scan(&id, &name, &body, &active, &k); err != nil {
					b.Fatal(err)
				}
				seen++
			}
			if rows.Err() != nil || seen != n {
				b.Fatal(rows.Err(), seen)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			seen := 0
			if err := p.Scan(ctx, platform.Query{Table: "script", Revisions: true}, func(*platform.Row) error { seen++; return nil }); err != nil || seen != n {
				b.Fatal(err, seen)
			}
		}
	})
	statement := make([]byte, 700)
	b.Run("put", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			job := fmt.Sprint("job", i)
			w, err := p.Begin(ctx, job)
			if err != nil {
				b.Fatal(err)
			}
			for k := range int64(n) {
				if err := w.Put(ctx, record.Ref{Table: "script", Key: []string{fmt.Sprintf("%032x", k)}}, 1, statement, k); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Commit(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
