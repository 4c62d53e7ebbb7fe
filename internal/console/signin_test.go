package console

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// door is a console before the API of the same server, and a passkey of bob's.
type door struct {
	*webtest.Bench
	key *webtest.Passkey
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{key: webtest.NewPasskey(t)}
	d.Bench = webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) { d.key.Give(c, "bob") }}, func(*webtest.Bench) []web.Area { return nil })
	cfg := web.Config{Server: d.Server, Store: d.Store, Clock: d.Now, Version: "test", URL: webtest.Origin, Strict: true, Operator: []string{"carol"}}
	c, err := New(Config{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	a, err := api.New(api.Config{Server: d.Server, Store: d.Store, Clock: d.Now, Version: "test", URL: webtest.Origin, Admins: []string{"carol"}, Sessions: d.Store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Cleanup(a.Stop)
	d.Serve(c.Handler(a.Handler()))
	return d
}

// bearer is a session of the API.
func (d *door) bearer(t *testing.T, name string, scopes ...string) http.Header {
	t.Helper()
	var b [40]byte
	rand.Read(b[:])
	id := hex.EncodeToString(b[:8])
	token := "gs_" + id + "_" + base64.RawURLEncoding.EncodeToString(b[8:])
	if scopes == nil {
		scopes = []string{"session"}
	}
	if err := d.Store.PutToken(t.Context(), store.Token{Hash: sha256.Sum256([]byte(token)), ID: id, Principal: name, Scopes: scopes, Credential: credential.Pin(servertest.Signer(name).Credential()), Created: d.Now(), Expires: d.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// challenged asks for something to sign, as static/passkey.js does.
func challenged(t *testing.T, br *webtest.Browser, name string) passkeyChallenge {
	t.Helper()
	br.Get("/console/login").OK()
	p := br.Draft("/console/login/passkey/challenge", url.Values{"name": {name}}).OK()
	var c passkeyChallenge
	if err := json.Unmarshal([]byte(p.Body), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (d *door) sign(t *testing.T, c passkeyChallenge) url.Values {
	t.Helper()
	sum, err := base64.RawURLEncoding.DecodeString(c.Challenge)
	if err != nil {
		t.Fatal(err)
	}
	f := d.key.Sign(sum)
	f.Set("nonce", c.Nonce)
	return f
}

func TestPasskeySignsIn(t *testing.T) {
	d := newDoor(t)
	br := d.Browser()
	c := challenged(t, br, "bob")
	if c.RPID != webtest.Host || len(c.Credentials) != 1 || c.Credentials[0].ID != base64.RawURLEncoding.EncodeToString(d.key.Credential.CredentialID()) {
		t.Fatalf("%+v", c)
	}
	f := d.sign(t, c)
	f.Set("to", "/console/sessions")
	if p := br.Post("/console/login/passkey", f).Want(303); p.Header.Get("Location") != "/console/sessions" {
		t.Errorf("to %s", p.Header.Get("Location"))
	}
	br.Get("/console/sessions").OK().Clean().Has("bob", "passkey", "this one")
	// A challenge is good once.
	other := d.Browser()
	other.Get("/console/login").OK()
	other.Post("/console/login/passkey", f).Want(401)
	// And for a minute.
	late := d.sign(t, challenged(t, other, ""))
	d.Pass(2 * time.Minute)
	other.Post("/console/login/passkey", late).Want(401)
	// A statement's signature is none for a sign-in, nor is one for the API's logins.
	c = challenged(t, other, "")
	if len(c.Credentials) != 0 {
		t.Errorf("without a name: %+v", c)
	}
	stm := d.key.Statement(wire.LoginMessage("test", webtest.Host, "", c.Nonce))
	stm.Set("nonce", c.Nonce)
	other.Post("/console/login/passkey", stm).Want(401)
	named := d.key.Login(wire.LoginMessage("test", webtest.Host, "bob", c.Nonce))
	named.Set("nonce", c.Nonce)
	other.Post("/console/login/passkey", named).Want(401)
	elsewhere := d.key.Login(wire.LoginMessage("test", "evil.example", "", c.Nonce))
	elsewhere.Set("nonce", c.Nonce)
	other.Post("/console/login/passkey", elsewhere).Want(401)
	// A passkey that the charter does not have.
	stranger := &door{Bench: d.Bench, key: webtest.NewPasskey(t)}
	other.Post("/console/login/passkey", stranger.sign(t, challenged(t, other, ""))).Want(401)
	other.Get("/console/sessions").Want(303)
}

// Who is in the charter, and who has a passkey, is not told to strangers.
func TestChallengesTellNothing(t *testing.T) {
	d := newDoor(t)
	br := d.Browser()
	known, unknown := challenged(t, br, "alice"), challenged(t, br, "nobody")
	if len(known.Credentials) != 1 || len(unknown.Credentials) != 1 || len(known.Credentials[0].ID) != len(unknown.Credentials[0].ID) {
		t.Errorf("%+v and %+v", known, unknown)
	}
	if again := challenged(t, br, "nobody"); again.Credentials[0] != unknown.Credentials[0] {
		t.Error("what is made up changes from one time to the next")
	}
	// Nor from one replica to another, nor when a server starts anew.
	c, err := New(Config{Config: web.Config{Server: d.Server, Store: d.Store, Clock: d.Now, Version: "test", URL: webtest.Origin, Strict: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	d.Serve(c.Handler(http.NotFoundHandler()))
	if again := challenged(t, d.Browser(), "nobody"); again.Credentials[0] != unknown.Credentials[0] || again.RPID != unknown.RPID {
		t.Error("what is made up changes from one replica to the next")
	}
}

func TestLinkSignsInOnceAndAsks(t *testing.T) {
	d := newDoor(t)
	br := d.Browser()
	ask := func(h http.Header, status int) wire.ConsoleLink {
		t.Helper()
		p := d.Browser().Do("POST", "/v1/console/links", nil, h).Want(status)
		var l wire.ConsoleLink
		if status == 201 {
			if err := json.Unmarshal([]byte(p.Body), &l); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	ask(nil, 401)
	ask(d.bearer(t, "alice", "request", "read"), 403) // a token is not a person's own session
	ask(d.bearer(t, "ci"), 403)                       // a machine has no browser
	l := ask(d.bearer(t, "alice"), 201)
	if l.URL != webtest.Origin+"/console/login/link" || strings.Contains(l.URL, l.Code) || len(l.Code) != 43 {
		t.Fatalf("%+v", l)
	}
	br.Get("/console/login/link").OK().Clean()
	br.Post("/console/login/link", url.Values{"code": {l.Code + "x"}}).Want(401)
	// Asking takes nothing, and signs nobody in.
	br.Post("/console/login/link", url.Values{"code": {l.Code}}).OK().Clean().Has("Sign in as alice?")
	br.Get("/console/sessions").Want(303)
	yes := url.Values{"code": {l.Code}, "confirm": {"yes"}}
	br.Do("POST", "/console/login/link", yes, nil).Want(403) // without a token of this browser
	br.Post("/console/login/link", yes).Want(303)
	br.Get("/console/sessions").OK().Has("alice", "link")
	again := d.Browser()
	again.Get("/console/login/link").OK()
	again.Post("/console/login/link", yes).Want(401)
	late := ask(d.bearer(t, "alice"), 201)
	d.Pass(61 * time.Second)
	again.Post("/console/login/link", url.Values{"code": {late.Code}, "confirm": {"yes"}}).Want(401)
}

func TestDestinationIsHere(t *testing.T) {
	for to, want := range map[string]string{
		"": "/console/", "https://evil.example": "/console/", "//evil.example/console/": "/console/", "/console/requests?state=pending": "/console/requests?state=pending",
		"/console/login?to=/console/login": "/console/", "/v1/status": "/console/",
	} {
		if got := destination(to); got != want {
			t.Errorf("%q leads to %q", to, got)
		}
	}
	d := newDoor(t)
	d.Browser().Get("/console/login?to=" + url.QueryEscape("https://evil.example")).OK().Clean().HasNot("evil")
}

// The API takes no cookie for anybody: a page of another origin has nothing to send.
func TestAPIIgnoresTheCookie(t *testing.T) {
	d := newDoor(t)
	br := d.Browser()
	br.Get("/console/login").OK()
	br.Post("/console/login/passkey", d.sign(t, challenged(t, br, "bob"))).Want(303)
	br.Get("/console/sessions").OK()
	for _, path := range []string{"/v1/requests", "/v1/inbox", "/v1/tokens", "/v1/console/sessions"} {
		br.Get(path).Want(401)
	}
	br.Do("POST", "/v1/console/links", nil, nil).Want(401)
	// And the console takes no bearer token.
	d.Browser().Do("GET", "/console/sessions", nil, d.bearer(t, "bob")).Want(303)
}

func TestBrowsersAreLedToTheConsole(t *testing.T) {
	d := newDoor(t)
	br := d.Browser()
	if p := br.Do("GET", "/", nil, http.Header{"Accept": {"text/html,application/xhtml+xml"}}); p.Status != 303 || p.Header.Get("Location") != "/console/" {
		t.Errorf("a browser: %v", p)
	}
	if p := br.Do("GET", "/", nil, nil); p.Status == 303 {
		t.Errorf("a program: %v", p)
	}
	if p := br.Get("/console").Want(303); p.Header.Get("Location") != "/console/" {
		t.Errorf("to %s", p.Header.Get("Location"))
	}
	br.Get("/v1/charter").OK()
}

func TestSessionsPage(t *testing.T) {
	d := newDoor(t)
	in := func(name string) *webtest.Browser {
		t.Helper()
		var l wire.ConsoleLink
		p := d.Browser().Do("POST", "/v1/console/links", nil, d.bearer(t, name)).Want(201)
		if err := json.Unmarshal([]byte(p.Body), &l); err != nil {
			t.Fatal(err)
		}
		br := d.Browser()
		br.Get("/console/login/link").OK()
		br.Post("/console/login/link", url.Values{"code": {l.Code}, "confirm": {"yes"}}).Want(303)
		return br
	}
	alice, alice2, bob, carol := in("alice"), in("alice"), in("bob"), in("carol")
	handle := func(name string) string {
		list, err := d.Store.ListSessions(t.Context(), store.SessionFilter{Person: name})
		if err != nil || len(list) == 0 {
			t.Fatalf("%v %v", list, err)
		}
		return list[len(list)-1].Handle
	}
	alice.Get("/console/sessions").OK().Clean().Small().HasNot("bob")
	bob.Post("/console/sessions/"+handle("alice")+"/end", nil).Want(404)
	carol.Get("/console/sessions").OK().Clean().Has("alice", "bob", "Everybody else's")
	for range 2 { // which of the two is the older one, the clock does not tell
		alice.Post("/console/sessions/"+handle("alice")+"/end", nil)
	}
	if alice.Get("/console/sessions").Status == 200 && alice2.Get("/console/sessions").Status == 200 {
		t.Error("nothing has ended")
	}
	carol.Post("/console/sessions/"+handle("bob")+"/end", nil).Want(303)
	bob.Get("/console/sessions").Want(303)
	carol.Post("/console/sessions/0000000000000000/end", nil).Want(404)

	// The same for the command line.
	list := func(name string) (out wire.ConsoleSessions) {
		t.Helper()
		p := d.Browser().Do("GET", "/v1/console/sessions", nil, d.bearer(t, name)).OK()
		if err := json.Unmarshal([]byte(p.Body), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	dave := in("dave")
	if l := list("dave"); len(l.Sessions) != 1 || l.Sessions[0].Person != "dave" || l.Sessions[0].Via != "link" {
		t.Errorf("%+v", l)
	}
	if l := list("carol"); len(l.Sessions) < 2 {
		t.Errorf("an administrator sees %+v", l)
	}
	id := handle("dave")
	d.Browser().Do("DELETE", "/v1/console/sessions/"+id, nil, d.bearer(t, "bob")).Want(404)
	d.Browser().Do("DELETE", "/v1/console/sessions/"+id, nil, d.bearer(t, "dave")).Want(204)
	dave.Get("/console/sessions").Want(303)
}
