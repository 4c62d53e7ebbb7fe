// Package notices is each person's page of how he is told what waits for him.
//
// Invariants:
//
//  1. A person sees and sets what is his own, and nobody else's.
//  2. Addresses are shown by their kind only and cannot be set: a session that was
//     stolen leads no message elsewhere.
package notices

import (
	"embed"
	"errors"
	"net/http"
	"strings"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/server"
)

//go:embed templates/*
var files embed.FS

const path = "/console/notices"

type area struct{ server *server.Server }

// Area is the page over a server's notices.
func Area(s *server.Server) web.Area {
	a := &area{s}
	return web.Area{Name: "notices", Files: files,
		Nav: []web.Nav{{Title: "Notices", Path: path, Order: 80}},
		Routes: []web.Route{
			{Method: http.MethodGet, Path: path, Serve: a.show},
			{Method: http.MethodPost, Path: path, Serve: a.set},
			{Method: http.MethodPost, Path: path + "/test", Serve: a.test},
		}}
}

type page struct {
	notices.Preferences
	Off        bool // nobody is told anything
	Person     bool // of the charter
	Own        bool // preferences of his own
	Mail, Chat bool // wanted
	Reached    []string
	Saved      bool
	Sent       []string     // of a test
	Refused    *web.Problem // what was not saved, and why; the rest is as it was typed
}

func (a *area) page(v *web.Visit) (*page, error) {
	p := &page{Person: v.Who.InCharter}
	e := a.server.Notices()
	if e == nil {
		p.Off = true
		return p, nil
	}
	var err error
	if p.Preferences, p.Own, err = e.Preferences(v.Request.Context(), v.Who.Name); err != nil {
		return nil, err
	}
	if p.Reached, err = e.Reached(v.Request.Context(), a.server, v.Who.Name); err != nil {
		return nil, err
	}
	p.ways()
	return p, nil
}

func (p *page) ways() {
	p.Mail, p.Chat = len(p.Ways) == 0, len(p.Ways) == 0
	for _, w := range p.Ways {
		p.Mail, p.Chat = p.Mail || w == "mail", p.Chat || w == "chat"
	}
}

func (a *area) show(v *web.Visit) error {
	p, err := a.page(v)
	if err != nil {
		return err
	}
	p.Saved = v.Query().Get("saved") == "1"
	if sent := v.Query().Get("sent"); sent != "" {
		for _, w := range notices.Ways() {
			if strings.Contains(sent, w) {
				p.Sent = append(p.Sent, w)
			}
		}
	}
	return v.Page("notices.html", "Notices", p)
}

// engine is what tells people, for a person of the charter.
func (a *area) engine(v *web.Visit) (*notices.Engine, error) {
	e := a.server.Notices()
	switch {
	case e == nil:
		return nil, web.Problemf(404, "notices-off", "the administrator configures notify", "this server tells nobody anything")
	case !v.Who.InCharter:
		return nil, web.Problemf(403, "not-a-person", "", "%s is not a person of the charter", v.Who.Name)
	}
	return e, nil
}

func (a *area) set(v *web.Visit) error {
	e, err := a.engine(v)
	if err != nil {
		return err
	}
	f, err := v.Form()
	if err != nil {
		return err
	}
	p := notices.Preferences{Deliver: f.Get("deliver"), At: f.Get("at"), Zone: f.Get("zone"), QuietFrom: f.Get("quiet_from"), QuietTo: f.Get("quiet_to"), Outcomes: f.Get("outcomes") == "on"}
	if mail, chat := f.Get("mail") == "on", f.Get("chat") == "on"; mail != chat {
		p.Ways = []string{map[bool]string{true: "mail", false: "chat"}[mail]}
	} else if !mail {
		return a.refused(v, p, false, false, web.Problemf(422, "no-way", "choose mail, chat or both; a daily digest is the least", "somebody whom nothing reaches keeps others waiting"))
	}
	if err := e.SetPreferences(v.Request.Context(), v.Who.Name, p); errors.Is(err, notices.ErrPreferences) {
		return a.refused(v, p, f.Get("mail") == "on", f.Get("chat") == "on", web.Problemf(422, "malformed", "times are HH:MM, zones as Europe/Berlin", "%s", strings.TrimPrefix(err.Error(), "notices: ")))
	} else if err != nil {
		return err
	}
	return v.Redirect(path + "?saved=1")
}

// refused shows the form as it was sent: nobody types it twice.
func (a *area) refused(v *web.Visit, typed notices.Preferences, mail, chat bool, why *web.Problem) error {
	p, err := a.page(v)
	if err != nil {
		return err
	}
	p.Preferences, p.Mail, p.Chat, p.Refused = typed, mail, chat, why
	return v.PageStatus(why.Status, "notices.html", "Notices", p)
}

func (a *area) test(v *web.Visit) error {
	e, err := a.engine(v)
	if err != nil {
		return err
	}
	ways, err := e.Test(v.Request.Context(), a.server, v.Who.Name, a.server.Charter().Deployment)
	switch {
	case errors.Is(err, notices.ErrNoWay):
		return web.Problemf(409, "no-way", "the charter has mail addresses; notify.people in the configuration, too", "there is no way on which you are told")
	case errors.Is(err, notices.ErrTooSoon):
		return web.Problemf(429, "too-soon", "wait a minute", "a test message was sent within this minute")
	case err != nil:
		return err
	}
	return v.Redirect(path + "?sent=" + strings.Join(ways, "-"))
}
