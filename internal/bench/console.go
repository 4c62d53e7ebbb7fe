package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/console"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/store/pgtemp"
	"github.com/greatseal-io/greatseal/quorum"
)

// What a page may cost.
const (
	PageBytes = 100_000 // transferred on a first visit, with all that it loads
	PageTime  = 50.0    // milliseconds in the server, the median
)

// ConsoleOptions say how large the deployment is whose pages are measured.
type ConsoleOptions struct {
	Requests int   // default 100 000
	Entries  int64 // of the log; default 1 000 000
	// Databases are addresses as package store takes them. None: SQLite in Dir and
	// a PostgreSQL server of its own, which is gone afterwards.
	Databases []string
	Dir       string // where the SQLite database and what belongs to the seeds is kept for the next run; "": nowhere
	Temp      string // folder for everything else; default the system's
	Runs      int    // of each page; default 20
	// Areas are the console's.
	Areas    func(s *server.Server, st *store.SQL, a *analysis.Analysis) ([]web.Area, error)
	Progress Progress
}

// ConsolePage is what one page costs.
type ConsolePage struct {
	Database string  `json:"database"`
	Page     string  `json:"page"`
	Status   int     `json:"status"`
	Kind     string  `json:"kind"`   // page, data, redirect
	First    int     `json:"first"`  // bytes transferred on a first visit, with styles and scripts
	HTML     int     `json:"html"`   // of which the page itself: what later visits transfer
	Raw      int     `json:"raw"`    // the page, not compressed
	Median   float64 `json:"median"` // milliseconds in the server
	P99      float64 `json:"p99"`
	Exceeds  string  `json:"exceeds,omitzero"` // what of it is too much
}

// ConsoleReport is every page on every database.
type ConsoleReport struct {
	Requests int           `json:"requests"`
	Entries  int64         `json:"entries"`
	Pages    []ConsolePage `json:"pages"`
	Machine  Machine       `json:"machine"`
}

// Exceeding lists the pages that cost too much.
func (r *ConsoleReport) Exceeding(size, duration bool) []ConsolePage {
	var out []ConsolePage
	for _, p := range r.Pages {
		if size && strings.Contains(p.Exceeds, "bytes") || duration && strings.Contains(p.Exceeds, "ms") || strings.Contains(p.Exceeds, "status") {
			out = append(out, p)
		}
	}
	return out
}

