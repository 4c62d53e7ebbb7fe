package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	"golang.org/x/mod/sumdb/note"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// Charter returns the charter in force, as the server says. Chain is what can be
// checked.
func (c *Client) Charter(ctx context.Context) (*wire.Charter, error) {
	return get[wire.Charter](ctx, c, "/charter", nil, 0)
}

// Chain returns the charter chain, as quorum.DecodeChain takes it.
func (c *Client) Chain(ctx context.Context) ([]byte, error) {
	return c.bytes(ctx, call{method: http.MethodGet, path: "/charter/chain", limit: large})
}

// Keys returns the keys of the charter.
func (c *Client) Keys(ctx context.Context) ([]wire.Key, error) {
	k, err := get[wire.Keys](ctx, c, "/keys", nil, 0)
	if err != nil {
		return nil, err
	}
	return k.Keys, nil
}

// Status returns the state of the deployment.
func (c *Client) Status(ctx context.Context) (*wire.Status, error) {
	return get[wire.Status](ctx, c, "/status", nil, 0)
}

// Login proves who one is with a credential of the charter, and uses the session
// from now on. The caller may keep the session until it expires (SetToken).
// deployment is the one that the caller expects; empty: the server's word.
func (c *Client) Login(ctx context.Context, deployment, name string, s credential.Signer) (*wire.Session, error) {
	ctx = context.WithValue(ctx, nameless{}, true)
	ch, err := post[wire.Challenge](ctx, c, "/sessions/challenge", struct{}{}, false)
	if err != nil {
		return nil, err
	}
	if deployment == "" {
		deployment = ch.Deployment
	}
	if ch.Deployment != deployment {
		return nil, fmt.Errorf("client: login: the server is of deployment %q, not %q", printable(ch.Deployment), deployment)
	}
	if ch.Audience != c.host {
		return nil, fmt.Errorf("client: login: the server says that it is %q, it was reached as %q: set its url", printable(ch.Audience), c.host)
	}
	sig, err := s.Sign(ctx, credential.Login, wire.LoginMessage(deployment, c.host, name, ch.Nonce))
	if err != nil {
		return nil, fmt.Errorf("client: login: %w", err)
	}
	out, err := post[wire.Session](ctx, c, "/sessions", wire.Login{Name: name, Credential: string(s.Credential().ID()), Nonce: ch.Nonce, Signature: sig}, true)
	if err != nil {
		return nil, err
	}
	c.SetToken(out.Token)
	return out, nil
}

// LoginToken gets a session for a workload's ID token, and uses it from now on. name
// may be empty.
func (c *Client) LoginToken(ctx context.Context, name string, token []byte) (*wire.Session, error) {
	ctx = context.WithValue(ctx, nameless{}, true)
	out, err := post[wire.Session](ctx, c, "/sessions/token", wire.TokenLogin{Name: name, Token: string(token)}, true)
	if err != nil {
		return nil, err
	}
	c.SetToken(out.Token)
	return out, nil
}

// Issuers says what is known of the issuers of ID tokens that the charter pins.
func (c *Client) Issuers(ctx context.Context) (*wire.Issuers, error) {
	return get[wire.Issuers](ctx, c, "/issuers", nil, 0)
}

// Logout ends the session in use.
func (c *Client) Logout(ctx context.Context) error {
	_, err := c.bytes(ctx, call{method: http.MethodDelete, path: "/sessions"})
	if err == nil {
		c.SetToken("")
	}
	return err
}

// CreateToken makes a bearer token; its secret is in the answer alone.
func (c *Client) CreateToken(ctx context.Context, t wire.NewToken) (*wire.Token, error) {
	return post[wire.Token](ctx, c, "/tokens", t, true)
}

// Tokens lists the tokens that the caller may see.
func (c *Client) Tokens(ctx context.Context) ([]wire.Token, error) {
	t, err := get[wire.Tokens](ctx, c, "/tokens", nil, 0)
	if err != nil {
		return nil, err
	}
	return t.Tokens, nil
}

// DeleteToken ends a token.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	_, err := c.bytes(ctx, call{method: http.MethodDelete, path: "/tokens/" + url.PathEscape(id), once: true})
	return err
}

// Log reads the audit log, checked against the log's key, which the caller knows
// from the charter chain.
func (c *Client) Log(origin string, v note.Verifier) *audit.Client {
	return &audit.Client{Fetch: c.fetch, Origin: origin, Verifier: v}
}

func (c *Client) fetch(ctx context.Context, path string) ([]byte, error) {
	b, err := c.bytes(ctx, call{method: http.MethodGet, path: "/log/" + path, accept: "*/*", limit: audit.MaxBundle})
	var p *Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound {
		return nil, fmt.Errorf("client: log: %s: %w", path, fs.ErrNotExist)
	}
	return b, err
}

// LogBody returns a body that the log only names; audit.Entry.Body checks it.
func (c *Client) LogBody(ctx context.Context, sum [32]byte) ([]byte, error) {
	return c.bytes(ctx, call{method: http.MethodGet, path: "/log/body/" + hex.EncodeToString(sum[:]), accept: "*/*", limit: audit.MaxBody})
}

// Timestamp asks the deployment's own RFC 3161 authority; request and answer are
// DER.
func (c *Client) Timestamp(ctx context.Context, request []byte) ([]byte, error) {
	return c.bytes(ctx, call{method: http.MethodPost, path: "/timestamp", body: request, content: wire.TimestampQuery, accept: wire.TimestampReply, limit: 1 << 20})
}

// Ready says whether the server can execute requests: nil, or why not.
func (c *Client) Ready(ctx context.Context) error {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: "/readyz", root: true})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
