// Package search is the console's pages about all that was signed: the search, its
// tables for other programs, charts of what was counted, and what is not in order.
//
// Invariants (tests name them):
//
//  1. Everybody who is signed in reads; nobody changes anything but the searches that
//     he himself has kept.
//  2. Names, products, publishers and people's words are text wherever they are shown;
//     a cell of a table that a spreadsheet would take for a formula begins with an
//     apostrophe.
//  3. A page looks at a bounded number of files, and says so when it stopped; few tables
//     are written at a time, and for one person.
//  4. A file that is dropped on the page is hashed in the browser. Nothing of it is
//     sent but its digest.
package search

import (
	"context"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/limit"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

//go:embed templates static
var files embed.FS

type area struct {
	server   *server.Server
	store    store.Store
	analysis *analysis.Analysis
	tables   *limit.Waits // tables that are written just now
}

// How many tables for other programs are written at a time, and for one person: each may
// read all that was ever signed, for as long as its reader likes.
const (
	tablesAtOnce = 16
	tablesOf     = 2
)

// Area is the search over what a server has signed, and its numbers.
func Area(s *server.Server, st store.Store, a *analysis.Analysis) web.Area {
	x := &area{s, st, a, limit.NewWaits(tablesAtOnce, tablesOf)}
	inOrder := []web.Role{web.Officer, web.Operator, web.Auditor}
	return web.Area{Name: "search", Files: files,
		Nav: []web.Nav{
			{Title: "Search", Path: "/console/search", Order: 30},
			{Title: "Charts", Path: "/console/charts", Order: 35},
			{Title: "House in order", Path: "/console/house", Roles: inOrder, Order: 70},
		},
		Routes: []web.Route{
			{Method: http.MethodGet, Path: "/console/search", Serve: x.search},
			{Method: http.MethodGet, Path: "/console/search.csv", Serve: x.csv},
			{Method: http.MethodGet, Path: "/console/search.json", Serve: x.json},
			{Method: http.MethodPost, Path: "/console/search/saved", Serve: x.save},
			{Method: http.MethodGet, Path: "/console/search/saved/{id}", Serve: x.follow},
			{Method: http.MethodPost, Path: "/console/search/saved/{id}/delete", Serve: x.forget},
			{Method: http.MethodGet, Path: "/console/charts", Serve: x.charts},
			{Method: http.MethodGet, Path: "/console/charts.csv", Serve: x.chartCSV},
			{Method: http.MethodGet, Path: "/console/house", Roles: inOrder, Serve: x.house},
		}}
}

// field is one filter of a search, as the form and addresses have it.
type field struct{ Name, Label, Hint string }

var fields = [...]field{
	{"digest", "Digest", "in full, or the first 8 digits or more"},
	{"name", "File name", "* stands for anything: app-*.exe"},
	{"product", "Product", ""},
	{"publisher", "Publisher", ""},
	{"policy", "Policy", ""},
	{"key", "Key", ""},
	{"format", "Format", ""},
	{"requester", "Requester", ""},
	{"endorser", "Endorser", ""},
	{"since", "Signed since", "2026-01-31"},
	{"until", "Signed until", "the day included"},
}

const (
	perPage  = 50
	maxValue = 1024 // bytes of one field
)

// query keeps of an address what is a filter.
func query(q url.Values) url.Values {
	out := url.Values{}
	for _, f := range fields {
		if v := strings.TrimSpace(q.Get(f.Name)); v != "" {
			out.Set(f.Name, v)
		}
	}
	return out
}

// filterOf reads the filter of an address.
func filterOf(q url.Values) (f store.FileFilter, err error) {
	for n, v := range q {
		if len(v) > 0 && len(v[0]) > maxValue {
			return f, web.Problemf(400, "malformed", "", "%.20s: more than %d bytes", n, maxValue)
		}
	}
	f = store.FileFilter{
		Digest: strings.ToLower(strings.Map(dropSpace, q.Get("digest"))), Name: q.Get("name"), Product: q.Get("product"), Publisher: q.Get("publisher"), Policy: q.Get("policy"),
		Key: q.Get("key"), Format: q.Get("format"), Requester: q.Get("requester"), Endorser: q.Get("endorser"), Limit: perPage,
	}
	if _, d, ok := strings.Cut(f.Digest, "sha256:"); ok {
		f.Digest = d
	}
	if n := len(f.Digest); n > 0 {
		if _, err := hex.DecodeString(f.Digest + strings.Repeat("0", n%2)); err != nil || n < store.MinDigest || n > 128 {
			return f, web.Problemf(400, "malformed", "paste it in hexadecimal digits", "a digest has %d to 128 hexadecimal digits", store.MinDigest)
		}
	}
	if f.Since, err = day(q.Get("since"), 0); err != nil {
		return f, err
	}
	if f.Until, err = day(q.Get("until"), 1); err != nil {
		return f, err
	}
	if f.After, err = store.ParsePlace(q.Get("after")); err != nil {
		return f, web.Problemf(400, "malformed", "begin at the first page", "that is no page of a search")
	}
	return f, nil
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
		return -1
	}
	return r
}

