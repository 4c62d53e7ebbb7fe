package bench

import (
	"context"
	"crypto/rand"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/analysis"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/console"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/sso"
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
	Progress  Progress
}

// ConsolePage is what one page costs.
type ConsolePage struct {
	Database string  `json:"database"`
	Console  string  `json:"console"` // server, protected
	Route    string  `json:"route"`
	Page     string  `json:"page"` // of the route
	Status   int     `json:"status"`
	Kind     string  `json:"kind"`   // page, data, redirect
	First    int     `json:"first"`  // bytes transferred on a first visit, with styles and scripts
	HTML     int     `json:"html"`   // of which the page itself: what later visits transfer
	Raw      int     `json:"raw"`    // the page, not compressed
	Median   float64 `json:"median"` // milliseconds in the server
	P99      float64 `json:"p99"`
	Exceeds  string  `json:"exceeds,omitzero"` // what of it is too much
}

// ConsoleSkip is a route that nothing was measured of.
type ConsoleSkip struct {
	Console string `json:"console"`
	Route   string `json:"route"`
	Reason  string `json:"reason"`
}

// ConsoleReport is every page on every database.
type ConsoleReport struct {
	Requests int           `json:"requests"`
	Entries  int64         `json:"entries"`
	Pages    []ConsolePage `json:"pages"`
	Skipped  []ConsoleSkip `json:"skipped"`
	Machine  Machine       `json:"machine"`
	// Stolen is how much of the processors' time the machine's host gave to others
	// meanwhile, in percent: times are not worth much where it is more than a few.
	Stolen float64 `json:"stolen_percent"`
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
	stolen, all := processors()
	defer func() {
		if s, a := processors(); a > all {
			rep.Stolen = round(100*float64(s-stolen)/float64(a-all), 1)
		}
	}()
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
		if err := os.Mkdir(filepath.Join(temp, name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return rep, fmt.Errorf("bench: %w", err)
		}
		if err := o.one(ctx, rep, name, dsn, dir, filepath.Join(temp, name)); err != nil {
			return rep, fmt.Errorf("bench: %s: %w", name, err)
		}
	}
	return rep, nil
}

// one measures the pages on one database, and seeds it when it is empty.
func (o *ConsoleOptions) one(ctx context.Context, rep *ConsoleReport, name, dsn, dir, temp string) (err error) {
	st, err := store.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	file := filepath.Join(dir, fmt.Sprintf("town-%s-%d-%d.json", name, o.Requests, o.Entries))
	t, fresh, err := o.seed(ctx, st, file)
	if err != nil {
		return err
	}
	rep.Entries = t.Entries
	s, err := server.New(ctx, server.Config{Store: st, Keeper: &townKeeper{t: t}, Formats: all.Formats(), Pin: t.Root, Clock: time.Now})
	if err != nil {
		return err
	}
	part, err := openPremises(ctx, t, st, s, temp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, part.close()) }()
	if fresh {
		if err := operate(ctx, t, st, part, time.Now(), o.Progress); err != nil {
			return err
		}
		b, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
	}
	sites, end, err := openSites(ctx, t, st, s, part)
	if err != nil {
		return err
	}
	defer end()
	for _, x := range sites {
		if err := o.visit(ctx, rep, name, &t.Samples, x); err != nil {
			return err
		}
	}
	return nil
}

