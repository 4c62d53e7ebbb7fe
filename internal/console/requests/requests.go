// Package requests is the console's area of requests: what waits for somebody, what a
// request says and who has said what of it, and the signing of endorsements with a
// passkey.
//
// Invariants (tests name them):
//
//  1. What an endorsement says was shown: its request, verdict and comment are those of
//     the page and the form, in the browser and here; an endorsement that says something
//     else is handed to nobody.
//  2. A disapproval has a reason.
//  3. What the requester claims is marked as his word, apart from what was read from the
//     files by others.
//  4. Whatever a requester or an endorser wrote stays text.
//
// What a caller may not conclude: that the page shows the request which was endorsed.
// The digest says so; the command line computes it from the files themselves.
package requests

import (
	"embed"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

//go:embed all:templates static
var files embed.FS

type area struct {
	server *server.Server
	store  store.Store
	looks  chan struct{} // permits
}

// looksAtOnce is how many open pages look for news of an inbox at a time: each judges the
// requests that wait for its person.
const looksAtOnce = 2

const (
	requestsPath = web.Home + "requests"
	differenceOf = requestsPath + "/{id}/difference" // difference.go
	changeOf     = web.Home + "charters/change/{id}" // of the area of charters
	maxSigned    = 4*statement.MaxPayload/3 + 64<<10 // bytes of a form with a statement and its signature
)

// Area is the area over a server.
func Area(s *server.Server, st store.Store) web.Area {
	a := &area{s, st, make(chan struct{}, looksAtOnce)}
	return web.Area{Name: "requests", Files: files,
		Nav: []web.Nav{{Title: "Inbox", Path: web.Home, Order: 10}, {Title: "Requests", Path: requestsPath, Order: 20}},
		Routes: append([]web.Route{
			{Method: "GET", Path: web.Home + "{$}", Serve: a.inbox},
			{Method: "GET", Path: web.Home + "inbox/events", Stream: true, Serve: a.inboxEvents},
			{Method: "GET", Path: requestsPath, Serve: a.list},
			{Method: "GET", Path: requestsPath + "/{id}", Serve: a.show},
			{Method: "GET", Path: requestsPath + "/{id}/events", Stream: true, Serve: a.events},
			{Method: "GET", Path: requestsPath + "/{id}/files", Serve: a.files},
			{Method: "GET", Path: requestsPath + "/{id}/statement", Serve: a.statement},
			{Method: "POST", Path: requestsPath + "/{id}/draft", Serve: a.draft},
			{Method: "POST", Path: requestsPath + "/{id}/endorse", Serve: a.endorse, MaxBody: maxSigned},
			{Method: "POST", Path: requestsPath + "/{id}/cancel", Serve: a.cancel},
		}, a.more()...),
	}
}

// get finds the request of a page.
func (a *area) get(v *web.Visit) (*store.Request, *statement.Request, error) {
	r, err := a.server.Find(v.Request.Context(), v.Path("id"))
	if err != nil {
		return nil, nil, err
	}
	env, err := statement.DecodeEnvelope(r.Envelope)
	if err != nil || env.ID() != r.ID {
		return nil, nil, web.Problemf(500, "altered", "the audit log has the request as it was made", "request %s was altered in the database", r.ID)
	}
	req, err := statement.Decode[statement.Request](env.Payload)
	if err != nil {
		return nil, nil, web.Problemf(500, "altered", "the audit log has the request as it was made", "request %s was altered in the database", r.ID)
	}
	return r, &req, nil
}

// title is what a request is called: its command, and the policy or key that it is about.
func title(c *statement.Command) string {
	switch {
	case c.Sign != nil:
		return "sign under " + c.Sign.Policy
	case c.KeyName() != "":
		return string(c.Name) + " " + c.KeyName()
	}
	return string(c.Name)
}

// rule is the charter's rule for a request, with its name.
func rule(c *charter.Charter, req *statement.Request) (charter.Rule, string, bool) {
	if s := req.Command.Sign; s != nil {
		p, ok := c.Policies[s.Policy]
		return p.Rule, "policies." + s.Policy, ok
	}
	r, ok := c.Commands[req.Command.Name]
	return r, "commands." + string(req.Command.Name), ok
}

// Badge is how a state is shown: a word and a shape, never a colour alone.
func badge(s store.State) string {
	switch s {
	case store.Executed:
		return "badge-good"
	case store.Disapproved, store.Failed:
		return "badge-bad"
	case store.Pending:
		return "badge-warn"
	}
	return "badge-info"
}

// has reports whether some area serves a pattern.
func has(v *web.Visit, pattern string) bool {
	return slices.ContainsFunc(v.Site().Routes(), func(r web.Route) bool { return r.Path == pattern })
}

// at is a pattern's path for a request.
func at(pattern string, id statement.ID) string {
	return strings.Replace(pattern, "{id}", id.String(), 1)
}
