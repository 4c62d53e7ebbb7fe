package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/store"
)

func preferencesOf(p wire.NoticePreferences) notices.Preferences {
	return notices.Preferences{Deliver: p.Deliver, At: p.At, Zone: p.Zone, QuietFrom: p.QuietFrom, QuietTo: p.QuietTo, Ways: p.Ways, Outcomes: p.Outcomes}
}

// noticeSettings are the caller's.
func (a *API) noticeSettings(ctx context.Context, e *notices.Engine, person string) (*wire.NoticeSettings, error) {
	p, set, err := e.Preferences(ctx, person)
	if err != nil {
		return nil, err
	}
	reached, err := e.Reached(ctx, a.cfg.Server, person)
	return &wire.NoticeSettings{Set: set, Reached: reached, NoticePreferences: wire.NoticePreferences{
		Deliver: p.Deliver, At: p.At, Zone: p.Zone, QuietFrom: p.QuietFrom, QuietTo: p.QuietTo, Ways: p.Ways, Outcomes: p.Outcomes}}, err
}

// told is the engine and the caller, who must be a person of the charter. Whoever
// holds a token of his does not change how he is told.
func (a *API) told(ctx context.Context, change bool) (*notices.Engine, string, error) {
	e := a.cfg.Server.Notices()
	if e == nil {
		return nil, "", newProblem(404, "notices-off", "the administrator configures notify", "this server tells nobody anything")
	}
	who := callOf(ctx).who
	if _, person := a.cfg.Server.Charter().People[who.Name]; !person {
		return nil, "", newProblem(403, "not-a-person", "", "%s is not a person of the charter", who.Name)
	}
	if change && who.Via == "token" {
		return nil, "", newProblem(403, "session-wanted", "greatseal login", "a token does not change how its person is told")
	}
	return e, who.Name, nil
}

func (a *API) noticeRoutes() {
	type settingsOut struct{ Body wire.NoticeSettings }
	route(a, op{method: http.MethodGet, path: "/notices/preferences", id: "notice-preferences", tag: "notices", access: only(scopeRead),
		sum: "How the caller is told"},
		func(ctx context.Context, _ *struct{}) (*settingsOut, error) {
			e, who, err := a.told(ctx, false)
			if err != nil {
				return nil, err
			}
			s, err := a.noticeSettings(ctx, e, who)
			if err != nil {
				return nil, err
			}
			return &settingsOut{*s}, nil
		})

	type setIn struct{ Body wire.NoticePreferences }
	route(a, op{method: http.MethodPost, path: "/notices/preferences", id: "set-notice-preferences", tag: "notices", access: only(scopeRead),
		sum: "Set how the caller is told", doc: "Where he is reached stands in the charter and the configuration. Not with a token."},
		func(ctx context.Context, in *setIn) (*settingsOut, error) {
			e, who, err := a.told(ctx, true)
			if err != nil {
				return nil, err
			}
			if err := e.SetPreferences(ctx, who, preferencesOf(in.Body)); errors.Is(err, notices.ErrPreferences) {
				return nil, newProblem(422, "malformed", "greatseal notices set --help", "%s", strings.TrimPrefix(err.Error(), "notices: "))
			} else if err != nil {
				return nil, err
			}
			s, err := a.noticeSettings(ctx, e, who)
			if err != nil {
				return nil, err
			}
			return &settingsOut{*s}, nil
		})

	type testOut struct{ Body wire.NoticeTest }
	route(a, op{method: http.MethodPost, path: "/notices/test", id: "test-notices", tag: "notices", access: only(scopeRead),
		sum: "Send the caller a test message", doc: "At most one a minute. Not with a token."},
		func(ctx context.Context, _ *struct{}) (*testOut, error) {
			e, who, err := a.told(ctx, true)
			if err != nil {
				return nil, err
			}
			ways, err := e.Test(ctx, a.cfg.Server, who, a.cfg.Server.Charter().Deployment)
			switch {
			case errors.Is(err, notices.ErrNoWay):
				return nil, newProblem(409, "no-way", "the charter has mail addresses; notify.people in the configuration, too", "there is no way on which %s is told", who)
			case errors.Is(err, notices.ErrTooSoon):
				return nil, newProblem(429, "too-soon", "wait a minute", "a test message was sent within this minute")
			case err != nil:
				return nil, err
			}
			return &testOut{wire.NoticeTest{Ways: ways}}, nil
		})

	type toldOut struct{ Body wire.ToldList }
	route(a, op{method: http.MethodGet, path: "/requests/{id}/notices", id: "request-notices", tag: "notices", access: only(scopeRead),
		sum: "Who was told about a request, and when", doc: "For its requester, officers and administrators."},
		func(ctx context.Context, in *IDParam) (*toldOut, error) {
			r, err := a.get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if c := callOf(ctx); !c.who.has(scopeAdmin) && !a.cfg.Server.MayReadTold(r, c.who.Name) {
				return nil, newProblem(403, "not-yours", "", "who was told about a request is for its requester and for officers")
			}
			list, err := a.cfg.Server.Told(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			out := wire.ToldList{Notices: []wire.Told{}}
			for _, n := range list {
				out.Notices = append(out.Notices, toldOf(&n))
			}
			return &toldOut{out}, nil
		})
}

func toldOf(n *store.Notice) wire.Told {
	return wire.Told{Event: n.Event, Recipient: n.Recipient, Way: n.Way, State: string(n.State), Attempts: n.Attempts, Error: n.Error, Created: n.Created, Updated: n.Updated}
}
