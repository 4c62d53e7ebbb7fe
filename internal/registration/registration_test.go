package registration_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

const (
	rp     = "seal.example.com"
	origin = "https://seal.example.com"
)

var (
	model = attestation.AAGUID{0x2f, 0xc0, 1}
	here  = registration.Site{RelyingParty: rp, Origins: []string{origin}}
)

// desk is a deployment with registrations.
type desk struct {
	*servertest.World
	store *store.SQL
	srv   *server.Server
	reg   *registration.Service
	maker *attestationtest.Maker
}

func newDesk(t *testing.T, change ...func(*desk, *charter.Charter)) *desk {
	t.Helper()
	d := &desk{maker: attestationtest.NewMaker("Maker", servertest.Start.AddDate(-1, 0, 0), servertest.Start.AddDate(1, 0, 0))}
	d.World = servertest.New(t, func(c *charter.Charter) {
		for _, f := range change {
			f(d, c)
		}
	})
	d.store = d.Store("").(*store.SQL)
	d.srv, _ = d.Server(d.store)
	var err error
	d.reg, err = registration.New(registration.Config{Chain: d.srv.Chain, Store: d.store, Clock: d.Now, Rand: rand.Reader})
	check(t, err)
	return d
}

// hardware is a charter that takes attested keys of one model alone.
func hardware(d *desk, c *charter.Charter) {
	c.Passkeys = &charter.Passkeys{RelyingParty: rp, Origins: []string{origin}, Backup: charter.BackupRefuse,
		Attestation: &charter.Attestation{Required: true, Models: []string{model.String()}, Roots: []string{d.maker.RootText()}}}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func code(err error) string {
	var p *server.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

func who(name string) registration.Who {
	return registration.Who{Person: name, Session: "session of " + name, Via: "oidc", Issuer: "https://dex.example.com", Subject: "subject of " + name}
}

func challengeOf(t testing.TB, b *registration.Begun) []byte {
	t.Helper()
	c, err := base64.RawURLEncoding.DecodeString(b.Options.Challenge)
	check(t, err)
	return c
}

// register registers a passkey for somebody.
func (d *desk) register(t *testing.T, name string, k *attestationtest.Key, how attestationtest.How, change ...func(*registration.Answer)) (*store.Registration, error) {
	t.Helper()
	b, err := d.reg.Begin(t.Context(), who(name), here)
	check(t, err)
	o, c := k.Register(challengeOf(t, b), how)
	a := registration.Answer{Ticket: b.Ticket, Object: o, ClientData: c, Label: "blue key", Transports: []string{"usb"}}
	for _, f := range change {
		f(&a)
	}
	return d.reg.Finish(t.Context(), who(name), here, a)
}

func (d *desk) good() attestationtest.How {
	return attestationtest.How{Format: "packed", Maker: d.maker, Model: model}
}

// propose hands in, as bob, the charter with a registered passkey.
func (d *desk) propose(t *testing.T, r *store.Registration, replaces string) (envelope []byte) {
	t.Helper()
	head, ref := d.srv.Chain().Head()
	next, err := registration.Draft(head, ref, r, replaces, d.Now())
	check(t, err)
	cmd, err := registration.Command(next)
	check(t, err)
	envelope = d.Request("bob", cmd)
	_, _, err = d.srv.Submit(t.Context(), envelope, nil)
	check(t, err)
	return envelope
}

// enforce has the officers endorse it.
func (d *desk) enforce(t *testing.T, envelope []byte) {
	t.Helper()
	for _, n := range []string{"carol", "dave"} {
		_, err := d.srv.Endorse(t.Context(), d.Endorse(n, envelope))
		check(t, err)
	}
	d.Until(d.srv, d.ID(envelope), store.Executed)
	check(t, d.srv.Reload(t.Context()))
}

// endorse endorses a request as somebody with a credential of his.
func (d *desk) endorse(t *testing.T, name string, s credential.Signer, request []byte) []byte {
	t.Helper()
	now := statement.Seconds(d.Now())
	payload, err := statement.Encode(statement.Endorsement{Deployment: "test", Request: d.ID(request), Endorser: name, Verdict: statement.Endorse, Created: now, Expires: now.Add(time.Hour)})
	check(t, err)
	sig, err := s.Sign(t.Context(), credential.Statement, statement.PAE(payload))
	check(t, err)
	b, err := (&statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(s.Credential().ID()), Sig: sig}}}).Encode()
	check(t, err)
	return b
}

