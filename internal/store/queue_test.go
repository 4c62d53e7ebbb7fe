package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

func openQueue(t *testing.T, dsn string) storetest.Queue {
	t.Helper()
	q, ok := open(t, dsn).(*store.SQL)
	if !ok {
		t.Fatal("the store has no queue")
	}
	return q
}

func TestQueueOnSQLite(t *testing.T) {
	storetest.RunQueue(t, func(t *testing.T) storetest.Queue {
		return openQueue(t, "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	})
}

func TestQueueOnPostgreSQL(t *testing.T) {
	pg := pgtest.Start(t)
	storetest.RunQueue(t, func(t *testing.T) storetest.Queue { return openQueue(t, pg.Database()) })
}

// What one replica takes in, the others hear of.
func TestWatchQueueTellsReplicas(t *testing.T) {
	pg := pgtest.Start(t)
	dsn := pg.Database()
	one, two := openQueue(t, dsn), openQueue(t, dsn)
	heard := make(chan string, 16)
	done := make(chan struct{})
	ctx := t.Context()
	go func() { defer close(done); _ = two.WatchQueue(ctx, func(s string) { heard <- s }) }()
	if s := <-heard; s != "" {
		t.Fatalf("first %q", s)
	}
	if _, err := one.SubmitWork(ctx, []store.QueueRecord{{ID: "00000000000000000000000000000001", Agent: "a1", Topic: "T", Created: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if s := <-heard; s != "a:a1" {
		t.Fatalf("heard %q", s)
	}
	pg.Restart() // the connection breaks: whoever watches comes again
	<-done
}