// day reads a date, or a moment; of a date the day that many days later.
func day(s string, later int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.AddDate(0, 0, later), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, web.Problemf(400, "malformed", "write it as 2026-01-31", "%.40q is no date", s)
}

// input is a field of the form with its value.
type input struct {
	field
	Value   string
	Type    string
	Choices []string
}

// chip is a filter that is set, with the address of the search without it.
type chip struct{ Label, Value, Without string }

// row is one file of a page.
type row struct {
	store.Found
	ID string
	By map[string]string // addresses of this search with one more filter
}

type page struct {
	Inputs  []input
	Chips   []chip
	Rows    []row
	Asked   bool // something is searched for
	Query   string
	Next    string // address
	First   string // address of the first page, when this is another
	Stopped bool
	Behind  bool
	Problem string
	Saved   []store.Saved
	Own     string // name under which this search is kept
	CSV     string
	JSON    string
}

func address(path string, q url.Values) string {
	if e := q.Encode(); e != "" {
		return path + "?" + e
	}
	return path
}

func with(q url.Values, name, value string) url.Values {
	out := maps.Clone(q)
	if value == "" {
		out.Del(name)
	} else {
		out.Set(name, value)
	}
	return out
}

func (a *area) search(v *web.Visit) error {
	q := query(v.Query())
	p := page{Asked: len(q) > 0, Query: q.Encode(), CSV: address("/console/search.csv", q), JSON: address("/console/search.json", q)}
	head := a.server.Charter()
	for _, f := range fields {
		in := input{field: f, Value: q.Get(f.Name), Type: "text"}
		switch f.Name {
		case "policy":
			in.Choices = slices.Sorted(maps.Keys(head.Policies))
		case "key":
			in.Choices = slices.Sorted(maps.Keys(head.Keys))
		case "requester", "endorser":
			in.Choices = slices.Sorted(maps.Keys(head.People))
		case "format":
			for _, x := range head.Policies {
				in.Choices = append(in.Choices, x.Formats...)
			}
			slices.Sort(in.Choices)
			in.Choices = slices.Compact(in.Choices)
		case "since", "until":
			if len(in.Value) <= len(time.DateOnly) {
				in.Type = "date"
			}
		}
		if len(in.Choices) > 200 {
			in.Choices = nil
		}
		p.Inputs = append(p.Inputs, in)
		if in.Value != "" {
			p.Chips = append(p.Chips, chip{f.Label, in.Value, address("/console/search", with(q, f.Name, ""))})
		}
	}
	var err error
	if p.Saved, err = a.store.SavedBy(v.Request.Context(), v.Who.Name); err != nil {
		return err
	}
	for _, s := range p.Saved {
		if s.Query == p.Query {
			p.Own = s.Name
		}
	}
	full := q
	if after := v.Query().Get("after"); after != "" {
		full = with(q, "after", after)
		p.First = address("/console/search", q)
	}
	f, err := filterOf(full)
	if problem := (*web.Problem)(nil); errors.As(err, &problem) {
		p.Problem = problem.Detail
		return v.PageStatus(problem.Status, "search.html", "Search", p)
	}
	found, err := a.store.Search(v.Request.Context(), f)
	if errors.Is(err, store.ErrManyDigests) {
		p.Problem = "many digests begin like this: give more digits"
		return v.PageStatus(http.StatusBadRequest, "search.html", "Search", p)
	}
	if err != nil {
		return err
	}
	p.Stopped, p.Behind = found.Stopped, found.Behind
	for _, x := range found.Files {
		r := row{Found: x, ID: x.Request.String(), By: map[string]string{}}
		for n, value := range map[string]string{"policy": x.Policy, "key": x.Key, "requester": x.Requester, "format": x.Format, "product": x.Product, "publisher": x.Publisher} {
			if value != "" && q.Get(n) != value {
				r.By[n] = address("/console/search", with(q, n, value))
			}
		}
		p.Rows = append(p.Rows, r)
	}
	if !found.Next.IsZero() {
		p.Next = address("/console/search", with(q, "after", found.Next.String()))
	}
	return v.Page("search.html", "Search", p)
}

