package web

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"time"
)

func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// bits are small pieces of pages that functions make. What people wrote goes through
// them escaped, as through every template.
const bits = `
{{define "time"}}<time datetime="{{.At}}">{{.Text}}</time>{{end}}
{{define "digest"}}<span class="digest"><code title="{{.Full}}">{{.Short}}</code><button type="button" class="copy" data-copy="{{.Full}}" aria-label="copy {{.Short}}…">copy</button></span>{{end}}
{{define "id"}}<code class="id" title="{{.Full}}">{{.Short}}</code>{{end}}
`

// funcs are the functions of all templates.
func (s *Site) funcs() template.FuncMap {
	parts := template.Must(template.New("bits").Parse(bits))
	part := func(name string, data any) (template.HTML, error) {
		var b strings.Builder
		err := parts.ExecuteTemplate(&b, name, data)
		return template.HTML(b.String()), err
	}
	type moment struct{ At, Text string }
	moments := func(t time.Time, text string) (template.HTML, error) {
		if t.IsZero() {
			return "–", nil
		}
		return part("time", moment{t.UTC().Format(time.RFC3339), text})
	}
	type short struct{ Full, Short string }
	cut := func(x any, n int) short {
		full := fmt.Sprint(x)
		if len(full) > n {
			return short{full, full[:n]}
		}
		return short{full, full}
	}
	field := template.HTML(`<input type="hidden" name="` + tokenField + `" value="` + s.mark + `">`)
	return template.FuncMap{
		"date":  func(t time.Time) (template.HTML, error) { return moments(t, t.UTC().Format("2006-01-02 15:04")) },
		"ago":   func(t time.Time) (template.HTML, error) { return moments(t, Span(s.Now().Sub(t))+" ago") },
		"until": func(t time.Time) (template.HTML, error) { return moments(t, Until(s.Now(), t)) },
		"lasts": Lasts,
		"size":  Size,
		"count": Count,
		"digest": func(x any) (template.HTML, error) {
			return part("digest", cut(x, 16))
		},
		"id":    func(x any) (template.HTML, error) { return part("id", cut(x, 12)) },
		"asset": s.static.path,
		"csrf":  func() template.HTML { return field },
		"token": func() string { return s.mark },
		"join":  func(sep string, list []string) string { return strings.Join(list, sep) },
		"add":   func(a, b int) int { return a + b },
		"roles": func(p *Person, names ...string) bool {
			for _, n := range names {
				if p.Is(Role(n)) {
					return true
				}
			}
			return false
		},
	}
}

// Span is a time in its largest unit: "3 h", "2 d".
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}

// Lasts is a bound for people, exactly, in its largest whole unit: "7 days",
// "36 hours".
func Lasts(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := d / u.unit; n > 0 && d%u.unit == 0 {
			if n == 1 {
				return "1 " + u.name
			}
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return d.String()
}

// Until is when t comes, or that it has: "in 3 h", "2 d ago".
func Until(now, t time.Time) string {
	if t.After(now) {
		return "in " + Span(t.Sub(now))
	}
	return Span(now.Sub(t)) + " ago"
}

// Size is a number of bytes for people, by thousands.
func Size(x any) string {
	var n float64
	switch v := x.(type) {
	case int:
		n = float64(v)
	case int64:
		n = float64(v)
	case uint64:
		n = float64(v)
	default:
		return fmt.Sprint(x)
	}
	switch {
	case n < 1000:
		return fmt.Sprintf("%.0f B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", n/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", n/1e6)
	}
	return fmt.Sprintf("%.1f GB", n/1e9)
}

// Count is a number with its thousands apart: "12 345".
func Count(n any) string {
	s := fmt.Sprint(n)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(r)
	}
	if neg {
		return "−" + b.String()
	}
	return b.String()
}