// Console seeds databases, and gets every page of the console from the server's real
// handler.
func Console(ctx context.Context, o ConsoleOptions) (rep *ConsoleReport, err error) {
	if o.Requests <= 0 {
		o.Requests = 100_000
	}
	if o.Entries <= 0 {
		o.Entries = 1_000_000
	}
	if o.Runs <= 0 {
		o.Runs = 20
	}
	temp, err := os.MkdirTemp(o.Temp, "greatseal-console-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	dir := o.Dir
	if dir == "" {
		dir = temp
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	rep = &ConsoleReport{Requests: o.Requests, Machine: machine()}
	databases := o.Databases
	if len(databases) == 0 {
		pg, err := pgtemp.Start()
		if err != nil {
			return nil, &MissingError{What: "PostgreSQL", Hint: "--database sqlite: measures without it", Err: err}
		}
		defer func() { err = errors.Join(err, pg.Close()) }()
		dsn, err := pg.Database()
		if err != nil {
			return nil, err
		}
		databases = []string{"sqlite:", dsn}
	}
	for _, dsn := range databases {
		name := "postgres"
		if strings.HasPrefix(dsn, "sqlite:") {
			name = "sqlite"
			if dsn == "sqlite:" {
				dsn = "sqlite:" + filepath.Join(dir, fmt.Sprintf("town-%d-%d.db", o.Requests, o.Entries))
			}
		}
		if err := o.one(ctx, rep, name, dsn, dir); err != nil {
			return rep, fmt.Errorf("bench: %s: %w", name, err)
		}
	}
	return rep, nil
}

// one measures the pages on one database, and seeds it when it is empty.
func (o *ConsoleOptions) one(ctx context.Context, rep *ConsoleReport, name, dsn, dir string) (err error) {
	st, err := store.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	file := filepath.Join(dir, fmt.Sprintf("town-%s-%d-%d.json", name, o.Requests, o.Entries))
	t, err := o.seed(ctx, st, file)
	if err != nil {
		return err
	}
	rep.Entries = t.Entries
	s, err := server.New(ctx, server.Config{Store: st, Keeper: &townKeeper{t: t}, Formats: all.Formats(), Pin: t.Root, Clock: time.Now})
	if err != nil {
		return err
	}
	a := analysis.New(st)
	if err := a.All(ctx); err != nil {
		return err
	}
	me := townPeople[2] // officer and releaser: most waits for her
	entrance := &entrance{who: me}
	saved := store.Saved{ID: "bench", Person: me, Name: "bench", Query: "policy=" + t.Samples.Policy, Created: time.Now()}
	if err := st.PutSaved(ctx, saved); err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	areas, err := o.Areas(s, st, a)
	if err != nil {
		return err
	}
	c, err := console.New(console.Config{
		Config: web.Config{Server: s, Store: st, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), Version: "bench", Operator: []string{me}, Auditor: []string{me},
			Limits: web.Limits{PerSecond: 1e9, Burst: 1e9}},
		Areas: append(areas, entrance.area()),
	})
	if err != nil {
		return err
	}
	defer c.Stop()
	v := &visitor{h: c.Handler(http.NotFoundHandler()), runs: o.Runs, assets: map[string]int{}}
	if err := v.enter(); err != nil {
		return err
	}
	for _, p := range pagesOf(c.Site().Routes(), &t.Samples) {
		o.Progress.say("%s: %s", name, p)
		row, err := v.measure(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		row.Database = name
		rep.Pages = append(rep.Pages, *row)
	}
	return nil
}

// seed makes a town, or finds the one that was made before.
func (o *ConsoleOptions) seed(ctx context.Context, st *store.SQL, file string) (*town, error) {
	last, err := st.LastReceipt(ctx)
	if err == nil {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the database is not empty, and what belongs to it is missing: %w", err)
		}
		var t town
		if err := json.Unmarshal(b, &t); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if last.Number != t.Status.Receipts {
			return nil, fmt.Errorf("%s is of another database", file)
		}
		return &t, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	f, err := found(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	if err := f.settle(ctx, st, o.Requests, o.Entries, o.Progress); err != nil {
		return nil, err
	}
	b, err := json.Marshal(f.town)
	if err != nil {
		return nil, err
	}
	return &f.town, os.WriteFile(file, b, 0o600)
}

// townKeeper says what a town's keeper would say, and executes nothing.
type townKeeper struct{ t *town }

var errTown = errors.New("bench: this keeper is only looked at")

func (k *townKeeper) Status(context.Context) (*keeper.Status, error) {
	s := k.t.Status
	return &s, nil
}
func (k *townKeeper) Execute(context.Context, *keeper.Order) (*keeper.Outcome, error) {
	return nil, errTown
}
func (k *townKeeper) Consider(context.Context, quorum.Evidence) error { return nil }
func (k *townKeeper) Checkpoint(context.Context, *keeper.Extension) ([]byte, error) {
	return nil, errTown
}
func (k *townKeeper) Timestamp(context.Context, []byte) ([]byte, error) { return nil, errTown }
func (k *townKeeper) Receipts(context.Context, uint64, int) ([]*keeper.Outcome, error) {
	return nil, errTown
}
func (k *townKeeper) Observe(context.Context, []byte) error { return nil }
func (k *townKeeper) Chain(context.Context) ([]byte, error) { return k.t.Chain, nil }
func (k *townKeeper) Found(context.Context, []byte) error   { return errTown }
func (k *townKeeper) Close() error                          { return nil }

// entrance lets the measurement sign in without a ceremony; it is nowhere but here.
type entrance struct{ who string }

const entrancePath = "/console/bench-sign-in"

func (e *entrance) area() web.Area {
	return web.Area{Name: "bench", Routes: []web.Route{{Method: http.MethodPost, Path: entrancePath, Program: true, Serve: func(v *web.Visit) error {
		if err := v.SignIn(web.SignIn{Person: e.who, Member: true, Via: "link"}); err != nil {
			return err
		}
		return v.JSON(http.StatusOK, "signed in")
	}}}}
}

// variants are the queries that pages are asked for besides none.
func variants(path string, s *samples) []string {
	q := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return "?" + v.Encode()
	}
	switch path {
	case "/console/search":
		product, _, _ := strings.Cut(s.Name, "-")
		return []string{"", q("digest", s.Digest), q("digest", s.Digest[:10]), q("name", s.Name), q("name", product+"-*"), q("name", "*"+s.Name[3:]), q("name", "*tools*"), q("name", "*1.1*x64*"), q("name", "*nothing-like-it*"),
			q("policy", s.Policy), q("key", s.Key, "requester", s.Requester), q("product", "Example "+s.Key, "format", "deb"), q("publisher", "Example Ltd"), q("endorser", s.Person), q("endorser", "nobody"),
			q("policy", s.Policy, "endorser", s.Person, "requester", s.Requester), q("since", time.Now().AddDate(0, -8, 0).Format(time.DateOnly), "until", time.Now().AddDate(0, -7, 0).Format(time.DateOnly)),
			q("format", "msi", "policy", s.Policy)}
	case "/console/search.csv", "/console/search.json":
		return []string{q("digest", s.Digest)}
	case "/console/charts":
		return []string{"", "?range=7d", "?range=1y", "?range=3y", q("range", "1y", "policy", s.Policy)}
	case "/console/charts.csv":
		return []string{"?chart=days"}
	case "/console/log":
		return []string{"", q("request", s.Executed), q("from", fmt.Sprint(s.Entry))}
	case "/console/log/find":
		return []string{q("q", fmt.Sprint(s.Entry))}
	case "/console/log/growth":
		return []string{q("old", fmt.Sprint(s.Entry))}
	case "/console/requests":
		return []string{"", "?state=pending", "?state=failed", q("policy", s.Policy), q("requester", s.Requester)}
	}
	return []string{""}
}

var hole = regexp.MustCompile(`\{([a-z_]+)(\.\.\.)?\}|\{\$\}`)

// pagesOf lists what is got: every route of its own method, its parameters filled.
func pagesOf(routes []web.Route, s *samples) []string {
	var out []string
	for _, r := range routes {
		if r.Method != http.MethodGet || r.Stream {
			continue
		}
		fill := []map[string]string{{}}
		if strings.Contains(r.Path, "{id}") || strings.Contains(r.Path, "{request}") {
			fill = nil
			for _, id := range []string{s.Executed, s.Pending, s.Disapproved} {
				fill = append(fill, map[string]string{"id": id, "request": id})
			}
		}
		switch {
		case strings.HasPrefix(r.Path, "/console/passkeys/"):
			fill = []map[string]string{{"id": "none"}}
		case strings.HasPrefix(r.Path, "/console/search/saved/"):
			fill = []map[string]string{{"id": "bench"}}
		}
		for _, f := range fill {
			path := hole.ReplaceAllStringFunc(r.Path, func(h string) string {
				n := strings.Trim(h, "{}.")
				switch {
				case n == "$":
					return ""
				case f[n] != "":
					return f[n]
				case n == "index" && strings.HasPrefix(r.Path, "/console/log"), n == "entry":
					return fmt.Sprint(s.Entry)
				case n == "number", n == "receipt":
					return fmt.Sprint(s.Receipt)
				case n == "policy":
					return s.Policy
				case n == "key":
					return s.Key
				case n == "person", n == "name":
					return s.Person
				}
				return "1"
			})
			for _, v := range variants(r.Path, s) {
				if p := path + v; !slices.Contains(out, p) {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

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

func (v *visitor) measure(ctx context.Context, path string) (*ConsolePage, error) {
	row := &ConsolePage{Page: path, Kind: "data"}
	var took []time.Duration
	for i := range v.runs {
		w, d, err := v.ask(ctx, http.MethodGet, path)
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
				if p := string(m[1]); !seen[p] {
					seen[p] = true
					n, err := v.asset(ctx, p)
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
	if row.Status >= 500 {
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
