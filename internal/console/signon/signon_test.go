package signon

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/sso"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// bench is a console whose people sign in at providers. Two people of its charter have
// one address.
func bench(t *testing.T, log *bytes.Buffer, list ...config.SSO) *webtest.Bench {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(log, nil))
	return webtest.New(t, webtest.Options{
		Charter: func(c *charter.Charter) {
			for name, email := range map[string]string{"alice": "alice@example.com", "carol": "carol@example.com", "dave": "twin@example.com", "ann": "Twin@example.com"} {
				p := c.People[name]
				p.Email = email
				c.People[name] = p
			}
		},
		Web: func(c *web.Config) { c.Auditor, c.Logger = []string{"group:audit"}, logger },
	}, func(b *webtest.Bench) []web.Area {
		p, err := sso.New(sso.Config{Base: webtest.Origin, Providers: list, Store: b.Store, Log: logger, Now: b.Now, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return []web.Area{Area(p), {Name: "me", Routes: []web.Route{
			{Method: "GET", Path: "/console/", Serve: me}, {Method: "GET", Path: "/console/me", Serve: me}}}}
	})
}

// me says who one is.
func me(v *web.Visit) error { return v.JSON(200, v.Who) }

func local(t *testing.T, to *url.URL) string {
	t.Helper()
	if got := to.Scheme + "://" + to.Host; got != webtest.Origin {
		t.Fatalf("back at %s", got)
	}
	return to.RequestURI()
}

func TestSignOn(t *testing.T) {
	dex := dextest.Start(t, webtest.Origin+"/console/login/dex/callback")
	var log bytes.Buffer
	b := bench(t, &log, dex.Config())
	// in goes the whole way in a browser; the answer is that of the callback.
	in := func(t *testing.T, br *webtest.Browser, user, to string) *webtest.Page {
		t.Helper()
		start := br.Get("/console/login/dex?to=" + url.QueryEscape(to)).Want(http.StatusSeeOther)
		back, err := dex.LogIn(t.Context(), start.Header.Get("Location"), user)
		if err != nil {
			t.Fatal(err)
		}
		return br.Get(local(t, back))
	}
	t.Run("a person", func(t *testing.T) {
		br := b.Browser()
		br.Get("/console/me").Want(http.StatusSeeOther) // to sign in
		p := in(t, br, "alice", "/console/me?x=1").Want(http.StatusSeeOther)
		if p.Header.Get("Location") != "/console/me?x=1" {
			t.Errorf("to %s", p.Header.Get("Location"))
		}
		br.Get("/console/me").OK().Has(`"Name":"alice"`, `"InCharter":true`, `"Via":"oidc"`, `"requester"`).HasNot("auditor")
	})
	t.Run("fixation", func(t *testing.T) { // the session before ends with the one that begins
		br := b.As("bob")
		old := br.Secret()
		in(t, br, "carol", "").Want(http.StatusSeeOther)
		if br.Secret() == old {
			t.Error("the same session")
		}
		br.Get("/console/me").OK().Has(`"Name":"carol"`, `"officer"`)
		stale := b.Browser()
		stale.Header.Set("Cookie", "__Host-greatseal="+old)
		stale.Get("/console/me").Want(http.StatusSeeOther)
	})
	t.Run("an auditor from outside", func(t *testing.T) {
		br := b.Browser()
		in(t, br, "erin", "").Want(http.StatusSeeOther)
		br.Get("/console/me").OK().Has(`"Name":"dex:erin@audit.example"`, `"InCharter":false`, `["auditor"]`)
	})
	t.Run("not known here", func(t *testing.T) {
		for user, value := range map[string]string{"frank": "frank@elsewhere.example", "bob": "bob@example.com"} {
			br := b.Browser()
			p := in(t, br, user, "").Want(http.StatusForbidden).Has("Not known here", value, "email", "Dex").Clean().Small()
			if h1 := strings.Count(p.Body, "<h1"); h1 != 1 {
				t.Errorf("%d headings", h1)
			}
			br.Get("/console/me").Want(http.StatusSeeOther)
		}
	})
	t.Run("nobody vouches", func(t *testing.T) { // a member of the auditors' group, too
		br := b.Browser()
		in(t, br, "mallory", "").Want(http.StatusForbidden).Has("Not signed in", "does not vouch").Clean()
		br.Get("/console/me").Want(http.StatusSeeOther)
	})
	t.Run("login CSRF", func(t *testing.T) {
		attacker, victim := b.Browser(), b.As("bob")
		start := attacker.Get("/console/login/dex").Want(http.StatusSeeOther)
		back, err := dex.LogIn(t.Context(), start.Header.Get("Location"), "alice")
		if err != nil {
			t.Fatal(err)
		}
		victim.Get(local(t, back)).Want(http.StatusBadRequest).Has("did not begin that login").Clean()
		victim.Get("/console/me").OK().Has(`"Name":"bob"`)
	})
	t.Run("open redirect", func(t *testing.T) {
		for _, to := range []string{"//evil.example", "https://evil.example/console/", "/console/../../evil", "/\\evil.example"} {
			if p := in(t, b.Browser(), "alice", to).Want(http.StatusSeeOther); p.Header.Get("Location") != "/console/" {
				t.Errorf("%s leads to %s", to, p.Header.Get("Location"))
			}
		}
	})
	t.Run("not a visit", func(t *testing.T) {
		for _, h := range []http.Header{{"Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, {"Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}, {"Sec-Purpose": {"prefetch"}}} {
			p := b.Browser().Do("GET", "/console/login/dex", nil, h).Want(http.StatusForbidden)
			if strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), " "), "sso") {
				t.Errorf("%v begins a login", h)
			}
		}
		p := b.Browser().Do("GET", "/console/login/dex", nil, http.Header{"Hx-Request": {"true"}, "Sec-Fetch-Mode": {"cors"}}).Want(http.StatusNoContent)
		if !strings.HasPrefix(p.Header.Get("HX-Redirect"), dex.Issuer+"/auth?") {
			t.Errorf("htmx is led to %q", p.Header.Get("HX-Redirect"))
		}
	})
	t.Run("refused", func(t *testing.T) {
		br := b.Browser()
		u, err := url.Parse(br.Get("/console/login/dex").Want(http.StatusSeeOther).Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		q := url.Values{"state": u.Query()["state"], "error": {"access_denied"}, "error_description": {"<script>owned()</script>"}}
		br.Get("/console/login/dex/callback?" + q.Encode()).Want(http.StatusForbidden).Has("did not let you in: access_denied").HasNot("owned").Clean()
		for _, path := range []string{"/console/login/nobody", "/console/login/nobody/callback?state=x", "/console/login/%3Cscript%3E"} {
			br.Get(path).Want(http.StatusNotFound).Clean()
		}
		br.Get("/console/login/dex/callback").Want(http.StatusBadRequest).Clean()
	})
	t.Run("out", func(t *testing.T) {
		br := b.Browser()
		in(t, br, "alice", "").Want(http.StatusSeeOther)
		br.Do("POST", LogoutPath("dex"), url.Values{}, nil).Want(http.StatusForbidden) // without a token
		br.Get("/console/me").OK()
		p := br.Post(LogoutPath("dex"), nil).Want(http.StatusSeeOther)
		br.Get(p.Header.Get("Location")).OK().Has("Your session here has ended", "no way to sign out").Clean()
		br.Get("/console/me").Want(http.StatusSeeOther)
		br.Get(LogoutPath("dex") + "/there").Want(http.StatusNotFound)
	})
	t.Run("secrets", func(t *testing.T) {
		for _, s := range []string{dex.Secret, dextest.Password, "code=", "__Host"} {
			if strings.Contains(log.String(), s) {
				t.Errorf("the log has %q", s)
			}
		}
	})
	t.Run("away", func(t *testing.T) {
		dex.Stop()
		b.Pass(25 * time.Hour)
		b.Browser().Get("/console/login/dex").Want(http.StatusServiceUnavailable).Has("Dex does not answer").Clean()
	})
}

