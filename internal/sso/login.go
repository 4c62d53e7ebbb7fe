package sso

import (
	"context"
	"crypto/sha256"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/greatseal-io/greatseal/internal/store"
)

// Home is where somebody goes who began nowhere else.
const Home = "/console/"

const maxReturn = 1024

// Local reports whether a path leads to a page of the console and nowhere else,
// whatever a browser makes of it.
func Local(path string) bool {
	if len(path) > maxReturn || !strings.HasPrefix(path, Home) || strings.Contains(path, "//") || strings.Contains(path, "\\") {
		return false
	}
	for i := range len(path) {
		if path[i] <= 0x20 || path[i] >= 0x7f {
			return false
		}
	}
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, Home) || strings.ContainsAny(u.Path, "\\\x00") || strings.Contains(u.Path, "//") {
		return false
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return true
}

// Start begins a login: where to send the browser, and cookies for it. Where it goes
// afterwards is back, or the console's first page if that is not a page of it.
// Cookies are those that the browser sent.
func (p *Providers) Start(ctx context.Context, name, back string, cookies []*http.Cookie) (location string, set []*http.Cookie, err error) {
	x, err := p.find(name)
	if err != nil {
		return "", nil, err
	}
	m, err := x.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	if !Local(back) {
		back = Home
	}
	a := &attempt{Provider: x.Name, Issuer: x.Issuer, Client: x.ClientID, Return: back, Began: p.now().UnixMilli()}
	for _, s := range []*string{&a.State, &a.Nonce, &a.Verifier} {
		if *s, err = p.random(); err != nil {
			return "", nil, err
		}
	}
	c, err := p.seal(ctx, a)
	if err != nil {
		return "", nil, err
	}
	opts := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.Verifier), oidc.Nonce(a.Nonce)}
	if x.MaxAge != 0 {
		opts = append(opts, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(int64(time.Duration(x.MaxAge)/time.Second), 10)))
	}
	if x.Prompt != "" {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", x.Prompt))
	}
	return p.oauth(x, m, "").AuthCodeURL(a.State, opts...), append(p.surplus(ctx, cookies), c), nil
}

func (p *Providers) oauth(x *provider, m *metadata, secret string) *oauth2.Config {
	return &oauth2.Config{ClientID: x.ClientID, ClientSecret: secret, Endpoint: m.endpoint, RedirectURL: p.RedirectURI(x.Name), Scopes: append([]string{oidc.ScopeOpenID}, x.Scopes...)}
}

// Login is somebody who signed in at a provider. Only [Providers.Finish] makes one.
type Login struct {
	provider *provider
	subject  string
	sid      string
	value    string // of the provider's claim; "" where the token had none
	groups   []string
	back     string
}

// Provider is the name of the provider in the configuration.
func (l *Login) Provider() string { return l.provider.Name }

// Issuer, Subject and SID are the token's iss, sub and sid; the last may be empty.
func (l *Login) Issuer() string  { return l.provider.Issuer }
func (l *Login) Subject() string { return l.subject }
func (l *Login) SID() string     { return l.sid }

// Groups are those that the configured claim lists, as far as the provider may give them.
func (l *Login) Groups() []string { return append([]string(nil), l.groups...) }

// Return is the page of the console where the login began.
func (l *Login) Return() string { return l.back }

// single is a parameter that stands in an answer once at most (RFC 6749, section 3.1).
func single(q url.Values, name string) (string, error) {
	switch v := q[name]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", fmt.Errorf("%w: %s comes twice", ErrAttempt, name)
}

// Finish takes a provider's answer: the query of its redirect and the cookies that the
// browser sent. The cookies that it returns are for the browser, with an error too.
func (p *Providers) Finish(ctx context.Context, name string, query url.Values, cookies []*http.Cookie) (*Login, []*http.Cookie, error) {
	x, err := p.find(name)
	if err != nil {
		return nil, nil, err
	}
	var state, code, iss, failure string
	for _, f := range []struct {
		to   *string
		name string
	}{{&state, "state"}, {&code, "code"}, {&iss, "iss"}, {&failure, "error"}} {
		if *f.to, err = single(query, f.name); err != nil {
			return nil, nil, err
		}
	}
	a, forget, err := p.attempt(ctx, state, cookies)
	var set []*http.Cookie
	if forget != nil {
		set = append(set, forget)
	}
	if err != nil {
		return nil, set, err
	}
	l, err := p.finish(ctx, x, a, code, iss, failure)
	if err != nil {
		p.log.Info("sign-on: nobody signed in", "provider", x.Name, "error", safe(err))
	}
	return l, set, err
}

