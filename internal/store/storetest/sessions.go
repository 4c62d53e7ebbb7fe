package storetest

// Sessions of browsers, and codes that begin them.

import (
	"context"
	"crypto/sha256"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// sessionsOf is the store as one of sessions.
func sessionsOf(t *testing.T, s store.Store) store.Sessions {
	t.Helper()
	x, ok := s.(store.Sessions)
	if !ok {
		t.Fatalf("%T keeps no sessions", s)
	}
	return x
}

func newSession(handle, person string, at time.Time) store.Session {
	return store.Session{Hash: sha256.Sum256([]byte(handle)), Handle: handle, Person: person, Member: true, Via: "passkey", Credential: "passkey:" + handle, Binding: sha256.Sum256([]byte("browser")), Agent: "Browser/1.0",
		Created: at, Seen: at, Expires: at.Add(8 * time.Hour)}
}

func sessions(t *testing.T, db store.Store) {
	s, ctx := sessionsOf(t, db), t.Context()
	a := newSession("aa", "alice", epoch)
	a.Groups = []string{"audit", "two words", "with \" and \\"}
	a.Issuer, a.Subject, a.SID, a.Via, a.Member = "https://issuer.example", "subject", "sid", "oidc", false
	must(t, s.PutSession(ctx, a, epoch))
	must(t, s.PutSession(ctx, newSession("bb", "bob", epoch.Add(time.Minute)), epoch))
	must(t, s.PutSession(ctx, newSession("cc", "bob", epoch.Add(2*time.Minute)), epoch))
	got, err := s.Session(ctx, a.Hash)
	must(t, err)
	if !reflect.DeepEqual(*got, a) {
		t.Fatalf("got %+v\nput %+v", *got, a)
	}
	if err := s.PutSession(ctx, newSession("aa", "bob", epoch), epoch); !errors.Is(err, store.ErrExists) {
		t.Fatalf("twice: %v", err)
	}
	if _, err := s.Session(ctx, [32]byte{1}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("unknown: %v", err)
	}
	must(t, s.SeeSession(ctx, a.Hash, epoch.Add(time.Hour)))
	must(t, s.SeeSession(ctx, a.Hash, epoch.Add(time.Minute))) // an older one changes nothing
	if got, _ = s.Session(ctx, a.Hash); !got.Seen.Equal(epoch.Add(time.Hour)) {
		t.Fatalf("seen %s", got.Seen)
	}
	handles := func(f store.SessionFilter) string {
		list, err := s.ListSessions(ctx, f)
		must(t, err)
		out := ""
		for _, x := range list {
			out += x.Handle + " "
		}
		return out
	}
	for want, f := range map[string]store.SessionFilter{
		"cc bb aa ": {}, "cc bb ": {Person: "bob"}, "bb ": {Handle: "bb"}, "cc ": {Person: "bob", Limit: 1}, "aa ": {Issuer: a.Issuer, Subject: a.Subject}, "": {Issuer: a.Issuer, Subject: "other"},
	} {
		if got := handles(f); got != want {
			t.Errorf("%+v selects %q, not %q", f, got, want)
		}
	}
	if _, err := s.EndSessions(ctx, store.SessionFilter{}); err == nil {
		t.Fatal("everybody's sessions were ended for want of a filter")
	}
	if _, err := s.EndSessions(ctx, store.SessionFilter{Limit: 3}); err == nil {
		t.Fatal("everybody's sessions were ended for want of a filter")
	}
	n, err := s.EndSessions(ctx, store.SessionFilter{Issuer: a.Issuer, SID: "sid"})
	if err != nil || n != 1 || handles(store.SessionFilter{}) != "cc bb " {
		t.Fatalf("%d ended, %v", n, err)
	}
	if n, err := s.EndSessions(ctx, store.SessionFilter{Handle: "aa"}); err != nil || n != 0 {
		t.Fatalf("%d ended again, %v", n, err)
	}
	// What has ended is forgotten with the next one.
	must(t, s.PutSession(ctx, newSession("dd", "dave", epoch.Add(9*time.Hour)), epoch.Add(9*time.Hour)))
	if got := handles(store.SessionFilter{}); got != "dd " {
		t.Fatalf("%q are kept", got)
	}
	hostile := newSession("ee", "x\x00\xff'; DROP TABLE sessions; --", epoch.Add(10*time.Hour))
	hostile.Agent, hostile.Groups = "\x00\xfe", []string{"\x00", "\xff"}
	must(t, s.PutSession(ctx, hostile, epoch))
	if list, err := s.ListSessions(ctx, store.SessionFilter{Person: hostile.Person}); err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
}

func linksOnce(t *testing.T, db store.Store) {
	s, ctx := sessionsOf(t, db), t.Context()
	hash := sha256.Sum256([]byte("code"))
	must(t, s.PutLink(ctx, hash, store.Link{Person: "alice", Credential: "ssh:of alice"}, epoch.Add(time.Minute), epoch))
	if _, err := s.Link(ctx, hash, epoch.Add(time.Minute)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("good when it is over: %v", err)
	}
	if _, err := s.TakeLink(ctx, hash, epoch.Add(time.Minute)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("taken when it is over: %v", err)
	}
	if who, err := s.Link(ctx, hash, epoch); err != nil || who != (store.Link{Person: "alice", Credential: "ssh:of alice"}) {
		t.Fatalf("%+v %v", who, err)
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch who, err := s.TakeLink(context.WithoutCancel(ctx), hash, epoch); {
			case err == nil && who == (store.Link{Person: "alice", Credential: "ssh:of alice"}):
				taken.Add(1)
			case !errors.Is(err, store.ErrNotFound):
				t.Errorf("%+v %v", who, err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Fatalf("taken %d times", taken.Load())
	}
	must(t, s.PutLink(ctx, hash, store.Link{Person: "bob"}, epoch.Add(time.Minute), epoch))
	must(t, s.PutLink(ctx, sha256.Sum256([]byte("other")), store.Link{Person: "bob"}, epoch.Add(time.Hour), epoch.Add(2*time.Minute)))
	must(t, s.PutLink(ctx, hash, store.Link{Person: "carol"}, epoch.Add(time.Hour), epoch.Add(2*time.Minute))) // the one before was forgotten
}
