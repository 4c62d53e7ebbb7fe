package store_test

import (
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

func openRecords(t *testing.T, dsn string) storetest.Records {
	t.Helper()
	s, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRecordsOnSQLite(t *testing.T) {
	storetest.RunRecords(t, func(t *testing.T) storetest.Records {
		return openRecords(t, "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	})
}

func TestRecordsOnPostgreSQL(t *testing.T) {
	pg := pgtest.Start(t)
	storetest.RunRecords(t, func(t *testing.T) storetest.Records { return openRecords(t, pg.Database()) })
}
