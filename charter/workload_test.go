package charter_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/statement"
)

var (
	github = credentialtest.NewIssuer("https://token.actions.githubusercontent.com", "gh-1", nil)
	forge  = credentialtest.NewIssuer("https://git.example.com", "forge-1", nil)
)

// workloads is the example with a machine "actions" that may ask under windows.
func workloads(t testing.TB) *charter.Charter {
	c := example(t)
	c.Issuers = map[string]charter.Issuer{
		"github": {URL: github.URL, Keys: []string{github.JWK()}},
		"forge":  {URL: forge.URL, Provider: charter.GitLab, Keys: []string{forge.JWK()}},
	}
	c.Machines["actions"] = charter.Machine{Credentials: []charter.Credential{{OIDC: &charter.OIDC{
		Issuer: "github", Audience: "https://seal.example.com",
		Claims: map[string]string{"repository": "acme/app", "repository_id": "42", "ref": "refs/heads/main"},
	}}}}
	policy(c, "windows", func(p *charter.Policy) { p.Rule.Requesters = append(slices.Clone(p.Rule.Requesters), "actions") })
	b, err := charter.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = charter.Decode(b); err != nil {
		t.Fatal(err)
	}
	return c
}

func actions(c *charter.Charter) *charter.OIDC { return c.Machines["actions"].Credentials[0].OIDC }

// unattended lets the workload alone ask for signatures of a policy of its own.
func unattended(c *charter.Charter) {
	p := c.Policies["windows"]
	p.Upload, p.Rule = false, charter.Rule{Requesters: []string{"actions"}, Unattended: true}
	c.Policies["nightly"] = p
}

