package console

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/console/signon"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/sso"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

// withProviders is a console whose people sign in at providers.
func withProviders(t *testing.T, list ...config.SSO) *webtest.Bench {
	t.Helper()
	b := webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) {
		p := c.People["alice"]
		p.Email = "alice@example.com"
		c.People["alice"] = p
	}}, func(*webtest.Bench) []web.Area { return nil })
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p, err := sso.New(sso.Config{Base: webtest.Origin, Providers: list, Store: b.Store, Log: log, Now: b.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c, err := New(Config{Config: web.Config{Server: b.Server, Store: b.Store, Clock: b.Now, Logger: log, Version: "test", URL: webtest.Origin, Strict: true}, Providers: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	b.Serve(c.Handler(http.NotFoundHandler()))
	return b
}

// TestLoginPageShowsProviders: those that are there, and those that are away.
func TestLoginPageShowsProviders(t *testing.T) {
	dex := dextest.Start(t, webtest.Origin+"/console/login/dex/callback")
	gone := dex.Config()
	gone.Name, gone.Title, gone.Issuer = "gone", "The <b>gone</b> one", "https://127.0.0.1:1/dex"
	b := withProviders(t, dex.Config(), gone)
	p := b.Browser().Get("/console/login?to=%2Fconsole%2Fsessions").OK().Clean().Has("The <b>gone</b> one does not answer just now", "sign in with Dex").HasNot("Dex does not answer")
	if len(p.Find("a", "href", "/console/login/dex?to=%2Fconsole%2Fsessions")) != 1 {
		t.Error("no link that comes back to the page")
	}
	dex.Stop()
	b.Pass(48 * time.Hour)
	b.Browser().Get("/console/login").OK().Has("Dex does not answer just now")
}

// TestInAndOut: whoever came from a provider is told that he may still be signed in
// there; whoever did not, is not.
func TestInAndOut(t *testing.T) {
	dex := dextest.Start(t, webtest.Origin+"/console/login/dex/callback")
	b := withProviders(t, dex.Config())
	br := b.Browser()
	start := br.Get("/console/login/dex?to=%2Fconsole%2Fsessions").Want(http.StatusSeeOther)
	back, err := dex.LogIn(t.Context(), start.Header.Get("Location"), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if p := br.Get((&url.URL{Path: back.Path, RawQuery: back.RawQuery}).String()).Want(http.StatusSeeOther); p.Header.Get("Location") != "/console/sessions" {
		t.Errorf("to %s", p.Header.Get("Location"))
	}
	br.Get("/console/sessions").OK().Has("alice")
	out := br.Post("/console/logout", nil).Want(http.StatusSeeOther)
	if to := out.Header.Get("Location"); to != signon.LogoutPath("dex") {
		t.Errorf("to %s", to)
	}
	br.Get(out.Header.Get("Location")).OK().Has("Your session here has ended").Clean()
	br.Get("/console/sessions").Want(http.StatusSeeOther)
}
