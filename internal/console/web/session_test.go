package web_test

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// signedIn reports whether the browser is let in.
func signedIn(br *webtest.Browser) bool { return br.Get("/console/sample").Status == http.StatusOK }

// Invariant 3: the secret is new with every sign-in, the one before is worth nothing,
// and one that was put into the browser by somebody else is not taken.
func TestSessionFixation(t *testing.T) {
	b := bench(t)
	br := b.Browser()
	origin, _ := url.Parse(webtest.Origin)
	planted := strings.Repeat("A", 43)
	br.Jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-greatseal", Value: planted, Path: "/", Secure: true}})
	if signedIn(br) {
		t.Fatal("a secret of nobody's is taken")
	}
	br.Jar.SetCookies(origin, []*http.Cookie{{Name: "__Host-greatseal", Value: planted, Path: "/", Secure: true}})
	br.Do("POST", "/console/test-sign-in", url.Values{"person": {"alice"}, "member": {"yes"}}, nil).OK()
	first := br.Secret()
	if first == planted || !signedIn(br) {
		t.Fatal("the planted secret lives on")
	}
	br.Do("POST", "/console/test-sign-in", url.Values{"person": {"bob"}, "member": {"yes"}}, nil).OK()
	if br.Secret() == first {
		t.Fatal("the secret is the same after another sign-in")
	}
	old := b.Browser()
	old.Header.Set("Cookie", "__Host-greatseal="+first)
	if signedIn(old) {
		t.Error("the session before is still good")
	}
}