func (d *desk) state(t *testing.T, id string) *store.Registration {
	t.Helper()
	check(t, d.reg.Sync(t.Context()))
	r, err := d.reg.Get(t.Context(), id)
	check(t, err)
	return r
}

// virtual is a passkey of virtualwebauthn, which signs.
type virtual struct {
	cred credential.Credential
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
}

func (v *virtual) Credential() credential.Credential { return v.cred }

func (v *virtual) Sign(_ context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	ch, err := credential.Challenge(p, message)
	if err != nil {
		return nil, err
	}
	body := virtualwebauthn.CreateAssertionResponse(virtualwebauthn.RelyingParty{ID: rp, Origin: origin}, v.auth, v.key, virtualwebauthn.AssertionOptions{Challenge: ch})
	var r struct {
		Response struct {
			AuthenticatorData, ClientDataJSON, Signature string
		}
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return nil, err
	}
	var out [3][]byte
	for i, s := range []string{r.Response.AuthenticatorData, r.Response.ClientDataJSON, r.Response.Signature} {
		if out[i], err = base64.RawURLEncoding.DecodeString(s); err != nil {
			return nil, err
		}
	}
	return credential.Assertion{AuthenticatorData: out[0], ClientDataJSON: out[1], Signature: out[2]}.Encode()
}

// The whole life of a passkey of another's authenticator: registered, proposed,
// endorsed, in force; then it endorses, and the evidence verifies offline.
func TestLife(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	b, err := d.reg.Begin(ctx, who("bob"), here)
	check(t, err)
	v := &virtual{auth: virtualwebauthn.NewAuthenticator(), key: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)}
	options, err := json.Marshal(map[string]any{"publicKey": b.Options})
	check(t, err)
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(options))
	check(t, err)
	body := virtualwebauthn.CreateAttestationResponse(virtualwebauthn.RelyingParty{ID: rp, Name: "x", Origin: origin}, v.auth, v.key, *parsed)
	var answer struct {
		Response struct{ AttestationObject, ClientDataJSON string }
	}
	check(t, json.Unmarshal([]byte(body), &answer))
	object, err := base64.RawURLEncoding.DecodeString(answer.Response.AttestationObject)
	check(t, err)
	client, err := base64.RawURLEncoding.DecodeString(answer.Response.ClientDataJSON)
	check(t, err)
	r, err := d.reg.Finish(ctx, who("bob"), here, registration.Answer{Ticket: b.Ticket, Object: object, ClientData: client, Label: " blue key "})
	check(t, err)
	if r.State != store.RegistrationOpen || r.Label != "blue key" || r.Issuer != "https://dex.example.com" || r.Expires.Sub(r.Created) != registration.Waits {
		t.Fatalf("%+v", r)
	}
	look, err := registration.Look(d.srv.Charter(), r)
	if err != nil || look.Result() != attestation.Self || look.AAGUID() != v.auth.Aaguid {
		t.Fatalf("%v, %v", look, err)
	}
	v.cred = look.Credential()

	// Before it is in force it signs nothing.
	sign := d.Sign("alice", "single", d.Files("early", 1))
	_, _, err = d.srv.Submit(ctx, sign, d.Files("early", 1))
	check(t, err)
	if _, err := d.srv.Endorse(ctx, d.endorse(t, "bob", v, sign)); code(err) != "endorsement-refused" {
		t.Fatalf("a passkey that no charter has: %v", err)
	}

	env := d.propose(t, r, "")
	if r = d.state(t, r.ID); r.State != store.RegistrationProposed || r.Request != d.ID(env) {
		t.Fatalf("%+v", r)
	}
	d.enforce(t, env)
	if r = d.state(t, r.ID); r.State != store.RegistrationInForce || r.Request != d.ID(env) {
		t.Fatalf("%+v", r)
	}
	if n := len(d.srv.Charter().People["bob"].Credentials); n != 2 {
		t.Fatalf("bob has %d credentials", n)
	}

	items := d.Files("app", 1)
	sign = d.Sign("alice", "single", items)
	_, _, err = d.srv.Submit(ctx, sign, items)
	check(t, err)
	_, err = d.srv.Endorse(ctx, d.endorse(t, "bob", v, sign))
	check(t, err)
	d.Until(d.srv, d.ID(sign), store.Executed)
	e := d.evidence(t, d.ID(sign))
	ap, err := verify.Judge(e, d.Pin, servertest.Formats())
	check(t, err)
	if list := ap.Endorsers(); len(list) != 1 || list[0].Name != "bob" {
		t.Fatalf("%+v", list)
	}

	// The same one again: it is in the charter.
	if _, err := d.reg.Finish(ctx, who("bob"), here, registration.Answer{Ticket: b.Ticket, Object: object, ClientData: client}); code(err) != "passkey-refused" {
		t.Errorf("registered twice: %v", err)
	}
}

