package requests

import (
	"net/url"
	"strconv"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/release"
)

// more are the routes of the parts of a request's page that it loads by itself.
func (a *area) more() []web.Route {
	return []web.Route{{Method: "GET", Path: differenceOf, Serve: a.difference}}
}

const (
	differenceFiles  = 20  // of a page
	differenceAlerts = 25  // of a page
	differenceRows   = 60  // changes of a page; each file has some
	differenceShort  = 100 // bytes of a value
)

// compared is the part of a page that compares a request with a release.
type compared struct {
	*release.Difference
	ID, Path     string // of the request
	Here         string // of this part
	Alerts       []release.Alert
	MoreAlerts   int
	Files        []comparedFile
	Before, Next string
	Last         int // number of the last file of the page
	Partial      bool
}

// comparedFile is one file with as many of its changes as there is room for.
type comparedFile struct {
	release.File
	Changes []release.Change
	More    int
	Open    bool
}

// difference shows what changed since the last release: by itself as a page, within the
// request's page as a part of it.
func (a *area) difference(v *web.Visit) error {
	r, _, err := a.get(v)
	if err != nil {
		return err
	}
	q := v.Query()
	from := 0
	if s := q.Get("from"); s != "" {
		if from, err = strconv.Atoi(s); err != nil || from < 0 {
			return web.Problemf(400, "malformed", "", "from: want a number")
		}
	}
	against := q.Get("against")
	if against != "" {
		base, err := a.server.Find(v.Request.Context(), against)
		if err != nil {
			return err
		}
		against = base.ID.String()
	}
	d, err := release.Of(v.Request.Context(), a.server, a.store, r.ID, release.Options{Against: against, From: from, Limit: differenceFiles})
	if err != nil {
		return err
	}
	p := &compared{Difference: d, ID: d.Request, Path: requestsPath + "/" + d.Request, Here: at(differenceOf, r.ID), Last: d.From + len(d.Files)}
	p.Alerts = clipAlerts(d.Alerts[:min(len(d.Alerts), differenceAlerts)])
	p.MoreAlerts = d.AlertCount - len(p.Alerts)
	link := func(from int) string {
		q := url.Values{"from": {strconv.Itoa(from)}}
		if against != "" {
			q.Set("against", against)
		}
		return p.Here + "?" + q.Encode()
	}
	if d.From > 0 {
		p.Before = link(max(0, d.From-differenceFiles))
	}
	if d.Next > 0 {
		p.Next = link(d.Next)
	}
	rows := differenceRows
	for i, f := range d.Files {
		// Every file that follows has room for a few.
		n := min(len(f.Changes), max(rows-2*(len(d.Files)-i-1), 2))
		rows -= n
		c := comparedFile{File: f, More: len(f.Changes) - n, Open: i < 3 && f.Kind == release.Changed}
		c.File.Alerts, c.Old, c.New = nil, clipSide(f.Old), clipSide(f.New)
		for _, x := range f.Changes[:n] {
			x.Name, x.Old, x.New = clip(x.Name), clip(x.Old), clip(x.New)
			c.Changes = append(c.Changes, x)
		}
		p.Partial = p.Partial || c.More > 0
		p.Files = append(p.Files, c)
	}
	if v.HTMX() {
		return v.Part("difference.html", "difference", p)
	}
	return v.Page("difference.html", "difference of "+d.Request[:12], p)
}

func clipAlerts(in []release.Alert) (out []release.Alert) {
	for _, x := range in {
		x.Text, x.File = clip(x.Text), clip(x.File)
		out = append(out, x)
	}
	return out
}

func clipSide(s *release.Side) *release.Side {
	if s == nil {
		return nil
	}
	c := *s
	c.Name, c.Version = clip(c.Name), clip(c.Version)
	return &c
}

// clip shortens a text for a cell of a table.
func clip(s string) string {
	if len(s) <= differenceShort {
		return s
	}
	n := differenceShort
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
