package credential

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/statement"
)

// Limits of a workload.
const (
	maxIssuerKeys = 32
	maxWorkload   = 32 // claims, and patterns
	maxClaimText  = 1024
	maxAudience   = 256
)

// apiSuffix makes of a workload's audience that of the tokens by which it calls a
// server: none of those is a signature.
const apiSuffix = "/api"

// Workload is what an [OIDC] credential is made of.
type Workload struct {
	Issuer   string            `json:"issuer"`            // the iss of its tokens: an https URL
	Keys     []string          `json:"keys"`              // of the issuer: the text of IssuerKeys, sorted
	Audience string            `json:"audience"`          // whom its tokens are for
	Claims   map[string]string `json:"claims,omitzero"`   // what they say, exactly; at least one
	Patterns map[string]string `json:"patterns,omitzero"` // further claims, as path.Match
	Unbound  bool              `json:"unbound,omitzero"`  // the token of a request does not name the request
}

// OIDC is a workload, a job of CI say, that signs requests with the ID tokens which
// its issuer gives it, and holds no key. The zero value verifies nothing.
//
// Where it is bound, a signature is a token for the audience
//
//	AUDIENCE "/" hex(Challenge(purpose, message))
//
// which is good for this message and for nothing else. Where it is unbound, the
// audience is AUDIENCE alone: whoever sees the token can sign with it any request
// that was made while it was valid, and logs in with it nowhere.
//
// Statements verify only when they are requests, made while the token was valid: a
// workload endorses nothing and founds nothing, whatever a charter says.
type OIDC struct {
	w    Workload
	keys []*IssuerKey
	text string
	id   ID
}

// own are the claims that the rules of tokens are about.
var own = []string{"iss", "aud", "exp", "iat", "nbf", "jti"}

// CheckIssuer refuses what is not the URL of an issuer (OpenID Connect Discovery
// 1.0 section 3): https, a host, no user, query or fragment.
func CheckIssuer(s string) error {
	rest, ok := strings.CutPrefix(s, "https://")
	host, _, _ := strings.Cut(rest, "/")
	if !ok || host == "" || len(s) > maxAudience || !visible(s) || strings.ContainsAny(s, "?#\"\\<>") || strings.Contains(host, "@") || strings.ToLower(host) != host {
		return fmt.Errorf("issuer %.80q: want https://HOST or https://HOST/PATH, the host in lower case", s)
	}
	return nil
}

// CheckAudience refuses what is no audience of a workload.
func CheckAudience(s string) error {
	if !visible(s) || len(s) > maxAudience || strings.ContainsAny(s, "\"\\<>") || strings.HasSuffix(s, "/") {
		return fmt.Errorf("audience %.80q: want 1 to %d printable characters without quotes, not ending in a slash, like https://seal.example.com", s, maxAudience)
	}
	last := s[strings.LastIndexByte(s, '/')+1:]
	if b, err := hex.DecodeString(last); strings.HasSuffix(s, apiSuffix) || err == nil && len(b) == sha256.Size {
		return fmt.Errorf("audience %.80q: ends in what the audiences of requests and calls end in", s)
	}
	return nil
}

// NewOIDC is the credential of a workload. Claims, patterns and keys are copied. The
// error wraps [ErrCredential].
func NewOIDC(w Workload) (*OIDC, error) {
	c, err := newOIDC(w)
	if err != nil {
		return nil, refuse("oidc: %w", err)
	}
	return c, nil
}

