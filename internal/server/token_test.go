package server_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

var actions = credentialtest.NewIssuer("https://token.actions.githubusercontent.com", "key-1", nil)

// job has the machine "job" sign with tokens of GitHub's, under "nightly".
func job(c *charter.Charter) {
	c.Issuers = map[string]charter.Issuer{"github": {URL: actions.URL, Keys: []string{actions.JWK()}}}
	c.Machines["job"] = charter.Machine{Credentials: []charter.Credential{{OIDC: &charter.OIDC{
		Issuer: "github", Audience: "https://seal.example.com", Claims: map[string]string{"repository": "acme/app", "ref_type": "tag"}, Patterns: map[string]string{"ref": "refs/tags/v*"}}}}}
	p := c.Policies["nightly"]
	p.Rule.Requesters = append(p.Rule.Requesters, "job")
	c.Policies["nightly"] = p
}

// What a workload's token says is told apart from what the requester says, and what the
// charter asks for from the rest.
func TestTokenView(t *testing.T) {
	w := servertest.New(t, job)
	s, _ := w.Server(w.Store(""))
	head, ref := s.Chain().Head()
	cred, err := head.Credential(head.Machines["job"].Credentials[0])
	if err != nil {
		t.Fatal(err)
	}
	items := w.Files("nightly", 1)
	cmd, err := author.SignCommand(head, "nightly", "", items)
	if err != nil {
		t.Fatal(err)
	}
	a := &author.Author{Name: "job", Now: w.Now, Rand: rand.Reader, Signer: actions.Workload(cred.(*credential.OIDC), w.Now, map[string]any{
		"repository": "acme/app", "ref": "refs/tags/v1.2", "ref_type": "tag", "sub": "repo:acme/app:ref:refs/tags/v1.2", "sha": "4f2a", "workflow": "release\u202e\nevil", "run_number": "7"})}
	env, _, err := a.Request(t.Context(), head, ref, cmd, author.RequestOptions{Expires: time.Hour, Origin: map[string]string{"commit": "beef"}})
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	r = w.Until(s, r.ID, store.Executed)
	v, err := s.View(t.Context(), r, true)
	if err != nil {
		t.Fatal(err)
	}
	if v.Token == nil || v.Token.Problem != "" || v.Token.Unbound || v.Token.Name != "github" || v.Token.Issuer != actions.URL || !v.Token.Issued.Before(v.Token.Expires) {
		t.Fatalf("%+v", v.Token)
	}
	var got []string
	for _, c := range v.Token.Claims {
		if strings.ContainsAny(c.Value, "\u202e\n") {
			t.Errorf("%q", c)
		}
		if c.Name == "workflow" {
			c.Value = "…"
		}
		got = append(got, fmt.Sprintf("%s=%s[%s]", c.Name, c.Value, c.Wanted))
	}
	if all := strings.Join(got, " "); all != "ref=refs/tags/v1.2[refs/tags/v*] ref_type=tag[tag] repository=acme/app[acme/app] sub=repo:acme/app:ref:refs/tags/v1.2[] workflow=…[] sha=4f2a[]" {
		t.Error(all)
	}
	if len(v.Origin) != 1 || v.Origin[0].Value != "beef" {
		t.Errorf("%+v", v.Origin)
	}
	if v, err := s.View(t.Context(), r, false); err != nil || v.Token != nil {
		t.Errorf("%+v, %v", v.Token, err)
	}

	// Judged under a charter that pins another key, or has another workload, or none, it
	// is a claim; so is the token of another request, and one that nobody can read.
	e, err := statement.DecodeEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	other := func(change func(c *charter.Charter)) *charter.Charter {
		c, err := charter.Clone(head)
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		return c
	}
	for name, c := range map[string]*charter.Charter{
		"another key": other(func(c *charter.Charter) {
			c.Issuers["github"] = charter.Issuer{URL: actions.URL, Keys: []string{credentialtest.NewIssuer(actions.URL, "key-2", nil).JWK()}}
		}),
		"another workload": other(func(c *charter.Charter) { c.Machines["job"].Credentials[0].OIDC.Claims["repository"] = "acme/other" }),
		"none":             other(func(c *charter.Charter) { delete(c.Machines, "job") }),
	} {
		if v := server.TokenOf(c, e); v == nil || v.Problem == "" || len(v.Claims) == 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := server.TokenOf(head, e); v == nil || v.Problem != "" {
		t.Errorf("%+v", v)
	}
	moved := *e
	moved.Payload = []byte(strings.Replace(string(e.Payload), `"beef"`, `"f00d"`, 1))
	if v := server.TokenOf(head, &moved); v == nil || v.Problem == "" {
		t.Errorf("the token of another request: %+v", v)
	}
	moved = *e
	moved.Signatures = []statement.Signature{{KeyID: e.Signatures[0].KeyID, Sig: []byte("x.y")}}
	if v := server.TokenOf(head, &moved); v == nil || v.Problem == "" || len(v.Claims) != 0 {
		t.Errorf("no token: %+v", v)
	}
	plain, err := statement.DecodeEnvelope(w.Sign("ann", "nightly", items))
	if err != nil {
		t.Fatal(err)
	}
	if v := server.TokenOf(head, plain); v != nil {
		t.Errorf("signed with a key: %+v", v)
	}
}
