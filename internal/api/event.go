package api

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	heartbeat  = 15 * time.Second
	streamLife = time.Hour // then the client comes again
)

// event writes one server-sent event.
func event(w *writer, name, id string, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true)) // one line: JSON escapes line ends
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: %s\nid: %s\ndata: %s\n\n", name, id, b); err != nil {
		return err
	}
	w.Flush()
	return nil
}

func comment(w *writer) error {
	if _, err := w.Write([]byte(": still here\n\n")); err != nil {
		return err
	}
	w.Flush()
	return nil
}

func (a *API) eventRoutes() {
	route(a, op{method: http.MethodGet, path: "/requests/{id}/events", id: "request-events", tag: "requests", access: only(scopeRead), answer: wire.Events,
		sum: "A request's changes as server-sent events", doc: "Events \"view\" with the request as data and its revision as id, the present state first, until it is final."},
		func(ctx context.Context, in *IDParam) (*stream, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			wctx, done, p := a.waiting(ctx, streamLife)
			if p != nil {
				return nil, p
			}
			return a.stream(ctx, wire.Events, func(w *writer) error {
				defer done()
				return a.follow(ctx, wctx, w, r)
			}), nil
		})

	type none struct{}
	route(a, op{method: http.MethodGet, path: "/inbox/events", id: "inbox-events", tag: "endorsements", access: only(scopeRead), answer: wire.Events,
		sum: "Changes of the caller's inbox as server-sent events", doc: "Events \"inbox\" with the first page of requests as data, as GET /inbox answers it; the present one first."},
		func(ctx context.Context, _ *none) (*stream, error) {
			wctx, done, p := a.waiting(ctx, streamLife)
			if p != nil {
				return nil, p
			}
			return a.stream(ctx, wire.Events, func(w *writer) error {
				defer done()
				return a.followInbox(ctx, wctx, w)
			}), nil
		})
}

func (a *API) follow(ctx, wctx context.Context, w *writer, r *store.Request) error {
	sent := int64(-1)
	for {
		if r.Revision != sent {
			v, err := a.view(ctx, r, false)
			if err != nil {
				return err
			}
			if err := event(w, "view", fmt.Sprint(r.Revision), v.Body); err != nil {
				return err
			}
			sent = r.Revision
		} else if err := comment(w); err != nil {
			return err
		}
		if !r.State.Open() || wctx.Err() != nil {
			return nil
		}
		hctx, cancel := context.WithTimeout(wctx, heartbeat)
		next, err := a.cfg.Server.Await(hctx, r.ID, sent)
		cancel()
		if err != nil {
			return err
		}
		r = next
	}
}

// inboxEvent is how many requests one event shows.
const inboxEvent = 1000

func (a *API) followInbox(ctx, wctx context.Context, w *writer) error {
	type seen struct {
		id       string
		revision int64
	}
	var last []seen
	quiet := time.Now()
	for n := 0; ; {
		list, more, err := a.inbox(ctx, nil, inboxEvent)
		if err != nil {
			return err
		}
		var now []seen
		for _, r := range list {
			now = append(now, seen{r.ID.String(), r.Revision})
		}
		switch {
		case n == 0 || !slices.Equal(now, last):
			page, err := a.inboxPage(ctx, list, more)
			if err != nil {
				return err
			}
			n++
			if err := event(w, "inbox", fmt.Sprint(n), page); err != nil {
				return err
			}
			last, quiet = now, time.Now()
		case time.Since(quiet) > heartbeat:
			if err := comment(w); err != nil {
				return err
			}
			quiet = time.Now()
		}
		if wctx.Err() != nil {
			return nil
		}
		a.cfg.Server.AwaitNews(wctx)
	}
}
