package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
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

// kept is the session that a login has kept.
func (d *desk) kept() *session {
	d.t.Helper()
	a := &App{Now: d.w.Now, cfgPath: d.cfg}
	cfg, err := a.client()
	if err != nil {
		d.t.Fatal(err)
	}
	s := readSession(cfg, d.w.Now())
	if s == nil {
		d.t.Fatal("no session is kept")
	}
	return s
}

// end has the server forget a session.
func (d *desk) end(s *session) {
	d.t.Helper()
	t, err := d.st.Token(d.t.Context(), sha256.Sum256([]byte(s.Token)))
	if err == nil {
		err = d.st.DeleteToken(d.t.Context(), t.ID)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// A session that the server has forgotten is in nobody's way: a command gets another one
// and keeps it, as does a login; and so does a command in the middle of its work.
func TestSessionsAreRenewed(t *testing.T) {
	d := newDesk(t)
	for _, command := range [][]string{{"request", "list"}, {"status"}, {"login"}} {
		if out, code := d.run(d.w.Now, "login"); code != exitOK {
			t.Fatalf("login: %d %s", code, out)
		}
		old := d.kept()
		d.end(old)
		if out, code := d.run(d.w.Now, command...); code != exitOK {
			t.Errorf("%s: %d %s", command, code, out)
		} else if d.kept().Token == old.Token {
			t.Errorf("%s: the old session is kept", command)
		}
	}
	if out, code := d.run(d.w.Now, "logout"); code != exitOK {
		t.Fatalf("logout: %d %s", code, out)
	}

	// Bob asks and waits. His session ends, and what he asked for is withdrawn.
	asked := make(chan string, 1)
	go func() {
		out, code := d.run(d.w.Now, "key", "suspend", "release", "--reason", "a test")
		asked <- fmt.Sprint(code, " ", out)
	}()
	id := ""
	for end := time.Now().Add(time.Minute); id == "" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out, code := d.run(d.w.Now, "--json", "request", "list", "--state", "pending")
		var list struct{ Requests []struct{ ID string } }
		if code != exitOK || json.Unmarshal([]byte(out), &list) != nil {
			t.Fatalf("%d %s", code, out)
		}
		if len(list.Requests) > 0 {
			id = list.Requests[0].ID
		}
	}
	if id == "" {
		t.Fatalf("nothing is asked: %s", <-asked)
	}
	d.end(d.kept())
	if out, code := d.run(d.w.Now, "request", "cancel", id); code != exitOK {
		t.Fatalf("cancel: %d %s", code, out)
	}
	if got := <-asked; !strings.HasPrefix(got, fmt.Sprint(exitRefused)) || !strings.Contains(got, "is cancelled") {
		t.Errorf("the one who waits: %s", got)
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
		return d.kept()
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
