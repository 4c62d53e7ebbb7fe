package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// access is which scopes open a route; none: everybody may. It is written anew
// here, route by route: a route that is missing fails the test.
func access(private bool) map[string][]string {
	read, request := []string{"read"}, []string{"request"}
	var open, log []string
	if private {
		open, log = []string{"read", "log"}, []string{"log"}
	}
	return map[string][]string{
		"POST /v1/requests": request, "GET /v1/requests": read, "GET /v1/requests/{id}": read, "GET /v1/requests/{id}/files": read,
		"GET /v1/requests/{id}/items": read, "GET /v1/requests/{id}/envelopes": read, "GET /v1/requests/{id}/result": read,
		"GET /v1/requests/{id}/evidence": read, "GET /v1/requests/{id}/events": read, "POST /v1/requests/{id}/cancel": request,
		"POST /v1/endorsements": {"request", "read", "inspect"}, "GET /v1/inbox": read, "GET /v1/inbox/events": read,
		"HEAD /v1/requests/{id}/files/{index}/content": {"request", "inspect"}, "PATCH /v1/requests/{id}/files/{index}/content": request,
		"GET /v1/requests/{id}/files/{index}/content": {"inspect"},
		"GET /v1/charter": open, "GET /v1/charter/chain": open, "GET /v1/keys": read, "GET /v1/status": {"read", "log", "metrics", "inspect"},
		"POST /v1/sessions/challenge": nil, "POST /v1/sessions": nil, "DELETE /v1/sessions": {"read", "request", "log"},
		"POST /v1/tokens": {"request", "admin"}, "GET /v1/tokens": {"read", "admin"}, "DELETE /v1/tokens/{id}": {"request", "admin"},
		"GET /v1/search": read, "GET /v1/stats": read, "GET /v1/log/checkpoint": log, "GET /v1/log/tile/{path}": log, "GET /v1/log/body/{sum}": log,
		"POST /v1/sessions/token": nil, "GET /v1/issuers": read, "GET /v1/requests/{id}/difference": read, "GET /v1/requests/{id}/notices": read,
		"GET /v1/notices/preferences": read, "POST /v1/notices/preferences": read, "POST /v1/notices/test": read,
		"GET /v1/passkeys/registrations": read, "GET /v1/passkeys/registrations/{id}": read, "POST /v1/passkeys/registrations/{id}/refuse": request,
		"POST /v1/console/links": request, "GET /v1/console/sessions": {"request", "admin"}, "DELETE /v1/console/sessions/{id}": {"request", "admin"},
		"POST /v1/timestamp": open, "GET /healthz": nil, "GET /readyz": nil, "GET /metrics": nil, // metrics: from this machine; see TestMetrics
	}
}

