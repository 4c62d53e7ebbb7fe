package mariadb

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/mariatemp"
	"github.com/greatseal-io/greatseal/internal/platform/platformtest"
)

var server *mariatemp.Server // of all tests; TestMain makes it

func TestMain(m *testing.M) {
	var err error
	if server, err = mariatemp.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// database is an empty database, and how to write it by hand.
func database(t testing.TB) (dsn string, do func(t testing.TB, statements string)) {
	t.Helper()
	dsn, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	return dsn, func(t testing.TB, statements string) {
		t.Helper()
		if _, err := server.SQL(dsn, statements); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, dsn string, o platform.Options) platform.Platform {
	t.Helper()
	p, err := Open(context.Background(), dsn, o)
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
		dsn, do := database(t)
		return &platformtest.Database{
			Open:  func(t testing.TB, o platform.Options) platform.Platform { return open(t, dsn, o) },
			SQL:   do,
			Quote: (&driver{}).Quote,
			Text:  "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", Key: "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", Int: "BIGINT", Bool: "BOOLEAN",
			Bytes: "LONGBLOB", Fold: "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", Serve: "BIGINT AUTO_INCREMENT PRIMARY KEY",
		}
	})
}
