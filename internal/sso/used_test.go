package sso

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
)

// counted counts what is noted as used.
type counted struct {
	Store
	mu sync.Mutex
	n  int
}

func (c *counted) Once(ctx context.Context, hash [32]byte, expires, now time.Time) error {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Store.Once(ctx, hash, expires, now)
}

// Invariant 2: strangers who begin logins and answer them with whatever they like leave
// no row behind, however often.
func TestStrangersLeaveNothing(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	c := &counted{Store: w.store}
	w.Providers.store = c
	for _, answer := range []url.Values{{"error": {"access_denied"}}, {"code": {"guessed"}}, {}, {"code": {"guessed"}, "iss": {"https://evil.example"}}} {
		b := newBrowser(t)
		for range 20 {
			q := b.start(w.Providers, "x", "").Query()
			answer["state"] = q["state"]
			x.mu.Lock()
			x.tokens = map[string]any{"error": "invalid_grant"}
			x.mu.Unlock()
			if _, err := b.finish(w.Providers, "x", answer); err == nil {
				t.Fatal("signed in")
			}
		}
	}
	// Nor does a token that answers another attempt.
	if _, err := x.login(w, "x", func(k *token) { k.claims["nonce"] = "another" }); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
	if c.n != 0 {
		t.Errorf("%d rows", c.n)
	}
	if _, err := x.login(w, "x", nil); err != nil || c.n != 1 {
		t.Errorf("%v: %d rows of one login", err, c.n)
	}
}

// Somebody signs in with an attempt once, at whichever replica, although the provider
// takes the code again and again.
func TestAttemptsAreUsedOnce(t *testing.T) {
	x := newIssuer(t)
	w := newWorld(t, x.client("x"))
	b := newBrowser(t)
	q := b.start(w.Providers, "x", "").Query()
	k := x.good(q.Get("nonce"), w.now())
	x.mu.Lock()
	x.tokens = map[string]any{"access_token": k.access, "token_type": "Bearer", "expires_in": 60, "id_token": k.sign(t)}
	x.mu.Unlock()
	answer := url.Values{"state": q["state"], "code": {"the-code"}}
	cookies := b.cookies()
	replicas := []*Providers{w.Providers, w.replica(x.client("x"))}
	var mu sync.Mutex
	var wg sync.WaitGroup
	in := 0
	for i := range 8 {
		wg.Go(func() {
			_, _, err := replicas[i%2].Finish(t.Context(), "x", answer, cookies)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			} else if !errors.Is(err, ErrUsed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("signed in %d times", in)
	}
}

// Invariant 3: a provider gives the groups that the configuration says, whatever it lists.
func TestGroupsThatAProviderGives(t *testing.T) {
	x := newIssuer(t)
	with := func(gives []string) config.SSO {
		c := x.client("x")
		c.Gives = gives
		return c
	}
	listed := []string{"audit", "developers", "operations"}
	for _, c := range []struct{ gives, want []string }{
		{nil, listed}, {[]string{"audit", "others"}, []string{"audit"}}, {[]string{}, nil}, {[]string{"AUDIT", "aud", "audit*"}, nil},
	} {
		w := newWorld(t, with(c.gives))
		l, err := x.login(w, "x", func(k *token) { k.claims["groups"] = listed })
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Groups(); !slices.Equal(got, c.want) {
			t.Errorf("gives %v: %v", c.gives, got)
		}
		// Of a session that is older than the configuration.
		if got := w.Given(x.URL, listed); !slices.Equal(got, c.want) {
			t.Errorf("given %v: %v", c.gives, got)
		}
		if got := w.Given("https://another.example", listed); got != nil {
			t.Errorf("an issuer that is not configured gives %v", got)
		}
	}
	off := x.client("x")
	off.Groups = ""
	if got := newWorld(t, off).Given(x.URL, listed); got != nil {
		t.Errorf("without the claim: %v", got)
	}
}
