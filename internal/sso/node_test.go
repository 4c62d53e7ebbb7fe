package sso

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

// TestNode: a second provider, which names itself in its answers, in each algorithm,
// with claims in the ID token and without.
func TestNode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		alg  string
		thin bool
		body bool
	}{{"RS256", false, false}, {"PS256", true, true}, {"ES256", true, false}, {"EdDSA", false, true}} {
		t.Run(c.alg, func(t *testing.T) {
			t.Parallel()
			n := dextest.StartNode(t, dextest.NodeOptions{RedirectURL: redirects("node")[0], AfterLogout: base + "/console/login", Algorithm: c.alg, Thin: c.thin, SecretInBody: c.body})
			cfg := n.Config()
			cfg.MaxAge = config.Duration(3600e9)
			w := newWorld(t, cfg)
			b := newBrowser(t)
			back, err := n.Visitor().LogIn(t.Context(), b.start(w.Providers, "node", "").String(), "bob")
			if err != nil {
				t.Fatal(err)
			}
			q := back.Query()
			if q.Get("iss") != n.Issuer {
				t.Errorf("it does not name itself: %v", back)
			}
			l, err := b.finish(w.Providers, "node", q)
			if err != nil {
				t.Fatalf("%v\n%s", err, w.log)
			}
			if who, err := l.Person(people()); who != "bob" || !slices.Equal(l.Groups(), []string{"developers", "releases"}) {
				t.Errorf("%q, %v, %v", who, l.Groups(), err)
			}
			// An answer without its name, or with another.
			for _, iss := range [][]string{nil, {"https://evil.example"}} {
				back, err := n.Visitor().LogIn(t.Context(), b.start(w.Providers, "node", "").String(), "bob")
				if err != nil {
					t.Fatal(err)
				}
				q := back.Query()
				if q["iss"] = iss; iss == nil {
					q.Del("iss")
				}
				if _, err := b.finish(w.Providers, "node", q); !errors.Is(err, ErrAttempt) {
					t.Errorf("iss %v: %v", iss, err)
				}
			}
		})
	}
}

// TestNodeLogout: out here leads out there, and what the provider then says is
// believed once.
func TestNodeLogout(t *testing.T) {
	t.Parallel()
	var w *world
	type call struct {
		token string
		end   End
		err   error
	}
	calls := make(chan call, 4)
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c := call{token: r.PostFormValue("logout_token")}
		c.err = w.Logout(r.Context(), "node", c.token, func(_ context.Context, e End) error { c.end = e; return nil })
		if c.err != nil {
			rw.WriteHeader(http.StatusBadRequest)
		}
		calls <- c
	}))
	t.Cleanup(receiver.Close)
	n := dextest.StartNode(t, dextest.NodeOptions{RedirectURL: redirects("node")[0], AfterLogout: base + "/console/login", Backchannel: receiver.URL + "/console/backchannel/node"})
	w = newWorld(t, n.Config())
	b, v := newBrowser(t), n.Visitor()
	back, err := v.LogIn(t.Context(), b.start(w.Providers, "node", "").String(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.finish(w.Providers, "node", back.Query())
	if err != nil {
		t.Fatal(err)
	}
	if l.SID() == "" {
		t.Error("no sid")
	}
	out, err := v.LogOut(t.Context(), w.EndSession(t.Context(), "node"))
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != base+"/console/login" {
		t.Errorf("back at %s", out)
	}
	var c call
	select {
	case c = <-calls:
	case <-time.After(time.Minute):
		t.Fatalf("the provider does not call back:\n%s", n.Said())
	}
	if c.err != nil {
		t.Fatalf("%v\n%s", c.err, w.log)
	}
	if c.end.Issuer != n.Issuer || c.end.SID != l.SID() || c.end.Subject != "" && c.end.Subject != l.Subject() {
		t.Errorf("%+v, signed in as %s in %s", c.end, l.Subject(), l.SID())
	}
	again := func(context.Context, End) error { return nil }
	if err := w.Logout(t.Context(), "node", c.token, again); !errors.Is(err, ErrToken) {
		t.Errorf("again: %v", err)
	}
}
