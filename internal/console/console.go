// Package console is the people's side of a server: pages in a browser, where people
// see what waits for them, judge it, and endorse it with a passkey.
//
// It puts the areas together. What all of them keep to is in package web.
package console

import (
	"errors"
	"net/http"
	"strings"

	"github.com/greatseal-io/greatseal/internal/console/signon"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/sso"
)

// Config is what a Console is made of.
type Config struct {
	web.Config
	Providers *sso.Providers // where people sign in, too; nil: nowhere
	Areas     []web.Area
}

// errProviders is that of a console in which nobody signs in, with providers.
var errProviders = errors.New("console: nobody signs in where something else says who calls")

// Console is the pages of one server.
type Console struct {
	site    *web.Site
	handler http.Handler
}

// New makes a console.
func New(cfg Config) (*Console, error) {
	// Without providers nobody gives groups: a session of before has none.
	cfg.Given = func(string, []string) []string { return nil }
	if cfg.Providers != nil {
		cfg.Given = cfg.Providers.Given
	}
	site, err := web.New(cfg.Config)
	if err != nil {
		return nil, err
	}
	h := &home{providers: cfg.Providers}
	areas := []web.Area{h.area()}
	if cfg.Identify != nil {
		if cfg.Providers != nil {
			return nil, errProviders
		}
		areas = []web.Area{front(cfg.Areas)}
	}
	if cfg.Providers != nil {
		areas = append(areas, signon.Area(cfg.Providers))
	}
	for _, a := range append(areas, cfg.Areas...) {
		if err := site.Add(a); err != nil {
			return nil, err
		}
	}
	return &Console{site: site, handler: site.Handler()}, nil
}

// Site is the console's site.
func (c *Console) Site() *web.Site { return c.site }

// Stop ends event streams, so that a server can drain.
func (c *Console) Stop() { c.site.Stop() }

// Handler serves the console, and leaves the rest to api: browsers that ask for / are
// led to the console.
func (c *Console) Handler(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, web.Home):
			c.handler.ServeHTTP(w, r)
		case r.URL.Path == strings.TrimSuffix(web.Home, "/"),
			r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, web.Home, http.StatusSeeOther)
		default:
			api.ServeHTTP(w, r)
		}
	})
}
