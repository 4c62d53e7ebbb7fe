package issuer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/internal/issuer"
	"github.com/greatseal-io/greatseal/internal/store"
)

// site is an issuer over HTTPS.
type site struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []string // JWKs
	away    bool
	changes map[string]func(w http.ResponseWriter) // instead of an answer, by path
}

func newSite(t *testing.T, kids ...string) *site {
	t.Helper()
	s := &site{changes: map[string]func(http.ResponseWriter){}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	s.publish(kids...)
	return s
}

func (s *site) publish(kids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = nil
	for _, k := range kids {
		s.keys = append(s.keys, credentialtest.NewIssuer(s.URL, k, nil).JWK())
	}
}

func (s *site) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.changes[r.URL.Path]; f != nil {
		f(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.away:
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Path == "/.well-known/openid-configuration":
		b, _ := json.Marshal(map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys", "claims_supported": []string{"sub"}})
		w.Write(b)
	case r.URL.Path == "/keys":
		fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(s.keys, ","))
	default:
		http.NotFound(w, r)
	}
}

func (s *site) pinned(t *testing.T, kids ...string) charter.Issuer {
	t.Helper()
	i := charter.Issuer{URL: s.URL}
	for _, k := range kids {
		p, err := credential.ParseIssuerKey(credentialtest.NewIssuer(s.URL, k, nil).JWK())
		if err != nil {
			t.Fatal(err)
		}
		i.Keys = append(i.Keys, p.Text())
	}
	return i
}

func TestFetch(t *testing.T) {
	s := newSite(t, "key-1", "key-2")
	s.set(func() {
		s.keys = append(s.keys, `{"kty":"oct","kid":"secret","k":"AAAA"}`, `{"kty":"RSA","kid":"weak","n":"AQAB","e":"AQAB"}`)
	})
	f, err := issuer.Fetch(t.Context(), s.Client(), s.URL)
	if err != nil || len(f.Keys) != 2 || len(f.Skipped) != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
	i := s.pinned(t, "key-2", "key-0")
	r := issuer.Compare("ci", i, f)
	if r.Current() || !slices.Equal(r.New, []string{"key-1"}) || !slices.Equal(r.Stale, []string{"key-0"}) || !slices.Equal(r.Pinned, []string{"key-2"}) || r.Changed != nil {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		prune bool
		want  int
	}{{false, 3}, {true, 2}} {
		p, err := issuer.Pin(i, f, c.prune)
		if err != nil || len(p.Keys) != c.want || !slices.IsSorted(p.Keys) {
			t.Errorf("prune %v: %v, %v", c.prune, p.Keys, err)
		}
	}
	// Another key under the same ID is nothing that a draft takes.
	other := credentialtest.NewIssuer("https://other.example", "key-1", nil)
	i.Keys = append(i.Keys, must(t, other.JWK()))
	if r := issuer.Compare("ci", i, f); !slices.Equal(r.Changed, []string{"key-1"}) || r.Current() {
		t.Errorf("%+v", r)
	}
	if _, err := issuer.Pin(i, f, true); !errors.Is(err, issuer.ErrChanged) {
		t.Errorf("%v", err)
	}
}

func must(t *testing.T, jwk string) string {
	t.Helper()
	k, err := credential.ParseIssuerKey(jwk)
	if err != nil {
		t.Fatal(err)
	}
	return k.Text()
}

func TestFetchRefuses(t *testing.T) {
	s := newSite(t, "key-1")
	answer := func(typ, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", typ)
			fmt.Fprint(w, body)
		}
	}
	const doc, keys = "/.well-known/openid-configuration", "/keys"
	for name, c := range map[string]struct {
		path string
		f    func(http.ResponseWriter)
	}{
		"another issuer":   {doc, answer("application/json", `{"issuer":"https://evil.example","jwks_uri":"`+s.URL+`/keys"}`)},
		"issuer twice":     {doc, answer("application/json", `{"issuer":"`+s.URL+`","issuer":"`+s.URL+`","jwks_uri":"`+s.URL+`/keys"}`)},
		"keys over http":   {doc, answer("application/json", `{"issuer":"`+s.URL+`","jwks_uri":"http://127.0.0.1/keys"}`)},
		"keys in a file":   {doc, answer("application/json", `{"issuer":"`+s.URL+`","jwks_uri":"file:///etc/passwd"}`)},
		"a page":           {doc, answer("text/html", `{"issuer":"`+s.URL+`","jwks_uri":"`+s.URL+`/keys"}`)},
		"redirect":         {doc, func(w http.ResponseWriter) { w.Header().Set("Location", s.URL+"/x"); w.WriteHeader(302) }},
		"redirect of keys": {keys, func(w http.ResponseWriter) { w.Header().Set("Location", s.URL+"/x"); w.WriteHeader(302) }},
		"no keys":          {keys, answer("application/json", `{"keys":[]}`)},
		"no good keys":     {keys, answer("application/json", `{"keys":[{"kty":"oct","kid":"a","k":"AA"}]}`)},
		"same ID":          {keys, answer("application/json", `{"keys":[`+s.keys[0]+`,`+s.keys[0]+`]}`)},
		"endless": {keys, func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(bytes.Repeat([]byte(" "), 2<<20))
		}},
		"rubbish": {keys, answer("application/json", `null-`)},
		"broken":  {keys, func(w http.ResponseWriter) { w.WriteHeader(500) }},
	} {
		s.set(func() { s.changes = map[string]func(http.ResponseWriter){c.path: c.f} })
		if f, err := issuer.Fetch(t.Context(), s.Client(), s.URL); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	s.set(func() { s.changes = nil })
	if _, err := issuer.Fetch(t.Context(), http.DefaultClient, s.URL); err == nil {
		t.Error("a certificate that nobody issued is believed")
	}
	if _, err := issuer.Fetch(t.Context(), s.Client(), strings.Replace(s.URL, "https", "http", 1)); err == nil {
		t.Error("asked over http")
	}
}

