package records_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/mariadb"
	"github.com/greatseal-io/greatseal/internal/platform/mariatemp"
	"github.com/greatseal-io/greatseal/internal/platform/postgres"
	"github.com/greatseal-io/greatseal/internal/platform/sqlite"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
)

// schema is the application's table.
const schema = `CREATE TABLE sys_data_source (sys_id varchar(32) NOT NULL PRIMARY KEY, name varchar(200), type varchar(40),
	jdbc_server varchar(200), sql_statement text, last_run_datetime varchar(40))`

func opened(t testing.TB, p platform.Platform, err error, byHand func(string) error) *app {
	t.Helper()
	if err == nil {
		err = p.Prepare(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return &app{p, byHand}
}

func sqliteApp(t testing.TB) *app {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(schema); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := sqlite.Open(t.Context(), path, platform.Options{})
	return opened(t, p, err, func(s string) error {
		db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.Exec(s)
		return err
	})
}

func postgresApp(t testing.TB) *app {
	t.Helper()
	s, err := pgtemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	dsn, err := s.Database()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SQL(dsn, schema); err != nil {
		t.Fatal(err)
	}
	p, err := postgres.Open(t.Context(), dsn, platform.Options{})
	return opened(t, p, err, func(q string) error { _, err := s.SQL(dsn, q); return err })
}

func mariaApp(t testing.TB) *app {
	t.Helper()
	s, err := mariatemp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	dsn, err := s.Database()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SQL(dsn, schema); err != nil {
		t.Fatal(err)
	}
	p, err := mariadb.Open(t.Context(), dsn, platform.Options{})
	return opened(t, p, err, func(q string) error { _, err := s.SQL(dsn, q); return err })
}