func (d *desk) evidence(t *testing.T, id statement.ID) *verify.Evidence {
	t.Helper()
	for {
		e, err := d.srv.Evidence(t.Context(), id, 0)
		if err == nil {
			return e
		}
		if c := code(err); c != "log-behind" && c != "log-empty" {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Invariant 3 and 4: nothing that a session can call brings a credential into force.
func TestSessionAlone(t *testing.T) {
	d := newDesk(t)
	r, err := d.register(t, "bob", attestationtest.NewKey("b", rp, origin), attestationtest.How{})
	check(t, err)
	_, before := d.srv.Chain().Head()
	// A request that only the passkey itself has signed.
	head, ref := d.srv.Chain().Head()
	next, err := registration.Draft(head, ref, r, "", d.Now())
	check(t, err)
	cmd, err := registration.Command(next)
	check(t, err)
	s := attestationtest.NewKey("b", rp, origin).Signer()
	now := statement.Seconds(d.Now())
	payload, err := statement.Encode(statement.Request{Deployment: "test", Charter: ref, Requester: "bob", Command: cmd, Created: now, Expires: now.Add(time.Hour), Nonce: strings.Repeat("0", 32)})
	check(t, err)
	sig, err := s.Sign(t.Context(), credential.Statement, statement.PAE(payload))
	check(t, err)
	env, err := (&statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(s.Credential().ID()), Sig: sig}}}).Encode()
	check(t, err)
	if _, _, err := d.srv.Submit(t.Context(), env, nil); code(err) != string(quorum.RequesterSignature) {
		t.Errorf("a registered passkey asks for itself: %v", err)
	}
	// A database that says so.
	check(t, d.store.MoveRegistration(t.Context(), r.ID, store.RegistrationOpen, store.RegistrationInForce, statement.ID{}, "", d.Now()))
	if _, after := d.srv.Chain().Head(); after != before {
		t.Error("the charter has changed")
	}
	// One officer's request, without a quorum.
	env = d.Request("bob", cmd)
	got, _, err := d.srv.Submit(t.Context(), env, nil)
	check(t, err)
	if got.State != store.Pending {
		t.Errorf("%s", got.State)
	}
	if _, err := d.srv.Endorse(t.Context(), d.Endorse("carol", env)); err != nil {
		t.Fatal(err)
	}
	if got, err = d.srv.Get(t.Context(), d.ID(env)); err != nil || got.State != store.Pending {
		t.Errorf("one endorsement: %v, %v", got.State, err)
	}
}

