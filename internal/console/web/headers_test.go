package web_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
)

// Invariant 1, on every route that there is, and on what there is not.
func TestPolicyOnEveryRoute(t *testing.T) {
	b := bench(t, func(c *web.Config) { c.Strict = false })
	alice := b.As("alice")
	paths := [][2]string{{"GET", "/console/no-such-page"}, {"GET", "/console/static/x.js"}, {"DELETE", "/console/sample"}}
	for _, r := range b.Site.Routes() {
		if !r.Stream {
			paths = append(paths, [2]string{r.Method, strings.ReplaceAll(r.Path, "{$}", "")})
		}
	}
	for _, p := range paths {
		for _, br := range []*webtest.Browser{alice, b.Browser()} {
			res := br.Do(p[0], p[1], nil, nil)
			h := res.Header
			csp := h.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'", "connect-src 'self'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("%v: the policy %q lacks %s", p, csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") {
				t.Errorf("%v: %s", p, csp)
			}
			for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
				"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=31536000"} {
				if got := h.Get(name); got != want {
					t.Errorf("%v: %s: %q", p, name, got)
				}
			}
			if !strings.Contains(h.Get("Permissions-Policy"), "publickey-credentials-get=(self)") {
				t.Errorf("%v: %s", p, h.Get("Permissions-Policy"))
			}
			if h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%v: other origins may read it", p)
			}
			res.Clean()
		}
	}
}

var inline = regexp.MustCompile(`(?i)<script(?:[^>]*[^/])?>[^<]|<style|\son[a-z]+\s*=|\sstyle\s*=|javascript:|hx-on|\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write`)

// The kit's own scripts and templates hold nothing that the policy would not let run,
// and put no text into a page as markup.
func TestNoScriptOfItsOwn(t *testing.T) {
	n := 0
	for _, dir := range []string{"templates", "static"} {
		err := fs.WalkDir(os.DirFS("."), dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(p, "vendor") || strings.HasSuffix(p, ".css") {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			n++
			if m := inline.Find(b); m != nil {
				t.Errorf("%s holds %q", p, m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 7 {
		t.Fatalf("%d files were looked at", n)
	}
}

// The file of htmx is the one that its text names.
func TestVendoredFilesAreWhatTheySay(t *testing.T) {
	b, err := os.ReadFile("static/vendor/htmx.js")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("static/vendor/htmx.txt")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if !strings.Contains(string(text), "SHA-256 "+hex.EncodeToString(sum[:])) {
		t.Errorf("htmx.js has the SHA-256 %x", sum)
	}
	version := regexp.MustCompile(`version:"([0-9.]+)"`).FindSubmatch(b)
	if version == nil || !strings.Contains(string(text), "htmx "+string(version[1])+",") {
		t.Errorf("htmx.js is of version %s", version)
	}
	if !strings.Contains(string(text), "Zero-Clause BSD") {
		t.Error("the licence is missing")
	}
	p := bench(t).As("alice").Get("/console/sample").OK()
	m := p.Find("meta", "name", "htmx-config")
	if len(m) != 1 {
		t.Fatal("htmx is not configured")
	}
	for _, want := range []string{`"allowEval":false`, `"includeIndicatorStyles":false`, `"allowScriptTags":false`, `"selfRequestsOnly":true`, `"historyCacheSize":0`} {
		if !strings.Contains(webtest.Attr(m[0], "content"), want) {
			t.Errorf("htmx: %s is missing", want)
		}
	}
}

func TestAssetsAreKeptAndCompressed(t *testing.T) {
	b := bench(t)
	at, err := b.Site.Asset("sample/sample.js")
	if err != nil {
		t.Fatal(err)
	}
	br := b.Browser()
	res := br.Open("GET", at, nil, http.Header{"Accept-Encoding": {"br, gzip;q=0.8"}})
	defer res.Body.Close()
	if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") || res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || !strings.HasPrefix(string(body), `"use strict";`) {
		t.Fatalf("%q %v", body[:20], err)
	}
	if p := br.Do("GET", at, nil, http.Header{"Accept-Encoding": {"gzip;q=0"}}); p.Header.Get("Content-Encoding") != "" || !strings.HasPrefix(p.Body, `"use strict";`) {
		t.Errorf("gzip was not wanted: %v", p.Header)
	}
	for _, bad := range []string{"/console/static/", "/console/static/0/sample/sample.js", at + "x", "/console/static/../sample", "/console/static/%2e%2e/%2e%2e/etc/passwd"} {
		if p := br.Do("GET", bad, nil, nil); p.Status == 200 {
			t.Errorf("%s: %v", bad, p)
		}
	}
	long := url.QueryEscape(strings.Repeat("text ", 900))
	page := b.As("alice").Open("GET", "/console/sample?text="+long, nil, http.Header{"Accept-Encoding": {"gzip"}})
	defer page.Body.Close()
	if page.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("a page is not compressed: %v", page.Header)
	}
}

// Invariant 5: no text becomes an element, an attribute or an address, in the kit's
// functions, in problems, and in the page that somebody is led to.
func TestHostileTextStaysText(t *testing.T) {
	b := bench(t)
	alice, nobody := b.As("alice"), b.Browser()
	for _, bad := range webtest.Hostile() {
		q := url.QueryEscape(bad)
		alice.Get("/console/sample?text=" + q).OK().Clean().Has(bad)
		alice.HTMX("/console/sample?text=" + q).OK().Clean()
		for _, at := range []string{"/console/" + url.PathEscape(bad), "/console/sample/operator?" + q, "/console/sample/" + url.PathEscape(bad)} {
			alice.Get(at).Clean()
			alice.HTMX(at).Clean()
			nobody.Get(at).Clean()
		}
		alice.Agent = strings.Map(func(r rune) rune {
			if r > 126 {
				return '?'
			}
			return r
		}, bad)
		alice.Get("/console/sample").Clean()
		alice = b.As("alice")
	}
}

// The mark that stands for a token while a page is made is drawn anew with every start,
// and is in no page.
func TestTokensDifferFromPageToPage(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	seen := map[string]bool{}
	for range 5 {
		p := alice.Get("/console/sample").OK()
		for _, n := range p.Find("input", "name", "csrf") {
			seen[webtest.Attr(n, "value")] = true
		}
		if strings.Contains(p.Body, b.Site.Mark()) {
			t.Fatal("the mark is in the page")
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d different tokens on 5 pages", len(seen))
	}
}
