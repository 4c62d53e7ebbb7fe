package sso

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

func TestRefusedByTheProvider(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	b := newBrowser(t)
	for said, want := range map[string]string{
		"access_denied": "access_denied", "<script>alert(1)</script>": "an error", "Login with your password at evil example": "an error",
	} {
		q := b.start(w.Providers, "x", "").Query()
		_, err := b.finish(w.Providers, "x", url.Values{"state": q["state"], "error": {said}, "error_description": {"call +1 555 0100"}})
		if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v", said, err)
		}
		// The attempt is over.
		if _, err := b.finish(w.Providers, "x", url.Values{"state": q["state"], "code": {"c"}}); !errors.Is(err, ErrAttempt) {
			t.Errorf("afterwards: %v", err)
		}
	}
	if _, err := b.finish(w.Providers, "x", url.Values{"error": {"access_denied"}}); !errors.Is(err, ErrAttempt) {
		t.Errorf("without an attempt: %v", err)
	}
	for name, q := range map[string]url.Values{
		"no state": {"code": {"c"}}, "empty": {}, "a short state": {"state": {"x"}, "code": {"c"}}, "two codes": {"state": {"x"}, "code": {"c", "d"}}, "two states": {"state": {"x", "y"}, "code": {"c"}},
	} {
		if _, err := b.finish(w.Providers, "x", q); !errors.Is(err, ErrAttempt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	q := b.start(w.Providers, "x", "").Query()
	if _, err := b.finish(w.Providers, "x", url.Values{"state": q["state"]}); !errors.Is(err, ErrAttempt) {
		t.Errorf("no code: %v", err)
	}
	if _, err := b.finish(w.Providers, "y", url.Values{"state": q["state"]}); !errors.Is(err, ErrNoProvider) {
		t.Errorf("no provider: %v", err)
	}
	if x.calls["/token"] != 0 {
		t.Errorf("codes of strangers were tried %d times", x.calls["/token"])
	}
}

// TestCookies: attempts are the browser's that began them, and nobody else's work.
func TestCookies(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	b := newBrowser(t)
	q := b.start(w.Providers, "x", "").Query()
	ans := url.Values{"state": q["state"], "code": {"c"}}
	name := w.cookieName(q.Get("state"))
	value := b.jar[name]
	if value == "" || strings.Contains(value, q.Get("state")) || strings.Contains(value, q.Get("nonce")) {
		t.Fatalf("cookie %s=%s", name, value)
	}
	other := b.start(w.Providers, "x", "").Query() // of another window
	for what, v := range map[string]string{
		"changed": strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return 'A'
		}, value), "cut": value[:len(value)-2], "empty": "", "not base64": "%%%", "long": strings.Repeat("A", 5000), "another attempt's": b.jar[w.cookieName(other.Get("state"))],
	} {
		c := []*http.Cookie{{Name: name, Value: v}}
		if _, _, err := w.Finish(t.Context(), "x", ans, c); !errors.Is(err, ErrAttempt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	twice := []*http.Cookie{{Name: name, Value: value}, {Name: name, Value: value}}
	if _, _, err := w.Finish(t.Context(), "x", ans, twice); !errors.Is(err, ErrAttempt) {
		t.Errorf("twice: %v", err)
	}
	loose := []*http.Cookie{{Name: strings.TrimPrefix(name, "__Host-"), Value: value}} // as a page of another host would set it
	if _, _, err := w.Finish(t.Context(), "x", ans, loose); !errors.Is(err, ErrAttempt) {
		t.Errorf("without the prefix: %v", err)
	}
	elsewhere := newWorld(t, x.client("x"))
	if _, _, err := elsewhere.Finish(t.Context(), "x", ans, b.cookies()); !errors.Is(err, ErrAttempt) {
		t.Errorf("another deployment's: %v", err)
	}
	// Another replica knows the attempt.
	k := x.good(q.Get("nonce"), w.now())
	x.tokens = map[string]any{"access_token": k.access, "token_type": "Bearer", "id_token": k.sign(t)}
	if _, err := b.finish(w.replica(x.client("x")), "x", ans); err != nil {
		t.Error(err)
	}
	// Whoever begins and begins keeps a few.
	for range 20 {
		b.start(w.Providers, "x", "")
		w.pass(time.Second)
	}
	if len(b.jar) > maxAttempts {
		t.Errorf("%d cookies", len(b.jar))
	}
	last := b.start(w.Providers, "x", "").Query()
	if b.jar[w.cookieName(last.Get("state"))] == "" {
		t.Error("the last attempt is gone")
	}
	// On this machine, without TLS, browsers take no cookie of the other kind.
	p, err := New(Config{Base: "http://127.0.0.1:8440/", Providers: []config.SSO{x.client("x")}, Store: w.store, Log: w.Providers.log, Now: w.now, Rand: w.rand})
	if err != nil {
		t.Fatal(err)
	}
	_, set, err := p.Start(t.Context(), "x", "", nil)
	if err != nil || len(set) != 1 || set[0].Secure || !strings.HasPrefix(set[0].Name, cookieStem) || !set[0].HttpOnly || p.RedirectURI("x") != "http://127.0.0.1:8440/console/login/x/callback" {
		t.Errorf("%v, %v", set, err)
	}
}

// TestReturn: no path leads out of the console.
func TestReturn(t *testing.T) {
	for _, p := range []string{"/console/", "/console/requests/abc?x=1&y=%2F", "/console/search?q=a%20b#x"} {
		if !Local(p) {
			t.Errorf("%q is refused", p)
		}
	}
	bad := []string{"", "/", "//evil", "//evil.example/console/", "https://evil.example/console/", "/console", "/consolex/", "/\\evil", "\\\\evil", "/console//evil", "/console/..//evil",
		"/console/../x", "/console/%2e%2e/x", "/console/./x", "/console/\\evil", "/console/%5cevil", "/console/%2f%2fevil", "/console/\tx", "/console/\r\nSet-Cookie: x=y", "javascript:alert(1)", "/console/\x00", "/console/é",
		" /console/", "/console/" + strings.Repeat("x", 2000), "/console/%zz"}
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	for _, p := range bad {
		if Local(p) {
			t.Errorf("%q is let through", p)
		}
		b := newBrowser(t)
		q := b.start(w.Providers, "x", p).Query()
		k := x.good(q.Get("nonce"), w.now())
		x.tokens = map[string]any{"access_token": k.access, "token_type": "Bearer", "id_token": k.sign(t)}
		l, err := b.finish(w.Providers, "x", url.Values{"state": q["state"], "code": {"c"}})
		if err != nil || l.Return() != Home {
			t.Errorf("%q: %+v, %v", p, l, err)
		}
	}
}

// TestRotation: keys that are new are fetched, those that were withdrawn end within the
// hour, and strangers do not have them fetched as they like.
func TestRotation(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	if _, err := x.login(w, "x", nil); err != nil {
		t.Fatal(err)
	}
	x.key("2", "RS256")
	for range 5 { // at once: the keys were fetched a moment ago
		if _, err := x.login(w, "x", func(k *token) { k.alg, k.header["kid"] = "RS256", "2" }); !errors.Is(err, ErrToken) {
			t.Fatalf("%v", err)
		}
	}
	if x.keyCalls != 1 {
		t.Errorf("fetched %d times", x.keyCalls)
	}
	w.pass(keysInterval)
	if _, err := x.login(w, "x", func(k *token) { k.alg, k.header["kid"] = "RS256", "2" }); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := x.login(w, "x", nil); !errors.Is(err, ErrToken) {
		t.Errorf("the old key: %v", err)
	}
	if x.keyCalls != 2 {
		t.Errorf("fetched %d times", x.keyCalls)
	}
	// Withdrawn, and nothing names another: for an hour.
	x.key("3", "EdDSA")
	w.pass(keysLife)
	if _, err := x.login(w, "x", func(k *token) { k.alg, k.header["kid"] = "RS256", "2" }); !errors.Is(err, ErrToken) {
		t.Errorf("withdrawn: %v", err)
	}
	if _, err := x.login(w, "x", func(k *token) { k.alg, k.header["kid"] = "EdDSA", "3" }); err != nil {
		t.Errorf("%v", err)
	}
}

// TestAnswers: providers that answer at length, elsewhere, late, or not what was asked.
func TestAnswers(t *testing.T) {
	var mu sync.Mutex
	reached := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		reached++
	}))
	t.Cleanup(elsewhere.Close)
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"issuer":"`)
		line := strings.Repeat("x", 64<<10)
		for range 4 * answerLimit / len(line) {
			if _, err := fmt.Fprint(w, line); err != nil {
				return
			}
		}
	}
	away := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}
	for name, h := range map[string]http.HandlerFunc{
		"endless": endless, "away": away,
		"round": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"500":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		"html":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>the-client") },
		"hang up": func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		},
		"null": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "null") },
	} {
		for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token"} {
			x := newIssuer(t)
			x.handle[path] = h
			w := newWorld(t, x.client("x"))
			if path == "/.well-known/openid-configuration" {
				if _, _, err := w.Start(t.Context(), "x", "", nil); !errors.Is(err, ErrAway) {
					t.Errorf("%s of %s: %v", path, name, err)
				}
				continue
			}
			if l, err := x.login(w, "x", nil); !errors.Is(err, ErrAway) && !errors.Is(err, ErrToken) && !errors.Is(err, ErrRefused) {
				t.Errorf("%s of %s: %+v, %v", path, name, l, err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if reached != 0 {
		t.Errorf("another host was reached %d times", reached)
	}
}

// TestDiscovery: what a discovery document may not say.
func TestDiscovery(t *testing.T) {
	for name, change := range map[string]map[string]any{
		"another issuer":  {"issuer": "https://evil.example"},
		"a slash":         {"issuer": "SLASH"},
		"no token":        {"token_endpoint": ""},
		"plain token":     {"token_endpoint": "http://127.0.0.1/token"},
		"plain keys":      {"jwks_uri": "http://keys.example/keys"},
		"plain authorize": {"authorization_endpoint": "http://login.example"},
		"script":          {"authorization_endpoint": "javascript:alert(1)"},
		"file":            {"jwks_uri": "file:///etc/passwd"},
		"user":            {"token_endpoint": "https://u:p@token.example/"},
		"plain userinfo":  {"userinfo_endpoint": "http://info.example/"},
		"plain end":       {"end_session_endpoint": "http://end.example/"},
	} {
		x := newIssuer(t)
		for k, v := range change {
			if v == "SLASH" {
				v = x.URL + "/"
			}
			x.document[k] = v
		}
		w := newWorld(t, x.client("x"))
		if to, _, err := w.Start(t.Context(), "x", "", nil); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %s, %v", name, to, err)
		}
	}
	// Asked by many, a provider that is away is asked once in a while.
	x := newIssuer(t)
	x.document["issuer"] = "https://evil.example"
	w := newWorld(t, x.client("x"))
	for range 10 {
		w.List(t.Context())
	}
	if n := x.calls["/.well-known/openid-configuration"]; n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.pass(retryAfter)
	delete(x.document, "issuer")
	if l := w.List(t.Context()); l[0].Away {
		t.Errorf("%+v", l)
	}
}

// TestSecretInTheBody: a provider that takes no Basic authentication, and a public
// client.
func TestSecretInTheBody(t *testing.T) {
	x := newIssuer(t)
	x.document["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	public := x.client("public")
	public.ClientSecretFile = ""
	w := newWorld(t, x.client("x"), public)
	if _, err := x.login(w, "x", nil); err != nil || x.form.Get("client_secret") != "the-clients-secret" || x.auth != "" {
		t.Errorf("%v, %v, %q", err, x.form, x.auth)
	}
	if _, err := x.login(w, "public", nil); err != nil || x.form.Get("client_id") != "greatseal" || x.form.Has("client_secret") || x.auth != "" {
		t.Errorf("%v, %v, %q", err, x.form, x.auth)
	}
}

func TestNew(t *testing.T) {
	x := newIssuer(t)
	for name, change := range map[string]func(*config.SSO){
		"no secret file": func(c *config.SSO) { c.ClientSecretFile += "x" },
		"no ca":          func(c *config.SSO) { c.CA += "x" },
		"no certificate": func(c *config.SSO) { c.CA = c.ClientSecretFile },
	} {
		c := x.client("x")
		change(&c)
		if _, err := New(Config{Base: base, Providers: []config.SSO{c}}); err == nil || strings.Contains(err.Error(), "the-clients-secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Another authority's certificate is nobody's.
	c := x.client("x")
	c.CA = ""
	w := newWorld(t, c)
	if _, _, err := w.Start(t.Context(), "x", "", nil); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
}

func FuzzClaims(f *testing.F) {
	seeds := []string{`{"iss":"i","sub":"s","aud":["a","b"],"exp":1.5,"email":"a@b","email_verified":true,"groups":["x"]}`, `{"aud":"a","exp":253402300799}`, `{}`, `null`, `[]`, `{"groups":"g","exp":-1}`}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClaims(b)
		if err != nil {
			return
		}
		for _, name := range []string{"email", "sub"} {
			if s, err := c.who(name); err == nil && (len(s) > maxValue || s != "" && !text(s)) {
				t.Fatalf("%q", s)
			}
		}
		if list, err := c.list("groups"); err == nil && len(list) > maxGroups {
			t.Fatalf("%d", len(list))
		}
		again, err := json.Marshal(c.all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseClaims(again); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","use":"sig","kid":"1"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseKeys(b)
		if err != nil {
			return
		}
		for _, k := range list {
			if !k.IsPublic() {
				t.Fatalf("%+v", k)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		if parseHeader(s) == nil && (strings.Count(s, ".") != 2 || len(s) > maxToken) {
			t.Fatal(s)
		}
	})
}

func FuzzLocal(f *testing.F) {
	f.Add("/console/")
	f.Add("/console//evil")
	f.Fuzz(func(t *testing.T, s string) {
		if !Local(s) {
			return
		}
		base, _ := url.Parse("https://sign.example.com/console/login")
		u, err := base.Parse(s)
		if err != nil || u.Host != base.Host || u.Scheme != "https" || !strings.HasPrefix(u.Path, Home) {
			t.Fatalf("%q leads to %v, %v", s, u, err)
		}
	})
}