// each calls f for every file that a filter finds, page by page, up to most. more:
// there are others.
func (a *area) each(ctx context.Context, f store.FileFilter, most int, do func(x *store.Found) error) (more bool, err error) {
	f.Limit = 500
	for n := 0; ; {
		p, err := a.store.Search(ctx, f)
		if err != nil {
			return false, err
		}
		for i := range p.Files {
			if n == most {
				return true, nil
			}
			n++
			if err := do(&p.Files[i]); err != nil {
				return false, err
			}
		}
		if p.Next.IsZero() {
			return false, nil
		}
		f.After = p.Next
	}
}

// maxTable is how many files a table for other programs has at the most.
const maxTable = 1_000_000

// begin takes a place among the tables that are written; done gives it back.
func (a *area) begin(v *web.Visit) (done func(), err error) {
	name := v.Who.Name
	if !a.tables.Enter(name) {
		v.Writer.Header().Set("Retry-After", "10")
		return nil, web.Problemf(429, "too-many-tables", "wait until the others are there", "too many tables are written at this moment")
	}
	return func() { a.tables.Leave(name) }, nil
}

func (a *area) filter(v *web.Visit) (store.FileFilter, error) {
	f, err := filterOf(query(v.Query()))
	if err != nil {
		return f, err
	}
	// What cannot be answered is said before an answer begins.
	one := f
	one.Limit = 1
	if _, err := a.store.Search(v.Request.Context(), one); errors.Is(err, store.ErrManyDigests) {
		return f, web.Problemf(400, "malformed", "give more digits", "many digests begin like this")
	} else if err != nil {
		return f, err
	}
	return f, nil
}

const maxName = 100 // bytes of the name of a search

func (a *area) save(v *web.Visit) error {
	form, err := v.Form()
	if err != nil {
		return err
	}
	name := strings.TrimSpace(form.Get("name"))
	if name == "" || len(name) > maxName {
		return web.Problemf(400, "malformed", "", "a search that is kept has a name of up to %d bytes", maxName)
	}
	raw, err := url.ParseQuery(form.Get("query"))
	if err != nil {
		return web.Problemf(400, "malformed", "", "that is no search")
	}
	q := query(raw)
	if _, err := filterOf(q); err != nil {
		return err
	}
	err = a.store.PutSaved(v.Request.Context(), store.Saved{ID: newID(), Person: v.Who.Name, Name: name, Query: q.Encode(), Created: v.Now})
	switch {
	case errors.Is(err, store.ErrExists):
		return web.Problemf(409, "exists", "choose another name", "you keep a search %q already", name)
	case errors.Is(err, store.ErrConflict):
		return web.Problemf(409, "too-many", "remove some", "you keep %d searches already", store.MaxSaved)
	case err != nil:
		return err
	}
	return v.Redirect(address("/console/search", q))
}

func (a *area) follow(v *web.Visit) error {
	x, err := a.store.Saved(v.Request.Context(), v.Path("id"))
	if errors.Is(err, store.ErrNotFound) {
		return web.Problemf(404, "not-found", "", "this search is not kept any more")
	}
	if err != nil {
		return err
	}
	q, err := url.ParseQuery(x.Query)
	if err != nil {
		return fmt.Errorf("search: kept search %s: %w", x.ID, err)
	}
	return v.Redirect(address("/console/search", query(q)))
}

func (a *area) forget(v *web.Visit) error {
	err := a.store.DeleteSaved(v.Request.Context(), v.Who.Name, v.Path("id"))
	if errors.Is(err, store.ErrNotFound) {
		return web.Problemf(404, "not-found", "", "you keep no such search")
	}
	if err != nil {
		return err
	}
	return v.Redirect("/console/search")
}
