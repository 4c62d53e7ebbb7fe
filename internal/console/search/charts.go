package search

import (
	"cmp"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/web"
)

type chartsPage struct {
	Spans   []spanLink
	Policy  string
	Choices []string
	Range   string
	Charts  []chart
	Behind  int64
	Entries int64
}

type spanLink struct {
	Label, Link string
	Here        bool
}

const shownNames = 15

// drawn makes all charts of a time range; policy, if there is one, narrows those about
// policies.
func (a *area) drawn(now time.Time, s span, policy string) []chart {
	r := analysis.Days(now, s.Days)
	plain := func(v float64) string { return web.Count(int64(v)) }
	var out []chart
	put := func(c chart) {
		q := map[string][]string{"range": {s.Name}, "chart": {c.ID}}
		if policy != "" {
			q["policy"] = []string{policy}
		}
		c.CSV = address("/console/charts.csv", q)
		out = append(out, c)
	}
	title := func(t string) string {
		if policy != "" {
			return t + ", policy " + policy
		}
		return t
	}

	c := chart{ID: "days", Title: title("Files signed"), Columns: []string{"From", "Files"}}
	var points []point
	for _, p := range a.analysis.Series(analysis.Signatures, policy, r, s.Step) {
		at := analysis.Range{From: p.Day, To: min(p.Day+s.Step, r.To)}
		link := searchFor(at, "policy", policy)
		if policy == "" {
			link = searchFor(at, "", "")
		}
		date := analysis.Date(p.Day).Format(time.DateOnly)
		points = append(points, point{Label: date[5:], A: float64(p.N), ATitle: date + ": " + web.Count(p.N), Link: link})
		c.Rows = append(c.Rows, []cell{{Text: date, Link: link}, number(p.N)})
	}
	put(overTime(c, points, false, plain))

	for _, x := range []struct {
		id, title, column, filter string
		kind                      analysis.Kind
	}{
		{"policies", "Files signed by policy", "Policy", "policy", analysis.Signatures},
		{"keys", "Signatures by key", "Key", "key", analysis.ByKey},
		{"formats", "Files signed by format", "Format", "format", analysis.ByFormat},
	} {
		c := chart{ID: x.id, Title: x.title, Columns: []string{x.column, "Number"}}
		put(byName(c, a.analysis.By(x.kind, r), shownNames, func(n string) string { return searchFor(r, x.filter, n) }))
	}

	c = chart{ID: "quorum", Title: title("Time to quorum, by week"), Note: "of whole weeks; wide: nine of ten within; narrow: the median", Columns: []string{"Week from", "Requests", "Median", "Nine of ten within"}}
	points = nil
	hours := func(d time.Duration) float64 { return d.Hours() }
	for _, p := range a.analysis.SpreadSeries(analysis.Quorum, policy, r) {
		date := analysis.Date(p.Day).Format(time.DateOnly)
		points = append(points, point{Label: date[5:], A: hours(p.Median), B: hours(p.P90), ATitle: date + ": median " + seconds(p.Median) + ", nine of ten within " + seconds(p.P90)})
		c.Rows = append(c.Rows, []cell{{Text: date}, number(p.N), {Text: seconds(p.Median), Number: true}, {Text: seconds(p.P90), Number: true}})
	}
	put(overTime(c, points, true, func(v float64) string { return seconds(time.Duration(v * float64(time.Hour))) }))

	c = chart{ID: "quorum-policies", Title: "Time to quorum by policy", Columns: []string{"Policy", "Requests", "Median", "Nine of ten within"}}
	for _, p := range a.analysis.SpreadBy(analysis.Quorum, r) {
		c.Rows = append(c.Rows, []cell{{Text: p.Name}, number(p.N), {Text: seconds(p.Median), Number: true}, {Text: seconds(p.P90), Number: true}})
	}
	put(c)

	put(a.endorsers(r))

	c = chart{ID: "refusals", Title: "Refusals and disapprovals", Columns: []string{"What", "Why or who", "Policy or command", "Number"}}
	for _, l := range a.analysis.ByBoth(analysis.Refused, r) {
		c.Rows = append(c.Rows, append(words("refused by the keeper", l.Name, l.Other), number(l.N)))
	}
	for _, l := range a.analysis.ByBoth(analysis.Disapproved, r) {
		c.Rows = append(c.Rows, append(words("disapproved", l.Name, l.Other), number(l.N)))
	}
	for _, x := range []struct {
		what string
		kind analysis.Kind
	}{{"ran out of time", analysis.Expired}, {"withdrawn", analysis.Cancelled}, {"endorsement refused", analysis.Rejected}} {
		for _, l := range a.analysis.By(x.kind, r) {
			c.Rows = append(c.Rows, append(words(x.what, "", l.Name), number(l.N)))
		}
	}
	put(c)

	c = chart{ID: "growth", Title: "Largest growth", Note: "files signed, against the same time before", Columns: []string{"Policy", "Before", "Now"}}
	growth := a.analysis.Growth(analysis.Signatures, r)
	for _, g := range growth[:min(len(growth), 20)] {
		c.Rows = append(c.Rows, []cell{{Text: g.Name, Link: searchFor(r, "policy", g.Name)}, number(g.Before), number(g.Now)})
	}
	put(c)
	return out
}