func newOIDC(w Workload) (*OIDC, error) {
	if err := errors.Join(CheckIssuer(w.Issuer), CheckAudience(w.Audience)); err != nil {
		return nil, err
	}
	if n := len(w.Claims); n == 0 || n > maxWorkload || len(w.Patterns) > maxWorkload {
		return nil, fmt.Errorf("%d claims and %d patterns: want 1 to %d claims that say which workload it is", n, len(w.Patterns), maxWorkload)
	}
	for _, m := range []map[string]string{w.Claims, w.Patterns} {
		for name, v := range m {
			if !visible(name) || len(name) > maxKeyName || v == "" || len(v) > maxClaimText {
				return nil, fmt.Errorf("claim %.80q: want a printable name, and a value of 1 to %d bytes", name, maxClaimText)
			}
			if slices.Contains(own, name) {
				return nil, fmt.Errorf("claim %s: issuer, audience and times have rules of their own", name)
			}
		}
	}
	for name, p := range w.Patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("pattern of %s: %.80q is not a pattern of path.Match, like refs/tags/v*", name, p)
		}
		if _, both := w.Claims[name]; both {
			return nil, fmt.Errorf("claim %s: has a value and a pattern", name)
		}
	}
	if n := len(w.Keys); n == 0 || n > maxIssuerKeys {
		return nil, fmt.Errorf("%d keys of the issuer: want 1 to %d", n, maxIssuerKeys)
	}
	c := &OIDC{w: w}
	c.w.Claims, c.w.Patterns, c.w.Keys = maps.Clone(w.Claims), maps.Clone(w.Patterns), nil
	if len(c.w.Patterns) == 0 {
		c.w.Patterns = nil
	}
	names := map[string]bool{}
	for _, text := range w.Keys {
		k, err := parseJWK(text)
		if err != nil {
			return nil, fmt.Errorf("issuer key: %w", err)
		}
		if names[k.id] {
			return nil, fmt.Errorf("two keys of the issuer have the ID %s", k.id)
		}
		names[k.id] = true
		c.keys = append(c.keys, k)
		c.w.Keys = append(c.w.Keys, k.text)
	}
	slices.Sort(c.w.Keys)
	text, err := marshalWorkload(c.w)
	if err != nil {
		return nil, err
	}
	if len(text) > MaxText {
		return nil, fmt.Errorf("%d bytes with the issuer's keys: want at most %d", len(text), MaxText)
	}
	who := c.w
	who.Keys = nil
	name, err := marshalWorkload(who)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(name)
	c.text, c.id = string(text), ID("oidc:"+hex.EncodeToString(sum[:]))
	return c, nil
}

