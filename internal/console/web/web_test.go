package web_test

import (
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
)

// sample is an area with one route of each kind.
func sample(b *webtest.Bench) []web.Area {
	page := func(v *web.Visit) error { return v.Page("page.html", "Sample", v.Query().Get("text")) }
	return []web.Area{{Name: "sample",
		Files: fstest.MapFS{
			"templates/page.html": {Data: []byte(`{{define "main"}}<h1>sample</h1><p id="text" title="{{.}}">{{.}}</p><a href="{{.}}">{{digest .}} {{id .}}</a><form method="post" action="/console/sample">{{csrf}}<button>go</button></form>{{end}}`)},
			"static/sample.js":    {Data: []byte(`"use strict";` + strings.Repeat("// long enough to be compressed\n", 99))},
		},
		Nav: []web.Nav{{Title: "Sample", Path: "/console/sample"}, {Title: "Operations", Path: "/console/sample/operator", Roles: []web.Role{web.Operator}}},
		Routes: []web.Route{
			{Method: "GET", Path: "/console/{$}", Serve: page},
			{Method: "GET", Path: "/console/sample", Serve: page},
			{Method: "GET", Path: "/console/login", Public: true, Serve: page},
			{Method: "POST", Path: "/console/sample", Serve: func(v *web.Visit) error { return v.Redirect("/console/sample") }},
			{Method: "POST", Path: "/console/sample/public", Public: true, Serve: func(v *web.Visit) error { return v.Redirect("/console/login") }},
			{Method: "POST", Path: "/console/logout", Serve: func(v *web.Visit) error {
				if err := v.SignOut(); err != nil {
					return err
				}
				return v.Redirect("/console/login")
			}},
			{Method: "GET", Path: "/console/sample/operator", Roles: []web.Role{web.Operator}, Serve: page},
			{Method: "GET", Path: "/console/sample/officer", Roles: []web.Role{web.Officer}, Serve: page},
			{Method: "GET", Path: "/console/sample/panic", Serve: func(*web.Visit) error { panic("on purpose") }},
			{Method: "GET", Path: "/console/sample/elsewhere", Serve: func(v *web.Visit) error { return v.Redirect(v.Query().Get("to")) }},
			{Method: "GET", Path: "/console/sample/events", Stream: true, Serve: func(v *web.Visit) error {
				e, err := v.Events()
				if err != nil {
					return err
				}
				defer e.Close()
				if err := e.Send("changed", "now\nand then"); err != nil {
					return err
				}
				for {
					select {
					case <-e.Context().Done():
						return nil
					case <-beats:
						if e.Beat() != nil {
							return nil
						}
					}
				}
			}},
		},
	}}
}

// beats makes streams beat when a test says so.
var beats = make(chan struct{})

func bench(t *testing.T, change ...func(*web.Config)) *webtest.Bench {
	return webtest.New(t, webtest.Options{Web: func(c *web.Config) {
		for _, f := range change {
			f(c)
		}
	}}, sample)
}

func TestSmoke(t *testing.T) {
	b := bench(t)
	alice := b.As("alice")
	p := alice.Get("/console/sample?text=" + url.QueryEscape(`<script>owned()</script>`)).OK().Clean().Small()
	p.Has("<script>owned()</script>", "alice", "charter 1")
	alice.Post("/console/sample", url.Values{}).Want(303)
	b.Browser().Get("/console/sample").Want(303)
}

// A bound says exactly how long.
func TestLasts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		7 * 24 * time.Hour: "7 days", 24 * time.Hour: "1 day", 36 * time.Hour: "36 hours", time.Hour: "1 hour", 90 * time.Minute: "90 minutes",
		61 * time.Second: "61 seconds", 1500 * time.Millisecond: "1.5s", 0: "0s",
	} {
		if got := web.Lasts(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