// endorsers is who endorses how much and how quickly.
func (a *area) endorsers(r analysis.Range) chart {
	c := chart{ID: "endorsers", Title: "Who endorses, and how quickly", Columns: []string{"Endorser", "Endorsed", "Disapproved", "Median", "Nine of ten within"}}
	type line struct {
		yes, no int64
		pace    analysis.Spread
	}
	by := map[string]*line{}
	of := func(n string) *line {
		if by[n] == nil {
			by[n] = &line{}
		}
		return by[n]
	}
	for _, l := range a.analysis.By(analysis.Endorsed, r) {
		of(l.Name).yes = l.N
	}
	for _, l := range a.analysis.By(analysis.Disapproved, r) {
		of(l.Name).no = l.N
	}
	for _, p := range a.analysis.SpreadBy(analysis.Pace, r) {
		of(p.Name).pace = p
	}
	var names []string
	for n := range by {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y string) int {
		return cmp.Or(cmp.Compare(by[y].yes+by[y].no, by[x].yes+by[x].no), cmp.Compare(x, y))
	})
	for _, n := range names[:min(len(names), 200)] {
		l := by[n]
		c.Rows = append(c.Rows, []cell{{Text: n, Link: searchFor(r, "endorser", n)}, number(l.yes), number(l.no), {Text: seconds(l.pace.Median), Number: true}, {Text: seconds(l.pace.P90), Number: true}})
	}
	return c
}

func (a *area) policyOf(v *web.Visit) string {
	p := v.Query().Get("policy")
	if _, ok := a.server.Charter().Policies[p]; !ok {
		return ""
	}
	return p
}

func (a *area) charts(v *web.Visit) error {
	behind, err := a.analysis.Refresh(v.Request.Context())
	if err != nil {
		return err
	}
	s := spanOf(v.Query())
	p := chartsPage{Policy: a.policyOf(v), Range: s.Name, Behind: behind, Entries: a.analysis.Entries()}
	for name := range a.server.Charter().Policies {
		p.Choices = append(p.Choices, name)
	}
	slices.Sort(p.Choices)
	for _, x := range spans {
		q := map[string][]string{"range": {x.Name}}
		if p.Policy != "" {
			q["policy"] = []string{p.Policy}
		}
		p.Spans = append(p.Spans, spanLink{x.Label, address("/console/charts", q), x == s})
	}
	p.Charts = a.drawn(v.Now, s, p.Policy)
	return v.Page("charts.html", "Charts", p)
}

func (a *area) chartCSV(v *web.Visit) error {
	if _, err := a.analysis.Refresh(v.Request.Context()); err != nil {
		return err
	}
	want := v.Query().Get("chart")
	for _, c := range a.drawn(v.Now, spanOf(v.Query()), a.policyOf(v)) {
		if c.ID != want {
			continue
		}
		t, err := newTable(v, "greatseal-"+c.ID, c.Columns...)
		for _, r := range c.Rows {
			if err != nil {
				break
			}
			var cells []string
			for _, x := range r {
				cells = append(cells, x.Text)
			}
			err = t.row(cells...)
		}
		return t.end(false, err)
	}
	return web.Problemf(404, "not-found", "", "there is no such chart")
}
