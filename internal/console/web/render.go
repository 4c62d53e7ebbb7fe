package web

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates static
var own embed.FS

// area is an Area with its templates parsed.
type area struct {
	Area
	pages map[string]*template.Template
}

// frame is what the layout shows around a page.
type frame struct {
	Title      string
	Who        *Person
	Nav        []Nav
	Here       string // path
	Deployment string
	Charter    uint64 // 0: there is none
	Sessions   bool   // people sign in and out
	Version    string
	Theme      string // "", "light", "dark"
	Now        time.Time
	Data       any
}

// ownFiles reads the kit's own templates and assets.
func (s *Site) ownFiles() error {
	text, err := own.ReadFile("templates/layout.html")
	if err != nil {
		return err
	}
	if s.base, err = template.New("layout").Funcs(s.funcs()).Parse(string(text)); err != nil {
		return err
	}
	s.static.files = map[string]*asset{}
	s.static.paths = map[string]string{}
	s.kit, err = s.newArea(Area{Files: own})
	return err
}

// newArea parses an area's templates and takes its assets. A template whose name begins
// with "_" is part of every page of its area.
func (s *Site) newArea(a Area) (*area, error) {
	x := &area{Area: a, pages: map[string]*template.Template{}}
	if a.Files == nil {
		return x, nil
	}
	if err := s.static.add(a.Name, a.Files); err != nil {
		return nil, err
	}
	names, err := fs.Glob(a.Files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	shared, err := s.base.Clone()
	if err != nil {
		return nil, err
	}
	parse := func(t *template.Template, name string) error {
		b, err := fs.ReadFile(a.Files, name)
		if err == nil {
			_, err = t.Parse(string(b))
		}
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(path.Base(n), "_") {
			if err := parse(shared, n); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range names {
		base := path.Base(n)
		if strings.HasPrefix(base, "_") || base == "layout.html" {
			continue
		}
		t, err := shared.Clone()
		if err != nil {
			return nil, err
		}
		if err := parse(t, n); err != nil {
			return nil, err
		}
		x.pages[base] = t
	}
	return x, nil
}

// Page answers with a whole page: the block "main" of a template in the layout. To htmx
// the block alone.
func (v *Visit) Page(template, title string, data any) error {
	return v.render(http.StatusOK, template, "", title, data)
}

// PageStatus is Page with another status than 200.
func (v *Visit) PageStatus(status int, template, title string, data any) error {
	return v.render(status, template, "", title, data)
}

// Part answers with one block of a template.
func (v *Visit) Part(template, block string, data any) error {
	return v.render(http.StatusOK, template, block, "", data)
}

func (v *Visit) render(status int, name, block, title string, data any) error {
	s := v.site
	t := v.area.pages[name]
	if t == nil {
		return fmt.Errorf("web: area %s has no template %s", v.area.Name, name)
	}
	if block == "" && v.HTMX() {
		block = "main"
	}
	var b bytes.Buffer
	var err error
	if block != "" {
		err = t.ExecuteTemplate(&b, block, data)
	} else {
		f := frame{Title: title, Who: v.Who, Here: v.Request.URL.Path, Deployment: s.cfg.Name, Version: s.cfg.Version, Theme: themeOf(v.Request), Now: v.Now, Data: data}
		if s.cfg.Server != nil {
			head, ref := s.cfg.Server.Chain().Head()
			f.Deployment, f.Charter, f.Sessions = head.Deployment, ref.Version, true
		}
		for _, n := range s.nav {
			if v.Who != nil && (n.Roles == nil || v.Who.Is(n.Roles...)) {
				f.Nav = append(f.Nav, n)
			}
		}
		err = t.ExecuteTemplate(&b, "layout", f)
	}
	if err != nil {
		return fmt.Errorf("web: %s: %w", name, err)
	}
	out := b.Bytes()
	if bytes.Contains(out, []byte(s.mark)) {
		if v.secret == "" {
			v.secret = newSecret()
			if s.cfg.Identify == nil { // otherwise it is nobody's, and fits nothing
				s.SetCookie(v.Writer, v.Request, s.formCookieName(v.Request), v.secret, time.Hour)
			}
		}
		out = bytes.ReplaceAll(out, []byte(s.mark), []byte(Token(v.secret)))
	}
	return v.answer(status, "text/html; charset=utf-8", out)
}

// themeCookie keeps the choice between light and dark. It is the browser's own: the
// script that sets it, and this page, are all who read it.
const themeCookie = "greatseal-theme"

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// Render is a block of a template of the area as text, for tests and for parts of parts.
func (v *Visit) Render(name, block string, data any) (string, error) {
	t := v.area.pages[name]
	if t == nil {
		return "", errors.New("web: no template " + name)
	}
	var b strings.Builder
	err := t.ExecuteTemplate(&b, block, data)
	return b.String(), err
}
