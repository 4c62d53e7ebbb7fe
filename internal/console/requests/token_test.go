package requests_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
)

// A workload's request shows what its token says, by whose word, apart from what the
// requester claims.
func TestTokenIsShown(t *testing.T) {
	ci := credentialtest.NewIssuer("https://token.actions.githubusercontent.com", "key-1", nil)
	b := webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) {
		c.Issuers = map[string]charter.Issuer{"github": {URL: ci.URL, Keys: []string{ci.JWK()}}}
		c.Machines["job"] = charter.Machine{Credentials: []charter.Credential{{OIDC: &charter.OIDC{
			Issuer: "github", Audience: "https://seal.example.com", Claims: map[string]string{"repository": "acme/app", "ref": "refs/heads/main"}}}}}
		p := c.Policies["single"]
		p.Rule.Requesters = append(p.Rule.Requesters, "job")
		c.Policies["single"] = p
	}}, func(b *webtest.Bench) []web.Area { return []web.Area{requests.Area(b.Server, b.Store)} })
	head, ref := b.Server.Chain().Head()
	cred, err := head.Credential(head.Machines["job"].Credentials[0])
	if err != nil {
		t.Fatal(err)
	}
	items := b.World.Files("app", 1)
	cmd, err := author.SignCommand(head, "single", "", items)
	if err != nil {
		t.Fatal(err)
	}
	a := &author.Author{Name: "job", Now: b.Now, Rand: rand.Reader, Signer: ci.Workload(cred.(*credential.OIDC), b.Now, map[string]any{
		"repository": "acme/app", "ref": "refs/heads/main", "workflow": "<script>alert(1)</script>", "sha": "4f2a"})}
	env, _, err := a.Request(t.Context(), head, ref, cmd, author.RequestOptions{Expires: time.Hour, Origin: map[string]string{"commit": "beef"}})
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := b.Server.Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	page := b.As("bob").Get("/console/requests/" + r.ID.String()).OK().Clean()
	for _, want := range []string{"Token", ci.URL, "refs/heads/main", "the charter asks for it", "<script>alert(1)</script>", "4f2a", "beef"} {
		page.Has(want)
	}
}
