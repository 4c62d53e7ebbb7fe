package api

import (
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

// IDParam is a request's ID, or the beginning of it. It is exported for reflection.
type IDParam struct {
	ID string `path:"id" minLength:"4" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"ID of a request, or the beginning of it"`
}

type viewOut struct {
	Status int
	Body   server.View
}

func (a *API) view(ctx context.Context, r *store.Request, explain bool) (*viewOut, error) {
	v, err := a.cfg.Server.View(ctx, r, explain)
	if err != nil {
		return nil, err
	}
	return &viewOut{Status: http.StatusOK, Body: *v}, nil
}

func (a *API) requestRoutes() {
	type submitIn struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" doc:"Accepted from clients that always send one. It changes nothing: the signed bytes are the key."`
		Body wire.Submission
	}
	route(a, op{method: http.MethodPost, path: "/requests", id: "submit", tag: "requests", access: only(scopeRequest), body: a.cfg.Limits.Body, status: 201,
		sum: "Hand in a signed request", doc: "201 with a new request; 200 with \"attached\": true where the same command is open already, or the same bytes came before. A request that needs nobody is executed before the answer."},
		func(ctx context.Context, in *submitIn) (*viewOut, error) {
			r, attached, err := a.cfg.Server.Submit(ctx, in.Body.Envelope, in.Body.Items)
			if err != nil {
				return nil, err
			}
			out, err := a.view(ctx, r, false)
			if err != nil {
				return nil, err
			}
			out.Body.Attached = attached
			if !attached {
				out.Status = http.StatusCreated
			}
			return out, nil
		})

	type listIn struct {
		State     string    `query:"state" maxLength:"100" doc:"one or several, comma between: pending, endorsed, executed, disapproved, expired, cancelled, failed"`
		Command   string    `query:"command" maxLength:"64"`
		Policy    string    `query:"policy" maxLength:"64"`
		Key       string    `query:"key" maxLength:"64"`
		Requester string    `query:"requester" maxLength:"64"`
		Endorser  string    `query:"endorser" maxLength:"64" doc:"who has endorsed or disapproved it"`
		Name      string    `query:"name" maxLength:"1024" doc:"of a file; * matches anything"`
		Content   string    `query:"content" maxLength:"128" pattern:"^([0-9a-f]{2})*$" doc:"digest of a file's content, hexadecimal"`
		Since     time.Time `query:"since"`
		Until     time.Time `query:"until"`
		Before    string    `query:"before" maxLength:"128" doc:"page on: \"next\" of the page before; or a time, for what was created before it"`
		Limit     int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type pageOut struct{ Body wire.Page }
	route(a, op{method: http.MethodGet, path: "/requests", id: "requests", tag: "requests", access: only(scopeRead), sum: "List requests, newest first", doc: "Without their decisions."},
		func(ctx context.Context, in *listIn) (*pageOut, error) {
			f := store.Filter{Command: statement.CommandName(in.Command), Policy: in.Policy, Key: in.Key, Requester: in.Requester, Endorser: in.Endorser,
				Name: in.Name, Since: in.Since, Until: in.Until, Limit: in.Limit}
			var err error
			if f.Before, f.BeforeID, err = parseNext(in.Before); err != nil {
				return nil, newProblem(422, "malformed", "", "before: want \"next\" of the page before, or a time like 2006-01-02T15:04:05Z")
			}
			if f.Content, err = hex.DecodeString(in.Content); err != nil {
				return nil, newProblem(422, "malformed", "", "content: want hexadecimal digits")
			}
			if in.State != "" {
				for s := range strings.SplitSeq(in.State, ",") {
					if !slices.Contains(store.States(), store.State(s)) {
						return nil, newProblem(422, "malformed", "", "state: want some of %v", store.States())
					}
					f.States = append(f.States, store.State(s))
				}
			}
			list, err := a.cfg.Server.List(ctx, f)
			if err != nil {
				return nil, err
			}
			page, err := a.page(ctx, list)
			if err != nil {
				return nil, err
			}
			if len(list) == in.Limit {
				page.Next = next(list[len(list)-1])
			}
			return &pageOut{*page}, nil
		})

	type showIn struct {
		IDParam
		Wait     string `query:"wait" maxLength:"16" doc:"answer at once when the revision is another one than \"revision\", else as soon as it is, at the latest after this time: 30s; at most 60s"`
		Revision int64  `query:"revision" minimum:"0" doc:"the one that the caller has"`
		Explain  bool   `query:"explain" doc:"add the decision: who counts for what, what is missing"`
	}
	route(a, op{method: http.MethodGet, path: "/requests/{id}", id: "request", tag: "requests", access: only(scopeRead), sum: "Show a request, or wait for its next change"},
		func(ctx context.Context, in *showIn) (*viewOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			d, p := waitOf(in.Wait)
			if p != nil {
				return nil, p
			}
			if d > 0 && r.Revision == in.Revision {
				wctx, done, p := a.waiting(ctx, d)
				if p != nil {
					return nil, p
				}
				r, err = a.cfg.Server.Await(wctx, r.ID, in.Revision)
				done()
				if err != nil {
					return nil, err
				}
			}
			return a.view(ctx, r, in.Explain)
		})

	type filesIn struct {
		IDParam
		From  int `query:"from" minimum:"0" maximum:"100000"`
		Limit int `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	}
	type filesOut struct{ Body wire.FilePage }
	route(a, op{method: http.MethodGet, path: "/requests/{id}/files", id: "files", tag: "requests", access: only(scopeRead), sum: "List the files of a request",
		doc: "Names and claims are the requester's word; facts were read from the bytes by whoever made the plan."},
		func(ctx context.Context, in *filesIn) (*filesOut, error) {
			items, err := a.items(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			files, err := server.Files(items, in.From, in.From+in.Limit)
			if err != nil {
				return nil, err
			}
			return &filesOut{wire.FilePage{Files: files, Count: len(items)}}, nil
		})

	route(a, op{method: http.MethodGet, path: "/requests/{id}/items", id: "items", tag: "requests", access: only(scopeRead), answer: wire.CBORSequence,
		sum: "The encoded items of a request", doc: "A CBOR sequence (RFC 8742) of byte strings, in the order of the tree; their root is the request's."},
		func(ctx context.Context, in *IDParam) (*stream, error) {
			items, err := a.items(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return a.stream(ctx, wire.CBORSequence, func(w *writer) error {
				e := cbor.NewEncoder(w)
				for _, it := range items {
					if err := e.Encode(it); err != nil {
						return err
					}
				}
				return nil
			}), nil
		})

	type envelopesOut struct{ Body wire.Envelopes }
	route(a, op{method: http.MethodGet, path: "/requests/{id}/envelopes", id: "envelopes", tag: "requests", access: only(scopeRead), sum: "The signed statements of a request, as they were signed"},
		func(ctx context.Context, in *IDParam) (*envelopesOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			out := &envelopesOut{wire.Envelopes{Request: r.Envelope, Endorsements: []jsontext.Value{}}}
			for _, e := range r.Endorsements {
				out.Body.Endorsements = append(out.Body.Endorsements, e.Envelope)
			}
			return out, nil
		})

	type cancelIn struct {
		IDParam
		Body wire.Cancelling
	}
	route(a, op{method: http.MethodPost, path: "/requests/{id}/cancel", id: "cancel", tag: "requests", access: only(scopeRequest),
		sum: "Withdraw a request", doc: "Signed by its requester with a credential of the charter, for logins, over \"greatseal cancel v1\", a line end and the ID."},
		func(ctx context.Context, in *cancelIn) (*viewOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if _, err := credential.ParseID(in.Body.Signature.KeyID); err != nil {
				return nil, newProblem(422, "malformed", "", "signature: %v", err)
			}
			r, err = a.cfg.Server.Cancel(ctx, r.ID, in.Body.Requester, statement.Signature{KeyID: in.Body.Signature.KeyID, Sig: in.Body.Signature.Sig})
			if err != nil {
				return nil, err
			}
			return a.view(ctx, r, false)
		})
}

// page describes requests that were listed without their endorsements.
func (a *API) page(ctx context.Context, list []*store.Request) (*wire.Page, error) {
	out := &wire.Page{Requests: []server.View{}}
	for _, r := range list {
		full, err := a.cfg.Server.Get(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		v, err := a.cfg.Server.View(ctx, full, false)
		if err != nil {
			return nil, err
		}
		out.Requests = append(out.Requests, *v)
	}
	return out, nil
}

func (a *API) items(ctx context.Context, id string) ([][]byte, error) {
	r, err := a.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.cfg.Server.Items(ctx, r.ID)
}

func (a *API) endorsementRoutes() {
	type endorseIn struct{ Body wire.Endorsing }
	route(a, op{method: http.MethodPost, path: "/endorsements", id: "endorse", tag: "endorsements", access: only(scopeRequest, scopeRead, scopeInspect),
		sum: "Hand in a signed endorsement or disapproval", doc: "What counts is its signature, whoever brings it. The same bytes again change nothing. One that can never count is refused, and the refusal is logged."},
		func(ctx context.Context, in *endorseIn) (*viewOut, error) {
			r, err := a.cfg.Server.Endorse(ctx, in.Body.Envelope)
			if err != nil {
				return nil, err
			}
			return a.view(ctx, r, false)
		})

	type inboxIn struct {
		Wait   string `query:"wait" maxLength:"16" doc:"where nothing waits, wait for the first request up to this long: 30s; at most 60s"`
		Before string `query:"before" maxLength:"128" doc:"page on: \"next\" of the page before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	}
	type pageOut struct{ Body wire.Page }
	route(a, op{method: http.MethodGet, path: "/inbox", id: "inbox", tag: "endorsements", access: only(scopeRead), sum: "The open requests that wait for the caller's endorsement",
		doc: "Newest first. Where there is a \"next\" there may be more, also when the page is empty: many requests wait for others."},
		func(ctx context.Context, in *inboxIn) (*pageOut, error) {
			d, p := waitOf(in.Wait)
			if p != nil {
				return nil, p
			}
			before, id, err := parseNext(in.Before)
			if err != nil {
				return nil, newProblem(422, "malformed", "", "before: want \"next\" of the page before")
			}
			var after *store.Request
			if !before.IsZero() {
				after = &store.Request{Created: before, ID: id}
			}
			list, more, err := a.inbox(ctx, after, in.Limit)
			if err != nil {
				return nil, err
			}
			if len(list) == 0 && more == nil && after == nil && d > 0 {
				wctx, done, p := a.waiting(ctx, d)
				if p != nil {
					return nil, p
				}
				defer done()
				for len(list) == 0 && more == nil && wctx.Err() == nil {
					a.cfg.Server.AwaitNews(wctx)
					if list, more, err = a.inbox(ctx, nil, in.Limit); err != nil {
						return nil, err
					}
				}
			}
			page, err := a.inboxPage(ctx, list, more)
			if err != nil {
				return nil, err
			}
			return &pageOut{*page}, nil
		})
}

func (a *API) inbox(ctx context.Context, after *store.Request, limit int) (list []*store.Request, more *store.Request, err error) {
	return a.cfg.Server.InboxPage(ctx, callOf(ctx).who.Name, after, limit)
}

func (a *API) inboxPage(ctx context.Context, list []*store.Request, more *store.Request) (*wire.Page, error) {
	page, err := a.page(ctx, list)
	if err == nil && more != nil {
		page.Next = next(more)
	}
	return page, err
}

// next is where the page after r begins: its time and, many requests having one
// time, its ID.
func next(r *store.Request) string {
	return r.Created.UTC().Format(time.RFC3339Nano) + "_" + r.ID.String()
}

// parseNext reads what next writes, or a time alone; "" is the first page.
func parseNext(s string) (before time.Time, id statement.ID, err error) {
	if s == "" {
		return before, id, nil
	}
	at, rest, found := strings.Cut(s, "_")
	if before, err = time.Parse(time.RFC3339Nano, at); err == nil && found {
		id, err = statement.ParseID(rest)
	}
	return before, id, err
}
