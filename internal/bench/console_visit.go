package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// visitor is a browser that asks the handler itself.
type visitor struct {
	h       http.Handler
	cookies []*http.Cookie
	runs    int
	assets  map[string]int // bytes transferred, by path
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// ask calls the handler as a server would, and says how long it took.
func (v *visitor) ask(ctx context.Context, method, path string) (*answer, time.Duration, error) {
	r, err := v.request(ctx, method, path)
	if err != nil {
		return nil, 0, err
	}
	w := &answer{header: http.Header{}}
	begun := time.Now()
	v.h.ServeHTTP(w, r)
	return w, time.Since(begun), nil
}

func (v *visitor) request(ctx context.Context, method, path string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	r.RemoteAddr, r.RequestURI, r.Body = "127.0.0.1:1", path, http.NoBody
	r.Header.Set("User-Agent", "greatseal bench")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Accept-Encoding", "gzip, deflate, br")
	for _, c := range v.cookies {
		r.AddCookie(c)
	}
	return r, nil
}

func (v *visitor) enter() error {
	w, _, err := v.ask(context.Background(), http.MethodPost, entrancePath)
	if err != nil {
		return err
	}
	for _, c := range (&http.Response{Header: w.header}).Cookies() {
		if c.MaxAge >= 0 && c.Value != "" {
			v.cookies = append(v.cookies, c)
		}
	}
	if w.status != http.StatusOK || len(v.cookies) == 0 {
		return fmt.Errorf("signing in: %d %s", w.status, w.body.Bytes())
	}
	return nil
}

// asset finds what a page loads.
var asset = regexp.MustCompile(`(?:src|href)="(/console/static/[^"]+)"`)

func (v *visitor) measure(ctx context.Context, p page) (*ConsolePage, error) {
	row := &ConsolePage{Route: p.route, Page: p.path, Kind: "data"}
	var took []time.Duration
	for i := range v.runs {
		w, d, err := v.ask(ctx, http.MethodGet, p.path)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
		if i > 0 {
			continue
		}
		row.Status, row.HTML = w.status, w.body.Len()
		body := w.body.Bytes()
		if w.header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			if body, err = io.ReadAll(z); err != nil {
				return nil, err
			}
		}
		row.Raw, row.First = len(body), row.HTML
		switch {
		case row.Status >= 300 && row.Status < 400:
			row.Kind = "redirect"
		case strings.HasPrefix(w.header.Get("Content-Type"), "text/html"):
			row.Kind = "page"
			seen := map[string]bool{}
			for _, m := range asset.FindAllSubmatch(body, -1) {
				if a := string(m[1]); !seen[a] {
					seen[a] = true
					n, err := v.asset(ctx, a)
					if err != nil {
						return nil, err
					}
					row.First += n
				}
			}
		}
	}
	row.Median, row.P99 = round(percentile(took, 50), 1), round(percentile(took, 99), 1)
	var too []string
	if row.Kind == "page" && row.First > PageBytes {
		too = append(too, "bytes")
	}
	if row.Kind == "page" && row.Median > PageTime {
		too = append(too, "ms")
	}
	if row.Status >= 400 && row.Status != p.status {
		too = append(too, "status")
	}
	row.Exceeds = strings.Join(too, ", ")
	return row, nil
}

// asset is how many bytes a file of the site takes on its way.
func (v *visitor) asset(ctx context.Context, path string) (int, error) {
	if n, ok := v.assets[path]; ok {
		return n, nil
	}
	w, _, err := v.ask(ctx, http.MethodGet, path)
	if err != nil {
		return 0, err
	}
	if w.status != http.StatusOK {
		return 0, fmt.Errorf("%s: %d", path, w.status)
	}
	v.assets[path] = w.body.Len()
	return w.body.Len(), nil
}
