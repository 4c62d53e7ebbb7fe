package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ssoServer = `listen: 127.0.0.1:0
url: https://sign.example.com
database: sqlite:db
root: 0000000000000000000000000000000000000000000000000000000000000001
keeper: {socket: /run/keeper}
`

func readSSO(t *testing.T, base, sso string) (*Server, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.yaml")
	if err := os.WriteFile(path, []byte(base+sso), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadServer(path)
}

func TestSSO(t *testing.T) {
	c, err := readSSO(t, ssoServer, `sso:
  - {name: dex, issuer: "https://dex.example.com/dex", client_id: greatseal, client_secret_file: secret, groups: groups, ca: ca.pem}
  - {name: corp, title: The corporation, issuer: "http://127.0.0.1:5556", client_id: g, claim: preferred_username, people: {alice.a: alice}, max_age: 12h, prompt: login}
`)
	if err != nil {
		t.Fatal(err)
	}
	d := c.SSO[0]
	if d.Claim != "email" || d.Title != "dex" || len(d.Scopes) != 1 || d.Scopes[0] != "email" || !filepath.IsAbs(d.ClientSecretFile) || !filepath.IsAbs(d.CA) {
		t.Errorf("%+v", d)
	}
	if p := c.SSO[1]; p.People["alice.a"] != "alice" || p.Scopes[0] != "profile" || p.Title != "The corporation" {
		t.Errorf("%+v", p)
	}
}

// Whose groups count is said where several could give them, and is what it was where one
// does.
func TestSSOGives(t *testing.T) {
	const roles = "console: {roles: {auditor: [\"group:audit\"], operator: [\"group:ops\"]}}\n"
	for _, c := range []struct{ sso, want string }{
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups}, {name: b, issuer: "https://i", client_id: g}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit, ops]}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit]}, {name: b, issuer: "https://i", client_id: g, groups: roles, gives: [ops]}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit, ops]}, {name: b, issuer: "https://i", client_id: g, groups: groups, gives: []}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g}]`, ""},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups}, {name: b, issuer: "https://i", client_id: g, groups: groups}]`, "a and b list groups: say at a and b which"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit, ops]}, {name: b, issuer: "https://i", client_id: g, groups: groups}]`, "say at b which"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit]}]`, "group:ops: no provider"},
		{`[{name: a, issuer: "https://h", client_id: g, gives: [audit, ops]}]`, "groups is missing"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: ["group:audit", ops]}]`, "the name alone"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [audit, ops, audit]}]`, "twice"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [" audit", ops]}]`, "gives"},
		{`[{name: a, issuer: "https://h", client_id: g, groups: groups, gives: [""]}]`, "gives"},
	} {
		s, err := readSSO(t, ssoServer+roles, "sso: "+c.sso+"\n")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.sso, err)
		}
		if err == nil && strings.Contains(c.sso, "gives: []") && s.SSO[1].Gives == nil {
			t.Error("an empty list of what a provider gives is all")
		}
	}
}

func TestSSORefused(t *testing.T) {
	for _, c := range []struct{ sso, want string }{
		{`[{name: Dex, issuer: "https://h", client_id: g}]`, "name"},
		{`[{name: "a/b", issuer: "https://h", client_id: g}]`, "name"},
		{`[{name: link, issuer: "https://h", client_id: g}]`, "name"},
		{`[{name: a, issuer: "https://h", client_id: g}, {name: a, issuer: "https://i", client_id: g}]`, "two providers"},
		{`[{name: a, issuer: "http://h", client_id: g}]`, "want https"},
		{`[{name: a, issuer: "https://u:p@h", client_id: g}]`, "issuer"},
		{`[{name: a, issuer: "https://h?x=1", client_id: g}]`, "issuer"},
		{`[{name: a, issuer: "https://h#", client_id: g}]`, "issuer"},
		{`[{name: a, issuer: "file:///etc/passwd", client_id: g}]`, "issuer"},
		{`[{name: a, issuer: "https://h"}]`, "client_id"},
		{`[{name: a, issuer: "https://h", client_id: g, claim: name}]`, "claim"},
		{`[{name: a, issuer: "https://h", client_id: g, people: {a: b}}]`, "people"},
		{`[{name: a, issuer: "https://h", client_id: g, claim: sub}]`, "people"},
		{`[{name: a, issuer: "https://h", client_id: g, claim: sub, people: {"": b}}]`, "empty"},
		{`[{name: a, issuer: "https://h", client_id: g, scopes: ["a b"]}]`, "scopes"},
		{`[{name: a, issuer: "https://h", client_id: g, scopes: [offline_access]}]`, "offline_access"},
		{`[{name: a, issuer: "https://h", client_id: g, prompt: none}]`, "prompt"},
		{`[{name: a, issuer: "https://h", client_id: g, max_age: 3s}]`, "max_age"},
		{`[{name: a, issuer: "https://h", client_id: g, client_secret: x}]`, "client_secret"},
	} {
		if _, err := readSSO(t, ssoServer, "sso: "+c.sso+"\n"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.sso, err)
		}
	}
	if _, err := readSSO(t, strings.Replace(ssoServer, "url: https://sign.example.com\n", "", 1), `sso: [{name: a, issuer: "https://h", client_id: g}]`); err == nil || !strings.Contains(err.Error(), "url is missing") {
		t.Errorf("without url: %v", err)
	}
}
