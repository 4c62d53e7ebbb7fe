package console

import (
	"embed"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/sso"
)

//go:embed templates static
var files embed.FS

// home is the area in which people sign in and out.
type home struct{ providers *sso.Providers }

func (h *home) area() web.Area {
	return web.Area{Name: "home", Files: files, Routes: []web.Route{
		{Method: "GET", Path: loginPath, Public: true, Serve: h.login},
		{Method: "POST", Path: loginPath + "/passkey/challenge", Public: true, Serve: h.passkeyChallenge},
		{Method: "POST", Path: loginPath + "/passkey", Public: true, Serve: h.passkey},
		{Method: "GET", Path: loginPath + "/link", Public: true, Serve: h.linkPage},
		{Method: "POST", Path: loginPath + "/link", Public: true, Serve: h.link},
		{Method: "POST", Path: web.Home + "logout", Public: true, Serve: h.logout},
		{Method: "GET", Path: web.Home + "sessions", Serve: h.sessions},
		{Method: "POST", Path: web.Home + "sessions/{id}/end", Serve: h.endSession},
	}}
}

// front is the first page where nobody signs in: it leads to the first that the areas
// have.
func front(areas []web.Area) web.Area {
	var first web.Nav
	for _, a := range areas {
		for _, n := range a.Nav {
			if first.Path == "" || n.Order < first.Order {
				first = n
			}
		}
	}
	if first.Path == "" || first.Path == web.Home {
		return web.Area{Name: "home"}
	}
	return web.Area{Name: "home", Routes: []web.Route{
		{Method: "GET", Path: web.Home + "{$}", Serve: func(v *web.Visit) error { return v.Redirect(first.Path) }},
	}}
}
