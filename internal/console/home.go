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
