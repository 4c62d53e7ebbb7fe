package web

import (
	"encoding/json/v2"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Visit is one call of one person.
type Visit struct {
	Writer  http.ResponseWriter
	Request *http.Request
	Who     *Person // nil on public routes only, where nobody is signed in
	Now     time.Time

	site   *Site
	area   *area
	route  *Route
	secret string // of the session, or of the form cookie of somebody who has none
	form   url.Values
}

// Site is the site that is visited.
func (v *Visit) Site() *Site { return v.site }

// HTMX reports whether htmx asks for a part of a page.
func (v *Visit) HTMX() bool {
	h := v.Request.Header
	return h.Get("HX-Request") == "true" && h.Get("HX-Boosted") != "true" && h.Get("HX-History-Restore-Request") != "true"
}

// wantsJSON reports whether a script asks that takes JSON only.
func (v *Visit) wantsJSON() bool {
	return strings.HasPrefix(v.Request.Header.Get("Accept"), "application/json")
}

// JSON answers with x.
func (v *Visit) JSON(status int, x any) error {
	b, err := json.Marshal(x, json.Deterministic(true))
	if err != nil {
		return err
	}
	return v.answer(status, "application/json", b)
}

// Download answers with bytes that a browser keeps and does not show.
func (v *Visit) Download(name, contentType string, b []byte) error {
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	v.Writer.Header().Set("Content-Disposition", `attachment; filename="`+clean+`"`)
	return v.answer(http.StatusOK, contentType, b)
}

// Redirect leads to another page of this console. Paths of elsewhere are an open
// redirect: tests panic, production leads home.
func (v *Visit) Redirect(path string) error {
	if !Local(path) {
		if v.site.cfg.Strict {
			panic("web: open redirect to " + path)
		}
		path = Home
	}
	if v.HTMX() {
		v.Writer.Header().Set("HX-Redirect", path)
		v.Writer.WriteHeader(http.StatusNoContent)
		return nil
	}
	v.Writer.Header().Set("Location", path)
	v.Writer.WriteHeader(http.StatusSeeOther)
	return nil
}

// Home is where the console begins.
const Home = "/console/"

// Local reports whether path leads to a page of the console and nowhere else,
// whatever a browser makes of it.
func Local(path string) bool {
	if !strings.HasPrefix(path, Home) || strings.ContainsAny(path, "\\\r\n\t\x00") || strings.Contains(path, "//") {
		return false
	}
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil {
		return false
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == ".." || part == "." {
			return false
		}
	}
	return strings.HasPrefix(u.Path, Home)
}

// Form is the form that was sent, query parameters not included.
func (v *Visit) Form() (url.Values, error) {
	if v.form != nil {
		return v.form, nil
	}
	if err := v.Request.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, err
		}
		return nil, Problemf(400, "malformed", "", "that is no form")
	}
	v.form = v.Request.PostForm
	return v.form, nil
}

// Query is the query of the address.
func (v *Visit) Query() url.Values { return v.Request.URL.Query() }

// Path is a part of the address that the route's pattern names.
func (v *Visit) Path(name string) string { return v.Request.PathValue(name) }

func (v *Visit) answer(status int, contentType string, b []byte) error {
	h := v.Writer.Header()
	h.Set("Content-Type", contentType)
	return v.site.send(v.Writer, v.Request, status, b)
}
