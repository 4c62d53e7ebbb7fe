package bench

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/logs"
	"github.com/greatseal-io/greatseal/internal/console/notices"
	"github.com/greatseal-io/greatseal/internal/console/passkeys"
	"github.com/greatseal-io/greatseal/internal/console/requests"
	"github.com/greatseal-io/greatseal/internal/console/search"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

func someAreas(s *server.Server, st *store.SQL, a *analysis.Analysis) ([]web.Area, error) {
	reg, err := registration.New(registration.Config{Chain: s.Chain, Store: st, Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	return []web.Area{search.Area(s, st, a), logs.Area(s, st), requests.Area(s, st), notices.Area(s), passkeys.Area(reg, st)}, nil
}

// A small town: every page answers, none is too large, and a second run finds what
// the first one kept.
func TestConsole(t *testing.T) {
	o := ConsoleOptions{Requests: 1000, Entries: 10_000, Dir: t.TempDir(), Temp: t.TempDir(), Runs: 2, Areas: someAreas}
	r, err := Console(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Entries != o.Entries {
		t.Errorf("a log of %d entries", r.Entries)
	}
	pages := map[string]int{}
	for _, p := range r.Pages {
		if p.Kind == "page" {
			pages[p.Database]++
			want := 200
			if strings.HasPrefix(p.Page, "/console/passkeys/registrations/") {
				want = 404 // nobody in town has just registered a passkey
			}
			if p.Status != want || p.HTML == 0 || p.First <= p.HTML || p.Raw < p.HTML {
				t.Errorf("%+v", p)
			}
		}
	}
	if pages["sqlite"] < 20 || pages["sqlite"] != pages["postgres"] {
		t.Errorf("%v pages", pages)
	}
	for _, p := range r.Exceeding(true, false) {
		t.Errorf("%+v", p)
	}
	found := map[string]bool{}
	for _, p := range r.Pages {
		if strings.HasPrefix(p.Page, "/console/search?digest=") && p.Raw > 0 {
			found[p.Database] = true
		}
	}
	if len(found) != 2 {
		t.Errorf("searched for digests on %v", found)
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
