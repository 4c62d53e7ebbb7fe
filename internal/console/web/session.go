package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
)

// How long sessions last: in all, and without use.
const (
	SessionLife = 8 * time.Hour
	SessionIdle = time.Hour

	sessionsOf = 32 // of one person; the oldest goes
	seenEvery  = time.Minute
)

// unattended is the header of what an open page asks for by itself: that nobody sits
// there says static/console.js.
const unattended = "Greatseal-Unattended"

// SignIn is how somebody has shown who he is.
type SignIn struct {
	Person  string
	Member  bool   // Person is of the charter
	Via     string // "oidc", "passkey", "link"
	Issuer  string // of "oidc", as the next three
	Subject string
	SID     string
	Groups  []string

	Credential string // [credential.Pin] of what he has shown; wanted of "passkey", empty where it is none of the charter
}

// cookieName is the name of the session's cookie. Browsers take the first from secure
// hosts only, and from no other host of the domain.
func (s *Site) cookieName(r *http.Request) string {
	if s.Secure(r) {
		return "__Host-greatseal"
	}
	return "greatseal-session"
}

// formCookieName is that of people who are not signed in: it binds forms to the browser.
func (s *Site) formCookieName(r *http.Request) string {
	if s.Secure(r) {
		return "__Host-greatseal-form"
	}
	return "greatseal-form"
}

// SetCookie gives the browser a cookie that scripts do not see and other sites' forms
// do not send; an empty value removes it.
func (s *Site) SetCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, Secure: s.Secure(r), SameSite: http.SameSiteLaxMode, MaxAge: int(life / time.Second)}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// binding is what a session is bound to: the browser's own description and the client
// certificate that it shows.
func binding(r *http.Request) [32]byte {
	h := sha256.New()
	agent := sha256.Sum256([]byte(r.UserAgent()))
	h.Write(agent[:])
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		h.Write(r.TLS.PeerCertificates[0].Raw)
	}
	return [32]byte(h.Sum(nil))
}

// SignIn begins a session in the browser that calls. The one that it had, if any, ends:
// whoever knew its secret has nothing.
func (v *Visit) SignIn(in SignIn) error {
	s, r := v.site, v.Request
	if in.Person == "" || in.Via == "" || in.Via == "passkey" && in.Credential == "" || s.cfg.Identify != nil {
		return errors.New("web: nobody signs in")
	}
	if _, ok := s.roll().charter.People[in.Person]; in.Member && !ok {
		return Problemf(403, "not-in-charter", "", "%s is not in the charter", in.Person)
	}
	if !s.begins(in.Via, in.Person, in.Credential) {
		return Problemf(403, "not-in-charter", "sign in with another one", "the charter no longer has that key of %s's", in.Person)
	}
	if err := v.SignOut(); err != nil {
		return err
	}
	mine, err := s.cfg.Store.ListSessions(r.Context(), store.SessionFilter{Person: in.Person})
	if err != nil {
		return err
	}
	for _, x := range mine[min(len(mine), sessionsOf-1):] {
		if _, err := s.cfg.Store.EndSessions(r.Context(), store.SessionFilter{Handle: x.Handle}); err != nil {
			return err
		}
	}
	var b [40]byte
	rand.Read(b[:])
	secret := base64.RawURLEncoding.EncodeToString(b[:32])
	agent := r.UserAgent()
	if len(agent) > 200 {
		agent = agent[:200]
	}
	x := store.Session{
		Hash: sha256.Sum256([]byte(secret)), Handle: hex.EncodeToString(b[32:]), Person: in.Person, Member: in.Member, Via: in.Via,
		Issuer: in.Issuer, Subject: in.Subject, SID: in.SID, Groups: in.Groups, Credential: in.Credential, Binding: binding(r), Agent: agent,
		Created: v.Now, Seen: v.Now, Expires: v.Now.Add(SessionLife),
	}
	if err := s.cfg.Store.PutSession(r.Context(), x, v.Now); err != nil {
		return err
	}
	s.SetCookie(v.Writer, r, s.cookieName(r), secret, SessionLife)
	s.SetCookie(v.Writer, r, s.formCookieName(r), "", 0)
	s.log.Info("somebody signed in", "who", in.Person, "via", in.Via, "session", x.Handle)
	return nil
}

