package analysis

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Range is a span of days, the last one not included.
type Range struct{ From, To int64 }

// Days is the span of n days that end with the day of now.
func Days(now time.Time, n int) Range { return Range{Day(now) - int64(n) + 1, Day(now) + 1} }

// Line is one number of a name.
type Line struct {
	Name  string `json:"name"`
	Other string `json:"other,omitzero"`
	N     int64  `json:"n"`
}

func (a *Analysis) each(k Kind, r Range, f func(c cell, n int64)) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for c, n := range a.have[k] {
		if c.day >= r.From && c.day < r.To {
			f(c, n)
		}
	}
}

// Total is the number of a kind.
func (a *Analysis) Total(k Kind, r Range) (total int64) {
	a.each(k, r, func(_ cell, n int64) { total += n })
	return total
}

// By lists the numbers of a kind by name, the largest first.
func (a *Analysis) By(k Kind, r Range) []Line {
	return a.by(k, r, func(c cell) Line { return Line{Name: c.name} })
}

// ByBoth lists the numbers of a kind by both of its names.
func (a *Analysis) ByBoth(k Kind, r Range) []Line {
	return a.by(k, r, func(c cell) Line { return Line{Name: c.name, Other: c.other} })
}

func (a *Analysis) by(k Kind, r Range, line func(cell) Line) []Line {
	sum := map[Line]int64{}
	a.each(k, r, func(c cell, n int64) { sum[line(c)] += n })
	out := []Line{}
	for l, n := range sum {
		l.N = n
		out = append(out, l)
	}
	slices.SortFunc(out, func(x, y Line) int {
		return cmp.Or(cmp.Compare(y.N, x.N), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Other, y.Other))
	})
	return out
}

// Point is a number of one step of time.
type Point struct {
	Day int64 `json:"day"` // the first of the step
	N   int64 `json:"n"`
}

// Series is a kind's numbers in steps of so many days; only those of name, or of all
// when it is empty. Steps without any are there too.
func (a *Analysis) Series(k Kind, name string, r Range, days int64) []Point {
	days = max(1, days)
	out := make([]Point, 0, (r.To-r.From+days-1)/days)
	for d := r.From; d < r.To; d += days {
		out = append(out, Point{Day: d})
	}
	a.each(k, r, func(c cell, n int64) {
		if name == "" || c.name == name {
			out[(c.day-r.From)/days].N += n
		}
	})
	return out
}

// Spread is the distribution of a duration.
type Spread struct {
	Name   string        `json:"name,omitzero"`
	Day    int64         `json:"day,omitzero"` // the first of the step
	N      int64         `json:"n"`
	Median time.Duration `json:"-"`
	P90    time.Duration `json:"-"`

	// The same, for programs.
	MedianSeconds int64 `json:"medianSeconds"`
	P90Seconds    int64 `json:"p90Seconds"`
}

type steps map[int64]int64

func (s steps) spread() Spread {
	var out Spread
	var at []int64
	for b, n := range s {
		at = append(at, b)
		out.N += n
	}
	slices.Sort(at)
	rank := func(p float64) time.Duration {
		want, sum := int64(p*float64(out.N)+0.9999999), int64(0)
		for _, b := range at {
			if sum += s[b]; sum >= want {
				return Of(b)
			}
		}
		return 0
	}
	out.Median, out.P90 = rank(0.5), rank(0.9)
	out.MedianSeconds, out.P90Seconds = int64(out.Median.Seconds()+0.5), int64(out.P90.Seconds()+0.5)
	return out
}

// SpreadBy is the distribution of a kind for each of its names, in their order, of
// the weeks that r touches.
func (a *Analysis) SpreadBy(k Kind, r Range) []Spread {
	return spreads(a, k, r, func(c cell) (string, bool) { return c.name, true }, func(s *Spread, name string) { s.Name = name })
}

// SpreadSeries is the distribution of a kind, of name or of all, in the weeks that r
// touches. Weeks without any are left out.
func (a *Analysis) SpreadSeries(k Kind, name string, r Range) []Spread {
	return spreads(a, k, r, func(c cell) (int64, bool) { return c.day, name == "" || c.name == name }, func(s *Spread, day int64) { s.Day = day })
}

