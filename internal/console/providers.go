package console

import (
	"context"

	"github.com/greatseal-io/greatseal/internal/console/signon"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

// SignOn is a place where people sign in: a link of the login page.
type SignOn struct {
	Title string // "Example Ltd"
	Path  string // "/console/login/example"
	Away  bool   // it does not answer just now
}

// signOns asks the providers that were not heard of lately.
func (h *home) signOns(ctx context.Context) []SignOn {
	if h.providers == nil {
		return nil
	}
	var out []SignOn
	for _, p := range h.providers.List(ctx) {
		out = append(out, SignOn{Title: p.Title, Path: signon.Path(p.Name), Away: p.Away})
	}
	return out
}

// afterSignOut is where somebody goes who signs out: to where his provider's session
// can be ended too, if he came from one.
func (h *home) afterSignOut(v *web.Visit) (string, error) {
	if h.providers == nil || v.Who == nil || v.Who.Via != "oidc" {
		return loginPath, nil
	}
	list, err := v.Site().Store().ListSessions(v.Request.Context(), store.SessionFilter{Handle: v.Who.Session})
	if err != nil {
		return "", err
	}
	for _, x := range list {
		if name := h.providers.Named(x.Issuer); name != "" {
			return signon.LogoutPath(name), nil
		}
	}
	return loginPath, nil
}
