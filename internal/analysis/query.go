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

// rows shows the rows of a kind in a range, and the table that they are of. Nothing of
// them is kept.
func (a *Analysis) rows(k Kind, r Range, f func(t *table, rows []row)) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if t := a.have[k]; t != nil {
		f(t, t.span(r))
	}
}

// Total is the number of a kind.
func (a *Analysis) Total(k Kind, r Range) (total int64) {
	a.rows(k, r, func(_ *table, rows []row) {
		for i := range rows {
			total += rows[i].n
		}
	})
	return total
}

// By lists the numbers of a kind by name, the largest first.
func (a *Analysis) By(k Kind, r Range) []Line {
	out := []Line{}
	a.rows(k, r, func(t *table, rows []row) {
		sum, seen := make([]int64, len(t.names)), make([]bool, len(t.names))
		for i := range rows {
			x := &rows[i]
			sum[x.name] += x.n
			seen[x.name] = true
		}
		for i, n := range sum {
			if seen[i] {
				out = append(out, Line{Name: t.names[i], N: n})
			}
		}
	})
	return largest(out)
}

// ByBoth lists the numbers of a kind by both of its names.
func (a *Analysis) ByBoth(k Kind, r Range) []Line {
	out := []Line{}
	a.rows(k, r, func(t *table, rows []row) {
		sum := map[uint64]int64{}
		for i := range rows {
			sum[rows[i].pair()] += rows[i].n
		}
		for p, n := range sum {
			out = append(out, Line{Name: t.names[p>>32], Other: t.names[uint32(p)], N: n})
		}
	})
	return largest(out)
}

func largest(out []Line) []Line {
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
	a.rows(k, r, func(t *table, rows []row) {
		want, ok := t.known[name]
		for i := range rows {
			if x := &rows[i]; name == "" || ok && x.name == want {
				out[(x.day-r.From)/days].N += x.n
			}
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

// bucketed is how many durations there are of one bucket.
type bucketed struct{ bucket, n int64 }

// spread is the distribution of what is in the order of its buckets.
func spread(list []bucketed) (out Spread) {
	for _, x := range list {
		out.N += x.n
	}
	rank := func(p float64) time.Duration {
		want, sum := int64(p*float64(out.N)+0.9999999), int64(0)
		for _, x := range list {
			if sum += x.n; sum >= want {
				return Of(x.bucket)
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
	out := a.spreads(k, "", r, func(x *row) int64 { return int64(x.name) }, func(t *table, s *Spread, key int64) { s.Name = t.names[key] })
	slices.SortFunc(out, func(x, y Spread) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// SpreadSeries is the distribution of a kind, of name or of all, in the weeks that r
// touches. Weeks without any are left out.
func (a *Analysis) SpreadSeries(k Kind, name string, r Range) []Spread {
	return a.spreads(k, name, r, func(x *row) int64 { return x.day }, func(_ *table, s *Spread, day int64) { s.Day = day })
}

// spreads are the distributions of a kind, of name or of all, in the weeks that r touches:
// one for each key that of finds, in the order of keys, marked with it.
func (a *Analysis) spreads(k Kind, name string, r Range, of func(*row) int64, mark func(*table, *Spread, int64)) []Spread {
	r.From = Week(r.From)
	out := []Spread{}
	a.rows(k, r, func(t *table, rows []row) {
		want, ok := t.known[name]
		type place struct{ key, bucket int64 }
		sum := map[place]int64{}
		for i := range rows {
			if x := &rows[i]; name == "" || ok && x.name == want {
				sum[place{of(x), x.bucket}] += x.n
			}
		}
		places := slices.SortedFunc(maps.Keys(sum), func(x, y place) int { return cmp.Or(cmp.Compare(x.key, y.key), cmp.Compare(x.bucket, y.bucket)) })
		var list []bucketed
		for i, p := range places {
			list = append(list, bucketed{p.bucket, sum[p]})
			if i+1 < len(places) && places[i+1].key == p.key {
				continue
			}
			x := spread(list)
			mark(t, &x, p.key)
			out, list = append(out, x), list[:0]
		}
	})
	return out
}

// Last is the last day on which a kind counted each name.
func (a *Analysis) Last(k Kind) map[string]int64 {
	out := map[string]int64{}
	a.rows(k, Range{-1 << 40, 1 << 40}, func(t *table, rows []row) {
		for i := range rows {
			if x := &rows[i]; x.n > 0 {
				out[t.names[x.name]] = x.day // in the order of days
			}
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
