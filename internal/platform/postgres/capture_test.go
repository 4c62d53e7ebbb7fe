package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/platformtest"
	"github.com/greatseal-io/greatseal/record"
)

func apply(t testing.TB, p platform.Platform, c ...platform.Change) {
	t.Helper()
	if err := p.Apply(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

func noted(t testing.TB, dsn string) string {
	t.Helper()
	out, err := server.SQL(dsn, "SELECT count(*) FROM greatseal.greatseal_change")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The promises of Watch hold where the database notes changes, too.
func TestCapture(t *testing.T) {
	dsn, do := database(t)
	do(t, "CREATE TABLE script (id varchar(100) PRIMARY KEY, name text, body text)")
	p := open(t, dsn, platform.Options{})
	ctx := context.Background()
	if err := p.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	put := func(id string, f map[string]string) {
		apply(t, p, platform.Change{Op: platform.Upsert, Ref: record.Ref{Table: "script", Key: []string{id}}, Fields: f})
		if f == nil {
			do(t, "UPDATE script SET body = body WHERE id = '"+id+"'")
		}
	}
	put("a", nil)
	put("b", nil)
	for range 2 { // again does no harm
		if err := p.Capture(ctx, []string{"script"}); err != nil {
			t.Fatal(err)
		}
	}
	platformtest.WatchSuite(t, p, put, func(id string) {
		apply(t, p, platform.Change{Op: platform.Delete, Ref: record.Ref{Table: "script", Key: []string{id}}})
	})
	if err := p.Unwatch(ctx, "new"); err != nil {
		t.Fatal(err)
	}
	w := platform.Watch{Name: "w", Tables: []string{"script"}}
	hear := func(want ...string) {
		t.Helper()
		got := platformtest.Hear(t, p, w, nil, want...)
		slices.Sort(got)
		slices.Sort(want)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("heard %q, wanted %q", got, want)
		}
	}
	do(t, "UPDATE script SET body = 'y' WHERE id = 'c'")
	hear("changed c")
	do(t, "UPDATE script SET id = 'it''s' WHERE id = 'c'") // another key: one goes, one comes
	hear("deleted c", "changed it's")
	if n := noted(t, dsn); n != "0" {
		t.Error(n, "notes are kept that everybody has read")
	}
	do(t, "BEGIN; INSERT INTO script SELECT 'bulk' || n FROM generate_series(1, 300) n; ROLLBACK")
	do(t, "INSERT INTO script SELECT 'bulk' || n FROM generate_series(1, 300) n")
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint("changed bulk", i+1))
	}
	hear(want...)
	do(t, "SET session_replication_role = replica; DELETE FROM script WHERE id = 'bulk7'") // triggers that others can switch off would miss it
	hear("deleted bulk7")
	do(t, "TRUNCATE script")
	hear("deleted ")

	if err := p.Release(ctx, []string{"script"}); err != nil {
		t.Fatal(err)
	}
	if out, err := server.SQL(dsn, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"); err != nil || out != "0" {
		t.Error("triggers are left:", out, err)
	}
	// It polls from now on, and misses nothing of what was not noted.
	do(t, "INSERT INTO script VALUES ('late')")
	hear("changed late")
}

// A transaction that began early and commits late is told of, though others that began
// later were told of before.
func TestCaptureLateCommit(t *testing.T) {
	dsn, do := database(t)
	do(t, `CREATE TABLE "it's" (a int, b timestamptz, c boolean, d bytea, PRIMARY KEY (a, b, c, d))`)
	p := open(t, dsn, platform.Options{})
	ctx := context.Background()
	if err := p.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Capture(ctx, []string{"it's"}); err != nil {
		t.Fatal(err)
	}
	w := platform.Watch{Name: "w", Tables: []string{"it's"}, Initial: true}
	do(t, `SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; INSERT INTO "it's" VALUES (1, '2024-02-03 04:05:06.7Z', true, '\x00ff')`)
	platformtest.Hear(t, p, w, nil, `changed 1/2024-02-03 04:05:06.7/true/\x00ff`)

	late, err := p.d.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stmt := func(s string) {
		t.Helper()
		if err := late.Query(ctx, newStmt(p.d, s), func([][]byte, []kind) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	stmt(`INSERT INTO "it's" VALUES (2, '2024-02-03 04:05:06Z', false, '\x01')`)
	do(t, `SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET bytea_output = 'escape'; INSERT INTO "it's" VALUES (3, '2024-02-03 04:05:06Z', false, '\x01')`)
	once := true
	time.AfterFunc(time.Second, func() {
		if err := late.Commit(ctx); err != nil {
			t.Error(err)
		}
	})
	heard := platformtest.Hear(t, p, w, func() { once = false }, `changed 2/2024-02-03 04:05:06/false/\x01`, `changed 3/2024-02-03 04:05:06/false/\x01`)
	if once || len(heard) != 2 {
		t.Error(strings.Join(heard, "; "))
	}
}