// A stolen server that puts another key into the table: the fingerprint is another, and
// where attestation is required no charter can have it; nor does the keeper take one.
func TestStolenServer(t *testing.T) {
	for name, change := range map[string][]func(*desk, *charter.Charter){"fingerprint": nil, "attestation": {hardware}} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, change...)
			k := attestationtest.NewKey("b", rp, origin)
			r, err := d.register(t, "bob", k, d.good())
			check(t, err)
			mallory := attestationtest.NewKey("mallory", rp, origin)
			mallory.ID = k.ID // the ID stays
			swapped := *r
			swapped.Credential = mallory.Credential().Text()
			head, ref := d.srv.Chain().Head()
			if _, err := registration.Draft(head, ref, &swapped, "", d.Now()); code(err) != "passkey-refused" {
				t.Errorf("a key without its registration: %v", err)
			}
			// It makes up the registration as well: of software, for the challenge
			// that it gave out itself.
			rec, err := mallory.Record("test", "bob", d.Now(), attestationtest.How{Format: "packed-self", Model: model}).Text()
			check(t, err)
			swapped.Attestation = rec
			if look, err := registration.Look(head, &swapped); err != nil || attestation.Fingerprint(look.Credential()) == attestation.Fingerprint(k.Credential()) {
				t.Fatalf("the fingerprint is the same, or: %v", err)
			}
			_, err = registration.Draft(head, ref, &swapped, "", d.Now())
			if name == "fingerprint" {
				check(t, err) // officers alone notice
				return
			}
			if code(err) != "passkey-refused" {
				t.Fatalf("software where hardware is required: %v", err)
			}
			// Somebody writes the charter by hand, and gets officers to endorse it.
			c, err := charter.Next(head, ref, d.Now())
			check(t, err)
			bob := c.People["bob"]
			bob.Credentials = append(append([]charter.Credential{}, bob.Credentials...), charter.Credential{Passkey: swapped.Credential, Attestation: rec})
			c.People["bob"] = bob
			payload, err := statement.Encode(uncheckedCharter{*c})
			check(t, err)
			env := d.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
			if _, _, err := d.srv.Submit(t.Context(), env, nil); err == nil {
				t.Error("the server takes it")
			}
			st, err := d.Keeper.Status(t.Context())
			check(t, err)
			out, err := d.Keeper.Execute(t.Context(), keeperOrder(env, d.Endorse("carol", env), d.Endorse("dave", env)))
			check(t, err)
			rc, _, err := receipt.Verify(st.ReceiptKey, out.Receipt)
			check(t, err)
			if rc.Outcome == statement.Executed || !strings.Contains(rc.Detail, "people.bob.credentials[1].attestation") {
				t.Errorf("the keeper: %s %s %s", rc.Outcome, rc.Code, rc.Detail)
			}
			if st, err = d.Keeper.Status(t.Context()); err != nil || st.Charter.Version != ref.Version {
				t.Errorf("charter %d is in force, %v", st.Charter.Version, err)
			}
		})
	}
}