// visit gets every page of a site.
func (o *ConsoleOptions) visit(ctx context.Context, rep *ConsoleReport, database string, s *samples, x site) error {
	in := &visitor{h: x.c.Handler(http.NotFoundHandler()), runs: o.Runs, assets: map[string]int{}}
	out := *in // is not signed in
	if x.enter {
		if err := in.enter(); err != nil {
			return err
		}
	}
	pages, skipped, err := pagesOf(x.name, x.c.Site().Routes(), s)
	if err != nil {
		return err
	}
	for _, k := range skipped {
		if !slices.Contains(rep.Skipped, k) { // on the other database, too
			rep.Skipped = append(rep.Skipped, k)
		}
	}
	for _, p := range pages {
		o.Progress.say("%s, %s: %s", database, x.name, p.path)
		v := in
		if p.public {
			v = &out
		}
		row, err := v.measure(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		row.Database, row.Console = database, x.name
		rep.Pages = append(rep.Pages, *row)
	}
	return nil
}

// site is one console.
type site struct {
	name  string
	c     *console.Console
	enter bool // people sign in
}

const (
	siteServer    = "server"
	siteProtected = "protected"
)

// openSites makes the two consoles, and a provider at which people sign in.
func openSites(ctx context.Context, t *town, st *store.SQL, s *server.Server, part *premises) (sites []site, end func(), err error) {
	var ends []func()
	end = func() {
		for _, f := range slices.Backward(ends) {
			f()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	log := slog.New(slog.DiscardHandler)
	many := web.Limits{PerSecond: 1e9, Burst: 1e9}
	a := analysis.New(st)
	if err := a.All(ctx); err != nil {
		return nil, nil, err
	}
	reg, err := registration.New(registration.Config{Chain: s.Chain, Store: st, Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, nil, err
	}
	if t.Samples.Registration, err = visitors(ctx, st, reg, time.Now()); err != nil {
		return nil, nil, err
	}
	me := townPeople[2] // officer and releaser: most waits for her
	saved := store.Saved{ID: "bench", Person: me, Name: "bench", Query: "policy=" + t.Samples.Policy, Created: time.Now()}
	if err := st.PutSaved(ctx, saved); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, nil, err
	}
	providers, stop, err := townProvider(st, log)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, stop)
	e := &entrance{who: me}
	c, err := console.New(console.Config{
		Config:    web.Config{Server: s, Store: st, Clock: time.Now, Logger: log, Version: "bench", Operator: []string{me}, Auditor: []string{me}, Limits: many},
		Providers: providers,
		Areas:     append(console.Areas(console.Parts{Store: st, Server: s, Registrations: reg, Counts: a, Instance: part.trusted}), e.area()),
	})
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, c.Stop)
	guarded, err := console.New(console.Config{
		Config: web.Config{Store: st, Clock: time.Now, Logger: log, Version: "bench", Name: townProd, Limits: many, Identify: func(*http.Request) (*web.Person, error) {
			return &web.Person{Name: me, Via: "certificate", Roles: []web.Role{web.Operator}}, nil
		}},
		Areas: console.Areas(console.Parts{Store: st, Instance: part.protected}),
	})
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, guarded.Stop)
	return []site{{siteServer, c, true}, {siteProtected, guarded, false}}, end, nil
}

// townProvider is an OpenID provider that says where it is, and nothing else: browsers go
// no further here.
func townProvider(st *store.SQL, log *slog.Logger) (*sso.Providers, func(), error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	issuer := "http://" + ln.Addr().String()
	doc, err := json.Marshal(map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
		"end_session_endpoint": issuer + "/end", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"}})
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc) // whoever asks has gone
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }() // ends when it is closed
	p, err := sso.New(sso.Config{Base: townConsole, Store: st, Log: log, Now: time.Now, Rand: rand.Reader,
		Providers: []config.SSO{{Name: townSignOn, Title: "Example", Issuer: issuer, ClientID: "greatseal", Claim: config.ClaimEmail}}})
	stop := func() {
		if p != nil {
			p.Close()
		}
		_ = srv.Close() // of listening; nothing is lost
		<-done
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return p, stop, nil
}

const townSignOn = "example"

// seed makes a town, or finds the one that was made before. What is fresh has no records
// yet, and is not kept.
func (o *ConsoleOptions) seed(ctx context.Context, st *store.SQL, file string) (t *town, fresh bool, err error) {
	last, err := st.LastReceipt(ctx)
	if err == nil {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, false, fmt.Errorf("the database is not empty, and what belongs to it is missing: %w", err)
		}
		t = &town{}
		if err := json.Unmarshal(b, t); err != nil {
			return nil, false, fmt.Errorf("%s: %w", file, err)
		}
		if last.Number != t.Status.Receipts {
			return nil, false, fmt.Errorf("%s is of another database", file)
		}
		if t.Shape != townShape {
			return nil, false, fmt.Errorf("%s is of another version of this program: remove it, with its database", file)
		}
		return t, false, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, false, err
	}
	f, err := found(ctx, time.Now())
	if err != nil {
		return nil, false, err
	}
	if err := f.settle(ctx, st, o.Requests, o.Entries, o.Progress); err != nil {
		return nil, false, err
	}
	return &f.town, true, nil
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
