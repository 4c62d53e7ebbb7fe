package sso

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/greatseal-io/greatseal/internal/config"
)

const (
	clockSkew = time.Minute
	// backdated is how long before an attempt its token may say that it was issued:
	// Entra ID writes five minutes less.
	backdated = 10 * time.Minute

	claimVerified = "email_verified"
	maxValue      = 254
	maxGroups     = 2000
)

// rawMessage has go-oidc hand over a payload as it is.
type rawMessage jsontext.Value

// UnmarshalJSON keeps the bytes.
func (r *rawMessage) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

// claims are those of one token, in the case that they are written in; a claim that
// comes twice is an error.
type claims struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience audience     `json:"aud"`
	Party    string       `json:"azp"`
	Expires  *numericDate `json:"exp"`
	Issued   *numericDate `json:"iat"`
	AuthTime *numericDate `json:"auth_time"`
	Nonce    string       `json:"nonce"`
	SID      string       `json:"sid"`

	all map[string]jsontext.Value
}

type audience []string

// UnmarshalJSON takes one audience or several (RFC 7519, section 4.1.3).
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

type numericDate time.Time

// UnmarshalJSON takes seconds since 1970, with or without a fraction (RFC 7519,
// section 2), up to the year 9999.
func (d *numericDate) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if !(f >= 0 && f < 253402300800) {
		return errors.New("no date")
	}
	sec, frac := math.Modf(f)
	*d = numericDate(time.Unix(int64(sec), int64(frac*1e9)))
	return nil
}

func (d *numericDate) time() time.Time { return time.Time(*d) }

func parseClaims(b []byte) (*claims, error) {
	var c claims
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, errors.New("malformed claims")
	}
	if err := json.Unmarshal(b, &c.all); err != nil {
		return nil, errors.New("malformed claims")
	}
	return &c, nil
}

// header is what of a token's header says which kind of token it is. Keys and addresses
// of keys in it are not looked at.
type header struct {
	Type string `json:"typ"`
}

// parseHeader takes tokens in the compact serialization only, of the kinds that are
// named, or of none.
func parseHeader(token string, kinds ...string) error {
	if len(token) > maxToken {
		return errors.New("too long")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not three parts")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return errors.New("malformed header")
	}
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return errors.New("malformed header")
	}
	kind := strings.TrimPrefix(strings.ToLower(h.Type), "application/")
	if kind != "" && kind != "jwt" && !slices.Contains(kinds, kind) {
		return errors.New("a token of another kind")
	}
	return nil
}

func (p *Providers) verifier(x *provider) *oidc.IDTokenVerifier {
	return oidc.NewVerifier(x.Issuer, x.keys, &oidc.Config{ClientID: x.ClientID, SupportedSigningAlgs: algorithms, Now: p.now})
}

// mine checks who made a token and for whom. go-oidc has checked as much; it takes
// claims in any case, and the last of those that come twice.
func (x *provider) mine(c *claims) error {
	google := x.Issuer == "https://accounts.google.com" && c.Issuer == "accounts.google.com"
	switch {
	case c.Issuer != x.Issuer && !google:
		return errors.New("another issuer's")
	case !slices.Contains(c.Audience, x.ClientID):
		return errors.New("for another client")
	case len(c.Audience) > 1 && c.Party == "":
		return errors.New("for several clients, and it does not say which of them asked")
	case c.Party != "" && c.Party != x.ClientID:
		return errors.New("another client asked for it")
	}
	return nil
}

// idToken validates an ID token as OpenID Connect Core 1.0, section 3.1.3.7 says, and
// that it answers the attempt.
func (p *Providers) idToken(ctx context.Context, x *provider, raw, access string, a *attempt) (*claims, error) {
	bad := func(err error) (*claims, error) { return nil, fmt.Errorf("%w: %s", ErrToken, safe(err)) }
	if err := parseHeader(raw); err != nil {
		return bad(err)
	}
	t, err := p.verifier(x).Verify(x.context(ctx), raw)
	if err != nil {
		return bad(err)
	}
	var payload rawMessage
	if err := t.Claims(&payload); err != nil {
		return bad(err)
	}
	c, err := parseClaims(payload)
	if err != nil {
		return bad(err)
	}
	if err := x.mine(c); err != nil {
		return bad(err)
	}
	now := p.now()
	switch {
	case subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(a.Nonce)) != 1:
		return bad(errors.New("the nonce is another's"))
	case !text(c.Subject) || len(c.Subject) > 255: // section 2
		return bad(errors.New("no subject"))
	case c.SID != "" && (!text(c.SID) || len(c.SID) > 255):
		return bad(errors.New("sid"))
	case c.Expires == nil || !now.Before(c.Expires.time()):
		return bad(errors.New("expired"))
	case c.Issued == nil || c.Issued.time().After(now.Add(clockSkew)):
		return bad(errors.New("issued in the future, or who knows when"))
	case c.Issued.time().Before(a.began().Add(-backdated)):
		return bad(errors.New("issued before the login began"))
	}
	if t.AccessTokenHash != "" {
		if err := t.VerifyAccessToken(access); err != nil {
			return bad(err)
		}
	}
	if age := time.Duration(x.MaxAge); age != 0 && (c.AuthTime == nil || c.AuthTime.time().Before(now.Add(-age-clockSkew))) {
		return bad(errors.New("the person has proved who he is too long ago, or nobody says when"))
	}
	return c, nil
}

func (c *claims) has(name string) bool {
	_, ok := c.all[name]
	return ok
}

// who is the value of the claim that says who somebody is; empty where there is none.
func (c *claims) who(claim string) (string, error) {
	raw, ok := c.all[claim]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%w: %s is no text", ErrToken, claim)
	}
	if s == "" {
		return "", nil
	}
	if !text(s) || len(s) > maxValue {
		return "", fmt.Errorf("%w: %s has characters that names do not have, or too many", ErrToken, claim)
	}
	if claim == config.ClaimEmail {
		var ok bool
		if err := json.Unmarshal(c.all[claimVerified], &ok); err != nil || !ok {
			return "", ErrUnverified
		}
	}
	return s, nil
}

// list is the value of a claim that lists groups, or names one.
func (c *claims) list(claim string) ([]string, error) {
	raw, ok := c.all[claim]
	if claim == "" || !ok || string(raw) == "null" {
		return nil, nil
	}
	var out []string
	if err := json.Unmarshal(raw, (*audience)(&out)); err != nil {
		return nil, fmt.Errorf("%w: %s is no list of names", ErrToken, claim)
	}
	if len(out) > maxGroups {
		return nil, fmt.Errorf("%w: %s lists more than %d groups", ErrToken, claim, maxGroups)
	}
	for _, g := range out {
		if !text(g) || len(g) > maxValue {
			return nil, fmt.Errorf("%w: %s lists something that is no name", ErrToken, claim)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// text reports whether s is something, of characters that people see.
func text(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == '\ufeff'
	})
}
