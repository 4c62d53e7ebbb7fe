package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/greatseal-io/greatseal/internal/store/pgtest"
)

// Whoever holds a lock, or asks for what takes for ever, holds the server up for a
// bounded time, and it says that the database is busy.
func TestTimesAreBounded(t *testing.T) {
	pg := pgtest.Start(t)
	ctx := t.Context()
	open := func(dsn string) *SQL {
		t.Helper()
		s, err := Open(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	show := func(s *SQL, name string) (out string) {
		t.Helper()
		if err := soon(func() error { return s.wrap(s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&out)) }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	dsn := pg.Database()
	s := open(dsn)
	for name, want := range map[string]string{"statement_timeout": "1min", "lock_timeout": "20s", "idle_in_transaction_session_timeout": "1min"} {
		if got := show(s, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	db, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	for name, param := range map[string]string{"lock_timeout": "lock_timeout=2000", "statement_timeout": "statement_timeout=2000"} {
		s := open(dsn + "&" + param) // what the operator says goes, but not for migrations
		if got := show(s, name); got != "2s" {
			t.Fatalf("%s is %s", name, got)
		}
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE tokens, jobs IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		token := Token{ID: name, Principal: "alice", Hash: [32]byte{byte(len(name))}, Expires: time.Now().Add(time.Hour)}
		put := func() error { return s.PutToken(ctx, token) }
		apply := func() error {
			return s.Apply(ctx, &Change{At: time.Now(), Jobs: []Job{{Kind: "test", Ref: name, RunAt: time.Now()}}})
		}
		if err := put(); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a statement: %v", name, err)
		}
		if err := apply(); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a change: %v", name, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if err := soon(put); err != nil {
			t.Errorf("%s: afterwards: %v", name, err)
		}
		if err := soon(apply); err != nil {
			t.Errorf("%s: a change afterwards: %v", name, err)
		}
	}
}

// Migrations wait for as long as they must, wherever a time is set.
func TestMigrationsAreNotBounded(t *testing.T) {
	pg := pgtest.Start(t)
	ctx := t.Context()
	for _, param := range []string{"statement_timeout=1000", "lock_timeout=1000", "options=-c%20statement_timeout%3D1000%20-c%20lock_timeout%3D1000"} {
		dsn := pg.Database()
		s, err := Open(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		db, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close(context.Background())
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE goose_db_version IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		opened := make(chan error, 1)
		go func() {
			s, err := Open(ctx, dsn+"&"+param)
			if err == nil {
				s.Close()
			}
			opened <- err
		}()
		select {
		case err := <-opened:
			t.Errorf("%s: while the table is locked: %v", param, err)
			continue
		case <-time.After(2500 * time.Millisecond):
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil {
			t.Errorf("%s: %v", param, err)
		}
	}
}

// soon asks again what was busy: a machine that has much to do may be too slow for
// short times.
func soon(do func() error) error {
	for end := time.Now().Add(time.Minute); ; {
		err := do()
		if !errors.Is(err, ErrBusy) || time.Now().After(end) {
			return err
		}
	}
}
