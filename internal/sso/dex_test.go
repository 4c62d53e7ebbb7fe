package sso

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

func redirects(names ...string) (out []string) {
	for _, n := range names {
		out = append(out, base+"/console/login/"+n+"/callback")
	}
	return out
}

// TestDex: everything that a person does at a real provider, and what an attacker
// does who has one too.
func TestDex(t *testing.T) {
	t.Parallel()
	dex := dextest.Start(t, redirects("dex", "public", "other", "names")...)
	public, other, names := dex.Config(), dex.Config(), dex.Config()
	public.Name, public.ClientID, public.ClientSecretFile = "public", dex.Public.ID, ""
	other.Name, other.ClientID, other.ClientSecretFile = "other", dex.Other.ID, dex.Other.SecretFile
	names.Name, names.Claim, names.People = "names", config.ClaimUsername, map[string]string{"alice.a": "alice", "bob.b": "nobody-of-the-charter", "Carol.C": "carol"}
	w := newWorld(t, dex.Config(), public, other, names)

	// login is the whole way of somebody with a browser of his own.
	login := func(t *testing.T, provider, user string) (*Login, error) {
		t.Helper()
		b := newBrowser(t)
		to := b.start(w.Providers, provider, "/console/requests?x=1")
		back, err := dex.LogIn(t.Context(), to.String(), user)
		if err != nil {
			t.Fatal(err)
		}
		if got := back.Scheme + "://" + back.Host + back.Path; got != w.RedirectURI(provider) {
			t.Fatalf("back at %s", got)
		}
		l, err := b.finish(w.Providers, provider, back.Query())
		if len(b.jar) != 0 {
			t.Errorf("cookies of the attempt are left: %v", b.jar)
		}
		return l, err
	}

	t.Run("people", func(t *testing.T) {
		for user, want := range map[string]string{"alice": "alice", "bob": "bob"} {
			for _, provider := range []string{"dex", "public"} {
				l, err := login(t, provider, user)
				if err != nil {
					t.Fatalf("%s at %s: %v", user, provider, err)
				}
				if who, err := l.Person(people()); who != want || err != nil {
					t.Errorf("%s: %q, %v", user, who, err)
				}
				if l.Issuer() != dex.Issuer || l.Subject() == "" || l.Return() != "/console/requests?x=1" || l.Provider() != provider {
					t.Errorf("%+v", l)
				}
				if g := dex.Users[user].Groups; !slices.Equal(l.Groups(), g) {
					t.Errorf("groups %v, want %v", l.Groups(), g)
				}
			}
		}
	})
	t.Run("an auditor from outside", func(t *testing.T) {
		l, err := login(t, "dex", "erin")
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Person(people())
		var u *UnknownError
		if !errors.As(err, &u) || u.Claim != "email" || u.Value != "erin@audit.example" || u.Several != 0 {
			t.Errorf("%v", err)
		}
		if l.Outside() != "dex:erin@audit.example" || !slices.Equal(l.Groups(), []string{"audit"}) {
			t.Errorf("%s %v", l.Outside(), l.Groups())
		}
	})
	t.Run("an address that nobody vouches for", func(t *testing.T) {
		if l, err := login(t, "dex", "mallory"); !errors.Is(err, ErrUnverified) {
			t.Errorf("%v, %v", l, err)
		}
	})
	t.Run("names", func(t *testing.T) {
		for user, want := range map[string]string{"alice": "alice", "bob": "", "carol": ""} { // bob's name is nobody's, carol's claim is written otherwise
			l, err := login(t, "names", user)
			if err != nil {
				t.Fatal(err)
			}
			if who, err := l.Person(people()); who != want || (err == nil) != (want != "") {
				t.Errorf("%s: %q, %v", user, who, err)
			}
		}
		if got := w.Strangers(people()); !slices.Equal(got, []string{"names: nobody-of-the-charter"}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("what is asked", func(t *testing.T) {
		b := newBrowser(t)
		q := b.start(w.Providers, "dex", "").Query()
		if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(q.Get("state")) != 43 ||
			len(q.Get("nonce")) != 43 || q.Get("redirect_uri") != w.RedirectURI("dex") || q.Get("scope") != "openid email profile groups" || q.Get("client_id") != dex.ClientID {
			t.Errorf("%v", q)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		b := newBrowser(t)
		if back, err := dex.LogInAs(t.Context(), b.start(w.Providers, "dex", "").String(), "alice@example.com", "wrong"); err == nil {
			t.Errorf("back at %v", back)
		}
	})
	t.Run("once", func(t *testing.T) {
		b := newBrowser(t)
		to := b.start(w.Providers, "dex", "")
		back, err := dex.LogIn(t.Context(), to.String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		thief := newBrowser(t) // has the cookies and the answer, and comes second
		for n, v := range b.jar {
			thief.jar[n] = v
		}
		if _, err := b.finish(w.Providers, "dex", back.Query()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.finish(w.Providers, "dex", back.Query()); !errors.Is(err, ErrAttempt) {
			t.Errorf("again: %v", err)
		}
		if _, err := thief.finish(w.replica(dex.Config()), "dex", back.Query()); !errors.Is(err, ErrRefused) { // Dex knows the code
			t.Errorf("the cookies again, at another replica: %v", err)
		}
	})
	t.Run("a code again", func(t *testing.T) { // in another attempt: Dex knows it is used, and another's verifier does not fit
		b := newBrowser(t)
		first, err := dex.LogIn(t.Context(), b.start(w.Providers, "dex", "").String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.finish(w.Providers, "dex", first.Query()); err != nil {
			t.Fatal(err)
		}
		second := b.start(w.Providers, "dex", "").Query()
		if _, err := b.finish(w.Providers, "dex", url.Values{"state": second["state"], "code": first.Query()["code"]}); !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a code that was stolen", func(t *testing.T) { // put into an attempt of the thief's own: PKCE
		victim, thief := newBrowser(t), newBrowser(t)
		back, err := dex.LogIn(t.Context(), victim.start(w.Providers, "public", "").String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		own := thief.start(w.Providers, "public", "").Query()
		if _, err := thief.finish(w.Providers, "public", url.Values{"state": own["state"], "code": back.Query()["code"]}); !errors.Is(err, ErrRefused) {
			t.Errorf("%v", err)
		}
	})
	t.Run("login CSRF", func(t *testing.T) { // the attacker's answer, in the victim's browser
		attacker, victim := newBrowser(t), newBrowser(t)
		back, err := dex.LogIn(t.Context(), attacker.start(w.Providers, "dex", "").String(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := victim.finish(w.Providers, "dex", back.Query()); !errors.Is(err, ErrAttempt) {
			t.Errorf("without an attempt: %v", err)
		}
		own := victim.start(w.Providers, "dex", "").Query()
		if _, err := victim.finish(w.Providers, "dex", back.Query()); !errors.Is(err, ErrAttempt) {
			t.Errorf("with one of its own: %v", err)
		}
		// The victim's state with the attacker's code: PKCE and nonce.
		if _, err := victim.finish(w.Providers, "dex", url.Values{"state": own["state"], "code": back.Query()["code"]}); !errors.Is(err, ErrRefused) {
			t.Errorf("with the victim's state: %v", err)
		}
	})
	t.Run("another client's attempt", func(t *testing.T) {
		b := newBrowser(t)
		back, err := dex.LogIn(t.Context(), b.start(w.Providers, "other", "").String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.finish(w.Providers, "dex", back.Query()); !errors.Is(err, ErrAttempt) {
			t.Errorf("%v", err)
		}
	})
	t.Run("late", func(t *testing.T) {
		b := newBrowser(t)
		w := newWorld(t, dex.Config())
		back, err := dex.LogIn(t.Context(), b.start(w.Providers, "dex", "").String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		w.pass(attemptLife)
		if _, err := b.finish(w.Providers, "dex", back.Query()); !errors.Is(err, ErrAttempt) {
			t.Errorf("%v", err)
		}
	})
	t.Run("no end of a session", func(t *testing.T) { // Dex has no end_session_endpoint
		if got := w.EndSession(t.Context(), "dex"); got != "" {
			t.Error(got)
		}
	})
	t.Run("secrets", func(t *testing.T) {
		for _, s := range []string{dex.Secret, dex.Other.Secret, dextest.Password, "code=", "state="} {
			if strings.Contains(w.log.String(), s) {
				t.Errorf("the log has %q:\n%s", s, w.log)
			}
		}
	})
}

// TestDexGoesAndComes: a provider that is away at the start and comes, goes, and comes
// back with other keys.
func TestDexGoesAndComes(t *testing.T) {
	t.Parallel()
	dex := dextest.Start(t, redirects("dex")...)
	dex.Stop()
	w := newWorld(t, dex.Config())
	b := newBrowser(t)
	if l := w.List(t.Context()); len(l) != 1 || !l[0].Away || l[0].Title != "Dex" {
		t.Errorf("%+v", l)
	}
	if _, _, err := w.Start(t.Context(), "dex", "", nil); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
	in := func() error {
		back, err := dex.LogIn(t.Context(), b.start(w.Providers, "dex", "").String(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		l, err := b.finish(w.Providers, "dex", back.Query())
		if err == nil {
			_, err = l.Person(people())
		}
		return err
	}
	dex.Up()
	w.pass(retryAfter)
	if l := w.List(t.Context()); l[0].Away {
		t.Errorf("%+v", l)
	}
	if err := in(); err != nil {
		t.Fatal(err)
	}
	dex.Stop()
	if _, err := b.finish(w.Providers, "dex", url.Values{"state": b.start(w.Providers, "dex", "").Query()["state"], "code": {"x"}}); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
	dex.Up() // other keys
	w.pass(keysInterval)
	if err := in(); err != nil {
		t.Errorf("with new keys: %v", err)
	}
	dex.Stop()
	w.pass(metadataLife)
	if l := w.List(t.Context()); !l[0].Away {
		t.Errorf("%+v", l)
	}
	b.start(w.Providers, "dex", "") // what it said lately still leads there
	w.pass(metadataStale)
	if _, _, err := w.Start(t.Context(), "dex", "", nil); !errors.Is(err, ErrAway) {
		t.Errorf("%v", err)
	}
}
