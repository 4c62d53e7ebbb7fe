package dextest

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/config"
)

// Node is an oidc-provider that runs. It has the people of [Users], by their names; it
// always names itself in its answers (RFC 9207), ends sessions from outside, and calls
// back about it.
type Node struct {
	Issuer     string // https://127.0.0.1:PORT
	ClientID   string
	SecretFile string
	CAFile     string

	program
}

// NodeOptions are what a test chooses.
type NodeOptions struct {
	RedirectURL  string // of the client
	AfterLogout  string // where people come back to
	Backchannel  string // where it calls when a session ends; empty: nowhere
	Algorithm    string // of ID tokens and logout tokens; default ES256
	Thin         bool   // ID tokens have no claims of scopes: userinfo has
	SecretInBody bool   // the client's secret is wanted in the body
}

// StartNode runs an oidc-provider until the test ends.
func StartNode(tb testing.TB, o NodeOptions) *Node {
	tb.Helper()
	n := &Node{ClientID: "greatseal", program: newProgram(tb)}
	n.CAFile, _ = n.certificates()
	secret := "node-test-secret-" + random(tb)
	n.SecretFile = n.write("secret", []byte(secret))
	port := freePort(tb)
	n.Issuer = fmt.Sprintf("https://127.0.0.1:%d", port)
	if o.Algorithm == "" {
		o.Algorithm = "ES256"
	}
	client := map[string]any{
		"client_id": n.ClientID, "client_secret": secret, "grant_types": []string{"authorization_code"}, "response_types": []string{"code"},
		"redirect_uris": []string{o.RedirectURL}, "post_logout_redirect_uris": []string{o.AfterLogout}, "id_token_signed_response_alg": o.Algorithm,
		"scope": "openid email profile groups",
	}
	if o.Backchannel != "" {
		client["backchannel_logout_uri"], client["backchannel_logout_session_required"] = o.Backchannel, true
	}
	if o.SecretInBody {
		client["token_endpoint_auth_method"] = "client_secret_post"
	}
	users := map[string]any{}
	for name, u := range Users() {
		users[name] = map[string]any{"email": u.Email, "email_verified": u.Verified, "preferred_username": u.Username, "groups": u.Groups}
	}
	b, err := json.Marshal(map[string]any{"issuer": n.Issuer, "port": port, "algorithm": o.Algorithm, "thin": o.Thin, "clients": []any{client}, "users": users,
		"key": filepath.Join(n.dir, keyFile), "cert": filepath.Join(n.dir, certFile)})
	if err != nil {
		tb.Fatal(err)
	}
	n.name, n.args, n.url = formattest.Program(tb, "oidc_provider", "apt-get install nodejs npm; make judges"), []string{n.write("config.json", b)}, n.Issuer
	n.Up()
	return n
}

// Config is the provider "node" of a server's configuration.
func (n *Node) Config() config.SSO {
	return config.SSO{Name: "node", Title: "Node", Issuer: n.Issuer, ClientID: n.ClientID, ClientSecretFile: n.SecretFile, CA: n.CAFile,
		Claim: config.ClaimEmail, Scopes: []string{"email", "profile", "groups"}, Groups: "groups"}
}

// Visitor is a browser at the provider.
type Visitor struct {
	n      *Node
	client *http.Client
	back   *url.URL
}

// Visitor is a browser that was never there.
func (n *Node) Visitor() *Visitor {
	v := &Visitor{n: n, client: n.HTTPClient()}
	v.client.Jar, _ = cookiejar.New(nil)
	v.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), n.Issuer+"/") {
			v.back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	n.tb.Cleanup(v.client.CloseIdleConnections)
	return v
}

var (
	anyAction = regexp.MustCompile(`<form [^>]*action="([^"]*)"`)
	anyHidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// LogIn goes where a login begins, writes a user's name, agrees, and returns where the
// provider sends the browser back to.
func (v *Visitor) LogIn(ctx context.Context, start, user string) (*url.URL, error) {
	return v.through(ctx, start, url.Values{"login": {user}, "password": {Password}})
}

// LogOut goes where a session ends, agrees, and returns where the provider sends the
// browser back to.
func (v *Visitor) LogOut(ctx context.Context, start string) (*url.URL, error) {
	return v.through(ctx, start, url.Values{"logout": {"yes"}})
}

// through sends every form on the way, with what it has itself and more.
func (v *Visitor) through(ctx context.Context, to string, more url.Values) (*url.URL, error) {
	v.back = nil
	method, form := http.MethodGet, url.Values(nil)
	for range 5 {
		req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := v.client.Do(req)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if v.back != nil {
			return v.back, nil
		}
		m := anyAction.FindStringSubmatch(string(b))
		if m == nil {
			return nil, fmt.Errorf("dextest: no form at %s: %.500s\n%s", resp.Request.URL, b, v.n.log)
		}
		next, err := resp.Request.URL.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		if err != nil {
			return nil, err
		}
		method, to, form = http.MethodPost, next.String(), url.Values{}
		for _, h := range anyHidden.FindAllStringSubmatch(string(b), -1) {
			form.Set(h[1], h[2])
		}
		for k, x := range more {
			form[k] = x
		}
	}
	return nil, errors.New("dextest: form after form")
}
