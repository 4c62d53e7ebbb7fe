package requests

import (
	"maps"
	"net/url"
	"slices"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/store"
)

const listPage = 50

type listed struct {
	*store.Request
	Title string
	Badge string
	Path  string
}

type list struct {
	States    []store.State
	Policies  []string
	State     string
	Policy    string
	Requester string
	ID        string
	Mine      bool
	Requests  []listed
	Next      string
	Filtered  bool
	InCharter bool
}

// list lists requests, newest first.
func (a *area) list(v *web.Visit) error {
	q := v.Query()
	p := list{States: store.States(), Policies: slices.Sorted(maps.Keys(a.server.Charter().Policies)),
		State: q.Get("state"), Policy: q.Get("policy"), Requester: q.Get("requester"), ID: q.Get("request"), Mine: q.Get("mine") != "", InCharter: v.Who.InCharter}
	f, err := cursor(q)
	if err != nil {
		return err
	}
	f.Limit, f.Policy, f.Requester = listPage+1, p.Policy, p.Requester
	if p.State != "" {
		if !slices.Contains(store.States(), store.State(p.State)) {
			return web.Problemf(400, "malformed", "", "there is no state %.40q", p.State)
		}
		f.States = []store.State{store.State(p.State)}
	}
	if p.Mine {
		f.Requester = v.Who.Name
		if !v.Who.InCharter {
			return web.Problemf(400, "malformed", "", "the charter does not have you: you have no requests")
		}
	}
	if p.ID != "" {
		if f.Prefix, err = prefix(p.ID); err != nil {
			return err
		}
	}
	p.Filtered = p.State != "" || p.Policy != "" || p.Requester != "" || p.ID != "" || p.Mine
	all, err := a.server.List(v.Request.Context(), f)
	if err != nil {
		return err
	}
	if len(all) > listPage {
		all = all[:listPage]
		next := cursorOf(all[listPage-1])
		for _, k := range []string{"state", "policy", "requester", "request", "mine"} {
			if q.Get(k) != "" {
				next.Set(k, q.Get(k))
			}
		}
		p.Next = requestsPath + "?" + next.Encode()
	}
	for _, r := range all {
		t := string(r.Command)
		switch {
		case r.Policy != "":
			t = "sign under " + r.Policy
		case r.Key != "":
			t += " " + r.Key
		}
		p.Requests = append(p.Requests, listed{r, t, badge(r.State), requestsPath + "/" + url.PathEscape(r.ID.String())})
	}
	return v.Page("list.html", "Requests", p)
}
