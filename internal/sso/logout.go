package sso

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	logoutLife  = 10 * time.Minute // of a logout token, from when it was issued; the standard says two
	logoutWait  = 3 * time.Second
)

// EndSession is where a browser goes to end its session at the provider too, and
// comes back from to the login page (OpenID Connect RP-Initiated Logout 1.0); empty
// where the provider has nothing of the kind, or is away.
func (p *Providers) EndSession(ctx context.Context, name string) string {
	x, err := p.find(name)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, logoutWait)
	defer cancel()
	m, err := x.discover(ctx)
	if err != nil || m.end == "" {
		return ""
	}
	u, err := url.Parse(m.end)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", x.ClientID)
	q.Set("post_logout_redirect_uri", p.base+Home+"login")
	u.RawQuery = q.Encode()
	return u.String()
}

// Named is the name of the provider with an issuer; empty where there is none.
func (p *Providers) Named(issuer string) string {
	for _, x := range p.list {
		if x.Issuer == issuer {
			return x.Name
		}
	}
	return ""
}

// End says which sessions a provider ends.
type End struct {
	Issuer  string
	Subject string    // empty: whosever session SID is
	SID     string    // empty: all of Subject's
	Before  time.Time // of those that began by then
}

// Logout takes a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6) and
// has end end the sessions that it names. A token is used once. It is noted as used
// when the sessions have ended, so that one whose sessions could not be ended can come
// again; until then it ends nothing that began after it.
func (p *Providers) Logout(ctx context.Context, name, raw string, end func(context.Context, End) error) error {
	x, err := p.find(name)
	if err != nil {
		return err
	}
	bad := func(err error) error { return fmt.Errorf("%w: %s", ErrToken, safe(err)) }
	if err := parseHeader(raw, "logout+jwt"); err != nil {
		return bad(err)
	}
	if _, err := x.discover(ctx); err != nil {
		return err
	}
	t, err := p.verifier(x).VerifyLogout(x.context(ctx), raw)
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
	var jti string
	var events map[string]jsontext.Value
	if json.Unmarshal(c.all["jti"], &jti) != nil || !text(jti) || len(jti) > 255 {
		return bad(errors.New("no jti"))
	}
	if json.Unmarshal(c.all["events"], &events) != nil || events[logoutEvent].Kind() != '{' {
		return bad(errors.New("it tells of no logout"))
	}
	now := p.now()
	switch {
	case c.has("nonce"):
		return bad(errors.New("an ID token"))
	case c.Subject == "" && c.SID == "":
		return bad(errors.New("nobody's"))
	case len(c.Subject) > 255 || len(c.SID) > 255:
		return bad(errors.New("too long"))
	case c.Issued == nil || c.Issued.time().After(now.Add(clockSkew)) || c.Issued.time().Before(now.Add(-logoutLife)):
		return bad(errors.New("issued too long ago, in the future, or who knows when"))
	case c.Expires == nil || !now.Before(c.Expires.time()):
		return bad(errors.New("expired"))
	}
	if err := end(ctx, End{Issuer: x.Issuer, Subject: c.Subject, SID: c.SID, Before: c.Issued.time().Add(clockSkew)}); err != nil {
		return err
	}
	h := sha256.New()
	h.Write([]byte("greatseal sso logout v1\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(x.Issuer))))
	h.Write([]byte(x.Issuer + jti))
	err = p.store.Once(ctx, [32]byte(h.Sum(nil)), c.Issued.time().Add(logoutLife+2*clockSkew), now)
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%w: it was used before", ErrToken)
	}
	return err
}
