package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/platformtest"
)

// database is an empty file, and how to write it by hand.
func database(t testing.TB) (path string, do func(t testing.TB, statements string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a file?#%41.db")
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(filepath.Dir(path), "a%20file%3F%23%2541.db"))+"?_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	do = func(t testing.TB, statements string) {
		t.Helper()
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "PRAGMA user_version = 1")
	return path, do
}

func open(t testing.TB, path string, o platform.Options) platform.Platform {
	t.Helper()
	p, err := Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestPlatform(t *testing.T) {
	platformtest.Run(t, func(t *testing.T) *platformtest.Database {
		path, do := database(t)
		return &platformtest.Database{
			Open:  func(t testing.TB, o platform.Options) platform.Platform { return open(t, path, o) },
			SQL:   do,
			Quote: (&driver{}).Quote,
			Text:  "TEXT", Key: "TEXT", Int: "INTEGER", Bool: "BOOLEAN", Bytes: "BLOB", Fold: "TEXT COLLATE NOCASE", Serve: "INTEGER PRIMARY KEY",
		}
	})
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(context.Background(), filepath.Join(t.TempDir(), "none"), platform.Options{}); err == nil {
		t.Error("a file that is not there is made")
	}
}
