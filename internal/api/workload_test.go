package api_test

import (
	"context"
	"encoding/json/v2"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

var ciIssuer = credentialtest.NewIssuer("https://token.ci.example.com", "key-1", nil)

// jobs puts the workloads "job" (bound) and "loose" (unbound) into a charter.
func jobs(c *charter.Charter) {
	c.Issuers = map[string]charter.Issuer{"ci": {URL: ciIssuer.URL, Keys: []string{ciIssuer.JWK()}}}
	for name, unbound := range map[string]bool{"job": false, "loose": true} {
		c.Machines[name] = charter.Machine{Credentials: []charter.Credential{{OIDC: &charter.OIDC{
			Issuer: "ci", Audience: "https://seal.example.com", Claims: map[string]string{"sub": name}, Unbound: unbound}}}}
	}
	r := c.Policies["single"]
	r.Rule.Requesters = append(r.Rule.Requesters, "job", "loose")
	c.Policies["single"] = r
	n := c.Policies["nightly"]
	n.Rule.Requesters = append(n.Rule.Requesters, "job")
	c.Policies["nightly"] = n
}

func jobSite(t *testing.T, change ...func(*api.Config)) *site {
	t.Helper()
	return siteOf(t, servertest.New(t, jobs), change...)
}

func siteCredential(t *testing.T, s *site, name string) *credential.OIDC {
	t.Helper()
	c, err := s.Charter.Credential(s.Charter.Machines[name].Credentials[0])
	must(t, err)
	return c.(*credential.OIDC)
}

// apiToken is a token by which the workload shows itself to the server.
func apiToken(t *testing.T, s *site, name string, more map[string]any) string {
	all := map[string]any{"sub": name}
	for n, v := range more {
		all[n] = v
	}
	return string(ciIssuer.Token(ciIssuer.Claims(siteCredential(t, s, name).APIAudience(), s.Now(), all)))
}

func (s *site) exchange(t *testing.T, name, token string) (answer, wire.Session) {
	t.Helper()
	body, err := json.Marshal(wire.TokenLogin{Name: name, Token: token})
	must(t, err)
	a := s.raw(t, "POST", "/v1/sessions/token", body, "Content-Type", "application/json")
	var out wire.Session
	if a.StatusCode == 201 {
		must(t, json.Unmarshal(a.body, &out))
	}
	return a, out
}

func TestWorkloadExchange(t *testing.T) {
	s := jobSite(t)
	tok := apiToken(t, s, "job", nil)
	a, sess := s.exchange(t, "", tok)
	if a.StatusCode != 201 || sess.Name != "job" || strings.Join(sess.Scopes, " ") != "request read log" || sess.Expires.After(s.Now().Add(time.Hour+time.Second)) {
		t.Fatalf("%d %+v", a.StatusCode, sess)
	}
	if got := s.raw(t, "GET", "/v1/requests", nil, "Authorization", "Bearer "+sess.Token); got.StatusCode != 200 {
		t.Errorf("the session: %d %s", got.StatusCode, got.body)
	}
	// Once, also after a while, also with another signature over the same.
	for range 2 {
		if a, _ := s.exchange(t, "", tok); a.StatusCode != 401 || a.Problem.Code != "login-refused" {
			t.Errorf("replayed: %d %s", a.StatusCode, a.Problem.Code)
		}
		s.Pass(5 * time.Minute)
	}
	if a, _ := s.exchange(t, "job", apiToken(t, s, "job", map[string]any{"jti": "one"})); a.StatusCode != 201 {
		t.Fatal(a.Problem)
	}
	if a, _ := s.exchange(t, "job", apiToken(t, s, "job", map[string]any{"jti": "one"})); a.StatusCode != 401 {
		t.Errorf("another token with the same jti: %d", a.StatusCode)
	}
	noID := apiToken(t, s, "job", map[string]any{"jti": ""})
	if a, _ := s.exchange(t, "job", noID); a.StatusCode != 401 {
		t.Errorf("an empty jti: %d", a.StatusCode)
	}
	claims := ciIssuer.Claims(siteCredential(t, s, "job").APIAudience(), s.Now(), map[string]any{"sub": "job"})
	delete(claims, "jti")
	noID = string(ciIssuer.Token(claims))
	for want, i := 201, 0; i < 2; want, i = 401, i+1 {
		if a, _ := s.exchange(t, "job", noID); a.StatusCode != want {
			t.Errorf("without a jti, try %d: %d", i, a.StatusCode)
		}
	}
	foreign := credentialtest.NewIssuer("https://evil.example.com", "key-1", nil)
	for name, tok := range map[string]string{
		"another audience": string(ciIssuer.Token(ciIssuer.Claims("https://seal.example.com", s.Now(), map[string]any{"sub": "job"}))),
		"another job":      apiToken(t, s, "job", map[string]any{"sub": "test"}),
		"expired":          apiToken(t, s, "job", map[string]any{"iat": s.Now().Unix() - 700, "nbf": 1, "exp": s.Now().Unix() - 1}),
		"future":           apiToken(t, s, "job", map[string]any{"iat": s.Now().Unix() + 600, "exp": s.Now().Unix() + 900}),
		"another issuer":   string(foreign.Token(foreign.Claims("https://seal.example.com/api", s.Now(), map[string]any{"sub": "job"}))),
		"its key":          string(foreign.Token(ciIssuer.Claims("https://seal.example.com/api", s.Now(), map[string]any{"sub": "job"}))),
		"rubbish":          "a.b.c",
		"a session":        sess.Token,
	} {
		if a, _ := s.exchange(t, "", tok); a.StatusCode != 401 {
			t.Errorf("%s: exchanged: %d", name, a.StatusCode)
		}
		if a := s.raw(t, "GET", "/v1/requests", nil, "Authorization", "Bearer "+tok); a.StatusCode != 401 && name != "a session" {
			t.Errorf("%s: taken as a bearer: %d", name, a.StatusCode)
		}
	}
	if a, _ := s.exchange(t, "loose", apiToken(t, s, "job", nil)); a.StatusCode != 401 {
		t.Errorf("for another name: %d", a.StatusCode)
	}
	if a, _ := s.exchange(t, "", apiToken(t, s, "loose", nil)); a.StatusCode != 201 {
		t.Errorf("an unbound workload's token for the server: %d %+v", a.StatusCode, a.Problem)
	}
}

// A bearer token opens what a session does, and is no signature.
func TestWorkloadBearer(t *testing.T) {
	s := jobSite(t)
	tok := apiToken(t, s, "job", nil)
	bearer := []string{"Authorization", "Bearer " + tok, "Content-Type", "application/json"}
	if a := s.raw(t, "GET", "/v1/requests", nil, bearer...); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	for _, c := range []struct{ method, path, body string }{{"POST", "/v1/tokens", `{"principal":"job","scopes":["read"],"expires":"2099-01-01T00:00:00Z"}`}, {"DELETE", "/v1/sessions", ""}} {
		if a := s.raw(t, c.method, c.path, []byte(c.body), bearer...); a.StatusCode != 403 && a.StatusCode != 409 && a.StatusCode != 400 {
			t.Errorf("%s %s: %d", c.method, c.path, a.StatusCode)
		}
	}
	// With its own identity it hands in an "endorsement" signed by a token of its own.
	items := [][]byte{s.Item("a.txt", []byte("a"))}
	env := s.Sign("alice", "single", items)
	_, _, err := s.srv.Submit(t.Context(), env, items)
	must(t, err)
	e, err := statement.DecodeEnvelope(env)
	must(t, err)
	c, err := client.New(client.Config{Server: s.http.URL, Attempts: 1, Token: tok})
	must(t, err)
	defer c.Close()
	for _, who := range []string{"job", "bob"} {
		now := statement.Seconds(s.Now())
		payload, err := statement.Encode(statement.Endorsement{Deployment: "test", Request: e.ID(), Endorser: who, Verdict: statement.Endorse, Created: now, Expires: now.Add(time.Hour)})
		must(t, err)
		w := ciIssuer.Workload(siteCredential(t, s, "job"), s.Now, map[string]any{"sub": "job"})
		sig, err := w.Sign(t.Context(), credential.Statement, statement.PAE(payload))
		must(t, err)
		b, err := (&statement.Envelope{Payload: payload, Signatures: []statement.Signature{{KeyID: string(w.Credential().ID()), Sig: sig}}}).Encode()
		must(t, err)
		if _, err := c.Endorse(t.Context(), b); err == nil {
			t.Errorf("%s endorses with a token", who)
		}
	}
	r, err := s.store.Request(t.Context(), e.ID())
	must(t, err)
	if r.State != store.Pending {
		t.Errorf("the request is %s", r.State)
	}
}

// job makes requests as the workload, under a policy, with a token of a time.
func (s *site) job(t *testing.T, name, policy string, items [][]byte, ago time.Duration) []byte {
	t.Helper()
	head, ref := s.srv.Chain().Head()
	at := func() time.Time { return s.Now().Add(-ago) }
	a := &author.Author{Name: name, Signer: ciIssuer.Workload(siteCredential(t, s, name), at, map[string]any{"sub": name}), Now: at, Rand: zero{}}
	cmd, err := author.SignCommand(head, policy, "", items)
	must(t, err)
	env, _, err := a.Request(t.Context(), head, ref, cmd, author.RequestOptions{Expires: 24 * time.Hour})
	must(t, err)
	return env
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestWorkloadSubmits(t *testing.T) {
	s := jobSite(t)
	c, err := client.New(client.Config{Server: s.http.URL, Attempts: 1})
	must(t, err)
	defer c.Close()
	// A bound workload answers challenges, as everybody does.
	bound := ciIssuer.Workload(siteCredential(t, s, "job"), s.Now, map[string]any{"sub": "job"})
	sess, err := c.Login(t.Context(), "test", "job", bound)
	must(t, err)
	if sess.Expires.After(s.Now().Add(time.Hour + time.Second)) {
		t.Errorf("a session until %s", sess.Expires)
	}
	items := [][]byte{s.Item("a.txt", []byte("a"))}
	v, err := c.Submit(t.Context(), s.job(t, "job", "nightly", items, 0), items)
	must(t, err)
	if v.State != store.Executed {
		t.Fatalf("unattended: %s %s", v.State, v.Detail)
	}
	// What a thief finds in evidence is over.
	items = [][]byte{s.Item("b.txt", []byte("b"))}
	if _, err := c.Submit(t.Context(), s.job(t, "loose", "single", items, 20*time.Minute), items); code(err) != "token-over" {
		t.Errorf("a token of twenty minutes ago: %v", err)
	}
	if v, err = c.Submit(t.Context(), s.job(t, "loose", "single", items, time.Minute), items); err != nil || v.State != store.Pending {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := c.Submit(t.Context(), s.job(t, "loose", "nightly", items, 0), items); code(err) != "requester-not-allowed" {
		t.Errorf("unbound and unattended: %v", err)
	}
}

func TestIssuersAreShown(t *testing.T) {
	s := jobSite(t, func(c *api.Config) {
		c.Issuers = func(context.Context) ([]issuer.State, error) {
			return []issuer.State{{Report: issuer.Report{Name: "ci", URL: ciIssuer.URL, Pinned: []string{"key-1"}, New: []string{"key-2"}}, Seen: servertest.Start}}, nil
		}
	})
	got, err := s.as(t, "alice").Issuers(t.Context())
	must(t, err)
	if len(got.Issuers) != 1 || got.Issuers[0].New[0] != "key-2" {
		t.Errorf("%+v", got)
	}
	m := s.raw(t, "GET", "/metrics", nil, "Authorization", "Bearer "+s.token(t, "prom", "metrics"))
	for _, want := range []string{`greatseal_issuer_keys{issuer="ci",state="new"} 1`, `greatseal_issuer_answered_seconds{issuer="ci"}`} {
		if !strings.Contains(string(m.body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
