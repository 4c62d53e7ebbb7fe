// Package webtest gives the tests of areas a console: a world with a keeper and a
// server, a site over TLS with areas, and browsers of people who are signed in.
package webtest

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Host is the console's host and the relying party of passkeys, Origin its origin.
const (
	Host   = "seal.example.com"
	Origin = "https://" + Host
)

// Options are what a bench may have besides.
type Options struct {
	Charter func(*charter.Charter)
	Server  func(*server.Config)
	Web     func(*web.Config)
	DSN     string // of the database; "": a new SQLite file
}

// Bench is a console in a test.
type Bench struct {
	*servertest.World
	Store  *store.SQL
	Server *server.Server
	Site   *web.Site
	HTTP   *httptest.Server
}

// New makes a world, a server and a site with the areas that areas gives.
func New(t testing.TB, o Options, areas func(*Bench) []web.Area) *Bench {
	t.Helper()
	var change []func(*charter.Charter)
	if o.Charter != nil {
		change = append(change, o.Charter)
	}
	b := &Bench{World: servertest.New(t, change...)}
	b.Store = b.World.Store(o.DSN).(*store.SQL)
	var sc []func(*server.Config)
	if o.Server != nil {
		sc = append(sc, o.Server)
	}
	b.Server, _ = b.World.Server(b.Store, sc...)
	cfg := web.Config{Server: b.Server, Store: b.Store, Clock: b.Now, Version: "test", URL: Origin, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Strict: true,
		Auditor: []string{"group:test-auditor"}, Operator: []string{"group:test-operator"}, Limits: web.Limits{PerSecond: 1e4, Burst: 1e4}}
	if o.Web != nil {
		o.Web(&cfg)
	}
	site, err := web.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Site = site
	for _, a := range append(areas(b), signInArea()) {
		if err := site.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	b.Serve(site.Handler())
	return b
}

// Of is a bench of a site that a test puts together itself, over whatever it has made:
// it has no world. Clock, Version, URL, Strict and Limits are the bench's. With a server
// people sign in with [Bench.As]; with Identify each call says who makes it.
func Of(t testing.TB, cfg web.Config, areas ...web.Area) *Bench {
	t.Helper()
	cfg.Clock, cfg.Version, cfg.URL, cfg.Strict, cfg.Limits = time.Now, "test", Origin, true, web.Limits{PerSecond: 1e4, Burst: 1e4}
	cfg.Auditor, cfg.Operator = []string{"group:test-auditor"}, []string{"group:test-operator"}
	site, err := web.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Server != nil {
		areas = append(areas, signInArea())
	}
	for _, a := range areas {
		if err := site.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	b := &Bench{World: &servertest.World{TB: t}, Server: cfg.Server, Site: site}
	b.Serve(site.Handler())
	return b
}

// Serve serves a handler as the bench's console. It is New that does; a test that puts
// a console together itself calls it once more.
func (b *Bench) Serve(h http.Handler) {
	b.HTTP = httptest.NewTLSServer(h)
	b.Cleanup(func() { b.Site.Stop(); b.HTTP.Close() })
}

const signInPath = "/console/test-sign-in"

// signInArea lets tests sign in without a ceremony.
func signInArea() web.Area {
	return web.Area{Name: "test", Routes: []web.Route{{Method: "POST", Path: signInPath, Program: true, Serve: func(v *web.Visit) error {
		f, err := v.Form()
		if err != nil {
			return err
		}
		in := web.SignIn{Person: f.Get("person"), Member: f.Get("member") == "yes", Via: "link", Groups: f["group"]}
		if !in.Member {
			in.Via, in.Issuer, in.Subject = "oidc", "https://issuer.example.com", "subject of "+in.Person
		}
		if err := v.SignIn(in); err != nil {
			return err
		}
		return v.JSON(200, "signed in")
	}}}}
}

// Browser is one browser. Its answers are read whole.
type Browser struct {
	*Bench
	Name   string
	Agent  string
	Header http.Header // sent with every call
	Jar    http.CookieJar
	client *http.Client
}

// Browser is a browser in which nobody is signed in.
func (b *Bench) Browser() *Browser {
	jar, _ := cookiejar.New(nil)
	c := b.HTTP.Client()
	t := c.Transport.(*http.Transport).Clone()
	t.DialContext = nil
	t.Proxy = nil
	br := &Browser{Bench: b, Agent: "Testbrowser/1.0", Header: http.Header{}, Jar: jar}
	br.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return br
}

// As is a browser in which somebody is signed in: a person of the charter, with the
// roles that it gives; or somebody whom the charter does not have, who wants roles.
// The roles that can be given are web.Auditor and web.Operator.
func (b *Bench) As(name string, roles ...web.Role) *Browser {
	b.Helper()
	br := b.Browser()
	br.Name = name
	f := url.Values{"person": {name}}
	if _, ok := b.Server.Charter().People[name]; ok {
		f.Set("member", "yes")
	}
	for _, r := range roles {
		if r != web.Auditor && r != web.Operator {
			b.Fatalf("role %s: the charter gives it", r)
		}
		f.Add("group", "test-"+string(r))
	}
	if p := br.Do("POST", signInPath, f, nil); p.Status != 200 {
		b.Fatalf("sign in as %s: %d %s", name, p.Status, p.Body)
	}
	return br
}

// Secret is the secret of the browser's session, or of its forms.
func (br *Browser) Secret() string {
	u, _ := url.Parse(Origin)
	form := ""
	for _, c := range br.Jar.Cookies(u) {
		switch c.Name {
		case "__Host-greatseal":
			return c.Value
		case "__Host-greatseal-form":
			form = c.Value
		}
	}
	return form
}

// Get gets a page.
func (br *Browser) Get(path string) *Page { br.Helper(); return br.Do("GET", path, nil, nil) }

// HTMX gets a part of a page as htmx does.
func (br *Browser) HTMX(path string) *Page {
	br.Helper()
	return br.Do("GET", path, nil, http.Header{"Hx-Request": {"true"}})
}

// Post sends a form with a token of the browser's session.
func (br *Browser) Post(path string, form url.Values) *Page {
	br.Helper()
	f := url.Values{}
	for k, v := range form {
		f[k] = v
	}
	f.Set("csrf", web.Token(br.Secret()))
	return br.Do("POST", path, f, nil)
}

// Draft posts a form to a draft's path as static/sign.js does.
func (br *Browser) Draft(path string, form url.Values) *Page {
	br.Helper()
	return br.Do("POST", path, form, http.Header{"Accept": {"application/json"}, "X-Csrf-Token": {web.Token(br.Secret())}})
}

// Do makes a call; nothing is added to the form.
func (br *Browser) Do(method, path string, form url.Values, h http.Header) *Page {
	br.Helper()
	res := br.Open(method, path, form, h)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		br.Fatal(err)
	}
	return &Page{TB: br.TB, Status: res.StatusCode, Header: res.Header, Body: string(body), Path: path}
}

// Open makes a call whose answer is read by the caller.
func (br *Browser) Open(method, path string, form url.Values, h http.Header) *http.Response {
	br.Helper()
	var body io.Reader
	if form != nil {
		body = bytes.NewReader([]byte(form.Encode()))
	}
	r, err := http.NewRequestWithContext(br.Context(), method, br.HTTP.URL+path, body)
	if err != nil {
		br.Fatal(err)
	}
	r.Host = Host
	r.Header.Set("User-Agent", br.Agent)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, hh := range []http.Header{br.Header, h} {
		for k, v := range hh {
			r.Header[k] = v
		}
	}
	origin, _ := url.Parse(Origin)
	if r.Header.Get("Cookie") == "" {
		for _, c := range br.Jar.Cookies(origin) {
			r.AddCookie(c)
		}
	}
	res, err := br.client.Do(r)
	if err != nil {
		br.Fatal(err)
	}
	br.Jar.SetCookies(origin, res.Cookies())
	return res
}

// Page is an answer.
type Page struct {
	testing.TB
	Status int
	Header http.Header
	Body   string
	Path   string
	doc    *html.Node
}

// OK fails the test when the answer is not 200.
func (p *Page) OK() *Page {
	p.Helper()
	if p.Status != http.StatusOK {
		p.Fatalf("%s: %d: %.600s", p.Path, p.Status, p.Text())
	}
	return p
}

// Want fails the test when the answer's status is another.
func (p *Page) Want(status int) *Page {
	p.Helper()
	if p.Status != status {
		p.Fatalf("%s: %d, want %d: %.600s", p.Path, p.Status, status, p.Text())
	}
	return p
}

// Doc is the parsed page.
func (p *Page) Doc() *html.Node {
	if p.doc == nil {
		d, err := html.Parse(strings.NewReader(p.Body))
		if err != nil {
			p.Fatal(err)
		}
		p.doc = d
	}
	return p.doc
}

// Walk calls f for every node.
func (p *Page) Walk(f func(*html.Node)) { walk(p.Doc(), f) }

func walk(n *html.Node, f func(*html.Node)) {
	f(n)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		walk(c, f)
	}
}

