package storetest

// What a store keeps beside requests and the log: jobs, uploads, tokens, timestamps
// and secrets.

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func jobs(t *testing.T, s store.Store) {
	ctx := t.Context()
	must(t, s.Enqueue(ctx, store.Job{Kind: "a", Ref: "1", Payload: []byte("p"), RunAt: epoch}, store.Job{Kind: "a", Ref: "1", RunAt: epoch}, store.Job{Kind: "b", Ref: "1", RunAt: epoch}, store.Job{Kind: "a", Ref: "2", RunAt: epoch.Add(time.Hour)}))
	got, err := s.Lease(ctx, []string{"a"}, 10, epoch, time.Minute)
	must(t, err)
	if len(got) != 1 || got[0].Ref != "1" || string(got[0].Payload) != "p" || got[0].Attempts != 1 {
		t.Fatalf("leased %+v", got)
	}
	if again, _ := s.Lease(ctx, []string{"a"}, 10, epoch, time.Minute); len(again) != 0 {
		t.Fatalf("leased twice: %+v", again)
	}
	again, err := s.Lease(ctx, []string{"a", "b"}, 10, epoch.Add(2*time.Minute), time.Minute)
	if err != nil || len(again) != 2 {
		t.Fatalf("after the lease: %+v, %v", again, err)
	}
	must(t, s.Retry(ctx, got[0].ID, epoch.Add(30*time.Minute), "no answer"))
	late, err := s.Lease(ctx, []string{"a"}, 10, epoch.Add(31*time.Minute), time.Minute)
	if err != nil || len(late) != 1 || late[0].Error != "no answer" || late[0].Attempts != 3 {
		t.Fatalf("after the retry: %+v, %v", late, err)
	}
	must(t, s.Again(ctx, got[0].ID, epoch.Add(40*time.Minute)))
	late, err = s.Lease(ctx, []string{"a"}, 10, epoch.Add(41*time.Minute), time.Minute)
	if err != nil || len(late) != 1 || late[0].Error != "" || late[0].Attempts != 1 {
		t.Fatalf("again: %+v, %v", late, err)
	}
	must(t, s.Done(ctx, late[0].ID))
	if n, err := s.Jobs(ctx); err != nil || n["a"] != 1 || n["b"] != 1 {
		t.Fatalf("jobs %v, %v", n, err)
	}
}

