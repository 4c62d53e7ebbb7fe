package server_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/storetest"
	"github.com/greatseal-io/greatseal/statement"
)

// No number of younger requests hides one that waits for somebody.
func TestInboxHidesNothing(t *testing.T) {
	w := servertest.New(t)
	st := w.Store("")
	s, _ := w.Server(st)
	items := w.Files("app", 1)
	old, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	must(t, err)
	const others, flood = 1500, 1100
	var wg sync.WaitGroup
	for i := range others + flood {
		c := storetest.NewRequest(fmt.Sprint("young", i), 1)
		c.New.Policy = "release" // waits for officers
		if i < others {
			c.New.Policy = "nightly" // waits for nobody
		}
		c.New.Created, c.New.Expires, c.At = w.Now().Add(time.Duration(i%7)*time.Second), w.Now().Add(time.Hour), w.Now()
		wg.Go(func() {
			if err := st.Apply(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := s.Inbox(t.Context(), "bob")
	must(t, err)
	if len(all) != flood+1 || all[flood].ID != old.ID {
		t.Errorf("%d requests wait for bob, want %d", len(all), flood+1)
	}
	seen := map[statement.ID]bool{}
	var after *store.Request
	for pages := 1; ; pages++ {
		list, next, err := s.InboxPage(t.Context(), "bob", after, 250)
		must(t, err)
		if len(list) > 250 {
			t.Fatalf("a page of %d", len(list))
		}
		for _, r := range list {
			if seen[r.ID] {
				t.Errorf("%s twice", r.ID)
			}
			seen[r.ID] = true
		}
		if next == nil {
			if want := (flood + 1 + 249) / 250; pages != want {
				t.Errorf("%d pages, want %d", pages, want)
			}
			break
		}
		after = next
	}
	if len(seen) != flood+1 || !seen[old.ID] {
		t.Errorf("%d requests in the pages", len(seen))
	}
	for name, want := range map[string]int{"gate": 0, "ann": 0, "mallory": 0} {
		if list, err := s.Inbox(t.Context(), name); err != nil || len(list) != want {
			t.Errorf("%s: %d requests, %v", name, len(list), err)
		}
	}
}

// What the keeper would not take in one order is refused at once.
func TestOrderTooLarge(t *testing.T) {
	w := servertest.New(t)
	s, _ := w.Server(w.Store(""))
	chunk := bytes.Repeat([]byte{1}, 4<<20)
	var items [][]byte
	for range 57 {
		items = append(items, chunk)
	}
	_, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	wants(t, "228 MiB", err, "too-large")
	items = items[:56]
	_, _, err = s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	wants(t, "224 MiB of no plans", err, "malformed")
}
