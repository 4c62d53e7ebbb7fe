package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

func open(t *testing.T, dsn string) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, "sqlite:"+filepath.Join(t.TempDir(), "a b%20c", "greatseal.db"))
	})
}

func TestPostgreSQL(t *testing.T) {
	pg := pgtest.Start(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pg.Database()) })
}

func TestOpenRefusesOtherAddresses(t *testing.T) {
	for _, dsn := range []string{"", "mysql://x", "sqlite:", "greatseal.db"} {
		if s, err := store.Open(t.Context(), dsn); err == nil {
			s.Close()
			t.Errorf("%q was opened", dsn)
		}
	}
}

// The database and what SQLite puts beside it are for their owner only, from the
// beginning.
func TestSQLiteFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, "sqlite:"+filepath.Join(dir, "greatseal.db"))
	if err := s.Apply(t.Context(), storetest.NewRequest("app", 1)); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) < 2 {
		t.Fatalf("%d files, %v: want the database and its log", len(names), err)
	}
	for _, n := range names {
		if fi, err := n.Info(); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", n.Name(), fi.Mode(), err)
		}
	}
}