func leaseOnce(t *testing.T, s store.Store) {
	ctx := t.Context()
	const n = 200
	var js []store.Job
	for i := range n {
		js = append(js, store.Job{Kind: "k", Ref: fmt.Sprint(i), RunAt: epoch})
	}
	must(t, s.Enqueue(ctx, js...))
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				got, err := s.Lease(ctx, []string{"k"}, 7, epoch, time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, j := range got {
					seen[j.Ref]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != n {
		t.Errorf("%d of %d jobs were handed out", len(seen), n)
	}
	for ref, c := range seen {
		if c != 1 {
			t.Errorf("job %s was handed out %d times", ref, c)
		}
	}
}

func dueAndStuck(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, b := NewRequest("a", 1), NewRequest("b", 1)
	must(t, s.Apply(ctx, a))
	must(t, s.Apply(ctx, b))
	must(t, s.Apply(ctx, &store.Change{Request: b.New.ID, Revision: 1, State: store.Endorsed, At: epoch}))
	if ids, err := s.Due(ctx, epoch.Add(time.Minute), 10); err != nil || len(ids) != 0 {
		t.Fatalf("due early: %v, %v", ids, err)
	}
	if ids, err := s.Due(ctx, epoch.Add(time.Hour), 10); err != nil || len(ids) != 2 {
		t.Fatalf("due: %v, %v", ids, err)
	}
	revision := int64(1)
	for _, who := range []string{"carol", "bob"} {
		must(t, s.Apply(ctx, &store.Change{Request: a.New.ID, Revision: revision, At: epoch,
			Endorsement: &store.Endorsement{ID: sha256.Sum256([]byte(who)), Endorser: who, Verdict: statement.Endorse, Arrived: epoch, Envelope: []byte(who)}}))
		revision++
	}
	c := NewRequest("c", 1)
	c.New.Expires = epoch.Add(30 * time.Minute)
	must(t, s.Apply(ctx, c))
	for _, limit := range []int{1, 3} { // the first to expire, with their endorsements
		whole, err := s.DueRequests(ctx, epoch.Add(time.Hour), limit)
		if err != nil || len(whole) != limit || whole[0].ID != c.New.ID {
			t.Fatalf("due: %v, %v", whole, err)
		}
		for _, r := range whole {
			if one, err := s.Request(ctx, r.ID); err != nil || !reflect.DeepEqual(one, r) || (r.ID == a.New.ID) != (len(r.Endorsements) == 2) {
				t.Errorf("due: %+v, by itself %+v, %v", r, one, err)
			}
		}
	}
	if ids, err := s.Stuck(ctx, epoch.Add(time.Second), 0, 10); err != nil || len(ids) != 1 || ids[0] != b.New.ID {
		t.Fatalf("stuck: %v, %v", ids, err)
	}
	must(t, s.Apply(ctx, &store.Change{Request: a.New.ID, Revision: revision, State: store.Endorsed, At: epoch.Add(time.Millisecond)}))
	if ids, err := s.Stuck(ctx, epoch.Add(time.Second), 1, 10); err != nil || len(ids) != 1 || ids[0] != a.New.ID {
		t.Fatalf("stuck but the first: %v, %v", ids, err)
	}
}

func uploads(t *testing.T, s store.Store) {
	ctx := t.Context()
	id := statement.ID{1}
	must(t, s.PutUpload(ctx, store.Upload{Request: id, Index: 1, Size: 10}))
	must(t, s.PutUpload(ctx, store.Upload{Request: id, Index: 0, Size: 5, Received: 5, Done: true}))
	must(t, s.PutUpload(ctx, store.Upload{Request: id, Index: 1, Size: 10, Received: 4}))
	u, err := s.Uploads(ctx, id)
	if err != nil || len(u) != 2 || !u[0].Done || u[1].Received != 4 || u[1].Done {
		t.Fatalf("%+v, %v", u, err)
	}
}

func tokens(t *testing.T, s store.Store) {
	ctx := t.Context()
	tok := store.Token{Hash: sha256.Sum256([]byte("secret")), ID: "t1", Principal: "ci", Scopes: []string{"read", "request"}, Credential: "ssh:of ci", Created: epoch, Expires: epoch.Add(time.Hour)}
	must(t, s.PutToken(ctx, tok))
	if err := s.PutToken(ctx, tok); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same token again: %v", err)
	}
	got, err := s.Token(ctx, tok.Hash)
	if err != nil || got.Principal != "ci" || len(got.Scopes) != 2 || got.Credential != tok.Credential || !got.Expires.Equal(tok.Expires) {
		t.Fatalf("%+v, %v", got, err)
	}
	if all, err := s.Tokens(ctx); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	must(t, s.DeleteToken(ctx, "t1"))
	if _, err := s.Token(ctx, tok.Hash); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a deleted token: %v", err)
	}
	if err := s.DeleteToken(ctx, "t1"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("deleted twice: %v", err)
	}
}

func timestamps(t *testing.T, s store.Store) {
	ctx := t.Context()
	must(t, s.SetTimestamp(ctx, statement.ID{1}, 3, []byte("a")))
	must(t, s.SetTimestamp(ctx, statement.ID{1}, 3, []byte("b"))) // the first stays
	ts, err := s.Timestamps(ctx, statement.ID{1})
	if err != nil || len(ts) != 1 || string(ts[3]) != "a" {
		t.Fatalf("%v, %v", ts, err)
	}
}

// The first secret of a name stays, whoever else comes with another.
func secretIsShared(t *testing.T, s store.Store) {
	got := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			b, err := s.Secret(t.Context(), "logins", fmt.Appendf(nil, "secret %d", i))
			if err != nil {
				t.Error(err)
			}
			got[i] = b
		})
	}
	wg.Wait()
	for _, b := range got {
		if len(b) == 0 || !bytes.Equal(b, got[0]) {
			t.Errorf("secrets %q and %q under one name", b, got[0])
		}
	}
	other, err := s.Secret(t.Context(), "other", []byte("another"))
	must(t, err)
	if string(other) != "another" {
		t.Errorf("under another name: %q", other)
	}
}

// What is used is used once, by whoever comes first, and is forgotten after it has
// expired, not before.
func usedOnce(t *testing.T, s store.Store) {
	var first atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch err := s.Once(t.Context(), [32]byte{1}, epoch.Add(time.Minute), epoch); {
			case err == nil:
				first.Add(1)
			case !errors.Is(err, store.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("used %d times", first.Load())
	}
	must(t, s.Once(t.Context(), [32]byte{2}, epoch.Add(time.Minute), epoch))
	if err := s.Once(t.Context(), [32]byte{1}, epoch.Add(time.Minute), epoch.Add(time.Minute)); !errors.Is(err, store.ErrExists) {
		t.Errorf("in its last moment: %v", err)
	}
	must(t, s.Once(t.Context(), [32]byte{1}, epoch.Add(time.Hour), epoch.Add(2*time.Minute)))
}