// Everything that is wrong about a registration is refused when it arrives.
func TestRefused(t *testing.T) {
	d := newDesk(t, hardware)
	other := attestationtest.NewMaker("Other", servertest.Start.AddDate(-1, 0, 0), servertest.Start.AddDate(1, 0, 0))
	old := attestationtest.NewMaker("Old", servertest.Start.AddDate(-2, 0, 0), servertest.Start.AddDate(-1, 0, 0))
	synced := attestationtest.NewKey("synced", rp, origin)
	synced.Synced = true
	k := attestationtest.NewKey("k", rp, origin)
	how := func(f func(*attestationtest.How)) attestationtest.How {
		h := d.good()
		f(&h)
		return h
	}
	for name, c := range map[string]struct {
		key    *attestationtest.Key
		how    attestationtest.How
		change func(*registration.Answer)
		want   string
	}{
		"another origin":             {k, how(func(h *attestationtest.How) { h.Origin = "https://evil.test" }), nil, "origin"},
		"another relying party":      {k, how(func(h *attestationtest.How) { h.RPID = "evil.test" }), nil, "relying party"},
		"user not verified":          {k, how(func(h *attestationtest.How) { h.Clear = 4 }), nil, "verified"},
		"backed up, not able":        {k, how(func(h *attestationtest.How) { h.Set = 0x10 }), nil, "backed up"},
		"synchronised":               {synced, d.good(), nil, "copied"},
		"another maker":              {k, how(func(h *attestationtest.How) { h.Maker = other }), nil, "none of the roots"},
		"an expired maker":           {k, how(func(h *attestationtest.How) { h.Maker = old }), nil, "roots"},
		"another model":              {k, how(func(h *attestationtest.How) { h.Model = attestation.AAGUID{1} }), nil, "not one of those"},
		"self attestation":           {k, how(func(h *attestationtest.How) { h.Format = "packed-self" }), nil, "required"},
		"no attestation":             {k, attestationtest.How{}, nil, "required"},
		"oversized":                  {k, d.good(), func(a *registration.Answer) { a.Object = make([]byte, attestation.MaxObject+1) }, "bytes"},
		"oversized client data":      {k, d.good(), func(a *registration.Answer) { a.ClientData = bytes.Repeat([]byte(" "), attestation.MaxClientData+1) }, "bytes"},
		"no ticket":                  {k, d.good(), func(a *registration.Answer) { a.Ticket = "" }, "begun"},
		"another ticket":             {k, d.good(), func(a *registration.Answer) { a.Ticket = strings.Repeat("A", len(a.Ticket)) }, "begun"},
		"replaces what is another's": {k, d.good(), func(a *registration.Answer) { a.Replaces = string(servertest.Signer("carol").Credential().ID()) }, "has no credential"},
		"a label with a line":        {k, d.good(), func(a *registration.Answer) { a.Label = "a\nb" }, "one line"},
		"a label that turns":         {k, d.good(), func(a *registration.Answer) { a.Label = "a\u202eb" }, "one line"},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*registration.Answer)
			if c.change != nil {
				change = append(change, c.change)
			}
			if r, err := d.register(t, "bob", c.key, c.how, change...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v: want %q", r, err, c.want)
			}
		})
	}
	if list, err := d.reg.List(t.Context(), "bob", store.RegistrationFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%d are kept, %v", len(list), err)
	}
	if _, err := d.register(t, "bob", k, d.good()); err != nil {
		t.Errorf("the right one: %v", err)
	}
	if _, err := d.reg.Begin(t.Context(), who("nobody"), here); code(err) != "principal-unknown" {
		t.Errorf("somebody who is not in the charter: %v", err)
	}
}

// Invariant 1: a challenge is one person's, one session's, once, and for five minutes.
func TestChallenge(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	begin := func() (*registration.Begun, registration.Answer) {
		b, err := d.reg.Begin(ctx, who("bob"), here)
		check(t, err)
		o, c := attestationtest.NewKey("b", rp, origin).Register(challengeOf(t, b), attestationtest.How{})
		return b, registration.Answer{Ticket: b.Ticket, Object: o, ClientData: c}
	}
	_, a := begin()
	if _, err := d.reg.Finish(ctx, who("carol"), here, a); code(err) != "passkey-refused" {
		t.Errorf("another person: %v", err)
	}
	elsewhere := who("bob")
	elsewhere.Session = "another"
	if _, err := d.reg.Finish(ctx, elsewhere, here, a); code(err) != "passkey-refused" {
		t.Errorf("another session: %v", err)
	}
	// Another replica takes it, once.
	replica, err := registration.New(registration.Config{Chain: d.srv.Chain, Store: d.store, Clock: d.Now, Rand: rand.Reader})
	check(t, err)
	r, err := replica.Finish(ctx, who("bob"), here, a)
	check(t, err)
	if _, err := d.reg.Finish(ctx, who("bob"), here, a); code(err) != "passkey-refused" || !strings.Contains(err.Error(), "before") {
		t.Errorf("answered twice: %v", err)
	}
	_, err = d.reg.Refuse(ctx, "bob", r.ID, "")
	check(t, err)
	if _, err := d.reg.Finish(ctx, who("bob"), here, a); code(err) != "passkey-refused" {
		t.Errorf("answered again after it was withdrawn: %v", err)
	}
	b1, a1 := begin()
	b2, _ := begin()
	a1.Ticket = b2.Ticket
	if _, err := d.reg.Finish(ctx, who("bob"), here, a1); err == nil || b1.Options.Challenge == b2.Options.Challenge {
		t.Error("one challenge's answer for another")
	}
	_, late := begin()
	d.Pass(registration.Life + time.Second)
	if _, err := d.reg.Finish(ctx, who("bob"), here, late); code(err) != "passkey-refused" {
		t.Errorf("too late: %v", err)
	}
}

