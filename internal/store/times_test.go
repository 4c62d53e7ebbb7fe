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
		if err := s.pool.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&out); err != nil {
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
	for name, param := range map[string]string{"lock_timeout": "lock_timeout=100", "statement_timeout": "statement_timeout=100"} {
		s := open(dsn + "&" + param) // what the operator says goes
		if got := show(s, name); got != "100ms" {
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
		if err := s.PutToken(ctx, token); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a statement: %v", name, err)
		}
		c := &Change{At: time.Now(), Jobs: []Job{{Kind: "test", Ref: name, RunAt: time.Now()}}}
		if err := s.Apply(ctx, c); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a change: %v", name, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.PutToken(ctx, token); err != nil {
			t.Errorf("%s: afterwards: %v", name, err)
		}
		if err := s.Apply(ctx, c); err != nil {
			t.Errorf("%s: a change afterwards: %v", name, err)
		}
	}
}