func marshalWorkload(w Workload) ([]byte, error) {
	return json.Marshal(w, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
}

func parseOIDC(text string) (*OIDC, error) {
	var w Workload
	if err := json.Unmarshal([]byte(text), &w, json.RejectUnknownMembers(true)); err != nil {
		return nil, refuse("oidc: %w", err)
	}
	c, err := NewOIDC(w)
	if err != nil {
		return nil, err
	}
	if c.text != text {
		return nil, refuse("oidc: not in its canonical form")
	}
	return c, nil
}

// Kind implements [Credential].
func (c *OIDC) Kind() Kind { return KindOIDC }

// ID implements [Credential]. It is made of issuer, audience and claims, not of the
// issuer's keys: a workload keeps its ID when the issuer changes them.
func (c *OIDC) ID() ID { return c.id }

// Text implements [Credential]: JSON with the issuer's keys inside.
func (c *OIDC) Text() string { return c.text }

// Describe implements [Credential].
func (c *OIDC) Describe() string {
	if c.id == "" {
		return "oidc (no issuer)"
	}
	var b strings.Builder
	b.WriteString("oidc " + c.w.Issuer)
	for _, n := range slices.Sorted(maps.Keys(c.w.Claims)) {
		fmt.Fprintf(&b, " %s=%s", n, strings.Trim(strconv.QuoteToASCII(c.w.Claims[n]), `"`))
	}
	for _, n := range slices.Sorted(maps.Keys(c.w.Patterns)) {
		fmt.Fprintf(&b, " %s~%s", n, strings.Trim(strconv.QuoteToASCII(c.w.Patterns[n]), `"`))
	}
	if c.w.Unbound {
		b.WriteString(" (unbound)")
	}
	return b.String()
}

// Hardware implements [Credential]: it is false, there is no key.
func (c *OIDC) Hardware() bool { return false }

// Workload is what the credential is made of.
func (c *OIDC) Workload() Workload {
	w := c.w
	w.Claims, w.Patterns, w.Keys = maps.Clone(w.Claims), maps.Clone(w.Patterns), slices.Clone(w.Keys)
	return w
}

// Audience is the audience of the token that is a signature over message for p.
func (c *OIDC) Audience(p Purpose, message []byte) (string, error) {
	challenge, err := Challenge(p, message)
	if err != nil {
		return "", err
	}
	if c.w.Unbound {
		if p != Statement {
			return "", errors.New("credential: an unbound workload logs in with a token for the server alone")
		}
		return c.w.Audience, nil
	}
	return c.w.Audience + "/" + hex.EncodeToString(challenge), nil
}

// APIAudience is the audience of tokens that the workload shows to a server. They
// are no signatures, and signatures are none of them.
func (c *OIDC) APIAudience() string { return c.w.Audience + apiSuffix }

// Verify implements [Credential]. See [OIDC].
func (c *OIDC) Verify(p Purpose, message, sig []byte) error {
	if c.id == "" {
		return refuseSig("oidc: no issuer")
	}
	aud, err := c.Audience(p, message)
	if err != nil {
		return refuseSig("oidc: %w", err)
	}
	t, err := ParseIDToken(sig)
	if err != nil {
		return err
	}
	if err := c.check(t, aud); err != nil {
		return err
	}
	if p == Login {
		// The message is a server's challenge, or names what it is about, and the token
		// names the message: when it was given out says nothing more.
		return t.At(t.Issued)
	}
	r, err := request(message)
	if err != nil {
		return refuseSig("oidc: a workload's token signs requests only: %w", err)
	}
	return t.At(r.Created.Unix())
}

// request reads the request of which message is the pre-authentication encoding.
func request(message []byte) (*statement.Request, error) {
	// "DSSEv1 N TYPE N PAYLOAD"
	parts := bytes.SplitN(message, []byte(" "), 5)
	if len(parts) != 5 || !bytes.Equal(statement.PAE(parts[4]), message) {
		return nil, errors.New("not a statement")
	}
	r, err := statement.Decode[statement.Request](parts[4])
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Token verifies a token that the workload shows to a server, at a time in seconds
// since 1970. It is no signature. The error wraps [ErrSignature].
func (c *OIDC) Token(token []byte, now int64) (*IDToken, error) {
	t, err := ParseIDToken(token)
	if err != nil {
		return nil, err
	}
	if err := c.Shows(t, now); err != nil {
		return nil, err
	}
	return t, nil
}

// Shows is Token for a token that has been taken apart: one that may be any of many
// workloads' is taken apart once.
func (c *OIDC) Shows(t *IDToken, now int64) error {
	if c.id == "" {
		return refuseSig("oidc: no issuer")
	}
	if err := c.check(t, c.APIAudience()); err != nil {
		return err
	}
	return t.At(now)
}

// check verifies everything about a token but its times.
func (c *OIDC) check(t *IDToken, aud string) error {
	switch {
	case t.Issuer != c.w.Issuer:
		return refuseSig("token: of another issuer than %s", c.w.Issuer)
	case t.Audience != aud:
		return refuseSig("token: for another audience than %s", aud)
	}
	for name, want := range c.w.Claims {
		if got, ok := t.claims[name]; !ok || got != want {
			return refuseSig("token: its claim %s is not %q", name, want)
		}
	}
	for name, want := range c.w.Patterns {
		got, ok := t.claims[name]
		if match, err := path.Match(want, got); !ok || err != nil || !match {
			return refuseSig("token: its claim %s does not match %q", name, want)
		}
	}
	i := slices.IndexFunc(c.keys, func(k *IssuerKey) bool { return k.id == t.key })
	if i < 0 {
		return refuseSig("token: signed with a key of %s that is not pinned", c.w.Issuer)
	}
	if err := t.verify(c.keys[i]); err != nil {
		return refuseSig("token: %w", err)
	}
	return nil
}
