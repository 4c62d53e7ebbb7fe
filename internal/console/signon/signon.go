// Package signon is where people come from and go to who sign in at OpenID providers
// (package sso): the begin of a login, its end, the way out, and where providers say
// that somebody has left.
//
// Invariants:
//
//  1. A session begins here for a [sso.Login] only: of a person of the charter under
//     the person's own name, of anybody else under a name with a colon in it, which no
//     charter has, and only with a role that the server's configuration gives.
//  2. The one address elsewhere that a page here leads to is the provider's own, as it
//     gives it.
//  3. What a provider writes is shown as text: the value of the claim, and nothing
//     else.
package signon

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"strings"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/sso"
	"github.com/greatseal-io/greatseal/internal/store"
)

//go:embed templates/*.html
var files embed.FS

type area struct {
	providers *sso.Providers
}

// Area is the area of the providers.
func Area(p *sso.Providers) web.Area {
	a := &area{p}
	return web.Area{Name: "signon", Files: files, Routes: []web.Route{
		{Method: http.MethodGet, Path: "/console/login/{provider}", Public: true, Serve: a.start},
		{Method: http.MethodGet, Path: "/console/login/{provider}/callback", Public: true, Serve: a.callback},
		{Method: http.MethodPost, Path: "/console/logout/{provider}", Public: true, Serve: a.logout},
		{Method: http.MethodGet, Path: "/console/logout/{provider}", Public: true, Serve: a.signedOut},
		{Method: http.MethodGet, Path: "/console/logout/{provider}/there", Public: true, Serve: a.there},
		{Method: http.MethodPost, Path: "/console/backchannel/{provider}", Program: true, Serve: a.backchannel},
	}}
}

// Path is where a login at a provider begins.
func Path(provider string) string { return web.Home + "login/" + provider }

// LogoutPath is where a form is posted that ends a session which began at a provider.
func LogoutPath(provider string) string { return web.Home + "logout/" + provider }

// leave sends the browser to a provider. Redirects of the kit stay within the console.
func leave(v *web.Visit, to string) error {
	if fetched(v) {
		v.Writer.Header().Set("HX-Redirect", to)
		v.Writer.WriteHeader(http.StatusNoContent)
		return nil
	}
	v.Writer.Header().Set("Location", to)
	v.Writer.WriteHeader(http.StatusSeeOther)
	return nil
}

// fetched reports whether htmx asks, for a part of a page or for a whole one; pages of
// elsewhere cannot ask so.
func fetched(v *web.Visit) bool { return v.Request.Header.Get("HX-Request") == "true" }

// start sends a browser to the provider, when a person goes there. What a page of
// elsewhere loads by itself, an image or a frame, begins nothing.
func (a *area) start(v *web.Visit) error {
	h := v.Request.Header
	if mode := h.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" && !fetched(v) || h.Get("Sec-Fetch-Dest") == "iframe" {
		return web.Problemf(http.StatusForbidden, "not-a-visit", "open the page yourself", "a login begins when somebody goes to this page")
	}
	if h.Get("Purpose") == "prefetch" || h.Get("Sec-Purpose") != "" {
		return web.Problemf(http.StatusForbidden, "not-a-visit", "", "a login is not begun in advance")
	}
	to, set, err := a.providers.Start(v.Request.Context(), v.Path("provider"), v.Query().Get("to"), v.Request.Cookies())
	if err != nil {
		return a.failed(v, err)
	}
	for _, c := range set {
		http.SetCookie(v.Writer, c)
	}
	return leave(v, to)
}

func (a *area) callback(v *web.Visit) error {
	l, set, err := a.providers.Finish(v.Request.Context(), v.Path("provider"), v.Query(), v.Request.Cookies())
	for _, c := range set {
		http.SetCookie(v.Writer, c)
	}
	if err != nil {
		return a.failed(v, err)
	}
	in := web.SignIn{Via: "oidc", Issuer: l.Issuer(), Subject: l.Subject(), SID: l.SID(), Groups: l.Groups()}
	person, unknown := l.Person(v.Site().Server().Charter())
	if in.Person, in.Member = person, true; unknown != nil {
		in.Person, in.Member = l.Outside(), false
	}
	if !v.Site().Admits(in) {
		return a.unknown(v, l, unknown)
	}
	if err := v.SignIn(in); err != nil {
		return err
	}
	return v.Redirect(l.Return())
}

// stranger is what the page shows to somebody whom nobody here knows.
type stranger struct {
	Provider, Title string
	Claim, Value    string
	Several         int
	Groups          []string
	More            int // groups beside those
}

const shownGroups = 20

func (a *area) unknown(v *web.Visit, l *sso.Login, err error) error {
	s := stranger{Provider: l.Provider(), Title: a.title(l.Provider()), Groups: l.Groups()}
	var u *sso.UnknownError
	if errors.As(err, &u) {
		s.Claim, s.Value, s.Several = u.Claim, u.Value, u.Several
	}
	if len(s.Groups) > shownGroups {
		s.More = len(s.Groups) - shownGroups
		s.Groups = s.Groups[:shownGroups]
	}
	v.Site().Logger().Info("somebody signed in who is not known here", "provider", s.Provider, "claim", s.Claim, "value", s.Value)
	return v.PageStatus(http.StatusForbidden, "unknown.html", "Not known here", s)
}

func (a *area) title(name string) string {
	for _, p := range a.providers.All() {
		if p.Name == name {
			return p.Title
		}
	}
	return name
}

