package console

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"errors"
	"sync"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/sso"
)

//go:embed templates static
var files embed.FS

// home is the area in which people sign in and out.
type home struct {
	providers *sso.Providers
	decoys    decoys
}

func (h *home) area() web.Area {
	return web.Area{Name: "home", Files: files, Routes: []web.Route{
		{Method: "GET", Path: loginPath, Public: true, Serve: h.login},
		{Method: "POST", Path: loginPath + "/passkey/challenge", Public: true, Serve: h.passkeyChallenge},
		{Method: "POST", Path: loginPath + "/passkey", Public: true, Serve: h.passkey},
		{Method: "GET", Path: loginPath + "/link", Public: true, Serve: h.linkPage},
		{Method: "POST", Path: loginPath + "/link", Public: true, Serve: h.link},
		{Method: "POST", Path: web.Home + "logout", Serve: h.logout},
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

// decoys make up the passkeys of names that have none. Replicas, and the same one when
// it starts anew, make up the same: what changes would tell that it is made up.
type decoys struct {
	mu     sync.Mutex
	secret []byte
}

func (d *decoys) of(ctx context.Context, st web.Store, name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.secret == nil {
		fresh := make([]byte, 32)
		rand.Read(fresh)
		k, err := st.Secret(ctx, "passkey-decoys", fresh)
		if err != nil {
			return nil, err
		}
		if len(k) != len(fresh) {
			return nil, errors.New("console: the database's secret for sign-ins is damaged")
		}
		d.secret = k
	}
	m := hmac.New(sha256.New, d.secret)
	m.Write([]byte("greatseal no passkey v1\x00" + name))
	return m.Sum(nil), nil
}
