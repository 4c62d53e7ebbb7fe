package console

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/challenge"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

const loginPath = web.Home + "login"

// toField carries where somebody wanted to go before he signed in.
const toField = "to"

// destination is where a sign-in leads: a page of the console, whatever was asked.
func destination(to string) string {
	if web.Local(to) && !strings.HasPrefix(to, loginPath) {
		return to
	}
	return web.Home
}

func (h *home) login(v *web.Visit) error {
	if v.Who != nil {
		return v.Redirect(destination(v.Query().Get(toField)))
	}
	type page struct {
		SignOns []SignOn
		To      string
		Query   string
	}
	p := page{SignOns: h.signOns(v.Request.Context()), To: destination(v.Query().Get(toField))}
	if p.To != web.Home {
		p.Query = "?" + url.Values{toField: {p.To}}.Encode()
	}
	return v.Page("login.html", "Sign in", p)
}

// passkeyChallenge is what static/passkey.js asks a passkey to sign.
type passkeyChallenge struct {
	Nonce       string           `json:"nonce"`
	Challenge   string           `json:"challenge"` // base64url
	RPID        string           `json:"rpId"`
	Credentials []web.DraftedKey `json:"credentials"`
}

// audience is the host that a login is for, as a browser at this site names it.
func audience(v *web.Visit) string {
	u, err := url.Parse(v.Site().Origin(v.Request))
	if err != nil {
		return ""
	}
	return u.Host
}

// loginMessage is what a passkey signs. It names nobody: who somebody is, says the
// passkey. The API's logins name somebody, so that neither is good for the other.
func (h *home) loginMessage(v *web.Visit, nonce string) []byte {
	return wire.LoginMessage(v.Site().Server().Charter().Deployment, audience(v), "", nonce)
}

func (h *home) passkeyChallenge(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	nonce, err := v.Site().Challenges().Make(v.Request.Context(), v.Now)
	if err != nil {
		return err
	}
	sum, err := credential.Challenge(credential.Login, h.loginMessage(v, nonce))
	if err != nil {
		return err
	}
	host := (&url.URL{Host: audience(v)}).Hostname()
	out := passkeyChallenge{Nonce: nonce, Challenge: base64.RawURLEncoding.EncodeToString(sum), RPID: host, Credentials: []web.DraftedKey{}}
	if name := strings.TrimSpace(f.Get("name")); name != "" {
		for _, k := range v.Site().PasskeysOf(name, v.Site().Origin(v.Request)) {
			out.RPID = k.RPID()
			out.Credentials = append(out.Credentials, web.DraftedKey{ID: base64.RawURLEncoding.EncodeToString(k.CredentialID())})
		}
		if len(out.Credentials) == 0 {
			// The same for every name that has none: a stranger learns nothing of who has.
			id, err := h.decoys.of(v.Request.Context(), v.Site().Store(), name)
			if err != nil {
				return err
			}
			if p := v.Site().Server().Charter().Passkeys; p != nil && slices.Contains(p.Origins, v.Site().Origin(v.Request)) {
				out.RPID = p.RelyingParty
			}
			out.Credentials = append(out.Credentials, web.DraftedKey{ID: base64.RawURLEncoding.EncodeToString(id)})
		}
	}
	return v.JSON(200, out)
}

func (h *home) passkey(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	refused := web.Problemf(401, "login-refused", "load the page again; the passkey must be one that the charter has of yours", "the sign-in is refused: unknown passkey, wrong signature or a challenge that is used up")
	field := func(name string) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(f.Get(name))
		if err != nil {
			return nil
		}
		return b
	}
	ctx, site := v.Request.Context(), v.Site()
	nonce := f.Get("nonce")
	ends, err := site.Challenges().Check(ctx, nonce, v.Now)
	if errors.Is(err, challenge.ErrNonce) {
		return refused
	}
	if err != nil {
		return err
	}
	name, key := site.PasskeyBy(field(web.FieldID), site.Origin(v.Request))
	sig, err := (credential.Assertion{AuthenticatorData: field(web.FieldAuthData), ClientDataJSON: field(web.FieldClient), Signature: field(web.FieldSignature)}).Encode()
	if key == nil || err != nil || key.Verify(credential.Login, h.loginMessage(v, nonce), sig) != nil {
		if err := v.Stranger(); err != nil {
			return err
		}
		return refused
	}
	// After the signature: nobody but those of the charter fills the table.
	if err := site.Challenges().Use(ctx, nonce, ends, v.Now); errors.Is(err, store.ErrExists) {
		return refused
	} else if err != nil {
		return err
	}
	if err := v.SignIn(web.SignIn{Person: name, Member: true, Via: "passkey", Credential: credential.Pin(key)}); err != nil {
		return err
	}
	return v.Redirect(destination(f.Get(toField)))
}

// linkPage takes the code that "greatseal console" has put after the address: a script
// moves it into the form. Nothing of it reaches the server before it is sent.
func (h *home) linkPage(v *web.Visit) error { return v.Page("link.html", "Sign in", nil) }

// link asks whoever has a code whether he is to be signed in as its person, and does so
// when he says yes. Nobody is signed in to somebody else's name by an address alone.
func (h *home) link(v *web.Visit) error {
	f, err := v.Form()
	if err != nil {
		return err
	}
	ctx, st := v.Request.Context(), v.Site().Store()
	code := strings.TrimSpace(f.Get("code"))
	hash := api.LinkHash(code)
	gone := web.Problemf(401, "link-used", "greatseal console gives a new one", "the code is used, or its time is over")
	if f.Get("confirm") != "yes" {
		l, err := st.Link(ctx, hash, v.Now)
		if errors.Is(err, store.ErrNotFound) {
			if err := v.Stranger(); err != nil {
				return err
			}
			return gone
		}
		if err != nil {
			return err
		}
		return v.Page("ask.html", "Sign in", struct{ Name, Code string }{l.Person, code})
	}
	l, err := st.TakeLink(ctx, hash, v.Now)
	if errors.Is(err, store.ErrNotFound) {
		if err := v.Stranger(); err != nil {
			return err
		}
		return gone
	}
	if err != nil {
		return err
	}
	if err := v.SignIn(web.SignIn{Person: l.Person, Member: true, Via: "link", Credential: l.Credential}); err != nil {
		return err
	}
	return v.Redirect(web.Home)
}

func (h *home) logout(v *web.Visit) error {
	next, err := h.afterSignOut(v)
	if err != nil {
		return err
	}
	if err := v.SignOut(); err != nil {
		return err
	}
	return v.Redirect(next)
}
