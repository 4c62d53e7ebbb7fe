package bench

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
)

// page is something that is got.
type page struct {
	route  string
	path   string // with its query
	public bool   // of people who are not signed in
	status int    // of 400 or more, where that is the answer; 0: it is not
}

// unmeasured are the routes that are got by GET and not measured, with the reason.
var unmeasured = map[string]string{
	"/console/inbox/events":         "a stream of events: it has no end",
	"/console/requests/{id}/events": "a stream of events: it has no end",
}

// refused are routes that answer so: they are asked without what belongs to them.
var refused = map[string]int{
	"/console/login/{provider}/callback": http.StatusBadRequest, // nobody has begun that login
}

// variants are the queries that pages are asked for besides none.
func variants(path string, s *samples) []string {
	q := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return "?" + v.Encode()
	}
	switch path {
	case "/console/search":
		product, _, _ := strings.Cut(s.Name, "-")
		return []string{"", q("digest", s.Digest), q("digest", s.Digest[:10]), q("name", s.Name), q("name", product+"-*"), q("name", "*"+s.Name[3:]), q("name", "*tools*"), q("name", "*1.1*x64*"), q("name", "*nothing-like-it*"),
			q("policy", s.Policy), q("key", s.Key, "requester", s.Requester), q("product", "Example "+s.Key, "format", "deb"), q("publisher", "Example Ltd"), q("endorser", s.Person), q("endorser", "nobody"),
			q("policy", s.Policy, "endorser", s.Person, "requester", s.Requester), q("since", time.Now().AddDate(0, -8, 0).Format(time.DateOnly), "until", time.Now().AddDate(0, -7, 0).Format(time.DateOnly)),
			q("format", "msi", "policy", s.Policy)}
	case "/console/search.csv", "/console/search.json":
		return []string{q("digest", s.Digest)}
	case "/console/charts":
		return []string{"", "?range=7d", "?range=1y", "?range=3y", q("range", "1y", "policy", s.Policy)}
	case "/console/charts.csv":
		return []string{"?chart=days"}
	case "/console/log":
		return []string{"", q("request", s.Executed), q("from", fmt.Sprint(s.Entry))}
	case "/console/log/find":
		return []string{q("q", fmt.Sprint(s.Entry))}
	case "/console/log/growth":
		return []string{q("old", fmt.Sprint(s.Entry))}
	case "/console/charters":
		return []string{"", "?part=people", "?part=groups", "?part=keys", "?part=commands", q("part", "policies", "q", s.Policy)}
	case "/console/charters/apps/new/{template}":
		return []string{"", q("name", "example", "requesters", "builds", "key", s.Key, "quorum", "1 of release, 1 of security", "timestamp", "none")}
	case "/console/records/explain":
		ref := townRef(1)
		return []string{"", q("table", ref.Table, "key", ref.Key[0])}
	case "/console/agents":
		return []string{"", "?page=5"}
	case "/console/queue":
		return []string{"", "?state=ready", "?state=processing", "?state=processed", "?state=error", q("agent", s.Agent), q("before", fmt.Sprint(s.Middle))}
	case "/console/rejections":
		return []string{"", q("agent", s.Agent), q("job", s.Order), q("agent", "nobody"), q("before", fmt.Sprint(s.Middle))}
	case "/console/records/findings":
		return []string{"", q("before", fmt.Sprint(s.Middle))}
	case "/console/records/jobs":
		return []string{"", q("before", s.Job)}
	case "/console/requests":
		return []string{"", "?state=pending", "?state=failed", q("policy", s.Policy), q("requester", s.Requester)}
	}
	return []string{""}
}

var hole = regexp.MustCompile(`\{([a-z_]+)(\.\.\.)?\}|\{\$\}`)

// fills are what parameters of a route's path stand for. A route whose parameters are not
// known here is an error: it would be measured with nothing in it.
func fills(route string, s *samples) []map[string]string {
	one := func(name, value string) []map[string]string { return []map[string]string{{name: value}} }
	each := func(name string, values ...string) (out []map[string]string) {
		for _, v := range values {
			out = append(out, map[string]string{name: v})
		}
		return out
	}
	switch {
	case !strings.Contains(strings.TrimSuffix(route, "{$}"), "{"):
		return []map[string]string{{}}
	case route == "/console/requests/{id}/files", route == "/console/requests/{id}/difference": // of requests to sign
		return each("id", s.Executed, s.Pending, s.Disapproved)
	case strings.HasPrefix(route, "/console/requests/{id}"):
		return each("id", s.Executed, s.Pending, s.Disapproved, s.Change, s.Generate)
	case strings.HasPrefix(route, "/console/charters/change/{id}"):
		return one("id", s.Change)
	case strings.HasPrefix(route, "/console/charters/apps/new/{template}"):
		return one("template", "cms")
	case route == "/console/charters/apps/of/{name}":
		return each("name", s.Policy, s.Generated, "not-there-yet")
	case strings.HasPrefix(route, "/console/charters/apps/of/{name}"):
		return one("name", s.Generated)
	case strings.HasPrefix(route, "/console/passkeys/registrations/{id}"):
		return one("id", s.Registration)
	case strings.HasPrefix(route, "/console/search/saved/{id}"):
		return one("id", "bench")
	case strings.HasPrefix(route, "/console/log/") && strings.Contains(route, "{index}"):
		return one("index", fmt.Sprint(s.Entry))
	case strings.HasPrefix(route, "/console/log/receipt/{number}"):
		return one("number", fmt.Sprint(s.Receipt))
	case strings.HasPrefix(route, "/console/login/{provider}"), strings.HasPrefix(route, "/console/logout/{provider}"):
		return one("provider", townSignOn)
	case strings.HasPrefix(route, "/console/records/jobs/{id}"):
		return one("id", s.Job)
	case strings.HasPrefix(route, "/console/records/sets/{id}"):
		return one("id", s.Set)
	case strings.HasPrefix(route, "/console/agents/{name}"):
		return one("name", s.Agent)
	case strings.HasPrefix(route, "/console/queue/{id}"):
		return one("id", s.Order)
	case strings.HasPrefix(route, "/console/rejections/{id}"):
		return one("id", s.Rejection)
	}
	return nil
}

// pagesOf lists what is got of a site: every route of the method GET, its parameters
// filled.
func pagesOf(site string, routes []web.Route, s *samples) (out []page, skipped []ConsoleSkip, err error) {
	for _, r := range routes {
		if r.Method != http.MethodGet {
			continue
		}
		if why := unmeasured[r.Path]; why != "" {
			skipped = append(skipped, ConsoleSkip{site, r.Path, why})
			continue
		}
		all := fills(r.Path, s)
		if all == nil {
			return nil, nil, fmt.Errorf("bench: %s: there is no sample for the route %s", site, r.Path)
		}
		for _, f := range all {
			missing := ""
			path := hole.ReplaceAllStringFunc(r.Path, func(h string) string {
				n := strings.Trim(h, "{}.")
				if n == "$" {
					return ""
				}
				if f[n] == "" {
					missing = n
				}
				return f[n]
			})
			if missing != "" {
				return nil, nil, fmt.Errorf("bench: %s: there is no sample for %s of the route %s", site, missing, r.Path)
			}
			for _, v := range variants(r.Path, s) {
				p := page{route: r.Path, path: path + v, public: r.Public, status: refused[r.Path]}
				if !slices.Contains(out, p) {
					out = append(out, p)
				}
			}
		}
	}
	return out, skipped, nil
}