// spreads are the distributions of a kind in the weeks that r touches: one for each key
// that of finds, in their order, marked with it.
func spreads[K cmp.Ordered](a *Analysis, k Kind, r Range, of func(cell) (K, bool), mark func(*Spread, K)) []Spread {
	r.From = Week(r.From)
	sum := map[K]steps{}
	a.each(k, r, func(c cell, n int64) {
		key, ok := of(c)
		if !ok {
			return
		}
		if sum[key] == nil {
			sum[key] = steps{}
		}
		sum[key][c.bucket] += n
	})
	out := []Spread{}
	for _, key := range slices.Sorted(maps.Keys(sum)) {
		x := sum[key].spread()
		mark(&x, key)
		out = append(out, x)
	}
	return out
}

// Last is the last day on which a kind counted each name.
func (a *Analysis) Last(k Kind) map[string]int64 {
	out := map[string]int64{}
	a.each(k, Range{-1 << 40, 1 << 40}, func(c cell, n int64) {
		if n > 0 {
			out[c.name] = max(out[c.name], c.day)
		}
	})
	return out
}

// Change is how a name's number of one span compares with that of the span of the
// same length before.
type Change struct {
	Name   string `json:"name"`
	Before int64  `json:"before"`
	Now    int64  `json:"now"`
}

// Growth lists the names of a kind that grew, the largest growth first.
func (a *Analysis) Growth(k Kind, r Range) []Change {
	before := map[string]int64{}
	for _, l := range a.By(k, Range{2*r.From - r.To, r.From}) {
		before[l.Name] = l.N
	}
	out := []Change{}
	for _, l := range a.By(k, r) {
		if l.N > before[l.Name] {
			out = append(out, Change{l.Name, before[l.Name], l.N})
		}
	}
	slices.SortFunc(out, func(x, y Change) int {
		return cmp.Or(cmp.Compare(y.Now-y.Before, x.Now-x.Before), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// Summary is everything about a span, for programs.
type Summary struct {
	Entries     int64    `json:"entries"` // of the log, from its beginning, that are counted
	Behind      int64    `json:"behind"`  // entries that are not
	From        string   `json:"from"`    // the first day
	To          string   `json:"to"`      // the last
	Policies    []Line   `json:"policies"`
	Keys        []Line   `json:"keys"`
	Formats     []Line   `json:"formats"`
	Days        []Point  `json:"days"` // signatures of each
	Requests    []Line   `json:"requests"`
	Executed    []Line   `json:"executed"`
	Endorsed    []Line   `json:"endorsed"`
	Disapproved []Line   `json:"disapproved"`
	Refused     []Line   `json:"refused"`
	Expired     []Line   `json:"expired"`
	Cancelled   []Line   `json:"cancelled"`
	Rejected    int64    `json:"rejected"`
	Quorum      []Spread `json:"quorum"`
	Pace        []Spread `json:"pace"`
	Growth      []Change `json:"growth"` // of signatures by policy, against the span before
}

// Summary summarises a span.
func (a *Analysis) Summary(r Range, behind int64) *Summary {
	return &Summary{
		Entries: a.Entries(), Behind: behind, From: Date(r.From).Format(time.DateOnly), To: Date(r.To - 1).Format(time.DateOnly),
		Policies: a.By(Signatures, r), Keys: a.By(ByKey, r), Formats: a.By(ByFormat, r), Days: a.Series(Signatures, "", r, 1),
		Requests: a.By(Requests, r), Executed: a.By(Executed, r), Endorsed: a.By(Endorsed, r), Disapproved: a.By(Disapproved, r), Refused: a.ByBoth(Refused, r),
		Expired: a.By(Expired, r), Cancelled: a.By(Cancelled, r), Rejected: a.Total(Rejected, r),
		Quorum: a.SpreadBy(Quorum, r), Pace: a.SpreadBy(Pace, r), Growth: a.Growth(Signatures, r),
	}
}
