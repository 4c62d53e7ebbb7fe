package storetest

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// RunRegistrations runs the suite of registrations against databases that open makes.
func RunRegistrations(t *testing.T, open func(t *testing.T) store.Registrations) {
	for name, f := range map[string]func(*testing.T, store.Registrations){
		"life": registrationLife, "bounds": registrationBounds, "race": registrationRace, "hostile texts": registrationTexts,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

func registration(id, person, passkey string) *store.Registration {
	return &store.Registration{ID: id, Person: person, Credential: "text of " + passkey, CredentialID: "passkey:" + passkey, Attestation: "record of " + passkey,
		Transports: []string{"nfc", "usb"}, Label: "blue key", Replaces: "ssh:SHA256:x", Via: "oidc", Issuer: "https://dex", Subject: "42",
		Created: epoch, Expires: epoch.Add(time.Hour)}
}

func registrationLife(t *testing.T, s store.Registrations) {
	ctx := t.Context()
	r := registration("a", "alice", "p")
	must(t, s.PutRegistration(ctx, r, 5))
	want := *r
	want.State, want.Updated = store.RegistrationOpen, epoch
	got, err := s.Registration(ctx, "a")
	must(t, err)
	if !reflect.DeepEqual(*got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	_, err = s.Registration(ctx, "b")
	wantErr(t, err, store.ErrNotFound)
	wantErr(t, s.PutRegistration(ctx, r, 5), store.ErrExists)
	wantErr(t, s.PutRegistration(ctx, registration("b", "bob", "p"), 5), store.ErrExists) // the passkey waits
	request := statement.IDOf([]byte("request"))
	must(t, s.MoveRegistration(ctx, "a", store.RegistrationOpen, store.RegistrationProposed, request, "by bob", epoch.Add(time.Second)))
	wantErr(t, s.MoveRegistration(ctx, "a", store.RegistrationOpen, store.RegistrationRefused, statement.ID{}, "", epoch), store.ErrConflict)
	wantErr(t, s.MoveRegistration(ctx, "z", store.RegistrationOpen, store.RegistrationRefused, statement.ID{}, "", epoch), store.ErrConflict)
	wantErr(t, s.PutRegistration(ctx, registration("b", "bob", "p"), 5), store.ErrExists)
	got, err = s.Registration(ctx, "a")
	must(t, err)
	if got.State != store.RegistrationProposed || got.Request != request || got.Detail != "by bob" || !got.Updated.Equal(epoch.Add(time.Second)) {
		t.Fatalf("proposed: %+v", got)
	}
	must(t, s.MoveRegistration(ctx, "a", store.RegistrationProposed, store.RegistrationRefused, statement.ID{}, "whose is it?", epoch.Add(time.Minute)))
	must(t, s.PutRegistration(ctx, registration("b", "bob", "p"), 5)) // it waits no more
	if got, err = s.Registration(ctx, "a"); err != nil || !got.Request.IsZero() || got.State != store.RegistrationRefused {
		t.Fatalf("refused: %+v, %v", got, err)
	}
	must(t, s.ForgetRegistrations(ctx, epoch.Add(time.Minute)))
	if _, err = s.Registration(ctx, "a"); err != nil {
		t.Fatal("forgotten too early")
	}
	must(t, s.ForgetRegistrations(ctx, epoch.Add(time.Hour)))
	_, err = s.Registration(ctx, "a")
	wantErr(t, err, store.ErrNotFound)
	if _, err = s.Registration(ctx, "b"); err != nil {
		t.Fatal("one that waits was forgotten")
	}
}

func registrationBounds(t *testing.T, s store.Registrations) {
	ctx := t.Context()
	for i := range 3 {
		r := registration(fmt.Sprint("r", i), "alice", fmt.Sprint(i))
		r.Created = epoch.Add(time.Duration(i) * time.Second)
		must(t, s.PutRegistration(ctx, r, 3))
	}
	wantErr(t, s.PutRegistration(ctx, registration("r3", "alice", "3"), 3), store.ErrConflict)
	must(t, s.PutRegistration(ctx, registration("r4", "bob", "4"), 3))
	must(t, s.MoveRegistration(ctx, "r0", store.RegistrationOpen, store.RegistrationExpired, statement.ID{}, "", epoch))
	must(t, s.PutRegistration(ctx, registration("r5", "alice", "5"), 3))
	ids := func(f store.RegistrationFilter) (out []string) {
		list, err := s.Registrations(ctx, f)
		must(t, err)
		for _, r := range list {
			out = append(out, r.ID)
		}
		return out
	}
	for _, c := range []struct {
		f    store.RegistrationFilter
		want []string
	}{
		{store.RegistrationFilter{Person: "alice"}, []string{"r2", "r1", "r0", "r5"}},
		{store.RegistrationFilter{Person: "alice", States: []store.RegistrationState{store.RegistrationOpen}}, []string{"r2", "r1", "r5"}},
		{store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationExpired, store.RegistrationRefused}}, []string{"r0"}},
		{store.RegistrationFilter{Limit: 1}, []string{"r2"}},
		{store.RegistrationFilter{Person: "carol"}, nil},
	} {
		if got := ids(c.f); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}

// Of several who move one at a time, one does.
func registrationRace(t *testing.T, s store.Registrations) {
	ctx := t.Context()
	must(t, s.PutRegistration(ctx, registration("a", "alice", "p"), 5))
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if s.MoveRegistration(ctx, "a", store.RegistrationOpen, store.RegistrationRefused, statement.ID{}, "", epoch) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d have moved it", won.Load())
	}
}

func registrationTexts(t *testing.T, s store.Registrations) {
	ctx := t.Context()
	r := registration("a", "'; DROP TABLE registrations; --", "p")
	r.Label = "nul \x00 and \xff"
	must(t, s.PutRegistration(ctx, r, 5))
	got, err := s.Registration(ctx, "a")
	must(t, err)
	if got.Person != r.Person || got.Label != "nul \uFFFD and \uFFFD" {
		t.Fatalf("%q, %q", got.Person, got.Label)
	}
}
