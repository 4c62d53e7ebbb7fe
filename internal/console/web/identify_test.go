package web_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// identified is a site in which nobody signs in: a header says who calls.
func identified(t *testing.T) (*webtest.Bench, func(name string) *webtest.Browser, *atomic.Bool) {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var gone atomic.Bool
	b := webtest.Of(t, web.Config{Store: db, Name: "the plant", Identify: func(r *http.Request) (*web.Person, error) {
		name := r.Header.Get("X-Who")
		switch {
		case name == "nil":
			return nil, nil
		case name == "member":
			return &web.Person{Name: "alice", InCharter: true}, nil
		case name == "" || gone.Load():
			return nil, web.Problemf(403, "scope", "", "nobody")
		}
		return &web.Person{Name: name, Roles: []web.Role{web.Operator}}, nil
	}}, sample(nil)...)
	return b, func(name string) *webtest.Browser {
		br := b.Browser()
		br.Header.Set("X-Who", name)
		return br
	}, &gone
}

// tokenOf is the form token that a page carries.
func tokenOf(p *webtest.Page) string {
	return webtest.Attr(p.OK().Find("meta", "name", "csrf")[0], "content")
}

// Where something else says who calls there are neither sessions nor cookies, and what
// changes something still wants a token of the very person (invariant 2).
func TestIdentified(t *testing.T) {
	_, as, _ := identified(t)
	olga := as("olga")
	page := olga.Get("/console/sample").OK().Clean().Has("the plant", "olga").HasNot("sign out", "charter")
	if page.Header.Get("Set-Cookie") != "" {
		t.Errorf("a cookie: %s", page.Header.Get("Set-Cookie"))
	}
	if len(page.Find("a", "href", "/console/sample/operator")) != 1 || len(page.Find("", "href", "/console/sessions")) != 0 {
		t.Error("the navigation is not olga's")
	}
	mine, other, again := tokenOf(page), tokenOf(as("audrey").Get("/console/sample")), tokenOf(olga.Get("/console/sample"))
	if mine == again {
		t.Error("two pages have the same bytes for a token")
	}
	_, elsewhere, _ := identified(t)
	for what, x := range map[string]struct {
		token  string
		header http.Header
		status int
	}{
		"her own":            {mine, nil, 303},
		"of another page":    {again, nil, 303},
		"none":               {"", nil, 403},
		"somebody else's":    {other, nil, 403},
		"of another process": {tokenOf(elsewhere("olga").Get("/console/sample")), nil, 403},
		"of an empty secret": {web.Token(""), nil, 403},
		"of her name":        {web.Token("olga"), nil, 403},
		"from another site":  {mine, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"of another origin":  {mine, http.Header{"Origin": {"https://evil.example"}}, 403},
	} {
		if p := olga.Do("POST", "/console/sample", url.Values{"csrf": {x.token}}, x.header); p.Status != x.status {
			t.Errorf("%s: %s", what, p)
		}
	}
	olga.Get("/console/sample/operator").OK()
	olga.Get("/console/sample/officer").Want(403)
	olga.Get("/console/none").Want(404)
}

// Nobody is nobody, whatever cookie his browser brings; and nobody of the charter comes
// this way: there is none.
func TestIdentifiedNobody(t *testing.T) {
	_, as, _ := identified(t)
	for name, status := range map[string]int{"": 403, "nil": 401, "member": 401} {
		b := as(name)
		b.Header.Set("Cookie", "__Host-greatseal="+strings.Repeat("a", 43))
		for _, path := range []string{"/console/sample", "/console/", "/console/none", "/console/sample/events", "/console/sample/operator"} {
			p := b.Get(path)
			if p.Status != status || p.Header.Get("Set-Cookie") != "" {
				t.Errorf("%q, %s: %s, cookie %q", name, path, p, p.Header.Get("Set-Cookie"))
			}
		}
		if p := b.Do("POST", "/console/sample", url.Values{"csrf": {web.Token(strings.Repeat("a", 43))}}, nil); p.Status != status {
			t.Errorf("%q: %s", name, p)
		}
	}
}

// A stream ends when its person is nobody any longer.
func TestIdentifiedStream(t *testing.T) {
	_, as, gone := identified(t)
	res := as("olga").Open("GET", "/console/sample/events", nil, nil)
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatal(res.StatusCode)
	}
	buf := make([]byte, 4096)
	read := func(want string) {
		t.Helper()
		for text := ""; !strings.Contains(text, want); {
			n, err := res.Body.Read(buf)
			text += string(buf[:n])
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	}
	read("event: changed")
	beats <- struct{}{}
	read(": still here")
	gone.Store(true)
	beats <- struct{}{}
	for {
		if _, err := res.Body.Read(buf); err != nil {
			return
		}
	}
}

// A site has a server in which people sign in, or something that says who calls.
func TestIdentifiedOrServer(t *testing.T) {
	b, _, _ := identified(t)
	if _, err := web.New(web.Config{Store: b.Site.Store(), Clock: b.Site.Now}); err == nil {
		t.Error("a site in which nobody can be anybody")
	}
	w := webtest.New(t, webtest.Options{}, sample)
	if _, err := web.New(web.Config{Store: w.Store, Server: w.Server, Clock: w.Now, Identify: func(*http.Request) (*web.Person, error) { return nil, nil }}); err == nil {
		t.Error("a site with two ways to be somebody")
	}
	if b.Site.Admits(web.SignIn{Person: "olga"}) || len(b.Site.PasskeysOf("olga", webtest.Origin)) != 0 {
		t.Error("somebody may sign in")
	}
}
