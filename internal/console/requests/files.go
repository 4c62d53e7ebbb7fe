package requests

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

const filesPage = 40

// fileList are the files of a request: one that is opened and, of many, a part of the
// list.
type fileList struct {
	Path       string // of the request
	Total      int
	Found      int
	Filter     string
	From       int
	Rows       []fileRow
	Before     string
	Next       string
	One        *server.FileView
	Facts      []fact
	Recomputed []string
	Whole      bool // all is shown: there is one file
}

type fileRow struct {
	store.File
	Link string
	Open bool
}

// fact is one thing that a plan says, and how sure it is.
type fact struct {
	Name, Value string
	Claim       bool // the requester's word
	Sure        bool // somebody has read it from the bytes anew
}

func (a *area) fileList(v *web.Visit, r *store.Request, view *server.View) (*fileList, error) {
	ctx, q := v.Request.Context(), v.Query()
	all, err := a.store.Files(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	l := &fileList{Path: requestsPath + "/" + r.ID.String(), Total: len(all), Filter: strings.TrimSpace(q.Get("name")), Recomputed: view.Recomputed, Whole: len(all) == 1}
	found := all
	if l.Filter != "" {
		found = nil
		want := strings.ToLower(l.Filter)
		for _, f := range all {
			if strings.Contains(strings.ToLower(f.Name), want) || strings.HasPrefix(fmt.Sprintf("%x", f.Content), want) {
				found = append(found, f)
			}
		}
	}
	l.Found = len(found)
	number := func(name string, most int) int {
		n, err := strconv.Atoi(q.Get(name))
		if err != nil || n < 0 || n >= most {
			return 0
		}
		return n
	}
	l.From = number("from", len(found)) / filesPage * filesPage
	link := func(from, file int) string {
		x := url.Values{}
		if l.Filter != "" {
			x.Set("name", l.Filter)
		}
		if from > 0 {
			x.Set("from", strconv.Itoa(from))
		}
		if file >= 0 {
			x.Set("file", strconv.Itoa(file))
		}
		return l.Path + "/files?" + x.Encode()
	}
	open := -1
	if q.Has("file") || l.Whole {
		open = number("file", len(all))
	}
	for i := l.From; i < min(l.From+filesPage, len(found)); i++ {
		l.Rows = append(l.Rows, fileRow{found[i], link(l.From, found[i].Index), found[i].Index == open})
	}
	if l.From > 0 {
		l.Before = link(l.From-filesPage, -1)
	}
	if l.From+filesPage < len(found) {
		l.Next = link(l.From+filesPage, -1)
	}
	if open >= 0 {
		items, err := a.server.Items(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		views, err := server.Files(items, open, open+1)
		if err != nil {
			return nil, err
		}
		if len(views) == 1 {
			l.One = &views[0]
			l.Facts = facts(l.One, len(view.Recomputed) > 0)
		}
	}
	return l, nil
}

// facts are what is said of a file: by the requester, and by its plan.
func facts(f *server.FileView, sure bool) []fact {
	var out []fact
	for _, c := range f.Claims {
		out = append(out, fact{Name: c.Name, Value: c.Value, Claim: true})
	}
	add := func(list []format.Fact) {
		for _, x := range list {
			out = append(out, fact{Name: x.Name, Value: x.Value, Sure: sure})
		}
	}
	add(f.Params)
	add(f.Facts)
	return out
}

// files is the list of files, or the part of it that htmx asks for.
func (a *area) files(v *web.Visit) error {
	r, req, err := a.get(v)
	if err != nil {
		return err
	}
	if req.Command.Sign == nil {
		return web.Problemf(404, "not-found", "", "the request signs no files")
	}
	view, err := a.server.View(v.Request.Context(), r, false)
	if err != nil {
		return err
	}
	l, err := a.fileList(v, r, view)
	if err != nil {
		return err
	}
	if v.HTMX() {
		return v.Part("files.html", "files", l)
	}
	return v.Page("files.html", "Files of "+view.ID[:12], l)
}