// Every route of the document against nobody, every single scope, and a token
// that is none.
func TestAccess(t *testing.T) {
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprintf("private=%v", private), func(t *testing.T) {
			s := newSite(t, func(c *api.Config) { c.Private = private })
			var doc struct {
				Paths map[string]map[string]any `yaml:"paths"`
			}
			must(t, yaml.Unmarshal(s.api.Document(), &doc))
			want := access(private)
			tokens := map[string]string{}
			for _, scope := range api.Scopes() {
				who := "ci"
				if scope == "admin" {
					who = "dave"
				}
				tokens[scope] = s.token(t, who, scope)
			}
			seen := 0
			for path, methods := range doc.Paths {
				for method := range methods {
					method = strings.ToUpper(method)
					name := method + " " + path
					scopes, ok := want[name]
					if !ok {
						t.Errorf("%s is in the document and not in this test", name)
						continue
					}
					seen++
					p := strings.NewReplacer("{id}", strings.Repeat("ab", 32), "{index}", "0", "{sum}", strings.Repeat("ab", 32), "{path}", "0/000").Replace(path)
					ct := map[string]string{"PATCH": wire.Chunk}[method]
					if ct == "" {
						ct = wire.JSON
					}
					try := func(token string) answer {
						h := []string{"Content-Type", ct, "X-Forwarded-For", "192.0.2.1"}
						if token != "" {
							h = append(h, "Authorization", "Bearer "+token)
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						r, err := http.NewRequestWithContext(ctx, method, s.http.URL+p, nil)
						must(t, err)
						for i := 0; i < len(h); i += 2 {
							r.Header.Set(h[i], h[i+1])
						}
						resp, err := http.DefaultClient.Do(r)
						must(t, err)
						resp.Body.Close()
						return answer{Response: resp}
					}
					open := len(scopes) == 0
					if path == "/metrics" {
						open, scopes = false, []string{"metrics"}
					}
					if st := try("").StatusCode; open == (st == 401) {
						t.Errorf("%s, nobody: %d", name, st)
					}
					for scope, token := range tokens {
						may := open || slices.Contains(scopes, scope)
						if name == "DELETE /v1/sessions" && may {
							continue // 409: no session
						}
						st := try(token).StatusCode
						if may == (st == 401 || st == 403) && name != "POST /v1/tokens" {
							t.Errorf("%s, scope %s: %d", name, scope, st)
						}
					}
					if st := try("gs_0123456789abcdef_" + strings.Repeat("A", 43)).StatusCode; st != 401 {
						t.Errorf("%s, a token that is none: %d", name, st)
					}
				}
			}
			if seen != len(want) {
				t.Errorf("%d routes were tried, %d are expected", seen, len(want))
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		remote, forwarded, token string
		want                     int
	}{
		{"127.0.0.1:1", "", "", 200},
		{"[::1]:1", "", "", 200},
		{"127.0.0.1:1", "192.0.2.1", "", 401}, // a proxy on this machine
		{"192.0.2.1:1", "", "", 401},
		{"192.0.2.1:1", "", s.token(t, "ci", "read"), 403},
		{"192.0.2.1:1", "", s.token(t, "prometheus", "metrics"), 200},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		s.api.Handler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}

// Invariant 4, and what a login is bound to.
func TestSessions(t *testing.T) {
	s := newSite(t)
	challenge := func() wire.Challenge {
		a := s.raw(t, "POST", "/v1/sessions/challenge", []byte("{}"), "Content-Type", wire.JSON)
		var c wire.Challenge
		must(t, json.Unmarshal(a.body, &c))
		return c
	}
	host := strings.TrimPrefix(s.http.URL, "http://")
	login := func(name, signer, nonce, message string, purpose credential.Purpose) answer {
		c := servertest.Signer(signer)
		sig, err := c.Sign(t.Context(), purpose, []byte(message))
		must(t, err)
		b, err := json.Marshal(wire.Login{Name: name, Credential: string(c.Credential().ID()), Nonce: nonce, Signature: sig})
		must(t, err)
		return s.raw(t, "POST", "/v1/sessions", b, "Content-Type", wire.JSON)
	}
	c := challenge()
	if c.Audience != host || c.Deployment != "test" {
		t.Errorf("challenge: %+v", c)
	}
	good := func(n string) string { return string(wire.LoginMessage("test", host, "alice", n)) }
	a := login("alice", "alice", c.Nonce, good(c.Nonce), credential.Login)
	if a.StatusCode != 201 {
		t.Fatalf("login: %d %s", a.StatusCode, a.body)
	}
	if a := login("alice", "alice", c.Nonce, good(c.Nonce), credential.Login); a.Code != "login-refused" {
		t.Errorf("replayed: %d %s", a.StatusCode, a.body)
	}
	for what, f := range map[string]func(n string) answer{
		"another's signature":  func(n string) answer { return login("alice", "bob", n, good(n), credential.Login) },
		"nobody":               func(n string) answer { return login("mallory", "mallory", n, good(n), credential.Login) },
		"another name":         func(n string) answer { return login("bob", "alice", n, good(n), credential.Login) },
		"a nonce of one's own": func(string) answer { return login("alice", "alice", "AAAA", good("AAAA"), credential.Login) },
		"a relayed login": func(n string) answer {
			return login("alice", "alice", n, string(wire.LoginMessage("test", "evil.example", "alice", n)), credential.Login)
		},
		"another deployment": func(n string) answer {
			return login("alice", "alice", n, string(wire.LoginMessage("prod", host, "alice", n)), credential.Login)
		},
		"signed as a statement":      func(n string) answer { return login("alice", "alice", n, good(n), credential.Statement) },
		"no nonce":                   func(string) answer { return login("alice", "alice", "", good(""), credential.Login) },
		"a cancellation's signature": func(n string) answer { return login("alice", "alice", n, "greatseal cancel v1\n"+n, credential.Login) },
	} {
		if a := f(challenge().Nonce); a.Code != "login-refused" || a.StatusCode != 401 {
			t.Errorf("%s: %d %s", what, a.StatusCode, a.body)
		}
	}
	late := challenge()
	s.Pass(61 * time.Second)
	if a := login("alice", "alice", late.Nonce, good(late.Nonce), credential.Login); a.Code != "login-refused" {
		t.Errorf("after its minute: %d", a.StatusCode)
	}
	// A session ends by itself, and by logging out.
	alice := s.as(t, "alice")
	_, err := alice.Status(t.Context())
	must(t, err)
	must(t, alice.Logout(t.Context()))
	_, err = alice.Status(t.Context())
	wants(t, "after the logout", err, "unauthorized")
	alice = s.as(t, "alice")
	s.Pass(9 * time.Hour)
	_, err = alice.Status(t.Context())
	wants(t, "after 9 hours", err, "unauthorized")
	// The clients refuse a server of another deployment.
	if _, err := s.as(t, "").Login(t.Context(), "prod", "alice", servertest.Signer("alice")); err == nil {
		t.Error("a client logs in to another deployment")
	}
	if c, err := s.as(t, "xena").Status(t.Context()); err != nil || c.You.Name != "xena" {
		t.Errorf("an X.509 credential logs in: %v", err)
	}
}

// Invariant 4: a challenge is good at every replica, once in all of them, however
// many others were asked for, and no byte of it can be another.
func TestChallengesOfReplicas(t *testing.T) {
	var cfg api.Config
	at := func(url string) func(c *api.Config) {
		return func(c *api.Config) {
			c.URL, c.Limits.AnonPerSecond, c.Limits.Burst = url, 1e6, 1e6
			cfg = *c
		}
	}
	s := newSite(t, at("https://sign.example.com"))
	replica := func(change ...func(c *api.Config)) *httptest.Server {
		c := cfg
		for _, f := range change {
			f(&c)
		}
		a, err := api.New(c)
		must(t, err)
		h := httptest.NewServer(a.Handler())
		t.Cleanup(h.Close)
		return h
	}
	second, other := replica(), replica(func(c *api.Config) { c.URL = "https://other.example.com" })
	on := func(h *httptest.Server) *site { x := *s; x.http = h; return &x }
	challenge := func(x *site) wire.Challenge {
		t.Helper()
		a := x.raw(t, "POST", "/v1/sessions/challenge", []byte("{}"), "Content-Type", wire.JSON)
		var c wire.Challenge
		must(t, json.Unmarshal(a.body, &c))
		return c
	}
	login := func(x *site, audience, nonce string) answer {
		t.Helper()
		c := servertest.Signer("alice")
		sig, err := c.Sign(t.Context(), credential.Login, wire.LoginMessage("test", audience, "alice", nonce))
		must(t, err)
		b, err := json.Marshal(wire.Login{Name: "alice", Credential: string(c.Credential().ID()), Nonce: nonce, Signature: sig})
		must(t, err)
		return x.raw(t, "POST", "/v1/sessions", b, "Content-Type", wire.JSON)
	}
	const home = "sign.example.com"
	c := challenge(s)
	seen := map[string]bool{c.Nonce: true}
	for range 500 { // a flood
		n := challenge(on(second)).Nonce
		if seen[n] {
			t.Fatal("a challenge twice")
		}
		seen[n] = true
	}
	if a := login(on(other), home, c.Nonce); a.Code != "login-refused" {
		t.Errorf("relayed to another host: %d %s", a.StatusCode, a.body)
	}
	if a := login(on(second), home, c.Nonce); a.StatusCode != 201 {
		t.Fatalf("at the other replica, after a flood: %d %s", a.StatusCode, a.body)
	}
	for what, x := range map[string]*site{"where it was used": on(second), "where it was made": s, "after a restart": on(replica())} {
		if a := login(x, home, c.Nonce); a.Code != "login-refused" {
			t.Errorf("replayed %s: %d %s", what, a.StatusCode, a.body)
		}
	}
	n := challenge(s).Nonce
	for i := range n {
		b := []byte(n)
		if b[i]++; b[i] == n[i]+1 && login(s, home, string(b)).Code != "login-refused" {
			t.Errorf("with another byte %d", i)
		}
	}
	for _, x := range []string{n + "A", n + "=", n[:len(n)-1], " " + n} {
		if a := login(s, home, x); a.Code != "login-refused" {
			t.Errorf("%q: %d", x, a.StatusCode)
		}
	}
	if a := login(s, home, challenge(newSite(t)).Nonce); a.Code != "login-refused" {
		t.Errorf("a challenge of another deployment: %d", a.StatusCode)
	}
	// Of many at a time, one.
	won := make(chan int, 8)
	for i := range cap(won) {
		go func() { won <- login([]*site{s, on(second)}[i%2], home, n).StatusCode }()
	}
	got := 0
	for range cap(won) {
		if <-won == 201 {
			got++
		}
	}
	if got != 1 {
		t.Errorf("of eight logins with one challenge %d succeeded", got)
	}
	// A replica whose clock is ahead gives no challenge that lasts longer.
	ahead := replica(func(c *api.Config) { c.Clock = func() time.Time { return s.Now().Add(time.Hour) } })
	if a := login(s, home, challenge(on(ahead)).Nonce); a.Code != "login-refused" {
		t.Errorf("a challenge from the future: %d", a.StatusCode)
	}
	late := challenge(s)
	s.Pass(61 * time.Second)
	if a := login(on(second), home, late.Nonce); a.Code != "login-refused" {
		t.Errorf("after its minute: %d", a.StatusCode)
	}
}

// Invariants 2 and 3.
func TestTokens(t *testing.T) {
	s := newSite(t)
	dave, alice, ann := s.as(t, "dave"), s.as(t, "alice"), s.as(t, "ann")
	ctx := t.Context()
	hour := s.Now().Add(time.Hour)
	tok, err := dave.CreateToken(ctx, wire.NewToken{Principal: "ci", Scopes: []string{"request", "read", "read"}, Expires: hour})
	must(t, err)
	if !strings.HasPrefix(tok.Secret, "gs_"+tok.ID+"_") || len(tok.Secret) != 3+16+1+43 || !slices.Equal(tok.Scopes, []string{"read", "request"}) {
		t.Errorf("token: %+v", tok)
	}
	all, err := s.store.Tokens(ctx)
	must(t, err)
	if !slices.ContainsFunc(all, func(x store.Token) bool { return x.Hash == sha256.Sum256([]byte(tok.Secret)) }) {
		t.Error("the hash is not that of the secret")
	}
	if strings.Contains(fmt.Sprintf("%s", all), tok.Secret[20:]) {
		t.Error("the secret is kept")
	}
	ci := s.as(t, "")
	ci.SetToken(tok.Secret)
	st, err := ci.Status(ctx)
	if err != nil || st.You.Name != "ci" || st.You.Via != "token" {
		t.Errorf("with the token: %+v %v", st, err)
	}
	// The owner of a machine makes tokens for it, and for nothing else.
	own, err := alice.CreateToken(ctx, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: hour})
	must(t, err)
	for what, f := range map[string]struct {
		by   *client.Client
		t    wire.NewToken
		want string
	}{
		"for another person":   {alice, wire.NewToken{Principal: "bob", Scopes: []string{"read"}, Expires: hour}, "not-admin"},
		"for oneself":          {alice, wire.NewToken{Principal: "alice", Scopes: []string{"read"}, Expires: hour}, "not-admin"},
		"another's machine":    {ann, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: hour}, "not-admin"},
		"inspect by an owner":  {alice, wire.NewToken{Principal: "ci", Scopes: []string{"inspect"}, Expires: hour}, "not-admin"},
		"admin by an owner":    {alice, wire.NewToken{Principal: "ci", Scopes: []string{"admin"}, Expires: hour}, "not-admin"},
		"admin for a machine":  {dave, wire.NewToken{Principal: "ci", Scopes: []string{"admin"}, Expires: hour}, "not-admin"},
		"a token makes tokens": {ci, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: hour}, "not-admin"},
		"no scopes":            {dave, wire.NewToken{Principal: "ci", Expires: hour}, "malformed"},
		"unknown scope":        {dave, wire.NewToken{Principal: "ci", Scopes: []string{"everything"}, Expires: hour}, "malformed"},
		"a session's scope":    {dave, wire.NewToken{Principal: "ci", Scopes: []string{"session"}, Expires: hour}, "malformed"},
		"expired":              {dave, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: s.Now()}, "malformed"},
		"for ever":             {dave, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: s.Now().AddDate(5, 0, 0)}, "malformed"},
		"bad name":             {dave, wire.NewToken{Principal: "../x", Scopes: []string{"read"}, Expires: hour}, "malformed"},
		"request for stranger": {dave, wire.NewToken{Principal: "stranger", Scopes: []string{"request"}, Expires: hour}, "principal-unknown"},
	} {
		_, err := f.by.CreateToken(ctx, f.t)
		wants(t, what, err, f.want)
	}
	list, err := ann.Tokens(ctx)
	must(t, err)
	if len(list) != 1 || list[0].Scopes[0] != "session" || list[0].Secret != "" {
		t.Errorf("ann sees %+v", list)
	}
	wants(t, "another's token ended", ann.DeleteToken(ctx, own.ID), "not-found")
	must(t, alice.DeleteToken(ctx, own.ID))
	must(t, dave.DeleteToken(ctx, tok.ID))
	_, err = ci.Status(ctx)
	wants(t, "an ended token", err, "unauthorized")
	// One bit more or less is another token.
	for _, bad := range []string{tok.Secret + "A", tok.Secret[:len(tok.Secret)-1], strings.ToUpper(tok.Secret), "Basic abc", "gs__", ""} {
		if a := s.raw(t, "GET", "/v1/status", nil, "Authorization", "Bearer "+bad); a.StatusCode != 401 {
			t.Errorf("token %q: %d", bad, a.StatusCode)
		}
	}
	exp, err := dave.CreateToken(ctx, wire.NewToken{Principal: "ci", Scopes: []string{"read"}, Expires: hour})
	must(t, err)
	ci.SetToken(exp.Secret)
	s.Pass(2 * time.Hour)
	_, err = ci.Status(ctx)
	wants(t, "an expired token", err, "unauthorized")
}

