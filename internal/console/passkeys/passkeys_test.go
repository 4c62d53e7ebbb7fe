package passkeys_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/credential/attestation/attestationtest"
	"github.com/greatseal-io/greatseal/internal/console/passkeys"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a console with the area; bob has a passkey for it.
func bench(t *testing.T, change ...func(*charter.Charter)) (*webtest.Bench, *registration.Service) {
	var reg *registration.Service
	b := webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) {
		bob := c.People["bob"]
		bob.Credentials = append(bob.Credentials, charter.CredentialOf(bobs().Credential()))
		c.People["bob"] = bob
		for _, f := range change {
			f(c)
		}
	}}, func(b *webtest.Bench) []web.Area {
		var err error
		reg, err = registration.New(registration.Config{Chain: b.Server.Chain, Store: b.Store, Clock: b.Now, Rand: rand.Reader})
		check(t, err)
		return []web.Area{passkeys.Area(reg, b.Store)}
	})
	return b, reg
}

func bobs() *attestationtest.Key {
	return attestationtest.NewKey("bob of the console", webtest.Host, webtest.Origin)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// begin asks for a challenge as static/register.js does.
func begin(t *testing.T, br *webtest.Browser) *registration.Begun {
	t.Helper()
	var b registration.Begun
	check(t, json.Unmarshal([]byte(br.Draft("/console/passkeys/begin", url.Values{}).OK().Body), &b))
	return &b
}

func answer(t *testing.T, b *registration.Begun, k *attestationtest.Key, label, replaces string) url.Values {
	t.Helper()
	challenge, err := base64.RawURLEncoding.DecodeString(b.Options.Challenge)
	check(t, err)
	o, c := k.Register(challenge, attestationtest.How{})
	return url.Values{"ticket": {b.Ticket}, "attestation_object": {b64(o)}, "client_data": {b64(c)}, "transports": {"usb nfc"}, "label": {label}, "replaces": {replaces}}
}

type kept struct{ ID, Fingerprint, Path string }

func register(t *testing.T, br *webtest.Browser, k *attestationtest.Key, label, replaces string) kept {
	t.Helper()
	var out kept
	check(t, json.Unmarshal([]byte(br.Draft("/console/passkeys/finish", answer(t, begin(t, br), k, label, replaces)).OK().Body), &out))
	return out
}

// sign answers a draft as static/sign.js does.
func sign(t *testing.T, d *web.Drafted, k *attestationtest.Key, form url.Values) url.Values {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(d.Payload)
	check(t, err)
	a := k.Assert(credential.Statement, statement.PAE(payload))
	f := url.Values{web.FieldPayload: {d.Payload}, web.FieldDraft: {d.Draft}, web.FieldID: {b64(k.ID)}, web.FieldAuthData: {b64(a.AuthenticatorData)},
		web.FieldClient: {b64(a.ClientDataJSON)}, web.FieldSignature: {b64(a.Signature)}}
	for n, v := range form {
		f[n] = v
	}
	return f
}

// From a browser to the charter: alice registers, bob proposes with his passkey, the
// officers endorse, and her page shows it in force.
func TestRegisterAndPropose(t *testing.T) {
	b, _ := bench(t)
	alice, bob := b.As("alice"), b.As("bob")
	alice.Get("/console/passkeys").OK().Has("Register a passkey", "ssh-ed25519").Clean().Small()
	k := attestationtest.NewKey("alice's", webtest.Host, webtest.Origin)
	r := register(t, alice, k, "blue key", "")
	if want := attestation.Fingerprint(k.Credential()); r.Fingerprint != want {
		t.Fatalf("fingerprint %s, want %s", r.Fingerprint, want)
	}
	alice.Get(r.Path).OK().Has(r.Fingerprint, "blue key", "withdraw", "open").HasNot("Propose it").Clean()
	alice.Get("/console/passkeys").OK().Has("blue key", "open")
	bob.Get("/console/passkeys/waiting").OK().Has("alice", "blue key").Clean()
	page := bob.Get(r.Path).OK().Has("Propose it", "greatseal passkey propose "+r.ID, "propose with my passkey", "people.alice.credentials").Clean()
	forms := page.Find("form", "data-sign", "")
	if len(forms) != 1 {
		t.Fatalf("%d forms sign", len(forms))
	}
	var d web.Drafted
	check(t, json.Unmarshal([]byte(bob.Draft(webtest.Attr(forms[0], "data-sign"), url.Values{"reason": {"she read it to me"}, "fingerprint": {r.Fingerprint}, "replaces": {""}}).OK().Body), &d))
	if d.Expect["command.name"] != "charter.replace" || d.Expect["requester"] != "bob" {
		t.Errorf("%v", d.Expect)
	}
	// A signature by another key, and a changed statement, are refused.
	bob.Post(r.Path+"/propose", sign(t, &d, attestationtest.NewKey("mallory", webtest.Host, webtest.Origin), nil)).Want(403)
	changed := d
	changed.Payload = b64([]byte("{}"))
	bob.Post(r.Path+"/propose", sign(t, &changed, bobs(), nil)).Want(409)
	res := bob.Post(r.Path+"/propose", sign(t, &d, bobs(), url.Values{"fingerprint": {r.Fingerprint}})).Want(303)
	id, err := statement.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/console/requests/"))
	check(t, err)
	q, err := b.Server.Get(t.Context(), id)
	check(t, err)
	if q.Command != statement.CharterReplace || q.Requester != "bob" {
		t.Fatalf("%+v", q)
	}
	alice.Get(r.Path).OK().Has("proposed", "the request that carries it")
	bob.Get(r.Path).OK().HasNot("Propose it")
	for _, n := range []string{"carol", "dave"} {
		_, err := b.Server.Endorse(t.Context(), b.Endorse(n, q.Envelope))
		check(t, err)
	}
	b.Until(b.Server, id, store.Executed)
	check(t, b.Server.Reload(t.Context()))
	alice.Get(r.Path).OK().Has("in force").HasNot("withdraw")
	alice.Get("/console/passkeys").OK().Has(r.Fingerprint, "signs at this address")
	// bob's passkey is known to have signed.
	if used := bob.Get("/console/passkeys").OK().Find("time", "datetime", ""); len(used) == 0 {
		t.Error("no last use")
	}
}

// A session registers for its own person, and for nobody that the charter does not have.
func TestWho(t *testing.T) {
	b, reg := bench(t)
	alice, ann, outside := b.As("alice"), b.As("ann"), b.As("eve", web.Auditor)
	k := attestationtest.NewKey("k", webtest.Host, webtest.Origin)
	f := answer(t, begin(t, alice), k, "", "")
	ann.Draft("/console/passkeys/finish", f).Want(403)
	b.As("alice").Draft("/console/passkeys/finish", f).Want(403) // another session of hers
	outside.Get("/console/passkeys").OK().Has("does not have eve").HasNot("Register a passkey")
	outside.Draft("/console/passkeys/begin", url.Values{}).Want(403)
	r := register(t, alice, k, "mine", "")
	for _, br := range []*webtest.Browser{ann, outside} {
		br.Get(r.Path).Want(404)
		br.Post(r.Path+"/refuse", url.Values{}).Want(404)
		br.Get("/console/passkeys/waiting").Want(403)
		br.Draft(r.Path+"/draft", url.Values{}).Want(403)
		br.Post(r.Path+"/propose", url.Values{}).Want(403)
	}
	// Without a token of the session nothing happens.
	alice.Do("POST", r.Path+"/refuse", url.Values{}, nil).Want(403)
	alice.Do("POST", "/console/passkeys/begin", url.Values{}, nil).Want(403)
	if got, err := reg.Get(t.Context(), r.ID); err != nil || got.State != store.RegistrationOpen {
		t.Fatalf("%+v, %v", got, err)
	}
	alice.Post(r.Path+"/refuse", url.Values{"reason": {"wrong one"}}).Want(303)
	alice.Get(r.Path).OK().Has("refused", "withdrawn: wrong one")
	if st, err := b.Keeper.Status(t.Context()); err != nil || st.Charter.Version != 1 {
		t.Errorf("charter %d, %v", st.Charter.Version, err)
	}
}

// An officer without a passkey is told what to run.
func TestWithoutPasskey(t *testing.T) {
	b, _ := bench(t)
	r := register(t, b.As("alice"), attestationtest.NewKey("k", webtest.Host, webtest.Origin), "", "")
	carol := b.As("carol")
	carol.Get(r.Path).OK().Has("greatseal passkey propose "+r.ID, "no passkey here").HasNot("propose with my passkey")
	carol.Draft(r.Path+"/draft", url.Values{"fingerprint": {r.Fingerprint}}).Want(409)
}

// Invariant 4: whatever people call a passkey stays text.
func TestHostileLabels(t *testing.T) {
	b, _ := bench(t)
	alice, bob := b.As("alice"), b.As("bob")
	k := func(i int) *attestationtest.Key {
		return attestationtest.NewKey(string(rune('a'+i)), webtest.Host, webtest.Origin)
	}
	for i, text := range webtest.Hostile() {
		f := answer(t, begin(t, alice), k(i), text, "")
		p := alice.Draft("/console/passkeys/finish", f)
		if p.Status != 200 {
			if p.Status != 400 {
				t.Errorf("%q: %d", text, p.Status)
			}
			continue // a line that turns, or is too long
		}
		var r kept
		check(t, json.Unmarshal([]byte(p.Body), &r))
		for _, page := range []*webtest.Page{alice.Get(r.Path), alice.Get("/console/passkeys"), bob.Get("/console/passkeys/waiting"), bob.Get(r.Path)} {
			page.OK().Has(text).Clean().Small()
		}
		bob.Post(r.Path+"/refuse", url.Values{"reason": {text}}).Want(303)
		alice.Get(r.Path).OK().Has(text).Clean()
		alice.Get("/console/passkeys").OK().Clean()
	}
}

// Invariant 5: another passkey that comes into the place of the one that an officer has
// looked at is not what he signs.
func TestSwappedAfterTheLook(t *testing.T) {
	b, _ := bench(t)
	alice, bob := b.As("alice"), b.As("bob")
	seen := register(t, alice, attestationtest.NewKey("seen", webtest.Host, webtest.Origin), "", "")
	other := register(t, alice, attestationtest.NewKey("other", webtest.Host, webtest.Origin), "", "")
	form := bob.Get(seen.Path).OK().Find("input", "name", "fingerprint")
	if len(form) != 1 || webtest.Attr(form[0], "value") != seen.Fingerprint {
		t.Fatalf("%d fields", len(form))
	}
	looked := url.Values{"fingerprint": {seen.Fingerprint}, "replaces": {""}}
	for _, f := range []url.Values{looked, {}, {"fingerprint": {other.Fingerprint}, "replaces": {"something"}}} {
		if p := bob.Draft(other.Path+"/draft", f).Want(409); !strings.Contains(p.Body, "passkey-changed") {
			t.Errorf("%v: %v", f, p)
		}
	}
	var d web.Drafted
	check(t, json.Unmarshal([]byte(bob.Draft(seen.Path+"/draft", looked).OK().Body), &d))
	bob.Post(other.Path+"/propose", sign(t, &d, bobs(), looked)).Want(409)
}

// Tampered rows are shown as what no charter can have, and are not proposed.
func TestTamperedRow(t *testing.T) {
	b, _ := bench(t)
	alice, bob := b.As("alice"), b.As("bob")
	k := attestationtest.NewKey("k", webtest.Host, webtest.Origin)
	r := register(t, alice, k, "", "")
	mallory := attestationtest.NewKey("mallory", webtest.Host, webtest.Origin)
	mallory.ID = k.ID
	got, err := b.Store.Registration(t.Context(), r.ID)
	check(t, err)
	// The table knows no update of a passkey: a thief writes a row of his own.
	check(t, b.Store.MoveRegistration(t.Context(), r.ID, store.RegistrationOpen, store.RegistrationRefused, statement.ID{}, "", b.Now()))
	got.ID, got.Credential = "00000000000000ff", mallory.Credential().Text()
	check(t, b.Store.PutRegistration(t.Context(), got, 5))
	path := "/console/passkeys/registrations/" + got.ID
	bob.Get(path).OK().Has("No charter can have it", "another passkey").HasNot("Propose it", r.Fingerprint)
	bob.Draft(path+"/draft", url.Values{}).Want(403)
}

// The page's labels name their fields, and tables have headers with scope.
func TestAccessible(t *testing.T) {
	b, _ := bench(t)
	alice := b.As("alice")
	r := register(t, alice, attestationtest.NewKey("k", webtest.Host, webtest.Origin), "x", string(servertest.Signer("alice").Credential().ID()))
	for _, p := range []*webtest.Page{alice.Get("/console/passkeys"), alice.Get(r.Path), b.As("bob").Get(r.Path), b.As("bob").Get("/console/passkeys/waiting")} {
		p.OK()
		ids := map[string]bool{}
		labels := map[string]bool{}
		h1 := 0
		p.Walk(func(n *html.Node) {
			if n.Type != html.ElementNode {
				return
			}
			id := webtest.Attr(n, "id")
			if id != "" && ids[id] {
				t.Errorf("%s: two are #%s", p.Path, id)
			}
			ids[id] = true
			switch n.Data {
			case "h1":
				h1++
			case "label":
				labels[webtest.Attr(n, "for")] = true
			case "th":
				if webtest.Attr(n, "scope") == "" {
					t.Errorf("%s: a header without scope", p.Path)
				}
			}
		})
		if h1 != 1 {
			t.Errorf("%s: %d h1", p.Path, h1)
		}
		for _, el := range []string{"input", "select"} {
			for _, n := range p.Find(el, "name", "") {
				if webtest.Attr(n, "type") != "hidden" && !labels[webtest.Attr(n, "id")] {
					t.Errorf("%s: <%s name=%s> has no label", p.Path, el, webtest.Attr(n, "name"))
				}
			}
		}
	}
}
