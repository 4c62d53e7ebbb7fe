package store_test

import (
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

func TestNoticesOnSQLite(t *testing.T) {
	storetest.RunNotices(t, func(t *testing.T) storetest.Noticing {
		return openNotices(t, "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	})
}

func TestNoticesOnPostgreSQL(t *testing.T) {
	pg := pgtest.Start(t)
	storetest.RunNotices(t, func(t *testing.T) storetest.Noticing { return openNotices(t, pg.Database()) })
}

func openNotices(t *testing.T, dsn string) storetest.Noticing {
	t.Helper()
	s, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