// SignOut ends the session of the browser that calls, if there is one.
func (v *Visit) SignOut() error {
	s, r := v.site, v.Request
	c, err := r.Cookie(s.cookieName(r))
	if err != nil {
		return nil
	}
	s.SetCookie(v.Writer, r, s.cookieName(r), "", 0)
	x, err := s.cfg.Store.Session(r.Context(), sha256.Sum256([]byte(c.Value)))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.cfg.Store.EndSessions(r.Context(), store.SessionFilter{Handle: x.Handle})
	return err
}

// person says who calls, with the secret of his session. Nobody is no error; then the
// secret is that of his browser's forms, and empty where it has none yet. used is that
// somebody does something.
func (s *Site) person(w http.ResponseWriter, r *http.Request, used bool) (*Person, string, error) {
	if s.cfg.Identify != nil {
		return s.identified(r)
	}
	c, err := r.Cookie(s.cookieName(r))
	if err != nil {
		return nil, s.formSecret(r), nil
	}
	p, err := s.session(r, c.Value, used)
	if err != nil {
		return nil, "", err
	}
	if p == nil {
		s.SetCookie(w, r, s.cookieName(r), "", 0)
		return nil, s.formSecret(r), nil
	}
	return p, c.Value, nil
}

// identified is person where nobody signs in. The secret is the person's for as long as
// this process lives: no cookie carries it.
func (s *Site) identified(r *http.Request) (*Person, string, error) {
	p, err := s.cfg.Identify(r)
	if err != nil {
		return nil, "", err
	}
	if p == nil || p.Name == "" || p.InCharter {
		return nil, "", errNobody
	}
	return p, hex.EncodeToString(derived(s.secret, "person "+p.Name)), nil
}

// still says who has a stream open; nil is nobody any longer.
func (s *Site) still(r *http.Request, secret string) (*Person, error) {
	if s.cfg.Identify == nil {
		return s.session(r, secret, false)
	}
	p, _, err := s.identified(r)
	var refused *Problem
	if errors.As(err, &refused) {
		return nil, nil
	}
	return p, err
}

func (s *Site) formSecret(r *http.Request) string {
	if c, err := r.Cookie(s.formCookieName(r)); err == nil && len(c.Value) == 43 {
		return c.Value
	}
	return ""
}

// begins reports whether a session of that kind may begin, and go on, with a credential.
func (s *Site) begins(via, person, pin string) bool {
	if pin == "" {
		return via != "passkey"
	}
	return s.roll().charter.Holds(person, pin)
}

// session checks a secret; nil is nobody. used is that somebody does something: a page
// that is left open does not keep its session.
func (s *Site) session(r *http.Request, secret string, used bool) (*Person, error) {
	if len(secret) != 43 {
		return nil, nil
	}
	ctx, now := r.Context(), s.Now()
	x, err := s.cfg.Store.Session(ctx, sha256.Sum256([]byte(secret)))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	end := func(why string) (*Person, error) {
		s.log.Info("a session has ended", "who", x.Person, "session", x.Handle, "why", why)
		_, err := s.cfg.Store.EndSessions(ctx, store.SessionFilter{Handle: x.Handle})
		return nil, err
	}
	roll := s.roll()
	_, known := roll.charter.People[x.Person]
	switch {
	case !now.Before(x.Expires):
		return end("its time is over")
	case now.Sub(x.Seen) >= SessionIdle:
		return end("not used")
	case x.Binding != binding(r):
		return end("used from another browser")
	case x.Member && !known:
		return end("left the charter")
	case !s.begins(x.Via, x.Person, x.Credential):
		return end("what it began with left the charter")
	}
	p := &Person{Name: x.Person, Via: x.Via, InCharter: x.Member, Since: x.Created, Expires: x.Expires, Session: x.Handle, Groups: x.Groups}
	if s.cfg.Given != nil {
		p.Groups = s.cfg.Given(x.Issuer, x.Groups)
	}
	p.Roles = s.roles(roll, p)
	if len(p.Roles) == 0 && !p.InCharter {
		return end("no longer anybody's business")
	}
	if used && now.Sub(x.Seen) >= seenEvery {
		if err := s.cfg.Store.SeeSession(ctx, x.Hash, now); err != nil {
			return nil, err
		}
	}
	return p, nil
}