// Invariant 5, and a passkey that is somebody's already.
func TestBounds(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	shared := attestationtest.NewKey("0", rp, origin)
	var first *store.Registration
	for i := range registration.PerPerson {
		r, err := d.register(t, "bob", attestationtest.NewKey(string(rune('0'+i)), rp, origin), attestationtest.How{})
		check(t, err)
		if i == 0 {
			first = r
		}
	}
	if _, err := d.register(t, "bob", attestationtest.NewKey("x", rp, origin), attestationtest.How{}); code(err) != "too-many-registrations" {
		t.Errorf("one too many: %v", err)
	}
	if _, err := d.register(t, "carol", shared, attestationtest.How{}); code(err) != "passkey-exists" {
		t.Errorf("one that waits for another: %v", err)
	}
	env := d.propose(t, first, "")
	d.enforce(t, env)
	check(t, d.reg.Sync(ctx))
	if _, err := d.register(t, "carol", shared, attestationtest.How{}); code(err) != "passkey-refused" || !strings.Contains(err.Error(), "stands once") {
		t.Errorf("one that the charter has of another: %v", err)
	}
	// One key under another ID is one key.
	twin := attestationtest.NewKey("0", rp, origin)
	twin.ID = []byte("another id")
	if _, err := d.register(t, "carol", twin, attestationtest.How{}); code(err) != "passkey-refused" {
		t.Errorf("a key in two guises: %v", err)
	}
	d.Pass(registration.Waits)
	check(t, d.reg.Sync(ctx))
	list, err := d.reg.List(ctx, "bob", store.RegistrationFilter{States: []store.RegistrationState{store.RegistrationExpired}})
	if err != nil || len(list) != registration.PerPerson-1 {
		t.Errorf("%d have expired, %v", len(list), err)
	}
	d.Pass(registration.Kept + time.Hour)
	check(t, d.reg.Sync(ctx))
	if list, err := d.reg.List(ctx, "bob", store.RegistrationFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%d are still kept, %v", len(list), err)
	}
}

// A lost passkey is replaced: the new charter does not have it, and what it has endorsed
// and is not executed yet lapses.
func TestLost(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	old := attestationtest.NewKey("old", rp, origin)
	r, err := d.register(t, "bob", old, attestationtest.How{})
	check(t, err)
	d.enforce(t, d.propose(t, r, ""))

	items := d.Files("app", 1)
	sign := d.Sign("alice", "release", items) // two officers
	_, _, err = d.srv.Submit(ctx, sign, items)
	check(t, err)
	_, err = d.srv.Endorse(ctx, d.endorse(t, "bob", old.Signer(), sign))
	check(t, err)

	fresh := attestationtest.NewKey("fresh", rp, origin)
	r, err = d.register(t, "bob", fresh, attestationtest.How{}, func(a *registration.Answer) { a.Replaces = string(old.Credential().ID()) })
	check(t, err)
	d.enforce(t, d.propose(t, r, r.Replaces))
	if r = d.state(t, r.ID); r.State != store.RegistrationInForce {
		t.Fatalf("%+v", r)
	}
	if registration.Has(d.srv.Charter(), "bob", old.Credential().Text()) {
		t.Fatal("the old one is still there")
	}
	_, err = d.srv.Endorse(ctx, d.Endorse("carol", sign))
	check(t, err)
	q, err := d.srv.Get(ctx, d.ID(sign))
	if err != nil || q.State != store.Pending {
		t.Fatalf("a lost passkey's endorsement counts: %v, %v", q.State, err)
	}
	dec, _ := d.srv.Chain().Judge(quorum.Evidence{Request: sign, Endorsements: [][]byte{q.Endorsements[0].Envelope, q.Endorsements[1].Envelope}}, d.Now(), quorum.Options{})
	if dec.State != quorum.Pending || dec.Votes[0].Counted || dec.Votes[0].Standing || !strings.Contains(dec.Votes[0].Why, "credential") {
		t.Errorf("%+v", dec.Votes)
	}
	// The new one counts. (Two endorsements that say the same of one second are one.)
	d.Pass(2 * time.Second)
	_, err = d.srv.Endorse(ctx, d.endorse(t, "bob", fresh.Signer(), sign))
	check(t, err)
	d.Until(d.srv, d.ID(sign), store.Executed)
}

