package cli

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// An officer's program shows what is registered by what it computes itself, proposes it
// for the fingerprint that was read to him and for no other one, and is told of rows
// that somebody has changed.
func TestPasskey(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := newDesk(t)
	w, srv, st := d.w, d.srv, d.st
	run := func(args ...string) (out string, code int) {
		t.Helper()
		return d.run(w.Now, args...)
	}

	reg, err := registration.New(registration.Config{Chain: srv.Chain, Store: st, Clock: w.Now, Rand: rand.Reader})
	must(err)
	who := registration.Who{Person: "alice", Session: "s", Via: "oidc", Issuer: "https://dex.example.com", Subject: "alice\x1b[2J"}
	at := registration.Site{RelyingParty: "seal.example.com", Origins: []string{"https://seal.example.com"}}
	b, err := reg.Begin(t.Context(), who, at)
	must(err)
	challenge, err := base64.RawURLEncoding.DecodeString(b.Options.Challenge)
	must(err)
	k := attestationtest.NewKey("alice", "seal.example.com", "https://seal.example.com")
	o, c := k.Register(challenge, attestationtest.How{})
	r, err := reg.Finish(t.Context(), who, at, registration.Answer{Ticket: b.Ticket, Object: o, ClientData: c, Label: "blue key"})
	must(err)

	fingerprint := attestation.Fingerprint(k.Credential())
	if out, code := run("passkey", "list"); code != exitOK || !strings.Contains(out, r.ID) || !strings.Contains(out, "blue key") {
		t.Fatalf("list: %d %s", code, out)
	}
	out, code := run("passkey", "show", r.ID[:6])
	if code != exitOK || !strings.Contains(out, fingerprint) || !strings.Contains(out, "bound to its device") || !strings.Contains(out, "claimed") || strings.Contains(out, "\x1b") {
		t.Fatalf("show: %d %s", code, out)
	}
	if out, code := run("passkey", "propose", r.ID, "--no-wait"); code != exitUsage || !strings.Contains(out, "--yes") {
		t.Errorf("without a look at the fingerprint: %d %s", code, out)
	}
	if out, code := run("passkey", "propose", r.ID, "--no-wait", "--fingerprint", "0000 0000 0000 0000 0000 0000"); code != exitUnverified {
		t.Errorf("another fingerprint: %d %s", code, out)
	}
	out, code = run("passkey", "propose", r.ID, "--no-wait", "--json", "--fingerprint", strings.ToLower(strings.ReplaceAll(fingerprint, " ", "-")))
	if code != exitOK {
		t.Fatalf("propose: %d %s", code, out)
	}
	var asked struct{ Request, Fingerprint string }
	must(json.Unmarshal([]byte(out[strings.Index(out, "{"):strings.LastIndex(out, "}")+1]), &asked))
	id, err := statement.ParseID(asked.Request)
	must(err)
	q, err := srv.Get(t.Context(), id)
	must(err)
	if q.Command != statement.CharterReplace || q.Requester != "bob" || asked.Fingerprint != fingerprint {
		t.Fatalf("%+v", q)
	}
	if out, code := run("passkey", "list"); code != exitOK || !strings.Contains(out, "proposed") {
		t.Errorf("list: %d %s", code, out)
	}

	// Somebody with the database exchanges the key, under the same ID.
	must(st.MoveRegistration(t.Context(), r.ID, store.RegistrationProposed, store.RegistrationRefused, statement.ID{}, "", w.Now()))
	mallory := attestationtest.NewKey("mallory", "seal.example.com", "https://seal.example.com")
	mallory.ID = k.ID
	stolen := *r
	stolen.ID, stolen.Credential = "00000000000000ff", mallory.Credential().Text()
	must(st.PutRegistration(t.Context(), &stolen, 5))
	if out, code := run("passkey", "show", stolen.ID); code != exitOK || !strings.Contains(out, "another passkey") || strings.Contains(out, fingerprint) {
		t.Errorf("an exchanged key: %d %s", code, out)
	}
	if out, code := run("passkey", "propose", stolen.ID, "--no-wait", "--yes"); code != exitRefused {
		t.Errorf("an exchanged key: %d %s", code, out)
	}
	if out, code := run("passkey", "refuse", stolen.ID, "--reason", "not hers"); code != exitOK || !strings.Contains(out, "refused") {
		t.Errorf("refuse: %d %s", code, out)
	}
}
