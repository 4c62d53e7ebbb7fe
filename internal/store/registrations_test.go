package store_test

import (
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

func openRegistrations(t *testing.T, dsn string) store.Registrations {
	s, err := store.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRegistrationsSQLite(t *testing.T) {
	storetest.RunRegistrations(t, func(t *testing.T) store.Registrations {
		return openRegistrations(t, "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	})
}

func TestRegistrationsPostgres(t *testing.T) {
	pg := pgtest.Start(t)
	storetest.RunRegistrations(t, func(t *testing.T) store.Registrations { return openRegistrations(t, pg.Database()) })
}
