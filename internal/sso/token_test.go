package sso

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/greatseal-io/greatseal/internal/config"
)

// atHash is that of OpenID Connect Core 1.0, section 3.1.3.6, of 256-bit algorithms.
func atHash(access string) string {
	sum := sha256.Sum256([]byte(access))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// TestTokensTaken: what is right is taken, so that refusals mean something.
func TestTokensTaken(t *testing.T) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		x := newIssuer(t)
		x.key("1", alg)
		w := newWorld(t, x.client("x"))
		if _, err := x.login(w, "x", func(k *token) { k.alg = alg }); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	for name, change := range map[string]func(*token){
		"as it is":             nil,
		"no kid":               func(k *token) { delete(k.header, "kid") },
		"two audiences":        func(k *token) { k.claims["aud"], k.claims["azp"] = []string{"greatseal", "api"}, "greatseal" },
		"at_hash":              func(k *token) { k.claims["at_hash"] = atHash(k.access) },
		"backdated":            func(k *token) { k.claims["iat"] = w.now().Add(-5 * time.Minute).Unix() },
		"a date with fraction": func(k *token) { k.claims["iat"] = float64(w.now().UnixMilli()) / 1000 },
		"one group":            func(k *token) { k.claims["groups"] = "developers" },
		"no groups":            func(k *token) { delete(k.claims, "groups") },
		"no email":             func(k *token) { delete(k.claims, "email") },
		"sid":                  func(k *token) { k.claims["sid"] = "s-1" },
	} {
		l, err := x.login(w, "x", change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if who, err := l.Person(people()); (who == "alice") != (name != "no email") {
			t.Errorf("%s: %q, %v", name, who, err)
		}
		if name == "no email" && l.Outside() != "x:subject-1" || name == "sid" && l.SID() != "s-1" {
			t.Errorf("%s: %+v", name, l)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	sum := sha256.Sum256([]byte(x.form.Get("code_verifier")))
	if x.form.Get("grant_type") != "authorization_code" || x.form.Get("redirect_uri") != w.RedirectURI("x") || len(x.form.Get("code_verifier")) < 43 || sum == [32]byte{} || x.form.Has("client_secret") ||
		x.auth != "Basic "+base64.StdEncoding.EncodeToString([]byte("greatseal:the-clients-secret")) {
		t.Errorf("%v %s", x.form, x.auth)
	}
	if x.calls["/token"] == 0 || x.keyCalls != 1 || x.calls["/.well-known/openid-configuration"] != 1 {
		t.Errorf("%v, keys %d times", x.calls, x.keyCalls)
	}
}

// TestTokensRefused: ID tokens that are not believed.
func TestTokensRefused(t *testing.T) {
	x := newIssuer(t)
	x.mu.Lock()
	x.public = append(x.public, jose.JSONWebKey{Key: keys()["RS256"].Public(), KeyID: "r", Use: "sig"}, // so that an algorithm has its key
		jose.JSONWebKey{Key: keys()["EdDSA"].Public(), KeyID: "enc", Use: "enc"},
		jose.JSONWebKey{Key: keys()["RS256"].Public(), KeyID: "ps", Use: "sig", Algorithm: "PS256"})
	x.mu.Unlock()
	w := newWorld(t, x.client("x"))
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, v any) func(*token) {
		return func(k *token) {
			if k.claims[name] = v; v == nil {
				delete(k.claims, name)
			}
		}
	}
	for name, change := range map[string]func(*token){
		"alg none":               func(k *token) { k.alg = "none" },
		"alg None":               func(k *token) { k.alg = "None" },
		"alg none, no signature": func(k *token) { k.alg = "none"; k.header["kid"] = "" },
		"HS256 with the public key": func(k *token) {
			k.alg, k.header["kid"], k.key = "HS256", "r", keys()["RS256"]
		},
		"RS512":                      func(k *token) { k.alg, k.header["kid"] = "RS512", "r" },
		"a key for encryption":       func(k *token) { k.alg, k.header["kid"] = "EdDSA", "enc" },
		"a key of another algorithm": func(k *token) { k.alg, k.header["kid"] = "RS256", "ps" },
		"a key of another kid":       func(k *token) { k.header["kid"] = "r" },
		"a stranger's key":           func(k *token) { k.key = stranger },
		"a stranger's key inside": func(k *token) {
			k.key = stranger
			b, _ := jose.JSONWebKey{Key: stranger.Public()}.MarshalJSON()
			var v any
			json.Unmarshal(b, &v)
			k.header["jwk"] = v
			delete(k.header, "kid")
		},
		"a stranger's key by address": func(k *token) { k.key = stranger; k.header["jku"] = "https://evil.example/keys" },
		"a critical header":           func(k *token) { k.header["crit"] = []string{"x"}; k.header["x"] = 1 },
		"an access token":             func(k *token) { k.header["typ"] = "at+jwt" },
		"a logout token":              func(k *token) { k.header["typ"] = "logout+jwt" },
		"changed afterwards": func(k *token) {
			parts := strings.Split(k.sign(t), ".")
			other := x.good("", w.now())
			other.claims["email"] = "bob@example.com"
			parts[1] = strings.Split(other.sign(t), ".")[1]
			k.raw = strings.Join(parts, ".")
		},
		"JSON serialization": func(k *token) {
			parts := strings.Split(k.sign(t), ".")
			k.raw = fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2])
		},
		"nothing":                func(k *token) { k.raw = "..." },
		"too long":               func(k *token) { k.claims["x"] = strings.Repeat("x", maxToken) },
		"another issuer":         claim("iss", "https://evil.example"),
		"no issuer":              claim("iss", nil),
		"issuer with a slash":    claim("iss", x.URL+"/"),
		"another client":         claim("aud", "other"),
		"no audience":            claim("aud", nil),
		"audience in other case": claim("aud", "Greatseal"),
		"several audiences, no azp": func(k *token) {
			k.claims["aud"] = []string{"greatseal", "other"}
		},
		"azp of another":    claim("azp", "other"),
		"expired":           claim("exp", w.now().Add(-time.Second).Unix()),
		"no expiry":         claim("exp", nil),
		"expiry as text":    claim("exp", "never"),
		"expiry negative":   claim("exp", -1),
		"no iat":            claim("iat", nil),
		"iat of tomorrow":   claim("iat", w.now().Add(24*time.Hour).Unix()),
		"iat of last hour":  claim("iat", w.now().Add(-time.Hour).Unix()),
		"not before":        claim("nbf", w.now().Add(time.Hour).Unix()),
		"another nonce":     claim("nonce", "x"),
		"no nonce":          claim("nonce", nil),
		"no subject":        claim("sub", nil),
		"empty subject":     claim("sub", ""),
		"subject number":    claim("sub", 7),
		"long subject":      claim("sub", strings.Repeat("x", 256)),
		"at_hash":           claim("at_hash", atHash("another")),
		"sid with a line":   claim("sid", "a\nb"),
		"email number":      claim("email", 7),
		"email with a line": claim("email", "alice@example.com\n"),
		"email list":        claim("email", []string{"alice@example.com", "bob@example.com"}),
		"groups number":     claim("groups", 7),
		"groups nested":     claim("groups", []any{[]string{"audit"}}),
		"groups empty name": claim("groups", []string{""}),
		"a claim twice": func(k *token) {
			b, _ := json.Marshal(k.claims)
			k.payload = append(b[:len(b)-1], `,"email":"bob@example.com"}`...)
		},
		"aud in another case": func(k *token) { // readers that do not mind the case see ours
			delete(k.claims, "aud")
			b, _ := json.Marshal(k.claims)
			k.payload = append([]byte(`{"aud":"other","AUD":"greatseal",`), b[1:]...)
		},
		"nonce in another case": func(k *token) {
			n := k.claims["nonce"].(string)
			delete(k.claims, "nonce")
			b, _ := json.Marshal(k.claims)
			k.payload = append([]byte(`{"nonce":"x","NONCE":"`+n+`",`), b[1:]...)
		},
	} {
		if l, err := x.login(w, "x", change); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for name, v := range map[string]any{"false": false, "missing": nil, "text": "true", "a number": 1} {
		if l, err := x.login(w, "x", claim("email_verified", v)); !errors.Is(err, ErrUnverified) {
			t.Errorf("email_verified %s: %+v, %v", name, l, err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keyCalls > 2 {
		t.Errorf("strangers' tokens had the keys fetched %d times", x.keyCalls)
	}
}

// TestMixUp: two providers, one of which is an attacker's.
func TestMixUp(t *testing.T) {
	honest, evil := newIssuer(t), newIssuer(t)
	w := newWorld(t, honest.client("honest"), evil.client("evil"))
	// The evil one hands out a token that says that it is the honest one's.
	if l, err := evil.login(w, "evil", func(k *token) { k.claims["iss"] = honest.URL }); !errors.Is(err, ErrToken) {
		t.Errorf("%+v, %v", l, err)
	}
	// An attempt at one, answered at the other's address.
	b := newBrowser(t)
	q := b.start(w.Providers, "evil", "").Query()
	if _, err := b.finish(w.Providers, "honest", url.Values{"state": q["state"], "code": {"c"}}); !errors.Is(err, ErrAttempt) {
		t.Errorf("%v", err)
	}
	// RFC 9207: an answer that names another issuer, at the right address.
	for _, c := range []struct {
		iss       []string
		supported bool
		ok        bool
	}{
		{nil, false, true}, {[]string{honest.URL}, false, true}, {[]string{evil.URL}, false, false}, {[]string{honest.URL + "/"}, false, false},
		{nil, true, false}, {[]string{honest.URL}, true, true}, {[]string{honest.URL, evil.URL}, true, false},
	} {
		honest.mu.Lock()
		honest.document["authorization_response_iss_parameter_supported"] = c.supported
		honest.mu.Unlock()
		w := newWorld(t, honest.client("honest"))
		b := newBrowser(t)
		q := b.start(w.Providers, "honest", "").Query()
		k := honest.good(q.Get("nonce"), w.now())
		honest.mu.Lock()
		honest.tokens = map[string]any{"access_token": k.access, "token_type": "Bearer", "id_token": k.sign(t)}
		honest.mu.Unlock()
		_, err := b.finish(w.Providers, "honest", url.Values{"state": q["state"], "code": {"c"}, "iss": c.iss})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrAttempt) {
			t.Errorf("%v, always %v: %v", c.iss, c.supported, err)
		}
	}
	// The configuration changed while somebody was away.
	b = newBrowser(t)
	q = b.start(w.Providers, "honest", "").Query()
	moved := honest.client("honest")
	moved.ClientID = "another"
	if _, err := b.finish(w.replica(moved), "honest", url.Values{"state": q["state"], "code": {"c"}}); !errors.Is(err, ErrAttempt) {
		t.Errorf("%v", err)
	}
}

// TestPeople: claims and the charter.
func TestPeople(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	for email, want := range map[string]string{
		"alice@example.com": "alice", "ALICE@EXAMPLE.COM": "alice", "bob@example.com": "bob",
		"twin@example.com": "", "nobody@example.com": "", "alice@example.com ": "", " alice@example.com": "", "alice@example.co": "", "aliceKexample.com": "",
		"\u212Aate@example.com": "", "alıce@example.com": "", // letters that fold to others
	} {
		l, err := x.login(w, "x", func(k *token) { k.claims["email"] = email })
		if err != nil {
			t.Errorf("%q: %v", email, err)
			continue
		}
		who, err := l.Person(people())
		var u *UnknownError
		if who != want || want == "" && !errors.As(err, &u) {
			t.Errorf("%q: %q, %v", email, who, err)
		}
		if email == "twin@example.com" && u.Several != 2 {
			t.Errorf("twins: %+v", u)
		}
	}
	sub := x.client("sub")
	sub.Claim, sub.People = config.ClaimSubject, map[string]string{"subject-1": "dave"}
	w = newWorld(t, sub)
	l, err := x.login(w, "sub", func(k *token) { delete(k.claims, "email_verified") })
	if err != nil {
		t.Fatal(err)
	}
	if who, err := l.Person(people()); who != "dave" {
		t.Errorf("%q, %v", who, err)
	}
}

// TestUserInfo: claims that are not in the ID token come from the userinfo endpoint,
// of the same subject.
func TestUserInfo(t *testing.T) {
	x := newIssuer(t)
	x.userinfo = map[string]any{"sub": "subject-1", "email": "bob@example.com", "email_verified": true, "groups": []string{"audit"}}
	w := newWorld(t, x.client("x"))
	thin := func(k *token) {
		delete(k.claims, "email")
		delete(k.claims, "email_verified")
		delete(k.claims, "groups")
	}
	l, err := x.login(w, "x", thin)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := l.Person(people()); who != "bob" || len(l.Groups()) != 1 {
		t.Errorf("%q, %v, %v", who, l.Groups(), err)
	}
	// The ID token's own stands, and its address is not vouched for by the other.
	if l, err = x.login(w, "x", func(k *token) { delete(k.claims, "groups") }); err != nil {
		t.Fatal(err)
	}
	if who, _ := l.Person(people()); who != "alice" {
		t.Errorf("%q", who)
	}
	if _, err := x.login(w, "x", func(k *token) { delete(k.claims, "email_verified"); delete(k.claims, "groups") }); !errors.Is(err, ErrUnverified) {
		t.Errorf("%v", err)
	}
	// Nor does the ID token vouch for the other's.
	x.mu.Lock()
	delete(x.userinfo, "email_verified")
	x.mu.Unlock()
	if _, err := x.login(w, "x", func(k *token) { delete(k.claims, "email") }); !errors.Is(err, ErrUnverified) {
		t.Errorf("%v", err)
	}
	for name, sub := range map[string]any{"another": "subject-2", "none": nil} {
		x.mu.Lock()
		x.userinfo["sub"] = sub
		x.mu.Unlock()
		if l, err := x.login(w, "x", thin); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	x.mu.Lock()
	x.handle["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	x.mu.Unlock()
	if _, err := x.login(w, "x", thin); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
}

// TestMaxAge: who proved who he is too long ago, does so again.
func TestMaxAge(t *testing.T) {
	x := newIssuer(t)
	c := x.client("x")
	c.MaxAge, c.Prompt = config.Duration(10*time.Minute), "login"
	w := newWorld(t, c)
	if q := newBrowser(t).start(w.Providers, "x", "").Query(); q.Get("max_age") != "600" || q.Get("prompt") != "login" {
		t.Errorf("%v", q)
	}
	for name, c := range map[string]struct {
		at any
		ok bool
	}{"now": {w.now().Unix(), true}, "nine minutes": {w.now().Add(-9 * time.Minute).Unix(), true}, "an hour": {w.now().Add(-time.Hour).Unix(), false}, "never": {nil, false}} {
		_, err := x.login(w, "x", func(k *token) { k.claims["auth_time"] = c.at })
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeys: which keys of a key set are used at all.
func TestKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"RSA of 1024 bits": weak.Public(), "P-384": p384.Public(), "a secret": []byte("0123456789abcdef0123456789abcdef")} {
		b, err := marshalKeys(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseKeys(b); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
