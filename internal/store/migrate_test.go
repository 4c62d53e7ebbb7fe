package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

// databases runs f on both.
func databases(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, pgtest.Start(t).Database()) })
}

// contents are the tables with their rows, each "column=value …" in the order of
// the columns' names.
func contents(t *testing.T, db *sql.DB, tables []string, columns map[string][]string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range tables {
		rows, err := db.Query("SELECT * FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		names, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			vals := make([]any, len(names))
			for i := range vals {
				vals[i] = new(any)
			}
			if err := rows.Scan(vals...); err != nil {
				t.Fatal(err)
			}
			var parts []string
			for i, n := range names {
				if slices.Contains(columns[table], n) {
					parts = append(parts, fmt.Sprintf("%s=%v", n, *vals[i].(*any)))
				}
			}
			slices.Sort(parts)
			out[table] = append(out[table], strings.Join(parts, " "))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
		slices.Sort(out[table])
	}
	return out
}

// fill puts n rows into every table of a database and returns its columns.
func fill(t *testing.T, db *sql.DB, postgres bool, n int) map[string][]string {
	t.Helper()
	q := `SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version'`
	if postgres {
		q = `SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'goose_db_version' AND is_identity = 'NO'`
	}
	rows, err := db.Query(q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kinds := map[string]map[string]string{}
	for rows.Next() {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			t.Fatal(err)
		}
		if kinds[table] == nil {
			kinds[table] = map[string]string{}
		}
		kinds[table][column] = strings.ToUpper(kind)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(kinds) < 15 {
		t.Fatalf("%d tables", len(kinds))
	}
	columns := map[string][]string{}
	for table, kind := range kinds {
		columns[table] = slices.Sorted(maps.Keys(kind))
		count := n
		switch table {
		case "log_head":
			count = 1
		case "results":
			count = n + 1 // one whose request is not there
		}
		for r := range count {
			var args []any
			for _, c := range columns[table] {
				switch {
				case kind[c] == "BLOB", kind[c] == "BYTEA":
					what := table + c
					if c == "request" || table == "requests" && c == "id" {
						what = "request"
					}
					sum := sha256.Sum256(fmt.Append(nil, what, n-r))
					args = append(args, sum[:])
				case kind[c] == "TEXT":
					args = append(args, fmt.Sprintf("%s of %s %d", c, table, r))
				case c == "one":
					args = append(args, 1)
				default:
					args = append(args, 1000-r)
				}
			}
			if _, err := db.Exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(columns[table], ", "), marks(0, len(args))), args...); err != nil {
				t.Fatalf("%s: %v", table, err)
			}
		}
	}
	return columns
}

// A database of every version keeps all of its rows when it is brought up to date.
func TestMigrationsKeepRows(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		postgres := !strings.HasPrefix(dsn, "sqlite:")
		driver, address, dialect, dir := "sqlite", "file:"+strings.TrimPrefix(dsn, "sqlite:"), goose.DialectSQLite3, "migrations/sqlite"
		if postgres {
			driver, address, dialect, dir = "pgx", dsn, goose.DialectPostgres, "migrations/postgres"
		}
		db, err := sql.Open(driver, address)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		sub, err := fs.Sub(migrations, dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := goose.NewProvider(dialect, db, sub)
		if err != nil {
			t.Fatal(err)
		}
		const first = 2 // before it there are fewer tables
		if _, err := p.UpTo(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		columns := fill(t, db, postgres, 5)
		tables := slices.Sorted(maps.Keys(columns))
		before := contents(t, db, tables, columns)
		s, err := Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		db.Close() // what it has prepared is of the old tables
		if db, err = sql.Open(driver, address); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		after := contents(t, db, tables, columns)
		for _, table := range tables {
			if len(before[table]) == 0 || !slices.Equal(before[table], after[table]) {
				t.Errorf("%s: had\n%s\nhas\n%s", table, strings.Join(before[table], "\n"), strings.Join(after[table], "\n"))
			}
		}
		var sent, indexes int
		if err := db.QueryRow("SELECT count(*) FROM requests WHERE sent <> 0").Scan(&sent); err != nil || sent != 0 {
			t.Errorf("%d requests are with the keeper that never were, %v", sent, err)
		}
		// What keeps a second open request out, and what is looked up, is there again.
		q := "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name IN "
		if postgres {
			q = "SELECT count(*) FROM pg_indexes WHERE indexname IN "
		}
		if err := db.QueryRow(q + "('requests_open', 'requests_due', 'requests_created')").Scan(&indexes); err != nil || indexes != 3 {
			t.Errorf("%d of 3 indexes, %v", indexes, err)
		}
	})
}

// A database that is away is waited for once by those who came together, not by
// each of them in turn.
func TestGroupWhileTheDatabaseIsAway(t *testing.T) {
	pg := pgtest.Start(t)
	s, err := Open(t.Context(), pg.Database())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := s.pool.Config()
	dial := c.ConnConfig.DialFunc
	var dials atomic.Int64
	c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, address)
	}
	away := &SQL{}
	if away.pool, err = pgxpool.NewWithConfig(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer away.pool.Close()
	pg.Down()
	defer pg.Up()
	var group []*pendingChange
	for i := range 50 {
		group = append(group, &pendingChange{c: &Change{Request: sha256.Sum256([]byte{byte(i)}), Revision: 1, At: time.Unix(0, 0)}, result: make(chan error, 1)})
	}
	away.commitGroup(group)
	for i, p := range group {
		select {
		case err := <-p.result:
			if err == nil {
				t.Errorf("change %d was applied", i)
			}
		default:
			t.Errorf("change %d heard nothing", i)
		}
	}
	if n := dials.Load(); n < 1 || n > 10 {
		t.Errorf("%d attempts to connect for %d changes", n, len(group))
	}
}
