package api_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Registrations of passkeys are shown to officers and to their own people, and nobody
// else refuses one. Nothing here brings one into force.
func TestRegistrations(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	reg, err := registration.New(registration.Config{Chain: s.srv.Chain, Store: s.store.(registration.Store), Clock: s.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	register := func(who string) *store.Registration {
		t.Helper()
		w := registration.Who{Person: who, Session: "s", Via: "link"}
		at := registration.Site{RelyingParty: "seal.example.com", Origins: []string{"https://seal.example.com"}}
		b, err := reg.Begin(ctx, w, at)
		if err != nil {
			t.Fatal(err)
		}
		challenge, err := base64.RawURLEncoding.DecodeString(b.Options.Challenge)
		if err != nil {
			t.Fatal(err)
		}
		o, c := attestationtest.NewKey(who, "seal.example.com", "https://seal.example.com").Register(challenge, attestationtest.How{})
		r, err := reg.Finish(ctx, w, at, registration.Answer{Ticket: b.Ticket, Object: o, ClientData: c, Label: "label"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	mine, other := register("alice"), register("ann")
	alice, ann, dave := s.as(t, "alice"), s.as(t, "ann"), s.as(t, "dave")
	for name, x := range map[string]struct {
		c    *client.Client
		want int
	}{"alice": {alice, 1}, "ann": {ann, 1}, "dave": {dave, 2}} {
		list, err := x.c.Registrations(ctx, "", "open")
		if err != nil || len(list) != x.want {
			t.Errorf("%s sees %d, %v", name, len(list), err)
		}
	}
	if list, err := ann.Registrations(ctx, "alice", ""); err != nil || len(list) != 0 {
		t.Errorf("ann sees alice's: %v, %v", list, err)
	}
	got, err := alice.Registration(ctx, mine.ID)
	if err != nil || got.Attestation != mine.Attestation || got.Credential != mine.Credential || got.Label != "label" || got.State != "open" || got.Via != "link" || got.Created.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	status := func(err error) int {
		var p *client.Problem
		if errors.As(err, &p) {
			return p.Status
		}
		return 0
	}
	if _, err := ann.Registration(ctx, mine.ID); status(err) != 404 {
		t.Errorf("ann is shown alice's: %v", err)
	}
	if _, err := ann.RefuseRegistration(ctx, mine.ID, ""); status(err) != 404 {
		t.Errorf("ann refuses alice's: %v", err)
	}
	if _, err := dave.RefuseRegistration(ctx, "0000000000000000", ""); status(err) != 404 {
		t.Errorf("%v", err)
	}
	if _, err := s.as(t, "").Registrations(ctx, "", ""); status(err) != 401 {
		t.Errorf("nobody: %v", err)
	}
	foreign, err := client.New(client.Config{Server: s.http.URL, Token: s.token(t, "auditor", "read")})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if list, err := foreign.Registrations(ctx, "", ""); err != nil || len(list) != 0 {
		t.Errorf("somebody whom the charter does not have sees %d, %v", len(list), err)
	}
	for _, bad := range []string{"/v1/passkeys/registrations?state=x", "/v1/passkeys/registrations/x", "/v1/passkeys/registrations?state=open,open,open,open,open,open"} {
		if a := s.raw(t, "GET", bad, nil, "Authorization", "Bearer "+s.token(t, "dave", "read")); a.StatusCode != 422 {
			t.Errorf("%s: %d %s", bad, a.StatusCode, a.body)
		}
	}
	if a := s.raw(t, "POST", "/v1/passkeys/registrations/"+mine.ID+"/refuse", []byte(`{"reason":"x"}`), "Content-Type", "application/json", "Authorization", "Bearer "+s.token(t, "dave", "request", "read")); a.StatusCode != 403 {
		t.Errorf("a token of dave's refuses: %d %s", a.StatusCode, a.body)
	}
	if r, err := dave.RefuseRegistration(ctx, mine.ID, "whose is it?"); err != nil || r.State != "refused" || r.Detail != "refused by dave: whose is it?" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := dave.RefuseRegistration(ctx, mine.ID, ""); status(err) != 409 {
		t.Errorf("twice: %v", err)
	}
	s.Pass(registration.Waits + time.Minute)
	if r, err := s.as(t, "ann").Registration(ctx, other.ID); err != nil || r.State != "expired" {
		t.Errorf("%+v, %v", r, err)
	}
}