// Invariant 6, and what identifies nobody.
func TestWorkloadsRefused(t *testing.T) {
	group := func(c *charter.Charter) { c.Groups["robots"] = charter.Group{Members: []string{"actions"}} }
	for _, c := range []struct {
		path, text string
		edit       func(*charter.Charter)
	}{
		{"machines.actions.credentials[0]", "no issuer", func(c *charter.Charter) { actions(c).Issuer = "gitea" }},
		{"machines.actions.credentials[0]", "1 to 32 claims", func(c *charter.Charter) { actions(c).Claims = map[string]string{} }},
		{"machines.actions.credentials[0]", "exactly one of", func(c *charter.Charter) { c.Machines["actions"].Credentials[0].SSH = ssh("x")[0].SSH }},
		{"machines.actions.credentials[0].oidc.claims", "whose job", func(c *charter.Charter) { actions(c).Claims = map[string]string{"ref": "refs/heads/main"} }},
		{"machines.actions.credentials[0].oidc.claims", "whose job", func(c *charter.Charter) {
			actions(c).Claims = map[string]string{"job_workflow_ref": "acme/ci/.github/workflows/x.yml@refs/heads/main"}
		}},
		{"machines.actions.credentials[0].oidc.claims", "whose job", func(c *charter.Charter) {
			actions(c).Claims, actions(c).Patterns = map[string]string{"ref": "refs/heads/main"}, map[string]string{"repository": "acme/*"}
		}},
		{"machines.actions.credentials[0].oidc.claims", "whose job", func(c *charter.Charter) {
			actions(c).Issuer, actions(c).Claims = "forge", map[string]string{"ref": "main", "ref_protected": "true"}
		}},
		{"machines.actions.credentials[0].oidc.claims", "which workload", func(c *charter.Charter) {
			i := c.Issuers["forge"]
			i.Provider = ""
			c.Issuers["forge"] = i
			actions(c).Issuer, actions(c).Claims = "forge", map[string]string{"environment": "production"}
		}},
		{"machines.copy.credentials[0]", "stands once", func(c *charter.Charter) { c.Machines["copy"] = c.Machines["actions"] }},
		{"people.alice.credentials[1].oidc", "is a person", func(c *charter.Charter) {
			p := c.People["alice"]
			p.Credentials = append([]charter.Credential{ssh("alice")[0]}, c.Machines["actions"].Credentials...)
			delete(c.Machines, "actions")
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Requesters = []string{"alice"} })
			c.People["alice"] = p
		}},
		{"machines.actions.inspector", "has no vote", func(c *charter.Charter) {
			m := c.Machines["actions"]
			m.Inspector = true
			c.Machines["actions"] = m
		}},
		{"policies.windows.rule.quorum.member", "never endorses", func(c *charter.Charter) { quorum(c, &charter.Node{Member: "actions"}) }},
		{"policies.windows.rule.quorum.of[1].group", "never endorses", func(c *charter.Charter) {
			group(c)
			quorum(c, all(node(1, "release"), node(1, "robots")))
		}},
		{"policies.windows.rule.veto[0]", "never endorses", func(c *charter.Charter) {
			group(c)
			policy(c, "windows", func(p *charter.Policy) { p.Rule.Veto = []string{"robots"} })
		}},
		{"commands.charter.replace.quorum.group", "never endorses", func(c *charter.Charter) {
			group(c)
			command(c, statement.CharterReplace, func(r *charter.Rule) { r.Quorum = &charter.Node{Group: "robots"} })
		}},
		{"commands.charter.replace.requesters[0]", "not for charter.replace", func(c *charter.Charter) {
			command(c, statement.CharterReplace, func(r *charter.Rule) { r.Requesters = []string{"actions"} })
		}},
		{"commands.key.suspend.requesters[0]", "not for key.suspend", func(c *charter.Charter) {
			group(c)
			command(c, statement.KeySuspend, func(r *charter.Rule) { r.Requesters = []string{"robots"} })
		}},
		{"policies.nightly.rule.requesters[0]", "unbound token", func(c *charter.Charter) { unattended(c); actions(c).Unbound = true }},
		{"policies.nightly.rule.requesters[0]", "unbound token", func(c *charter.Charter) {
			unattended(c)
			group(c)
			policy(c, "nightly", func(p *charter.Policy) { p.Rule.Requesters = []string{"robots"} })
			// A second credential, which is bound, helps nothing.
			o := *actions(c)
			o.Unbound = true
			m := c.Machines["actions"]
			m.Credentials = append(slices.Clone(m.Credentials), charter.Credential{OIDC: &o})
			c.Machines["actions"] = m
		}},
		{"issuers.github.url", "want https", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.URL = "http://x" }) }},
		{"issuers.github.keys", "there are none", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.Keys = nil }) }},
		{"issuers.github.keys[0]", "private", func(c *charter.Charter) {
			issuer(c, func(i *charter.Issuer) {
				i.Keys = []string{`{"kty":"OKP","kid":"a","crv":"Ed25519","x":"AA","d":"AA"}`}
			})
		}},
		{"issuers.github.keys[0]", "canonical", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.Keys = []string{github.JWK()} }) }},
		{"issuers.github.keys[1]", "two keys with the ID", func(c *charter.Charter) {
			issuer(c, func(i *charter.Issuer) {
				i.Keys = append(i.Keys, text(t, credentialtest.NewIssuer("https://x", "gh-1", nil)))
				slices.Sort(i.Keys)
			})
		}},
		{"issuers.github.keys[0]", "stands once", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.Keys = c.Issuers["forge"].Keys }) }},
		{"issuers.github.url", "that of issuers.forge too", func(c *charter.Charter) {
			issuer(c, func(i *charter.Issuer) { i.URL, i.Provider = forge.URL, charter.GitHub })
		}},
		{"issuers.github.provider", "is github", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.Provider = charter.GitLab }) }},
		{"issuers.github.provider", "want github, gitlab", func(c *charter.Charter) { issuer(c, func(i *charter.Issuer) { i.Provider = "jenkins" }) }},
		{"issuers.GitHub", "want 1 to 64", func(c *charter.Charter) {
			c.Issuers["GitHub"] = charter.Issuer{URL: "https://x.example", Keys: c.Issuers["forge"].Keys}
		}},
		{"issuers", "is empty", func(c *charter.Charter) { c.Issuers = map[string]charter.Issuer{} }},
	} {
		x := workloads(t)
		c.edit(x)
		var ce *charter.CheckError
		if err := x.Check(); !errors.As(err, &ce) {
			t.Errorf("%s (%s) is accepted", c.path, c.text)
			continue
		}
		if !slices.ContainsFunc(ce.Problems, func(p charter.Problem) bool { return p.Path == c.path && strings.Contains(p.Text, c.text) }) {
			t.Errorf("%s: %q: got %v", c.path, c.text, ce)
		}
	}
}

// A charter of very many workloads is refused before its keys are read that often.
func TestWorkloadsHaveALimit(t *testing.T) {
	c := workloads(t)
	i := c.Issuers["github"]
	for n := range 31 {
		i.Keys = append(i.Keys, text(t, credentialtest.NewIssuer(github.URL, fmt.Sprint("k", n), nil)))
	}
	slices.Sort(i.Keys)
	c.Issuers["github"] = i
	for n := range 200 {
		o := *actions(c)
		o.Claims = map[string]string{"repository": fmt.Sprint("acme/", n)}
		c.Machines[fmt.Sprint("m", n)] = charter.Machine{Credentials: []charter.Credential{{OIDC: &o}}}
	}
	var ce *charter.CheckError
	if err := c.Check(); !errors.As(err, &ce) || len(ce.Problems) != 1 || !strings.Contains(ce.Problems[0].Text, "more than 5000 keys") {
		t.Errorf("%v", err)
	}
}

func issuer(c *charter.Charter, f func(*charter.Issuer)) {
	i := c.Issuers["github"]
	f(&i)
	c.Issuers["github"] = i
}