// What was proposed and is over waits again, or has expired; who refuses what.
func TestStates(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	r, err := d.register(t, "alice", attestationtest.NewKey("a", rp, origin), attestationtest.How{})
	check(t, err)
	env := d.propose(t, r, "")
	if r = d.state(t, r.ID); r.State != store.RegistrationProposed {
		t.Fatalf("%+v", r)
	}
	_, err = d.srv.Endorse(ctx, d.Say(statement.Disapprove, "carol", env))
	check(t, err)
	_, err = d.srv.Endorse(ctx, d.Say(statement.Disapprove, "dave", env))
	check(t, err)
	for q, err := d.srv.Get(ctx, d.ID(env)); q.State.Open(); q, err = d.srv.Get(ctx, d.ID(env)) {
		check(t, err)
		d.Pass(25 * time.Hour) // disapprovals without a veto: it runs out
		time.Sleep(20 * time.Millisecond)
	}
	if r = d.state(t, r.ID); r.State != store.RegistrationOpen && r.State != store.RegistrationExpired || !r.Request.IsZero() {
		t.Fatalf("%+v", r)
	}
	r, err = d.register(t, "alice", attestationtest.NewKey("a2", rp, origin), attestationtest.How{})
	check(t, err)
	if _, err := d.reg.Read(ctx, "ann", r.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("somebody else's is shown to somebody: %v", err)
	}
	if _, err := d.reg.Refuse(ctx, "ann", r.ID, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("somebody refuses another's: %v", err)
	}
	if list, err := d.reg.List(ctx, "ann", store.RegistrationFilter{Person: "alice"}); err != nil || len(list) != 0 {
		t.Errorf("listed to somebody: %v", list)
	}
	if _, err := d.reg.Refuse(ctx, "dave", r.ID, "two\nlines"); code(err) != "malformed" {
		t.Errorf("%v", err)
	}
	got, err := d.reg.Refuse(ctx, "dave", r.ID, "whose is it?")
	if err != nil || got.State != store.RegistrationRefused || got.Detail != "refused by dave: whose is it?" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.reg.Refuse(ctx, "dave", r.ID, ""); code(err) != "passkey-closed" {
		t.Errorf("twice: %v", err)
	}
}

// What the browser is asked for.
func TestOptions(t *testing.T) {
	d := newDesk(t, hardware)
	b, err := d.reg.Begin(t.Context(), who("bob"), registration.Site{RelyingParty: "other.test", Origins: []string{"https://other.test"}})
	check(t, err)
	o := b.Options
	if o.RP.ID != rp || o.Attestation != "direct" || o.Selection.UserVerification != "required" || o.Selection.ResidentKey != "preferred" || len(o.Exclude) != 0 || strings.Contains(o.User.ID, "bob") {
		t.Errorf("%+v", o)
	}
	k := attestationtest.NewKey("b", rp, origin)
	r, err := d.register(t, "bob", k, d.good())
	check(t, err)
	d.enforce(t, d.propose(t, r, ""))
	cred := d.srv.Charter().People["bob"].Credentials[1]
	if cred.Attestation != r.Attestation {
		t.Error("the charter lacks the attestation")
	}
	b, err = d.reg.Begin(t.Context(), who("bob"), here)
	check(t, err)
	if len(b.Options.Exclude) != 1 || b.Options.Exclude[0].ID != base64.RawURLEncoding.EncodeToString(k.ID) {
		t.Errorf("%+v", b.Options.Exclude)
	}
}
