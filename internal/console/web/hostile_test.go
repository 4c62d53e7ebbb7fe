package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Invariant 3: what an open page asks for by itself does not keep its session.
func TestOpenPageIsNoUse(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	itself := http.Header{"Greatseal-Unattended": {"1"}, "Hx-Request": {"true"}}
	for range 5 {
		b.Pass(10 * time.Minute)
		alice.Do("GET", "/console/sample", nil, itself).OK()
	}
	b.Pass(11 * time.Minute)
	if signedIn(alice) {
		t.Error("a page that asks by itself has kept its session for more than an hour")
	}
}

// Invariant 7: a sign-in that fails costs the same whatever the charter holds: its
// passkeys are read once, not for every stranger.
func TestStrangersReadNoCharter(t *testing.T) {
	key := webtest.NewPasskey(t)
	b := webtest.New(t, webtest.Options{Charter: func(c *charter.Charter) { key.Give(c, "bob") }}, func(*webtest.Bench) []web.Area { return nil })
	id := key.Credential.CredentialID()
	name, first := b.Site.PasskeyBy(id, webtest.Origin)
	if name != "bob" || first == nil {
		t.Fatalf("%q %v", name, first)
	}
	if _, again := b.Site.PasskeyBy(id, webtest.Origin); again != first {
		t.Error("every call reads all passkeys of the charter anew")
	}
	if n, _ := b.Site.PasskeyBy(id, "https://evil.example"); n != "" {
		t.Error("of another origin")
	}
}

// Invariant 3: what happens after the end of a session is not sent to its streams.
func TestNoEventAfterTheEnd(t *testing.T) {
	news := make(chan struct{})
	b := webtest.New(t, webtest.Options{}, func(*webtest.Bench) []web.Area {
		return []web.Area{{Name: "news", Routes: []web.Route{{Method: "GET", Path: "/console/news", Stream: true, Serve: func(v *web.Visit) error {
			e, err := v.Events()
			if err != nil {
				return err
			}
			defer e.Close()
			for {
				select {
				case <-e.Context().Done():
					return nil
				case <-news:
				}
				if e.Send("say", "something secret") != nil {
					return nil
				}
			}
		}}}}}
	})
	res := b.As("alice").Open("GET", "/console/news", nil, nil)
	defer res.Body.Close()
	if _, err := b.Store.EndSessions(t.Context(), store.SessionFilter{Person: "alice"}); err != nil {
		t.Fatal(err)
	}
	news <- struct{}{}
	if all, err := io.ReadAll(res.Body); err != nil || strings.Contains(string(all), "secret") {
		t.Errorf("%q %v", all, err)
	}
}

// Invariant 2: pages of other origins have no work done here by loading it.
func TestOtherSitesLoadNothing(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	for _, c := range []struct {
		site, mode, dest string
		status           int
	}{
		{"cross-site", "no-cors", "image", 403}, {"cross-site", "cors", "empty", 403}, {"same-site", "no-cors", "script", 403},
		{"cross-site", "navigate", "iframe", 403}, {"cross-site", "navigate", "object", 403}, {"cross-site", "", "", 403},
		{"cross-site", "navigate", "document", 200}, {"none", "navigate", "document", 200}, {"same-origin", "cors", "empty", 200}, {"", "", "", 200},
	} {
		h := http.Header{}
		for k, v := range map[string]string{"Sec-Fetch-Site": c.site, "Sec-Fetch-Mode": c.mode, "Sec-Fetch-Dest": c.dest} {
			if v != "" {
				h.Set(k, v)
			}
		}
		if p := alice.Do("GET", "/console/sample", nil, h); p.Status != c.status {
			t.Errorf("%+v: %v", c, p)
		}
	}
}
