package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
)

// between stands between a client and PostgreSQL. While it is armed it cuts a
// connection when the answer to a commit comes: the commit is done, and nobody
// hears of it.
type between struct {
	to    string
	armed atomic.Int64 // commits to cut off
	cut   atomic.Int64
}

func (b *between) listen(t *testing.T) (folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "gsbetween") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait(); os.RemoveAll(folder) })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(c) })
		}
	})
	return folder
}

func (b *between) serve(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("unix", filepath.Join(b.to, ".s.PGSQL.5432"))
	if err != nil {
		return
	}
	defer s.Close()
	var committing atomic.Bool
	go func() {
		defer s.Close()
		buf := make([]byte, 1<<20)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(buf[:n], []byte("commit\x00")) && b.armed.Add(-1) >= 0 {
				committing.Store(true)
			}
			if _, err := s.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := s.Read(buf)
		if err != nil {
			return
		}
		if committing.Load() && bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			b.cut.Add(1)
			return
		}
		if _, err := c.Write(buf[:n]); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

// A commit whose answer is lost is neither reported as somebody else's request
// nor applied twice.
func TestCommitWithoutAnswer(t *testing.T) {
	pg := pgtest.Start(t)
	b := &between{to: pg.Socket}
	dsn := strings.Replace(pg.Database(), "host="+pg.Socket, "host="+b.listen(t), 1)
	s := open(t, dsn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for round := range 3 {
		b.armed.Store(1)
		const n = 20
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = s.Apply(ctx, storetest.NewRequest(fmt.Sprint("app", round, i), 1)) })
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if got, err := s.Sequence(ctx, 1000); err != nil || got != n {
			t.Errorf("%d of %d entries logged, %v", got, n, err)
		}
	}
	if n := b.cut.Load(); n != 3 {
		t.Fatalf("%d commits were cut off", n)
	}
	// A step that was applied conflicts with itself: whoever asked looks again.
	c := storetest.NewRequest("app", 1)
	if err := s.Apply(ctx, c); err != nil {
		t.Fatal(err)
	}
	b.armed.Store(1)
	err := s.Apply(ctx, &store.Change{Request: c.New.ID, Revision: 1, State: store.Cancelled, At: c.At})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("a step whose answer was lost: %v", err)
	}
	// What has no guard is not tried again.
	b.armed.Store(1)
	j := store.Job{Kind: "k", Ref: "r", RunAt: c.At}
	if err := s.Enqueue(ctx, j); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a job whose answer was lost: %v", err)
	}
	// The same request again is still the same request.
	if err := s.Apply(ctx, c); !errors.Is(err, store.ErrExists) {
		t.Errorf("the same request again: %v", err)
	}
}