func (p *Providers) finish(ctx context.Context, x *provider, a *attempt, code, iss, failure string) (*Login, error) {
	if a.Provider != x.Name || a.Issuer != x.Issuer || a.Client != x.ClientID {
		return nil, fmt.Errorf("%w: it is another provider's", ErrAttempt)
	}
	m, err := x.discover(ctx)
	if err != nil {
		return nil, err
	}
	// RFC 9207: an answer that names another issuer is not for this attempt, and one
	// that names none is not from an issuer which always does.
	if iss != "" && iss != x.Issuer || iss == "" && m.issParam {
		return nil, fmt.Errorf("%w: it does not come from the issuer", ErrAttempt)
	}
	if failure != "" {
		return nil, fmt.Errorf("%w: %s", ErrRefused, errorCode(failure))
	}
	if code == "" {
		return nil, fmt.Errorf("%w: it has no code", ErrAttempt)
	}
	secret, err := x.secret()
	if err != nil {
		return nil, err
	}
	token, err := p.oauth(x, m, secret).Exchange(x.context(ctx), code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, fmt.Errorf("%w: there is no ID token", ErrToken)
	}
	c, err := p.idToken(ctx, x, raw, token.AccessToken, a)
	if err != nil {
		return nil, err
	}
	if err := p.use(ctx, a); err != nil {
		return nil, err
	}
	if err := x.complete(ctx, m, c, token); err != nil {
		return nil, err
	}
	l := &Login{provider: x, subject: c.Subject, sid: c.SID, back: a.Return}
	if l.value, err = c.who(x.Claim); err != nil {
		return nil, err
	}
	all, err := c.list(x.Groups)
	if err != nil {
		return nil, err
	}
	l.groups = x.given(all)
	return l, nil
}

// use takes an attempt, once. That is noted when the provider has signed a token which
// answers it and not before: beginning an attempt costs nothing, and a row for each that
// comes to nothing would let strangers fill the database. An attempt that failed can be
// answered again by its browser until it ends, with a code that fits its verifier and a
// token that fits its nonce, of which the provider makes one.
func (p *Providers) use(ctx context.Context, a *attempt) error {
	err := p.store.Once(ctx, sha256.Sum256([]byte("greatseal sso attempt used v1\x00"+a.State)), a.began().Add(attemptLife+attemptSkew), p.now())
	if errors.Is(err, store.ErrExists) {
		return ErrUsed
	}
	return err
}

// complete looks for claims that are configured and not in the ID token where some
// providers have them alone: at the userinfo endpoint, which must speak of the same
// subject (OpenID Connect Core 1.0, section 5.3.4).
func (x *provider) complete(ctx context.Context, m *metadata, c *claims, token *oauth2.Token) error {
	if m.oidc.UserInfoEndpoint() == "" || c.has(x.Claim) && (x.Groups == "" || c.has(x.Groups)) {
		return nil
	}
	info, err := m.oidc.UserInfo(x.context(ctx), oauth2.StaticTokenSource(token))
	if err != nil {
		return fmt.Errorf("%w: its userinfo endpoint does not answer", ErrAway)
	}
	var raw jsontext.Value
	if err := info.Claims((*rawMessage)(&raw)); err != nil {
		return fmt.Errorf("%w: userinfo", ErrToken)
	}
	more, err := parseClaims(raw)
	if err != nil {
		return fmt.Errorf("%w: userinfo", ErrToken)
	}
	if more.Subject != c.Subject {
		return fmt.Errorf("%w: userinfo speaks of somebody else", ErrToken)
	}
	if !c.has(x.Claim) { // an address and who vouches for it come from one place
		for _, n := range []string{x.Claim, claimVerified} {
			if v, ok := more.all[n]; ok {
				c.all[n] = v
			} else {
				delete(c.all, n)
			}
		}
	}
	if v, ok := more.all[x.Groups]; ok && x.Groups != "" && !c.has(x.Groups) {
		c.all[x.Groups] = v
	}
	return nil
}

// errorCode is a provider's error code (RFC 6749, section 4.1.2.1) if it looks like
// one. The description beside it is a stranger's text and not repeated.
func errorCode(s string) string {
	if len(s) == 0 || len(s) > 40 {
		return "an error"
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			return "an error"
		}
	}
	return s
}

// exchangeError keeps the code of the token endpoint's error and leaves out its body.
func exchangeError(err error) error {
	var r *oauth2.RetrieveError
	if !errors.As(err, &r) || r.Response == nil {
		return fmt.Errorf("%w: its token endpoint does not answer as it should", ErrAway)
	}
	if r.Response.StatusCode >= 500 {
		return fmt.Errorf("%w: its token endpoint answers with HTTP status %d", ErrAway, r.Response.StatusCode)
	}
	return fmt.Errorf("%w: its token endpoint answers with %s", ErrRefused, errorCode(r.ErrorCode))
}
