package sso

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/store"
)

const base = "https://sign.example.com"

// people is a charter's, as far as sign-on looks at it. Two share an address.
func people() *charter.Charter {
	return &charter.Charter{People: map[string]charter.Person{
		"alice": {Email: "Alice@Example.com"}, "bob": {Email: "bob@example.com"}, "carol": {Email: "carol@example.com"},
		"mallory": {Email: "mallory@example.com"}, "dave": {}, "twin1": {Email: "twin@example.com"}, "twin2": {Email: "TWIN@example.com"},
	}}
}

// world is a server's sign-on on a real database, with a clock that tests move.
type world struct {
	*Providers
	t     *testing.T
	store *store.SQL
	log   *syncBuffer

	mu     sync.Mutex
	passed time.Duration
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t *testing.T, list ...config.SSO) *world {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, store: db, log: &syncBuffer{}}
	w.Providers = w.replica(list...)
	return w
}

// replica is another server on the same database.
func (w *world) replica(list ...config.SSO) *Providers {
	w.t.Helper()
	p, err := New(Config{Base: base, Providers: list, Store: w.store, Log: slog.New(slog.NewTextHandler(w.log, nil)), Rand: rand.Reader,
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Now().Add(w.passed)
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed += d
}

// browser keeps cookies as browsers do.
type browser struct {
	t   *testing.T
	jar map[string]string
}

func newBrowser(t *testing.T) *browser { return &browser{t: t, jar: map[string]string{}} }

func (b *browser) cookies() []*http.Cookie {
	var out []*http.Cookie
	for n, v := range b.jar {
		out = append(out, &http.Cookie{Name: n, Value: v})
	}
	return out
}

// take keeps cookies, and holds them to what keeps them in this browser.
func (b *browser) take(set []*http.Cookie) {
	b.t.Helper()
	for _, c := range set {
		if err := c.Valid(); err != nil {
			b.t.Error(err)
		}
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge == 0 || c.MaxAge > 600 {
			b.t.Errorf("cookie %+v", c)
		}
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		} else {
			b.jar[c.Name] = c.Value
		}
	}
}

func (b *browser) start(p *Providers, name, back string) *url.URL {
	b.t.Helper()
	to, set, err := p.Start(b.t.Context(), name, back, b.cookies())
	if err != nil {
		b.t.Fatal(err)
	}
	b.take(set)
	u, err := url.Parse(to)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

func (b *browser) finish(p *Providers, name string, q url.Values) (*Login, error) {
	b.t.Helper()
	l, set, err := p.Finish(b.t.Context(), name, q, b.cookies())
	b.take(set)
	return l, err
}