func text(t testing.TB, i *credentialtest.Issuer) string {
	t.Helper()
	k, err := credential.ParseIssuerKey(i.JWK())
	if err != nil {
		t.Fatal(err)
	}
	return k.Text()
}

func TestWorkloadsAccepted(t *testing.T) {
	c := workloads(t)
	unattended(c) // bound: the requester's token is enough
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	y, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := charter.ParseYAML(y)
	if err != nil {
		t.Fatalf("%v\n%s", err, y)
	}
	if d := charter.Diff(c, again); len(d) > 0 {
		t.Errorf("the YAML says something else: %v", d)
	}
	w, err := c.Credential(c.Machines["actions"].Credentials[0])
	if err != nil || w.Kind() != credential.KindOIDC || !strings.Contains(w.Describe(), "repository=acme/app") {
		t.Fatalf("%v: %v", w, err)
	}
	if _, err := c.Machines["actions"].Credentials[0].Parse(); !errors.Is(err, charter.ErrIssuer) {
		t.Errorf("a workload's credential without its charter: %v", err)
	}
	// An issuer's new key is a change of trust, and everything else stays.
	issuer(again, func(i *charter.Issuer) {
		i.Keys = append(i.Keys, text(t, credentialtest.NewIssuer(github.URL, "gh-2", nil)))
	})
	d := charter.Diff(c, again)
	if len(d) != 1 || d[0].Path != "issuers.github.keys" || d[0].Effect != charter.Trust || !strings.Contains(d[0].Text, "gh-2 EdDSA") {
		t.Errorf("%v", d)
	}
}

// A charter of before has the same bytes, and so the same ID.
func TestWorkloadsLeaveOthersAlone(t *testing.T) {
	b, err := charter.Encode(example(t))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "issuers") || strings.Contains(string(b), "oidc") {
		t.Error("a charter without workloads speaks of them")
	}
}

func TestWorkloadsLinted(t *testing.T) {
	for _, c := range []struct {
		code string
		edit func(*charter.Charter)
	}{
		{"workload-organisation", func(c *charter.Charter) {
			actions(c).Claims = map[string]string{"repository_owner": "acme", "ref": "refs/heads/main"}
		}},
		{"workload-any-branch", func(c *charter.Charter) { delete(actions(c).Claims, "ref") }},
		{"workload-name-reuse", func(c *charter.Charter) { delete(actions(c).Claims, "repository_id") }},
		{"workload-pull-request", func(c *charter.Charter) {
			delete(actions(c).Claims, "ref")
			actions(c).Patterns = map[string]string{"ref": "refs/*/*/*"}
		}},
		{"workload-unbound", func(c *charter.Charter) { actions(c).Unbound = true }},
		{"unused-issuer", func(*charter.Charter) {}},
		{"workload-of-two", func(c *charter.Charter) {
			c.Machines["other"] = charter.Machine{Credentials: []charter.Credential{{OIDC: &charter.OIDC{Issuer: "github", Audience: actions(c).Audience,
				Claims: map[string]string{"repository": "acme/app"}, Patterns: map[string]string{"ref": "refs/heads/*"}}}}}
		}},
		{"workload-unknown-issuer", func(c *charter.Charter) {
			c.Issuers["jenkins"] = charter.Issuer{URL: "https://ci.example.com/oidc", Keys: []string{text(t, credentialtest.NewIssuer("https://ci.example.com/oidc", "j", nil))}}
			actions(c).Issuer, actions(c).Claims = "jenkins", map[string]string{"sub": "https://ci.example.com/job/app/"}
		}},
	} {
		x := workloads(t)
		c.edit(x)
		if err := x.Check(); err != nil {
			t.Errorf("%s: %v", c.code, err)
			continue
		}
		if !slices.ContainsFunc(charter.Lint(x), func(w charter.Warning) bool { return w.Code == c.code }) {
			t.Errorf("%s: no such warning: %v", c.code, charter.Lint(x))
		}
	}
	for _, w := range charter.Lint(workloads(t)) {
		if strings.HasPrefix(w.Code, "workload-") {
			t.Errorf("a good workload: %v", w)
		}
	}
}

