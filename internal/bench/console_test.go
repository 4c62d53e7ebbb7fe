package bench

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/console/web"
)

// A small town: every page of every area answers as it should, signed in and not, none
// is too large, and a second run finds what the first one kept.
func TestConsole(t *testing.T) {
	o := ConsoleOptions{Requests: 1000, Entries: 10_000, Dir: t.TempDir(), Temp: t.TempDir(), Runs: 2}
	r, err := Console(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Entries != o.Entries {
		t.Errorf("a log of %d entries", r.Entries)
	}
	pages := map[string]int{}
	found := map[string]bool{}
	for _, p := range r.Pages {
		if want := max(200, refused[p.Route]); p.Kind == "page" && p.Status != want || p.Kind == "data" && p.Status != 200 || p.Kind == "redirect" && p.Status != 303 {
			t.Errorf("want %d: %+v", want, p)
		}
		found[p.Database+" "+p.Console+" "+p.Route] = true
		if p.Kind == "page" {
			pages[p.Database]++
			if p.HTML == 0 || p.First <= p.HTML || p.Raw < p.HTML {
				t.Errorf("%+v", p)
			}
		}
	}
	if pages["sqlite"] < 60 || pages["sqlite"] != pages["postgres"] {
		t.Errorf("%v pages", pages)
	}
	for _, p := range r.Exceeding(true, false) {
		t.Errorf("%+v", p)
	}
	// One of each area, so that a console without one of them is not taken for whole.
	for _, x := range []string{"server /console/{$}", "server /console/login", "server /console/login/{provider}", "server /console/sessions", "server /console/notices", "server /console/passkeys/registrations/{id}",
		"server /console/requests/{id}", "server /console/charters/change/{id}/replay", "server /console/search", "server /console/log", "server /console/records/jobs/{id}",
		"server /console/records/sets/{id}", "protected /console/agents/{name}", "protected /console/queue/{id}", "protected /console/rejections/{id}"} {
		for _, db := range []string{"sqlite ", "postgres "} {
			if !found[db+x] {
				t.Errorf("%s%s is not measured", db, x)
			}
		}
	}
	skipped := map[string]bool{}
	for _, k := range r.Skipped {
		skipped[k.Route] = true
	}
	for route := range unmeasured {
		if !skipped[route] {
			t.Errorf("%s is not measured, and not there", route)
		}
	}
	for route := range refused {
		if !found["sqlite server "+route] {
			t.Errorf("%s is refused, and not there", route)
		}
	}
	o.Databases = []string{"sqlite:"}
	again, err := Console(t.Context(), o)
	if err != nil || len(again.Pages) != len(r.Pages)/2 || again.Entries != r.Entries {
		t.Errorf("again: %+v, %v", again, err)
	}
	left, err := os.ReadDir(o.Temp)
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left behind, %v", left, err)
	}
}

// Whoever adds a route says what it is to be measured with, or why not.
func TestEveryRouteIsMeasured(t *testing.T) {
	s := &samples{Executed: "a", Pending: "b", Disapproved: "c", Change: "d", Generate: "e"}
	route := func(method, path string, public bool) web.Route {
		return web.Route{Method: method, Path: path, Public: public}
	}
	pages, skipped, err := pagesOf("server", []web.Route{route(http.MethodGet, "/console/new", true), route(http.MethodGet, "/console/requests/{id}", false),
		route(http.MethodGet, "/console/inbox/events", false), route(http.MethodPost, "/console/unknown/{thing}", false)}, s)
	if err != nil || len(pages) != 6 || !pages[0].public || pages[1].public || len(skipped) != 1 || skipped[0].Reason == "" {
		t.Errorf("%+v, %+v, %v", pages, skipped, err)
	}
	for _, path := range []string{"/console/unknown/{thing}", "/console/agents/{name}", "/console/agents/{name}/{other}"} {
		if _, _, err := pagesOf("server", []web.Route{route(http.MethodGet, path, false)}, s); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
