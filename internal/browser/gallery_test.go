package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/console"
	"github.com/greatseal-io/greatseal/internal/console/charters"
	"github.com/greatseal-io/greatseal/internal/console/logs"
	"github.com/greatseal-io/greatseal/internal/console/notices"
	"github.com/greatseal-io/greatseal/internal/console/operations"
	"github.com/greatseal-io/greatseal/internal/console/passkeys"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/search"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/sso"
	"github.com/greatseal-io/greatseal/internal/store"
)

// screensDir is where the pictures go: at the root of the project.
const screensDir = "../../screens"

// gallery keeps pictures, and knows which routes of the console they show.
type gallery struct {
	axe      string
	mux      *http.ServeMux // of the routes that browsers get pages from
	pages    []string
	pictured map[string]bool
}

// noPage are routes that browsers get, and of which there is no picture.
var noPage = map[string]string{
	"/console/login/{provider}":            "leads to the provider",
	"/console/logout/{provider}/there":     "leads to the provider",
	"/console/search.csv":                  "a file",
	"/console/search.json":                 "a file",
	"/console/charts.csv":                  "a file",
	"/console/search/saved/{id}":           "leads to the search",
	"/console/charters/apps/of/{name}/csr": "a file",
	"/console/log/entry/{index}/raw":       "a file",
	"/console/log/receipt/{number}":        "leads to its entry",
	"/console/log/proof/{index}":           "a file",
	"/console/log/growth":                  "a part of a page's script's",
	"/console/requests/{id}/statement":     "a file",
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	if err := os.MkdirAll(screensDir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := &gallery{axe: filepath.Join(formattest.Judges(t), "lib", "axe", "axe.min.js"), mux: http.NewServeMux(), pictured: map[string]bool{}}
	// All areas, over nothing: they are asked for their routes alone.
	areas := map[string]web.Area{
		"charters": charters.Area(nil), "logs": logs.Area(nil, nil), "notices": notices.Area(nil), "passkeys": passkeys.Area(nil, nil), "requests": requests.Area(nil, nil),
		"search":     search.Area(nil, nil, analysis.New(nil)),
		"operations": operations.Area(&instance.Instance{Jobs: &records.Jobs{}, Guard: &records.Guard{}, Queue: &ecc.Service{}}, nil),
	}
	dirs, err := filepath.Glob("../console/*/*.go")
	if err != nil || len(dirs) == 0 {
		t.Fatal("the console has no areas", err)
	}
	hasArea := regexp.MustCompile(`(?m)^func Area\(`)
	for _, path := range dirs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		if _, ok := areas[name]; !ok && name != "signon" && hasArea.Match(b) { // that one comes with its providers
			t.Errorf("the area %s is not looked at: add it here", name)
		}
	}
	cfg := console.Config{Config: web.Config{Server: &server.Server{}, Store: &store.SQL{}, Clock: time.Now}, Providers: &sso.Providers{}}
	for _, a := range areas {
		cfg.Areas = append(cfg.Areas, a)
	}
	c, err := console.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Site().Routes() {
		if r.Method != http.MethodGet || r.Stream || r.Program {
			continue
		}
		g.mux.HandleFunc(r.Path, http.NotFound)
		g.pages = append(g.pages, r.Path)
	}
	return g
}

// route is the pattern of the route that an address leads to; empty: none.
func (g *gallery) route(path string) string {
	_, pattern := g.mux.Handler(httptest.NewRequest("GET", path, nil))
	return pattern
}

// complete wants a picture of each page, or a reason why there is none.
func (g *gallery) complete(t *testing.T) {
	if len(g.pages) < 40 {
		t.Errorf("%d pages: the routes are not those of the console", len(g.pages))
	}
	for _, p := range g.pages {
		if reason := noPage[p]; !g.pictured[p] && reason == "" {
			t.Errorf("there is no picture of %s: add a look, or to noPage why not", p)
		} else if g.pictured[p] && reason != "" {
			t.Errorf("%s is pictured, and noPage says %q", p, reason)
		}
	}
	for p := range noPage {
		if !slices.Contains(g.pages, p) {
			t.Errorf("noPage: there is no route %s", p)
		}
	}
}

// looks looks at pages in all four ways.
func (g *gallery) looks(t *testing.T, s *stage, p *chromiumtest.Page, pages []look) {
	t.Helper()
	p.Complaints()
	for _, l := range pages {
		if l.path == "" && l.says == "" { // the page may be on its way still
			t.Fatalf("%s: an open page is told by what it says", l.name)
		}
		if l.path != "" && (!l.no || l.own) {
			path, _, _ := strings.Cut(l.path, "?")
			g.pictured[g.route(path)] = true
		}
		t.Run(l.name, func(t *testing.T) {
			for _, w := range []int64{1440, 390} {
				for _, dark := range []bool{false, true} {
					p.Look(w, dark)
					if l.path != "" {
						p.Open(s.url + l.path)
					}
					if l.says != "" {
						p.See("main", l.says)
					}
					p.Settled()
					g.judge(t, p, fmt.Sprintf("%s-%d-%s", l.name, w, map[bool]string{false: "light", true: "dark"}[dark]))
				}
				for _, out := range p.Unseen() {
					t.Errorf("%s, %d wide: %s", l.name, w, out)
				}
			}
			for _, h := range p.Complaints() {
				if !l.no || !strings.Contains(h, "Failed to load resource") {
					t.Errorf("the browser complains: %s", h)
				}
			}
			if !l.no { // whoever is refused one page may be refused all of them
				for _, dead := range p.DeadLinks() {
					t.Errorf("%s: a link leads nowhere: %s", l.name, dead)
				}
			}
			p.Complaints() // of links that lead nowhere the browser says so, too
		})
	}
	p.Look(1440, false)
}

// judge keeps a picture of a page as it is, and says what is wrong with it.
func (g *gallery) judge(t *testing.T, p *chromiumtest.Page, way string) {
	t.Helper()
	if out := p.Overflow(); len(out) > 0 {
		t.Errorf("%s: sticks out:\n  %s", way, strings.Join(out, "\n  "))
	}
	if out := p.Overlap(); len(out) > 0 {
		t.Errorf("%s: overlaps:\n  %s", way, strings.Join(out, "\n  "))
	}
	if err := os.WriteFile(filepath.Join(screensDir, way+".png"), p.Shot(), 0o644); err != nil {
		t.Fatal(err)
	}
	// Colours differ by scheme, and what is shown by width.
	for _, v := range p.Axe(g.axe) {
		if v.Impact == "serious" || v.Impact == "critical" {
			t.Errorf("%s: %s", way, v)
		} else {
			t.Logf("%s: %s", way, v)
		}
	}
}
