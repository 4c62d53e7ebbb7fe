package sso

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"encoding/json/v2"
)

// logoutToken is one as a provider sends it.
func (x *issuer) logoutToken(now time.Time) *token {
	return &token{alg: "ES256", header: map[string]any{"kid": "1", "typ": "logout+jwt"}, claims: map[string]any{
		"iss": x.URL, "aud": "greatseal", "sub": "subject-1", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "j-1",
		"events": map[string]any{logoutEvent: map[string]any{}},
	}}
}

func TestBackchannel(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	var ended []End
	end := func(_ context.Context, e End) error { ended = append(ended, e); return nil }
	send := func(k *token) error { return w.Logout(t.Context(), "x", k.sign(t), end) }
	if err := send(x.logoutToken(w.now())); err != nil {
		t.Fatal(err)
	}
	if len(ended) != 1 || ended[0].Issuer != x.URL || ended[0].Subject != "subject-1" || ended[0].SID != "" || !ended[0].Before.After(w.now()) || ended[0].Before.After(w.now().Add(clockSkew)) {
		t.Errorf("%+v", ended)
	}
	if err := send(x.logoutToken(w.now())); !errors.Is(err, ErrToken) {
		t.Errorf("again: %v", err)
	}
	if err := w.replica(x.client("x")).Logout(t.Context(), "x", x.logoutToken(w.now()).sign(t), end); !errors.Is(err, ErrToken) {
		t.Errorf("again, at another replica: %v", err)
	}
	for name, change := range map[string]func(k *token){
		"a session":   func(k *token) { delete(k.claims, "sub"); k.claims["sid"] = "s" },
		"both":        func(k *token) { k.claims["sid"] = "s" },
		"an old kind": func(k *token) { k.header["typ"] = "JWT" },
		"no kind":     func(k *token) { delete(k.header, "typ") },
	} {
		k := x.logoutToken(w.now())
		k.claims["jti"] = name
		change(k)
		if err := send(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e := ended[len(ended)-1]; k.claims["sid"] != nil && e.SID != "s" || (k.claims["sub"] == nil) != (e.Subject == "") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	n := len(ended)
	for name, change := range map[string]func(k *token){
		"an ID token":      func(k *token) { *k = *x.good("n", w.now()) },
		"nonce":            func(k *token) { k.claims["nonce"] = "n" },
		"nonce null":       func(k *token) { k.claims["nonce"] = nil },
		"no events":        func(k *token) { delete(k.claims, "events") },
		"another event":    func(k *token) { k.claims["events"] = map[string]any{"x": map[string]any{}} },
		"event no object":  func(k *token) { k.claims["events"] = map[string]any{logoutEvent: true} },
		"events a list":    func(k *token) { k.claims["events"] = []string{logoutEvent} },
		"no jti":           func(k *token) { delete(k.claims, "jti") },
		"nobody's":         func(k *token) { delete(k.claims, "sub") },
		"another client's": func(k *token) { k.claims["aud"] = "other" },
		"another issuer's": func(k *token) { k.claims["iss"] = "https://evil.example" },
		"expired":          func(k *token) { k.claims["exp"] = w.now().Add(-time.Second).Unix() },
		"no expiry":        func(k *token) { delete(k.claims, "exp") },
		"no iat":           func(k *token) { delete(k.claims, "iat") },
		"old, lasts forever": func(k *token) {
			k.claims["iat"], k.claims["exp"] = w.now().Add(-time.Hour).Unix(), w.now().Add(time.Hour).Unix()
		},
		"of tomorrow":     func(k *token) { k.claims["iat"] = w.now().Add(24 * time.Hour).Unix() },
		"none":            func(k *token) { k.alg = "none" },
		"HS256":           func(k *token) { k.alg, k.key = "HS256", keys()["ES256"] },
		"an access token": func(k *token) { k.header["typ"] = "at+jwt" },
		"events in another case": func(k *token) {
			delete(k.claims, "events")
			k.claims["Events"] = map[string]any{logoutEvent: map[string]any{}}
		},
		"sub twice": func(k *token) {
			b, _ := json.Marshal(k.claims)
			k.payload = append(b[:len(b)-1], `,"sub":"subject-2"}`...)
		},
	} {
		k := x.logoutToken(w.now())
		k.claims["jti"] = name
		change(k)
		if err := send(k); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(ended) != n {
		t.Errorf("sessions were ended by what was refused: %+v", ended[n:])
	}
	if err := w.Logout(t.Context(), "y", "", end); !errors.Is(err, ErrNoProvider) {
		t.Errorf("%v", err)
	}
	// Sessions that could not be ended: the token can come again, and has not been used.
	k := x.logoutToken(w.now())
	k.claims["jti"] = "later"
	broken := errors.New("no database")
	if err := w.Logout(t.Context(), "x", k.sign(t), func(context.Context, End) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := send(k); err != nil {
		t.Errorf("%v", err)
	}
}

func TestEndSession(t *testing.T) {
	x := newIssuer(t)
	x.document["end_session_endpoint"] = x.URL + "/end?realm=a"
	w := newWorld(t, x.client("x"))
	u, err := url.Parse(w.EndSession(t.Context(), "x"))
	if err != nil || u.Path != "/end" {
		t.Fatalf("%v, %v", u, err)
	}
	if q := u.Query(); q.Get("realm") != "a" || q.Get("client_id") != "greatseal" || q.Get("post_logout_redirect_uri") != base+"/console/login" {
		t.Errorf("%v", q)
	}
	if got := w.EndSession(t.Context(), "y"); got != "" {
		t.Error(got)
	}
}