// A sub says whose job it is where it begins with that. Whoever has a repository chooses
// what else his jobs' sub is made of, and calls whose reusable workflow he likes.
func TestSubjectsOfStrangers(t *testing.T) {
	for _, x := range []struct {
		issuer, sub string
		refused     bool
	}{
		{"github", "repo:acme/app:ref:refs/heads/main", false},
		{"github", "repo:acme/app:environment:production", false},
		{"github", "repository_id:42:job_workflow_ref:acme/ci/.github/workflows/x.yml@refs/heads/main", false},
		{"github", "repository_owner:acme:environment:production", false},
		{"github", "environment:production", true},
		{"github", "ref:refs/heads/main", true},
		{"github", "job_workflow_ref:acme/ci/.github/workflows/release.yml@refs/heads/main", true},
		{"github", "workflow:release:repository:acme/app", true}, // a workflow that is called "release:repository:acme/app"
		{"github", "actor:alice", true},
		{"github", "repo:", true},
		{"github", "repo:/app", true},
		{"github", "repository_owner::environment:production", true},
		{"github", "REPO:acme/app", true},
		{"forge", "project_path:acme/app:ref_type:branch:ref:main", false},
		{"forge", "ref_type:branch:ref:main", true},
		{"forge", "42", true}, // a user who signs in
	} {
		c := workloads(t)
		actions(c).Issuer, actions(c).Claims = x.issuer, map[string]string{"sub": x.sub}
		err := c.Check()
		if refused := err != nil && strings.Contains(err.Error(), "whose job"); refused != x.refused || err != nil && !refused {
			t.Errorf("%s %s: %v", x.issuer, x.sub, err)
		}
		// Beside a claim that says it, any sub will do.
		actions(c).Claims[map[string]string{"github": "repository", "forge": "project_path"}[x.issuer]] = "acme/app"
		if err := c.Check(); err != nil {
			t.Errorf("%s %s: %v", x.issuer, x.sub, err)
		}
	}
}

// An enterprise's own issuer at GitHub is GitHub's.
func TestIssuersOfEnterprises(t *testing.T) {
	for url, want := range map[string]string{
		"https://token.actions.githubusercontent.com": charter.GitHub, "https://token.actions.githubusercontent.com/acme": charter.GitHub,
		"https://token.actions.acme.ghe.com": charter.GitHub, "https://token.actions.githubusercontent.com.evil.example": "",
		"https://token.actions.evil.example/x.ghe.com": "", "https://gitlab.com": charter.GitLab, "https://gitlab.com.example": "",
	} {
		if got := (charter.Issuer{URL: url}).Kind(); got != want {
			t.Errorf("%s is %q", url, got)
		}
	}
}

func TestLintSubjects(t *testing.T) {
	for _, x := range []struct {
		claims, patterns map[string]string
		code             string
		want             bool
	}{
		{map[string]string{"sub": "repo:acme/app:ref:refs/heads/main"}, nil, "workload-any-branch", false},
		{map[string]string{"sub": "repository_id:42"}, nil, "workload-any-branch", true},
		{map[string]string{"sub": "repo:acme/app:pull_request"}, nil, "workload-pull-request", true},
		{map[string]string{"sub": "repo:acme/app:ref:refs/heads/main"}, nil, "workload-pull-request", false},
		{map[string]string{"sub": "repository_owner:acme:environment:x"}, nil, "workload-organisation", true},
		{map[string]string{"sub": "repo:acme/app:environment:x"}, nil, "workload-organisation", false},
		{map[string]string{"repository": "acme/app", "repository_id": "4"}, map[string]string{"ref": "*"}, "workload-any-branch", true},
		{map[string]string{"repository": "acme/app", "repository_id": "4"}, map[string]string{"environment": "?*"}, "workload-any-branch", true},
		{map[string]string{"repository": "acme/app", "repository_id": "4"}, map[string]string{"ref": "refs/tags/v*"}, "workload-any-branch", false},
	} {
		c := workloads(t)
		actions(c).Claims, actions(c).Patterns = x.claims, x.patterns
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(charter.Lint(c), func(w charter.Warning) bool { return w.Code == x.code })
		if got != x.want {
			t.Errorf("%v %v: %s: %v", x.claims, x.patterns, x.code, got)
		}
	}
}

// Holds tells one credential from another, and a machine's from its issuer's keys.
func TestHolds(t *testing.T) {
	c := workloads(t)
	pin := func(x charter.Credential) string {
		t.Helper()
		cred, err := c.Credential(x)
		if err != nil {
			t.Fatal(err)
		}
		return credential.Pin(cred)
	}
	const ci = "actions"
	mine := pin(c.Machines[ci].Credentials[0])
	for name, p := range c.People {
		if !c.Holds(name, pin(p.Credentials[0])) || c.Holds(name, mine) || c.Holds(ci, pin(p.Credentials[0])) || c.Holds(name, "") || c.Holds("nobody", pin(p.Credentials[0])) {
			t.Errorf("%s", name)
		}
	}
	if !c.Holds(ci, mine) || c.Holds("nobody", "") || c.Holds(ci, mine[:len(mine)-1]) {
		t.Error("a machine's is told wrong")
	}
	i := c.Issuers["github"]
	i.Keys = []string{text(t, credentialtest.NewIssuer(i.URL, "another", nil))}
	c.Issuers["github"] = i
	if c.Holds(ci, mine) {
		t.Error("what began with a key that the issuer no longer has goes on")
	}
}