// Text is what a reader sees.
func (p *Page) Text() string {
	var b strings.Builder
	p.Walk(func(n *html.Node) {
		if n.Type == html.TextNode && n.Parent != nil && n.Parent.Data != "script" && n.Parent.Data != "style" {
			b.WriteString(n.Data + " ")
		}
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// Has fails the test when the page does not show one of the texts.
func (p *Page) Has(texts ...string) *Page {
	p.Helper()
	seen := p.Text()
	for _, t := range texts {
		if !strings.Contains(seen, strings.Join(strings.Fields(t), " ")) {
			p.Errorf("%s does not show %q: %.2000s", p.Path, t, seen)
		}
	}
	return p
}

// HasNot fails the test when the page shows one of the texts.
func (p *Page) HasNot(texts ...string) *Page {
	p.Helper()
	seen := p.Text()
	for _, t := range texts {
		if strings.Contains(seen, t) {
			p.Errorf("%s shows %q", p.Path, t)
		}
	}
	return p
}

// Attr is the value of an attribute.
func Attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Find is every element with this name that has the attribute; value "" is any.
func (p *Page) Find(element, attr, value string) []*html.Node {
	var out []*html.Node
	p.Walk(func(n *html.Node) {
		if n.Type == html.ElementNode && (element == "" || n.Data == element) &&
			slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return attr == "" || a.Key == attr && (value == "" || a.Val == value) }) {
			out = append(out, n)
		}
	})
	return out
}

// Hostile are texts that a requester may write where people are to read them. Each
// holds the word "owned"; [Page.Clean] looks for what they would have made.
func Hostile() []string {
	return []string{
		`<script>owned()</script>`, `"><img src=x onerror=owned()>`, `' onmouseover='owned()' x='`, `" autofocus onfocus="owned()`,
		`</td></tr></table><svg onload=owned()>`, `javascript:owned()`, `{{owned}}`, "<!--owned", `</title><owned>`, "`owned`", `</textarea><owned a=b>`,
		`<a href="https://owned.example">x</a>`, `&lt;owned&gt;`, "owned\u202egnp.exe", `<b hx-get="/owned" data-sign="/owned">owned</b>`,
	}
}

// Clean fails the test when a hostile text has become an element, an attribute's name,
// or the address of something; or when a page carries a script, a style or a handler of
// its own.
func (p *Page) Clean() *Page {
	p.Helper()
	p.Walk(func(n *html.Node) {
		if n.Type != html.ElementNode {
			return
		}
		if strings.Contains(n.Data, "owned") {
			p.Errorf("%s: an element <%s>", p.Path, n.Data)
		}
		if n.Data == "script" && (Attr(n, "src") == "" || n.FirstChild != nil) || n.Data == "style" || n.Data == "iframe" || n.Data == "object" || n.Data == "base" {
			p.Errorf("%s: an element <%s> of its own: %v", p.Path, n.Data, n.Attr)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "srcdoc":
				p.Errorf("%s: <%s %s=%q>", p.Path, n.Data, a.Key, a.Val)
			case strings.Contains(a.Key, "owned"), strings.Contains(a.Key, "<"), strings.Contains(a.Key, "'"), strings.Contains(a.Key, `"`):
				p.Errorf("%s: <%s> has an attribute %q", p.Path, n.Data, a.Key)
			case a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "formaction" || strings.HasPrefix(a.Key, "hx-") && a.Key != "hx-vals" || strings.HasPrefix(a.Key, "data-sign"):
				v := strings.TrimSpace(strings.ToLower(a.Val))
				if strings.HasPrefix(v, "javascript:") || strings.HasPrefix(v, "data:") || strings.HasPrefix(v, "//") || strings.HasPrefix(v, "http") && !strings.HasPrefix(v, strings.ToLower(Origin)) {
					p.Errorf("%s: <%s %s=%q> leads elsewhere", p.Path, n.Data, a.Key, a.Val)
				}
			}
		}
	})
	return p
}

// Small fails the test when a page is larger than a page may be.
func (p *Page) Small() *Page {
	p.Helper()
	if len(p.Body) > 100_000 {
		p.Errorf("%s has %d bytes", p.Path, len(p.Body))
	}
	return p
}

// String is for failures.
func (p *Page) String() string { return fmt.Sprintf("%s: %d: %.300s", p.Path, p.Status, p.Text()) }