// A token or session of somebody whom the charter no longer has opens nothing.
func TestTokenOfNobody(t *testing.T) {
	s := newSite(t)
	put := func(principal string, scopes ...string) string {
		secret := "gs_0123456789abcde" + fmt.Sprint(len(scopes)) + "_" + strings.Repeat("A", 42) + "A"
		must(t, s.store.PutToken(t.Context(), store.Token{Hash: sha256.Sum256([]byte(secret)), ID: secret[3:19], Principal: principal, Scopes: scopes, Created: s.Now(), Expires: s.Now().Add(time.Hour)}))
		return secret
	}
	for _, tok := range []string{put("gone", "session"), put("gone2", "request", "inspect")} {
		if a := s.raw(t, "GET", "/v1/status", nil, "Authorization", "Bearer "+tok); a.StatusCode != 401 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
	if a := s.raw(t, "GET", "/v1/tokens", nil, "Authorization", "Bearer "+put("alice", "admin", "log", "metrics")); a.StatusCode != 403 {
		t.Errorf("an admin token of somebody who is none: %d", a.StatusCode)
	}
}

func TestCertificates(t *testing.T) {
	s := newSite(t)
	a := newAuthority(t)
	a.issue("server", nil, nil)
	a.issue("alice", named("greatseal:alice"), nil)
	a.issue("stranger", nil, nil)
	a.issue("gone", named("greatseal:gone"), nil)
	a.issue("two", named("greatseal:alice", "greatseal:bob"), nil)
	a.issue("other-uri", named("https://example.com/alice"), nil)
	other := newAuthority(t)
	other.issue("alice", named("greatseal:alice"), nil)
	tlsFiles := &config.TLS{Cert: a.path("server.pem"), Key: a.path("server.key"), CA: a.path("ca.pem")}
	at := func(required bool) func(ca *authority, cert string) (*wire.Status, error) {
		l := api.Listen{Address: "127.0.0.1:0", TLS: tlsFiles}
		if required { // beyond loopback a certificate is wanted
			l.Address = "0.0.0.0:0"
		}
		addr, _ := s.serve(t, l)
		_, port, err := net.SplitHostPort(addr)
		must(t, err)
		return func(ca *authority, cert string) (*wire.Status, error) {
			c := client.Config{Server: "https://127.0.0.1:" + port, CA: a.path("ca.pem"), Attempts: 1}
			if cert != "" {
				c.Cert, c.Key = ca.path(cert+".pem"), ca.path(cert+".key")
			}
			cl, err := client.New(c)
			must(t, err)
			defer cl.Close()
			return cl.Status(t.Context())
		}
	}
	for _, required := range []bool{false, true} {
		status := at(required)
		if st, err := status(a, "alice"); err != nil || st.You.Name != "alice" || st.You.Via != "certificate" {
			t.Errorf("required %v: alice's certificate: %+v %v", required, st, err)
		}
		for cert, want := range map[string]string{"stranger": "unauthorized", "gone": "certificate", "two": "certificate", "other-uri": "unauthorized"} {
			_, err := status(a, cert)
			wants(t, cert, err, want)
		}
		_, err := status(other, "alice")
		wants(t, "of another authority", err, "server-away")
		_, err = status(a, "")
		wants(t, "no certificate", err, map[bool]string{false: "unauthorized", true: "server-away"}[required])
	}
	if err := api.Serve(t.Context(), s.api, api.Listen{Address: "0.0.0.0:0"}, nil); err == nil {
		t.Error("plain HTTP beyond loopback")
	}
	if err := api.Serve(t.Context(), s.api, api.Listen{Address: "0.0.0.0:0", TLS: &config.TLS{Cert: tlsFiles.Cert, Key: tlsFiles.Key}}, nil); err == nil {
		t.Error("no CA for clients beyond loopback")
	}
}

// Whose key a certificate has is told by the charter; a name in it may not
// contradict.
func TestCertificateKeys(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	cred, err := credential.NewX509(pub)
	must(t, err)
	w := servertest.New(t, func(c *charter.Charter) {
		m := c.Machines["ci"]
		m.Credentials = append(m.Credentials, charter.CredentialOf(cred))
		c.Machines["ci"] = m
	})
	st := w.Store("")
	srv, _ := w.Server(st)
	a, err := api.New(api.Config{Server: srv, Store: st, Clock: w.Now})
	must(t, err)
	spki, err := x509.MarshalPKIXPublicKey(pub)
	must(t, err)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	otherSPKI, err := x509.MarshalPKIXPublicKey(k.Public())
	must(t, err)
	who := func(spki []byte, verified bool, names ...string) (int, string) {
		c := &x509.Certificate{RawSubjectPublicKeyInfo: spki}
		for _, n := range names {
			u, err := url.Parse(n)
			must(t, err)
			c.URIs = append(c.URIs, u)
		}
		r := httptest.NewRequest("GET", "/v1/status", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
		if verified {
			r.TLS.VerifiedChains = [][]*x509.Certificate{{c}}
		}
		rec := httptest.NewRecorder()
		a.Handler().ServeHTTP(rec, r)
		var s wire.Status
		if rec.Code == 200 {
			must(t, json.Unmarshal(rec.Body.Bytes(), &s))
		}
		return rec.Code, s.You.Name
	}
	for _, c := range []struct {
		what  string
		spki  []byte
		ok    bool
		names []string
		code  int
		name  string
	}{
		{"the key of ci", spki, true, nil, 200, "ci"},
		{"the key and the name", spki, true, []string{"greatseal:ci"}, 200, "ci"},
		{"the key with another name", spki, true, []string{"greatseal:alice"}, 401, ""},
		{"a name alone", otherSPKI, true, []string{"greatseal:alice"}, 200, "alice"},
		{"nobody", otherSPKI, true, nil, 401, ""},
		{"not verified", spki, false, []string{"greatseal:ci"}, 401, ""},
		{"a name with an escape", otherSPKI, true, []string{"greatseal:al%69ce"}, 401, ""},
	} {
		if code, name := who(c.spki, c.ok, c.names...); code != c.code || name != c.name {
			t.Errorf("%s: %d %q, want %d %q", c.what, code, name, c.code, c.name)
		}
	}
}

// A certificate and a token that name different people open nothing.
// A server that was not told its name takes no login for a name that the caller
// chose: whoever runs that other server could pass on the logins that he gets.
func TestLoginForAnotherHost(t *testing.T) {
	s := newSite(t)
	alice := servertest.Signer("alice")
	call := func(host, path string, body any) (int, []byte) {
		b, err := json.Marshal(body)
		must(t, err)
		r := httptest.NewRequest("POST", path, bytes.NewReader(b))
		r.Host = host
		r.Header.Set("Content-Type", wire.JSON)
		w := httptest.NewRecorder()
		s.api.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.Bytes()
	}
	for host, fits := range map[string]bool{"evil.example": false, "evil.example:7788": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"": false, "192.0.2.1": false, "[::2]:7788": false, "localhost": true, "localhost:7788": true, "127.0.0.1:7788": true, "[::1]:7788": true, "[::1]": true} {
		status, b := call(host, "/v1/sessions/challenge", struct{}{})
		if got := status == 200; got != fits || !fits && !bytes.Contains(b, []byte(`"wrong-host"`)) {
			t.Errorf("challenge for %q: %d %s", host, status, b)
		}
		_, b = call("localhost", "/v1/sessions/challenge", struct{}{})
		var c wire.Challenge
		must(t, json.Unmarshal(b, &c))
		sig, err := alice.Sign(t.Context(), credential.Login, wire.LoginMessage("test", host, "alice", c.Nonce))
		must(t, err)
		status, b = call(host, "/v1/sessions", wire.Login{Name: "alice", Credential: string(alice.Credential().ID()), Nonce: c.Nonce, Signature: sig})
		if got := status == 201; got != fits {
			t.Errorf("login for %q: %d %s", host, status, b)
		}
	}
}

func TestIdentitiesDiffer(t *testing.T) {
	s := newSite(t)
	tok := s.token(t, "ci", "read")
	r := httptest.NewRequest("GET", "/v1/status", nil)
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{URIs: []*url.URL{{Scheme: "greatseal", Opaque: "alice"}}}}}}
	r.Header.Set("Authorization", "Bearer "+tok)
	w := httptest.NewRecorder()
	s.api.Handler().ServeHTTP(w, r)
	if w.Code != 401 || !bytes.Contains(w.Body.Bytes(), []byte("identities-differ")) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Over a Unix socket one authenticates like everywhere.
func TestUnixSocket(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	_, stop := s.serve(t, api.Listen{Address: "unix:" + path})
	c, err := client.New(client.Config{Server: "unix:" + path, Attempts: 1})
	must(t, err)
	_, err = c.Status(t.Context())
	wants(t, "nobody", err, "unauthorized")
	_, err = c.Login(t.Context(), "test", "bob", servertest.Signer("bob"))
	must(t, err)
	if st, err := c.Status(t.Context()); err != nil || st.You.Name != "bob" {
		t.Errorf("%+v %v", st, err)
	}
	if err := api.Serve(t.Context(), s.api, api.Listen{Address: "unix:" + path}, nil); err == nil {
		t.Error("a second server takes the socket away")
	}
	c.Close()
	must(t, stop())
	// A socket that a killed server left is taken over; a file is not.
	ln, err := net.Listen("unix", path)
	must(t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	s.serve(t, api.Listen{Address: "unix:" + path})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	if err := api.Serve(t.Context(), s.api, api.Listen{Address: "unix:" + file}, nil); err == nil {
		t.Error("a file becomes a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q %v", b, err)
	}
}