// Invariant 3, over a database: what was seen stays when nobody answers, with its time.
func TestWatch(t *testing.T) {
	s := newSite(t, "key-1")
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "greatseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var log bytes.Buffer
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	c := &charter.Charter{Issuers: map[string]charter.Issuer{"ci": s.pinned(t, "key-1")}}
	w := &issuer.Watch{Charter: func() *charter.Charter { return c }, Store: db, HTTP: s.Client(), Clock: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	look := func() issuer.State {
		t.Helper()
		if err := w.Look(context.Background()); err != nil {
			t.Fatal(err)
		}
		st, err := w.States(t.Context())
		if err != nil || len(st) != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
		return st[0]
	}
	if st := look(); !st.Current() || !st.Seen.Equal(now) || st.Problem != "" || log.Len() > 0 {
		t.Fatalf("%+v\n%s", st, &log)
	}
	// A new key is seen a day later, and not before: the issuer is asked once a day.
	s.publish("key-1", "key-2")
	now = now.Add(23 * time.Hour)
	if st := look(); !st.Current() {
		t.Fatalf("asked within the day: %+v", st)
	}
	now = now.Add(time.Hour)
	seen := now
	if st := look(); st.Current() || st.New[0] != "key-2" || !strings.Contains(log.String(), "does not pin") {
		t.Fatalf("%+v\n%s", st, &log)
	}
	// Away: what was seen stays, and since when.
	s.set(func() { s.away = true })
	now = now.Add(25 * time.Hour)
	if st := look(); st.New[0] != "key-2" || !st.Seen.Equal(seen) || !st.Tried.Equal(now) || !strings.Contains(st.Problem, "502") {
		t.Fatalf("%+v", st)
	}
	// It is asked again after an hour.
	s.set(func() { s.away = false })
	now = now.Add(time.Hour)
	if st := look(); !st.Seen.Equal(now) || st.Problem != "" {
		t.Fatalf("%+v", st)
	}
	// The charter pins it: nothing is said of it any more, without asking again.
	c = &charter.Charter{Issuers: map[string]charter.Issuer{"ci": s.pinned(t, "key-1", "key-2")}}
	if st := look(); !st.Current() {
		t.Fatalf("%+v", st)
	}
	// A replica whose clock was a year ahead keeps nobody from asking.
	right := now
	now = now.Add(365 * 24 * time.Hour)
	look()
	now = right.Add(25 * time.Hour)
	if st := look(); !st.Tried.Equal(now) || !st.Seen.Equal(now) {
		t.Fatalf("nobody asks before %v: %+v", right.Add(366*24*time.Hour), st)
	}
	// A key that changes under its ID is no renewal.
	log.Reset()
	s.set(func() {
		s.keys = []string{credentialtest.NewIssuer("https://other.example", "key-1", nil).JWK()}
	})
	now = now.Add(25 * time.Hour)
	if st := look(); len(st.Changed) != 1 || !strings.Contains(log.String(), "level=ERROR") {
		t.Fatalf("%+v\n%s", st, &log)
	}
}
