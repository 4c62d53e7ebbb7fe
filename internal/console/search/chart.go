package search

import (
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console/web"
)

// chart is a picture of numbers, with the numbers as a table beside it.
type chart struct {
	ID, Title string
	Note      string
	Width     int
	Height    int
	Bars      []bar
	Ticks     []tick // of the axis of numbers
	Labels    []tick // of the other axis
	Lines     []line // in their place: a number of each name
	Columns   []string
	Rows      [][]cell
	CSV       string
}

// bar is one bar. Second marks the second of two rows of numbers.
type bar struct {
	X, Y, W, H int
	Title      string
	Link       string
	Second     bool
}

type tick struct {
	X, Y int
	Text string
}

// line is the number of one name, as a part of the largest.
type line struct {
	Name, Link string
	N, Most    int64
}

// cell is one of a table's.
type cell struct {
	Text   string
	Link   string
	Number bool
}

func words(s ...string) (out []cell) {
	for _, x := range s {
		out = append(out, cell{Text: x})
	}
	return out
}

func number(n int64) cell { return cell{Text: fmt.Sprint(n), Number: true} }

// nice is a round number that is not less than v.
func nice(v float64) float64 {
	if v <= 1 {
		return 1
	}
	e := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*e >= v {
			return m * e
		}
	}
	return 10 * e
}

const (
	chartWidth = 720
	plotHeight = 180
	plotLeft   = 64
	plotTop    = 10
)

// point is one place of a chart over time, with up to two numbers.
type point struct {
	Label  string
	A, B   float64
	ATitle string
	Link   string
}

// overTime draws points side by side. text writes a number of the axis.
func overTime(c chart, points []point, two bool, text func(float64) string) chart {
	c.Width, c.Height = chartWidth, plotTop+plotHeight+30
	most := 0.0
	for _, p := range points {
		most = max(most, p.A, p.B)
	}
	top := nice(most)
	for i := range 3 {
		v := top * float64(i) / 2
		c.Ticks = append(c.Ticks, tick{plotLeft - 6, plotTop + plotHeight - plotHeight*i/2, text(v)})
	}
	if len(points) == 0 {
		return c
	}
	place := float64(chartWidth-plotLeft) / float64(len(points))
	every := max(1, (len(points)+7)/8)
	for i, p := range points {
		x := plotLeft + int(float64(i)*place)
		w := max(1, int(place*0.8))
		add := func(v float64, x, w int, second bool) {
			h := int(math.Round(v / top * plotHeight))
			if v > 0 {
				h = max(h, 1)
			}
			c.Bars = append(c.Bars, bar{x, plotTop + plotHeight - h, w, h, p.ATitle, p.Link, second})
		}
		if two {
			add(p.B, x, w, true)
			add(p.A, x, max(1, w/2), false)
		} else {
			add(p.A, x, w, false)
		}
		if i%every == 0 {
			c.Labels = append(c.Labels, tick{x, plotTop + plotHeight + 18, p.Label})
		}
	}
	return c
}

// byName has a line for each of the first names; the largest comes first.
func byName(c chart, lines []analysis.Line, most int, link func(name string) string) chart {
	for _, l := range lines[:min(most, len(lines))] {
		c.Lines = append(c.Lines, line{clip(l.Name, 80), link(l.Name), l.N, max(1, lines[0].N)})
	}
	for _, l := range lines[:min(len(lines), 60)] {
		c.Rows = append(c.Rows, []cell{{Text: l.Name, Link: link(l.Name)}, number(l.N)})
	}
	return c
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// span is a time range that the charts offer.
type span struct {
	Name  string
	Label string
	Days  int
	Step  int64 // days of one bar
}

var spans = [...]span{
	{"7d", "7 days", 7, 1}, {"30d", "30 days", 30, 1}, {"90d", "90 days", 91, 7}, {"1y", "a year", 364, 7}, {"3y", "3 years", 1092, 28},
}

func spanOf(q url.Values) span {
	for _, s := range spans {
		if s.Name == q.Get("range") {
			return s
		}
	}
	return spans[1]
}

// searchFor is the search that a part of a chart stands for.
func searchFor(r analysis.Range, name, value string) string {
	q := url.Values{"since": {analysis.Date(r.From).Format(time.DateOnly)}, "until": {analysis.Date(r.To - 1).Format(time.DateOnly)}}
	if name != "" {
		q.Set(name, value)
	}
	return address("/console/search", q)
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return "under 1 s"
	}
	if d < 48*time.Hour && d >= time.Hour {
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return web.Span(d)
}