// failure is what the page shows of a login that came to nothing.
type failure struct {
	Title, Detail, Hint string
	Again               string // path
}

// failed tells in words what became of a login.
func (a *area) failed(v *web.Visit, err error) error {
	name := v.Path("provider")
	f := failure{Title: a.title(name), Again: Path(name)}
	status := http.StatusForbidden
	_, code, _ := strings.Cut(strings.TrimPrefix(err.Error(), "sso: "), ": ") // of ErrRefused
	switch {
	case errors.Is(err, sso.ErrNoProvider):
		return web.Problemf(http.StatusNotFound, "no-provider", "", "nobody signs in at %.40q here", name)
	case errors.Is(err, sso.ErrAway):
		status, f.Detail, f.Hint = http.StatusServiceUnavailable, f.Title+" does not answer as it should.", "Try again in a while, or sign in another way. The server's log says more."
	case errors.Is(err, sso.ErrAttempt):
		status, f.Detail, f.Hint = http.StatusBadRequest, "This browser did not begin that login, or began it more than ten minutes ago.", "If you came from a link that somebody gave you, do not use it again."
	case errors.Is(err, sso.ErrUsed):
		status, f.Detail, f.Hint = http.StatusBadRequest, "That login was used before.", "If it was not you, look at your sessions and end those that you do not know."
	case errors.Is(err, sso.ErrRefused):
		f.Detail, f.Hint = f.Title+" did not let you in: "+code+".", "Whoever runs "+f.Title+" can say why."
	case errors.Is(err, sso.ErrUnverified):
		f.Detail, f.Hint = f.Title+" does not vouch for your e-mail address.", "Confirm the address there, or ask whoever runs "+f.Title+"."
	case errors.Is(err, sso.ErrToken):
		f.Detail, f.Hint = "What "+f.Title+" says about you is not believed.", "Tell whoever runs this server: its log says why."
	default:
		return err
	}
	return v.PageStatus(status, "failed.html", "Not signed in", f)
}

// logout ends the session here. The way to end the one at the provider is a link on
// the next page: a form's answer may not lead elsewhere.
func (a *area) logout(v *web.Visit) error {
	if err := v.SignOut(); err != nil {
		return err
	}
	return v.Redirect(LogoutPath(v.Path("provider")))
}

type left struct {
	Title string
	There string // path; empty: the provider has no such thing
	Login string // path
}

func (a *area) signedOut(v *web.Visit) error {
	name := v.Path("provider")
	if v.Who != nil {
		return v.Redirect(web.Home)
	}
	l := left{Title: a.title(name), Login: web.Home + "login"}
	if a.providers.EndSession(v.Request.Context(), name) != "" {
		l.There = LogoutPath(name) + "/there"
	}
	return v.Page("left.html", "Signed out", l)
}

func (a *area) there(v *web.Visit) error {
	to := a.providers.EndSession(v.Request.Context(), v.Path("provider"))
	if to == "" {
		return web.Problemf(http.StatusNotFound, "no-logout", "", "this provider does not end sessions from here")
	}
	return leave(v, to)
}

const endsAtOnce = 1000

// backchannel takes a logout token from a provider (OpenID Connect Back-Channel Logout
// 1.0, section 2.5). The token says who sends it.
func (a *area) backchannel(v *web.Visit) error {
	v.Writer.Header().Set("Cache-Control", "no-store")
	form, err := v.Form()
	if err != nil {
		return err
	}
	if len(form["logout_token"]) != 1 {
		return v.JSON(http.StatusBadRequest, map[string]string{"error": "invalid_request"})
	}
	n := 0
	err = a.providers.Logout(v.Request.Context(), v.Path("provider"), form.Get("logout_token"), func(ctx context.Context, e sso.End) error {
		n, err = end(ctx, v.Site().Store(), e)
		return err
	})
	switch {
	case err == nil:
		v.Site().Logger().Info("a provider has ended sessions", "provider", v.Path("provider"), "sessions", n)
		return v.JSON(http.StatusOK, map[string]int{"sessions": n})
	case errors.Is(err, sso.ErrNoProvider):
		return web.Problemf(http.StatusNotFound, "no-provider", "", "no such provider")
	case errors.Is(err, sso.ErrToken):
		v.Site().Logger().Warn("a logout token was refused", "provider", v.Path("provider"), "error", err.Error())
		return v.JSON(http.StatusBadRequest, map[string]string{"error": "invalid_request"})
	case errors.Is(err, sso.ErrAway):
		return v.JSON(http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable"})
	}
	return err
}

// end ends the sessions of a subject, or of a session at the provider, that began by a
// time. A session of the subject's of which the provider did not say which of its own it
// was, may be the one.
func end(ctx context.Context, s store.Sessions, e sso.End) (int, error) {
	if e.Issuer == "" || e.Subject == "" && e.SID == "" {
		return 0, errors.New("signon: nobody's sessions")
	}
	n := 0
	f := store.SessionFilter{Issuer: e.Issuer, Subject: e.Subject, Limit: endsAtOnce}
	if e.Subject == "" {
		f.SID = e.SID
	}
	list, err := s.ListSessions(ctx, f)
	if err != nil {
		return 0, err
	}
	for _, x := range list {
		if x.Created.After(e.Before) || e.SID != "" && x.SID != "" && x.SID != e.SID {
			continue
		}
		k, err := s.EndSessions(ctx, store.SessionFilter{Handle: x.Handle})
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}