func TestCookieIsOutOfReach(t *testing.T) {
	b := bench(t)
	br := b.Browser()
	p := br.Do("POST", "/console/test-sign-in", url.Values{"person": {"alice"}, "member": {"yes"}}, nil).OK()
	c := p.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-greatseal=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(c, want) {
			t.Errorf("%s is missing in %q", want, c)
		}
	}
	if strings.Contains(c, "Domain") {
		t.Errorf("the cookie goes to other hosts: %q", c)
	}
	list, err := b.Store.ListSessions(t.Context(), store.SessionFilter{Person: "alice"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	if strings.Contains(string(list[0].Hash[:]), br.Secret()) || list[0].Handle == br.Secret() {
		t.Error("the database has the secret")
	}
}

func TestIdleAndAbsoluteEnd(t *testing.T) {
	b := bench(t)
	idle, busy := b.As("alice"), b.As("bob")
	b.Pass(59 * time.Minute)
	if !signedIn(busy) {
		t.Fatal("an hour has not passed")
	}
	b.Pass(2 * time.Minute)
	if signedIn(idle) {
		t.Error("good after an hour without use")
	}
	for range 9 {
		if !signedIn(busy) {
			t.Fatal("used, and ended")
		}
		b.Pass(45 * time.Minute)
	}
	b.Pass(30 * time.Minute)
	if signedIn(busy) {
		t.Error("good after eight hours")
	}
	if list, _ := b.Store.ListSessions(t.Context(), store.SessionFilter{}); len(list) != 0 {
		t.Errorf("%d sessions are kept that have ended", len(list))
	}
}

func TestRevokedSession(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	list, err := b.Store.ListSessions(t.Context(), store.SessionFilter{Person: "alice"})
	if err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	if _, err := b.Store.EndSessions(t.Context(), store.SessionFilter{Handle: list[0].Handle}); err != nil {
		t.Fatal(err)
	}
	if signedIn(alice) {
		t.Error("good after it was ended")
	}
	if _, err := b.Store.EndSessions(t.Context(), store.SessionFilter{}); err == nil {
		t.Error("everybody's sessions were ended by mistake")
	}
}

// A cookie that was stolen and is used from elsewhere ends the session.
func TestStolenCookie(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	thief := b.Browser()
	thief.Agent = "Thief/1.0"
	thief.Header.Set("Cookie", "__Host-greatseal="+alice.Secret())
	if signedIn(thief) {
		t.Fatal("another browser is let in")
	}
	if signedIn(alice) {
		t.Error("the session of which the cookie is elsewhere lives on")
	}
}

// Whoever is not in the charter is what the configuration says, and never the person of
// the charter who has his name.
func TestRolesOfStrangers(t *testing.T) {
	b := bench(t)
	reader := b.As("reader@example.com", web.Auditor)
	reader.Get("/console/sample").OK()
	reader.Get("/console/sample/officer").Want(403)
	reader.Get("/console/sample/operator").Want(403)
	b.As("op@example.com", web.Operator).Get("/console/sample/operator").OK()
	b.As("bob").Get("/console/sample/officer").OK()
	b.As("alice").Get("/console/sample/officer").Want(403)
	if signedIn(b.As("nobody@example.com")) {
		t.Error("somebody without a role is let in")
	}
	impostor := b.Browser()
	impostor.Do("POST", "/console/test-sign-in", url.Values{"person": {"bob"}, "group": {"test-auditor", "test-operator"}}, nil).OK()
	if signedIn(impostor) {
		t.Error("somebody else is let in by the name of a person of the charter")
	}
	if p := b.Browser().Do("POST", "/console/test-sign-in", url.Values{"person": {"mallory"}, "member": {"yes"}}, nil); p.Status != 403 {
		t.Errorf("somebody who is not in the charter: %v", p)
	}
	if b.Site.Admits(web.SignIn{Person: "bob", Groups: []string{"test-auditor"}}) || !b.Site.Admits(web.SignIn{Person: "bob", Member: true}) || b.Site.Admits(web.SignIn{Person: "x@example.com"}) {
		t.Error("a sign-on is told wrong who may come")
	}
}

// Invariant 2.
func TestFormToken(t *testing.T) {
	b := bench(t)
	alice, bob := b.As("alice"), b.As("bob")
	token := web.Token(alice.Secret())
	flip := []byte(token)
	flip[len(flip)-2] ^= 1
	for name, c := range map[string]struct {
		form   url.Values
		h      http.Header
		status int
	}{
		"right":                {url.Values{"csrf": {token}}, nil, 303},
		"right, in a header":   {url.Values{}, http.Header{"X-Csrf-Token": {token}}, 303},
		"missing":              {url.Values{}, nil, 403},
		"empty":                {url.Values{"csrf": {""}}, nil, 403},
		"wrong":                {url.Values{"csrf": {string(flip)}}, nil, 403},
		"of another session":   {url.Values{"csrf": {web.Token(bob.Secret())}}, nil, 403},
		"of no session":        {url.Values{"csrf": {web.Token("")}}, nil, 403},
		"twice":                {url.Values{"csrf": {token, token}}, nil, 403},
		"no base64":            {url.Values{"csrf": {"!!!"}}, nil, 403},
		"mask alone":           {url.Values{"csrf": {strings.Repeat("A", 86)}}, nil, 403},
		"cross-site":           {url.Values{"csrf": {token}}, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"of a sibling host":    {url.Values{"csrf": {token}}, http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		"of another origin":    {url.Values{"csrf": {token}}, http.Header{"Origin": {"https://evil.example.com"}}, 403},
		"of an opaque origin":  {url.Values{"csrf": {token}}, http.Header{"Origin": {"null"}}, 403},
		"same origin, said so": {url.Values{"csrf": {token}}, http.Header{"Origin": {webtest.Origin}, "Sec-Fetch-Site": {"same-origin"}}, 303},
	} {
		if p := alice.Do("POST", "/console/sample", c.form, c.h); p.Status != c.status {
			t.Errorf("%s: %v", name, p)
		}
	}
	if p := alice.Do("POST", "/console/sample?csrf="+token, url.Values{}, nil); p.Status != 403 {
		t.Errorf("a token in an address: %v", p)
	}
	// People who are not signed in have tokens of their browser.
	nobody := b.Browser()
	nobody.Do("POST", "/console/sample/public", url.Values{}, nil).Want(403)
	nobody.Get("/console/login").OK()
	nobody.Post("/console/sample/public", url.Values{}).Want(303)
	b.Browser().Do("POST", "/console/sample/public", url.Values{"csrf": {web.Token(nobody.Secret())}}, nil).Want(403)
}

// Invariant 6.
func TestOpenRedirect(t *testing.T) {
	for _, bad := range []string{"", "/", "//evil.example", "https://evil.example", "/console", "/consolex", "/console//evil.example", `/console/\evil`, "/console/../v1/status", "/console/./x",
		"/console/\r\nSet-Cookie: x", "javascript:x", "/\\evil", "/console/%2e%2e/x", " /console/", "/console/x\t"} {
		if web.Local(bad) {
			t.Errorf("%q is taken for a page of the console", bad)
		}
	}
	for _, good := range []string{"/console/", "/console/requests?state=pending", "/console/requests/ab#x"} {
		if !web.Local(good) {
			t.Errorf("%q is not taken for a page of the console", good)
		}
	}
	b := bench(t, func(c *web.Config) { c.Strict = false })
	alice := b.As("alice")
	for _, to := range []string{"https://evil.example/", "//evil.example", "/v1/status"} {
		p := alice.Get("/console/sample/elsewhere?to=" + url.QueryEscape(to)).Want(303)
		if p.Header.Get("Location") != "/console/" {
			t.Errorf("%s leads to %s", to, p.Header.Get("Location"))
		}
	}
	p := b.Browser().Get("/console/sample?text=x").Want(303)
	if l := p.Header.Get("Location"); l != "/console/login?to=%2Fconsole%2Fsample%3Ftext%3Dx" {
		t.Errorf("to sign in one is led to %s", l)
	}
}

func TestWrongHost(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	r, _ := http.NewRequestWithContext(t.Context(), "GET", b.HTTP.URL+"/console/sample", nil)
	r.Host = "evil.example.com"
	r.Header.Set("User-Agent", alice.Agent)
	r.Header.Set("Cookie", "__Host-greatseal="+alice.Secret())
	res, err := b.HTTP.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a page of another name: %d", res.StatusCode)
	}
	for host, own := range map[string]bool{"localhost": true, "localhost:7788": true, "127.0.0.1:1": true, "[::1]:1": true, "::1": true, "evil.example": false, "localhost.evil.example": false, "10.0.0.1": false, "": false} {
		if web.OwnName(host) != own {
			t.Errorf("%q", host)
		}
	}
}

func TestPanicIsAProblem(t *testing.T) {
	b := bench(t, func(c *web.Config) { c.Strict = false })
	p := b.As("alice").Get("/console/sample/panic").Want(500)
	p.Clean().Has("internal error").HasNot("on purpose", "goroutine")
}

func TestPeopleAreBounded(t *testing.T) {
	b := bench(t, func(c *web.Config) { c.Limits = web.Limits{PerSecond: 0.001, Burst: 5, Streams: 3, StreamsOf: 2} })
	alice := b.As("alice")
	for range 2 {
		res := alice.Open("GET", "/console/sample/events", nil, nil)
		defer res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
		if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "retry: 3000\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
	if p := alice.Do("GET", "/console/sample/events", nil, nil); p.Status != 429 {
		t.Errorf("a third stream: %v", p)
	}
	last := 0
	for range 5 {
		last = alice.Get("/console/sample").Status
	}
	if last != 429 {
		t.Errorf("many calls: %d", last)
	}
	if p := alice.Get("/console/sample"); p.Header.Get("Retry-After") == "" {
		t.Error("it does not say how long to wait")
	}
}

// A stream ends with its session.
func TestStreamEndsWithTheSession(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	res := alice.Open("GET", "/console/sample/events", nil, nil)
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for in.Scan() && !strings.HasPrefix(in.Text(), "data:") {
	}
	if in.Text() != `data: "now\nand then"` {
		t.Fatalf("%q", in.Text())
	}
	if _, err := b.Store.EndSessions(t.Context(), store.SessionFilter{Person: "alice"}); err != nil {
		t.Fatal(err)
	}
	beats <- struct{}{}
	for in.Scan() {
		if in.Text() != "" {
			t.Errorf("after the end: %q", in.Text())
		}
	}
	if b.Browser().Open("GET", "/console/sample/events", nil, nil).StatusCode == 200 {
		t.Error("a stream without a session")
	}
}

// A page that is left open does not keep its session.
func TestOpenStreamIsNoUse(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	res := alice.Open("GET", "/console/sample/events", nil, nil)
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for in.Scan() && !strings.HasPrefix(in.Text(), "data:") {
	}
	b.Pass(59 * time.Minute)
	beats <- struct{}{}
	for in.Scan() && in.Text() != ": still here" {
	}
	b.Pass(2 * time.Minute)
	beats <- struct{}{}
	for in.Scan() {
		if in.Text() != "" {
			t.Errorf("after the end: %q", in.Text())
		}
	}
	if signedIn(alice) {
		t.Error("an hour without use has passed")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	f := url.Values{"text": {strings.Repeat("x", 70<<10)}}
	alice.Post("/console/sample", f).Want(413)
}

func TestSessionsOfOnePersonAreBounded(t *testing.T) {
	b := bench(t)
	first := b.As("alice")
	b.Pass(time.Second)
	for range 32 {
		b.As("alice")
	}
	if signedIn(first) {
		t.Error("the oldest of 33 sessions is there")
	}
}
