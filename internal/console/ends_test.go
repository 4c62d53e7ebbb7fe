package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// replaced brings a change of the charter into force.
func (d *door) replaced(t *testing.T, change func(*charter.Charter)) {
	t.Helper()
	head, ref := d.Server.Chain().Head()
	next, err := charter.Next(head, ref, d.Now())
	if err != nil {
		t.Fatal(err)
	}
	change(next)
	payload, err := charter.Encode(next)
	if err != nil {
		t.Fatal(err)
	}
	req := d.Request("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
	r, _, err := d.Server.Submit(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"carol", "dave"} {
		if _, err := d.Server.Endorse(t.Context(), d.Endorse(n, req)); err != nil {
			t.Fatal(err)
		}
	}
	d.Until(d.Server, r.ID, store.Executed)
}

// without takes a credential from somebody, and gives him others.
func without(name string, c credential.Credential, others ...credential.Credential) func(*charter.Charter) {
	return func(next *charter.Charter) {
		p := next.People[name]
		p.Credentials = slices.DeleteFunc(slices.Clone(p.Credentials), func(x charter.Credential) bool {
			y, err := x.Parse()
			return err == nil && y.ID() == c.ID()
		})
		for _, o := range others {
			p.Credentials = append(p.Credentials, charter.CredentialOf(o))
		}
		next.People[name] = p
	}
}

// in is a browser that somebody's session of the API has signed in.
func (d *door) in(t *testing.T, bearer http.Header) *webtest.Browser {
	t.Helper()
	br, l := d.Browser(), d.link(t, bearer)
	br.Get("/console/login/link").OK()
	br.Post("/console/login/link", url.Values{"code": {l}, "confirm": {"yes"}}).Want(303)
	return br
}

func (d *door) link(t *testing.T, bearer http.Header) string {
	t.Helper()
	var l wire.ConsoleLink
	if err := json.Unmarshal([]byte(d.Browser().Do("POST", "/v1/console/links", nil, bearer).Want(201).Body), &l); err != nil {
		t.Fatal(err)
	}
	return l.Code
}

func (d *door) withPasskey(t *testing.T) *webtest.Browser {
	t.Helper()
	br := d.Browser()
	br.Post("/console/login/passkey", d.sign(t, challenged(t, br, "bob"))).Want(303)
	return br
}

// Invariant 3 of package web: what began with a passkey ends with it, and with nothing
// else that leaves the charter.
func TestSessionEndsWithItsPasskey(t *testing.T) {
	d := newDoor(t)
	began := d.withPasskey(t)
	other := d.in(t, d.bearer(t, "bob"))
	d.replaced(t, func(c *charter.Charter) {
		p := c.People["alice"]
		p.Credentials = append(p.Credentials, charter.CredentialOf(credentialtest.SSH("alice's new one").Credential()))
		c.People["alice"] = p
	})
	began.Get("/console/sessions").OK()
	d.replaced(t, without("bob", d.key.Credential))
	if p := began.HTMX("/console/sessions"); p.Status != 401 || p.Header.Get("HX-Redirect") != "/console/login" {
		t.Errorf("a part of an open page: %v", p)
	}
	if p := began.Get("/console/sessions"); p.Status != 303 {
		t.Errorf("good after its passkey has left the charter: %v", p)
	}
	other.Get("/console/sessions").OK().Has("bob")
	if list, err := d.Store.ListSessions(t.Context(), store.SessionFilter{Person: "bob"}); err != nil || len(list) != 1 {
		t.Errorf("%d sessions of bob are kept, %v", len(list), err)
	}
	// It is over for good: that the charter has the passkey again begins nothing.
	d.replaced(t, without("bob", d.key.Credential, d.key.Credential))
	began.Get("/console/sessions").Want(303)
	d.withPasskey(t).Get("/console/sessions").OK()
}

// A passkey's ID is made from what authenticators call it: another key of that name is
// another credential.
func TestSessionEndsWithAnotherKeyOfThatName(t *testing.T) {
	d := newDoor(t)
	began := d.withPasskey(t)
	stranger := webtest.NewPasskey(t).Credential
	fake, err := credential.NewPasskey(d.key.Credential.CredentialID(), stranger.COSEKey(), webtest.Host, []string{webtest.Origin}, false)
	if err != nil {
		t.Fatal(err)
	}
	if fake.ID() != d.key.Credential.ID() || credential.Pin(fake) == credential.Pin(d.key.Credential) {
		t.Fatal("the test shows nothing")
	}
	d.replaced(t, without("bob", d.key.Credential, fake))
	began.Get("/console/sessions").Want(303)
}

// What "greatseal console" began ends with the key that the command line had logged in
// with; so does its session of the API, and the code that nobody has used yet.
func TestLinkEndsWithItsKey(t *testing.T) {
	d := newDoor(t)
	alice := d.bearer(t, "alice")
	began, unused := d.in(t, alice), d.link(t, alice)
	began.Get("/console/sessions").OK()
	d.replaced(t, without("alice", credentialtest.SSH("alice").Credential(), credentialtest.SSH("alice's new one").Credential()))
	began.Get("/console/sessions").Want(303)
	late := d.Browser()
	late.Get("/console/login/link").OK()
	late.Post("/console/login/link", url.Values{"code": {unused}, "confirm": {"yes"}}).Want(403)
	late.Get("/console/sessions").Want(303)
	d.Browser().Do("POST", "/v1/console/links", nil, alice).Want(401)
	d.Browser().Do("GET", "/v1/requests", nil, alice).Want(401)
	d.replaced(t, without("alice", credentialtest.SSH("alice's new one").Credential(), credentialtest.SSH("alice").Credential()))
	d.Browser().Do("GET", "/v1/requests", nil, alice).Want(401)
}

// A session of a passkey that the database does not name is none: whoever left it out
// knows why.
func TestPasskeySessionNamesIt(t *testing.T) {
	d := newDoor(t)
	br := d.withPasskey(t)
	list, err := d.Store.ListSessions(t.Context(), store.SessionFilter{Person: "bob"})
	if err != nil || len(list) != 1 || list[0].Credential != credential.Pin(d.key.Credential) {
		t.Fatalf("%+v %v", list, err)
	}
	x := list[0]
	if _, err := d.Store.EndSessions(t.Context(), store.SessionFilter{Handle: x.Handle}); err != nil {
		t.Fatal(err)
	}
	x.Credential = ""
	if err := d.Store.PutSession(t.Context(), x, d.Now()); err != nil {
		t.Fatal(err)
	}
	br.Get("/console/sessions").Want(303)
}