// TestUnknownPage: what stands in a claim stays text, and each case has its words.
func TestUnknownPage(t *testing.T) {
	var log bytes.Buffer
	var shown stranger
	b := webtest.New(t, webtest.Options{Web: func(c *web.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }}, func(*webtest.Bench) []web.Area {
		return []web.Area{{Name: "signon", Files: files, Routes: []web.Route{{Method: "GET", Path: "/console/unknown", Public: true, Serve: func(v *web.Visit) error {
			return v.PageStatus(403, "unknown.html", "Not known here", shown)
		}}}}}
	})
	for _, h := range webtest.Hostile() {
		shown = stranger{Provider: "x", Title: h, Claim: "email", Value: h, Groups: []string{h}}
		b.Browser().Get("/console/unknown").Want(403).Clean().Small()
	}
	shown = stranger{Title: "Dex", Claim: "email", Value: "twin@example.com", Several: 2}
	b.Browser().Get("/console/unknown").Want(403).Has("2 people of the charter have this")
	shown = stranger{Title: "Dex", Claim: "sub"}
	b.Browser().Get("/console/unknown").Want(403).Has("says no sub", "people of the provider")
}

func TestEnd(t *testing.T) {
	var log bytes.Buffer
	b := bench(t, &log)
	now := b.Now()
	put := func(handle, issuer, subject, sid string, created time.Time) {
		t.Helper()
		x := store.Session{Hash: [32]byte{handle[0]}, Handle: handle, Person: "alice", Member: true, Via: "oidc", Issuer: issuer, Subject: subject, SID: sid, Created: created, Seen: created, Expires: now.Add(time.Hour)}
		if err := b.Store.PutSession(t.Context(), x, now); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		e    sso.End
		want string
	}{
		{sso.End{Issuer: "i", Subject: "s", Before: now}, "defg"},
		{sso.End{Issuer: "i", SID: "2", Before: now}, "acdefg"},
		{sso.End{Issuer: "i", Subject: "s", SID: "1", Before: now}, "bdefg"},
		{sso.End{Issuer: "i", Subject: "t", SID: "1", Before: now}, "abcdefg"},
		{sso.End{Issuer: "i", Subject: "s", Before: now.Add(time.Minute)}, "def"},
	} {
		if _, err := b.Store.EndSessions(t.Context(), store.SessionFilter{Person: "alice"}); err != nil {
			t.Fatal(err)
		}
		put("a", "i", "s", "1", now)
		put("b", "i", "s", "2", now)
		put("c", "i", "s", "", now)
		put("d", "i", "t", "3", now)
		put("e", "other", "s", "1", now)
		put("f", "", "", "", now)
		put("g", "i", "s", "1", now.Add(30*time.Second)) // after what it answers
		n, err := end(t.Context(), b.Store, c.e)
		if err != nil {
			t.Fatal(err)
		}
		list, err := b.Store.ListSessions(t.Context(), store.SessionFilter{Person: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, x := range list {
			got[x.Handle] = true
		}
		for _, h := range "abcdefg" {
			if got[string(h)] != strings.ContainsRune(c.want, h) {
				t.Errorf("%+v: session %c: %v", c.e, h, got[string(h)])
			}
		}
		if n != 7-len(c.want) {
			t.Errorf("%+v: %d", c.e, n)
		}
	}
	for _, e := range []sso.End{{}, {Issuer: "i"}, {Subject: "s"}} {
		if n, err := end(context.Background(), b.Store, e); err == nil || n != 0 {
			t.Errorf("%+v: %d, %v", e, n, err)
		}
	}
}
