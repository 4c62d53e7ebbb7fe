package analysis

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/store"
)

// flaky is a store of which the detached bodies cannot be had for a while.
type flaky struct {
	Store
	mu      sync.Mutex
	err     error
	bundles int
	hold    chan struct{} // where it is set, a bundle is read when it is closed
}

func (f *flaky) Body(ctx context.Context, sum [32]byte) ([]byte, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Store.Body(ctx, sum)
}

func (f *flaky) ReadBundle(ctx context.Context, index int64, width int) ([]byte, error) {
	f.mu.Lock()
	f.bundles++
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return f.Store.ReadBundle(ctx, index, width)
}

// detached is a log of one receipt whose body stands beside it.
func detached(t *testing.T) store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	must(t, err)
	t.Cleanup(func() { st.Close() })
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	body := bytes.Repeat([]byte("no envelope "), 1<<14)
	e := audit.NewEntry(audit.KindReceipt, at, [32]byte{1}, body)
	if _, _, ok := e.Detached(); !ok {
		t.Fatal("the body stands in the entry")
	}
	b, err := e.Encode()
	must(t, err)
	must(t, st.Apply(t.Context(), &store.Change{At: at, Entries: []store.LogEntry{{Kind: audit.KindReceipt, Request: [32]byte{1}, Time: at, Data: b, Body: body}}}))
	_, err = st.Sequence(t.Context(), 100)
	must(t, err)
	return st
}

// Invariants 1 and 2: a database that loses a connection in the middle makes no entry
// unreadable. It is counted when it can be read.
func TestBodiesThatCannotBeHadNow(t *testing.T) {
	f := &flaky{Store: detached(t), err: errors.New("store: the connection is reset")}
	a := New(f)
	if err := a.All(t.Context()); err == nil {
		t.Error("counted without the body")
	}
	if head, err := f.TallyHead(t.Context()); err != nil || head != 0 {
		t.Fatalf("%d entries are counted for good, %v", head, err)
	}
	f.mu.Lock()
	f.err = nil
	f.mu.Unlock()
	must(t, a.All(t.Context()))
	if a.Entries() != 1 {
		t.Errorf("%d entries", a.Entries())
	}
	// One that is not there at all is counted as unread.
	b := New(&flaky{Store: detached(t), err: store.ErrNotFound})
	must(t, b.All(t.Context()))
	if n := b.Total(Unread, Range{0, 1 << 40}); n != 1 {
		t.Errorf("%d unread", n)
	}
}

// However many look at once, the log is read by one of them.
func TestOneCounts(t *testing.T) {
	f := &flaky{Store: detached(t), hold: make(chan struct{})}
	a := New(f)
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := a.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for reading := false; !reading; {
		f.mu.Lock()
		reading = f.bundles > 0
		f.mu.Unlock()
	}
	for range 50 {
		if behind, err := a.Refresh(t.Context()); err != nil || behind != 1 {
			t.Errorf("%d behind, %v", behind, err)
		}
	}
	close(f.hold)
	first.Wait()
	if f.bundles != 1 || a.Entries() != 1 {
		t.Errorf("%d bundles were read, %d entries are counted", f.bundles, a.Entries())
	}
}
