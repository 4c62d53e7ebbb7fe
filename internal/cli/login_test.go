package cli

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Of commands that start together the first one to log in keeps its session. Another,
// which found none before, says who asks all the same: whenever the session appears.
func TestCommandsMeet(t *testing.T) {
	d := newDesk(t)
	for at := 1; ; at++ { // the clock is read where a session matters
		if out, code := d.run(d.w.Now, "logout"); code != exitOK {
			t.Fatalf("logout: %d %s", code, out)
		}
		n, met := 0, false
		clock := func() time.Time {
			if n++; n == at {
				met = true
				if out, code := d.run(d.w.Now, "login"); code != exitOK {
					t.Errorf("login: %d %s", code, out)
				}
			}
			return d.w.Now()
		}
		out, code := d.run(clock, "request", "list")
		if code != exitOK {
			t.Errorf("somebody logs in before the clock is read for the %d. time: %d %s", at, code, out)
		}
		if !met {
			if at == 1 {
				t.Errorf("nothing met: the clock is not read")
			}
			return
		}
	}
}

// The session that ends is the one that is kept, though a token is in use.
func TestLogoutEndsWhatIsKept(t *testing.T) {
	d := newDesk(t)
	login := func() *session {
		t.Helper()
		if out, code := d.run(d.w.Now, "login"); code != exitOK {
			t.Fatalf("login: %d %s", code, out)
		}
		a := &App{Now: d.w.Now, cfgPath: d.cfg}
		cfg, err := a.client()
		if err != nil {
			t.Fatal(err)
		}
		s := readSession(cfg, d.w.Now())
		if s == nil {
			t.Fatal("no session is kept")
		}
		return s
	}
	used, kept := login(), login()
	t.Setenv("GREATSEAL_TOKEN", used.Token)
	if out, code := d.run(d.w.Now, "logout"); code != exitOK || !strings.Contains(out, "has ended") || strings.Contains(out, "not told") {
		t.Fatalf("logout: %d %s", code, out)
	}
	for _, x := range []struct {
		token string
		valid bool
	}{{used.Token, true}, {kept.Token, false}} {
		t.Setenv("GREATSEAL_TOKEN", x.token)
		a := &App{Now: d.w.Now, cfgPath: d.cfg}
		l, err := a.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if st, err := l.Status(context.Background()); (err == nil && st.You.Name == "bob") != x.valid {
			t.Errorf("valid: want %v: %v, %v", x.valid, st, err)
		}
	}
}
