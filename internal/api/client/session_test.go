package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

// guarded is a client of a server that takes one token only; it says which calls of
// what path and token came.
func guarded(t *testing.T, valid *atomic.Value) (*Client, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var calls []string
	c, _ := fake(t, func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		mu.Lock()
		calls = append(calls, r.URL.Path+" "+token)
		mu.Unlock()
		if token != valid.Load() {
			refuse(w, 401, "unauthorized")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{}`)
	})
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return calls
	}
}

// Of many calls that are refused for a session that has ended one gets another, and each
// is sent once more.
func TestRenew(t *testing.T) {
	var valid atomic.Value
	valid.Store("gs_new")
	c, calls := guarded(t, &valid)
	var renewed atomic.Int32
	c.Renew(func(ctx context.Context) error {
		renewed.Add(1)
		// A login asks the server too. It shows nothing, and does not log in again.
		if _, err := c.do(ctx, call{method: "POST", path: "/login"}); err == nil || errors.As(err, new(*AwayError)) {
			t.Errorf("%v", err)
		}
		c.SetToken("gs_new")
		return nil
	})
	var wg sync.WaitGroup
	for _, cl := range []*Client{c, c.long()} {
		for range 10 {
			wg.Go(func() {
				resp, err := cl.do(t.Context(), call{method: "POST", path: "/x", once: true})
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
	}
	wg.Wait()
	n := map[string]int{}
	for _, call := range calls() {
		n[call]++
	}
	if renewed.Load() != 1 || n["/v1/login "] != 1 || n["/v1/x gs_new"] != 20 || n["/v1/x gs_secret"] > 20 || len(n) > 3 {
		t.Errorf("%d renewals: %v", renewed.Load(), n)
	}
}

// A session that cannot be had, or is no better, ends the call with the server's word.
func TestRenewInVain(t *testing.T) {
	away := errors.New("no key")
	for name, x := range map[string]struct {
		f    func(c *Client) error
		want int
		also error
	}{
		"nobody":    {nil, 1, nil},
		"no key":    {func(*Client) error { return away }, 1, away},
		"no better": {func(c *Client) error { c.SetToken("gs_other"); return nil }, 2, nil},
	} {
		var valid atomic.Value
		valid.Store("gs_new")
		c, calls := guarded(t, &valid)
		if x.f != nil {
			c.Renew(func(context.Context) error { return x.f(c) })
		}
		_, err := c.do(t.Context(), call{method: "GET", path: "/x"})
		var p *Problem
		if !errors.As(err, &p) || p.Status != 401 || x.also != nil && !errors.Is(err, x.also) || strings.Contains(err.Error(), "gs_") {
			t.Errorf("%s: %v", name, err)
		}
		if got := calls(); len(got) != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Another reason to refuse is none to log in.
	c, _ := fake(t, func(w http.ResponseWriter, r *http.Request) { refuse(w, 401, "certificate") })
	c.Renew(func(context.Context) error { t.Error("logs in"); return nil })
	if _, err := c.do(t.Context(), call{method: "GET", path: "/x"}); err == nil {
		t.Error("no error")
	}
}

// Invariant 5.
func TestLoginShowsNothing(t *testing.T) {
	var valid atomic.Value
	valid.Store("")
	c, calls := guarded(t, &valid)
	c.Renew(func(context.Context) error { t.Error("logs in again"); return nil })
	if _, err := c.Login(t.Context(), "example", "alice", credentialtest.SSH("alice")); err == nil {
		t.Error("no error")
	}
	valid.Store("gs_new")
	if _, err := c.LoginToken(t.Context(), "", []byte("a.b.c")); err == nil {
		t.Error("no error")
	}
	for _, call := range calls() {
		if !strings.HasSuffix(call, " ") {
			t.Errorf("%s", call)
		}
	}
	if len(calls()) < 2 {
		t.Errorf("%v", calls())
	}
}
