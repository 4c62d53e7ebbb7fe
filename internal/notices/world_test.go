package notices_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

var defaults = notices.Preferences{Deliver: "immediate", At: "08:00", Zone: "UTC"}

// post is a deployment whose people have mail, with a chat channel.
type post struct {
	*servertest.World
	mail *notifytest.Server
	chat *channel
	st   *store.SQL
	e    *notices.Engine
	s    *server.Server
	stop func()
}

// channel is a Mattermost that keeps what it is told.
type channel struct {
	*httptest.Server
	mu    sync.Mutex
	texts []string
	hang  chan struct{} // answers wait for it; nil: none
}

func newChannel(t *testing.T) *channel {
	c := &channel{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		c.texts = append(c.texts, string(b))
		hang := c.hang
		c.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *channel) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.texts)
}

func (c *channel) chat(t *testing.T, name string) *notify.Chat {
	t.Helper()
	x, err := notify.NewChat(name, "mattermost://"+strings.TrimPrefix(c.URL, "http://")+"/token?disabletls=yes", true)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func addresses(c *charter.Charter) {
	for n, p := range c.People {
		p.Email = n + "@acme.example"
		c.People[n] = p
	}
}

func newPost(t *testing.T, dsn string, change func(*notices.Config), charters ...func(*charter.Charter)) *post {
	t.Helper()
	p := &post{World: servertest.New(t, append([]func(*charter.Charter){addresses}, charters...)...), mail: notifytest.Start(t, "starttls"), chat: newChannel(t)}
	p.st = p.World.Store(dsn).(*store.SQL)
	p.e, p.s, p.stop = p.replica(t, change)
	return p
}

// replica is one more server.
func (p *post) replica(t *testing.T, change func(*notices.Config)) (*notices.Engine, *server.Server, func()) {
	t.Helper()
	m, err := notify.NewMailer(notify.SMTP{Host: "localhost", Port: p.mail.Port, From: "seal@acme.example", TLS: "starttls", Roots: p.mail.Roots})
	if err != nil {
		t.Fatal(err)
	}
	c := notices.Config{Store: p.st, Mailer: m, Channels: []notices.Channel{{Chat: p.chat.chat(t, "ops")}}, URL: "https://sign.acme.example", Clock: p.Now, Defaults: defaults,
		Operators: []string{"dave"}}
	if change != nil {
		change(&c)
	}
	e, err := notices.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s, stop := p.Server(p.st, func(c *server.Config) { c.Notices = e })
	return e, s, stop
}

// submit hands in a request of alice's.
func (p *post) submit(t *testing.T, name, policy string, change ...func(*statement.Request)) (envelope []byte, id statement.ID) {
	t.Helper()
	items := p.Files(name, 1)
	env := p.Sign("alice", policy, items, change...)
	if _, _, err := p.s.Submit(t.Context(), env, items); err != nil {
		t.Fatal(err)
	}
	return env, p.ID(env)
}

func (p *post) say(t *testing.T, v statement.Verdict, who string, env []byte, change ...func(*statement.Endorsement)) {
	t.Helper()
	if _, err := p.s.Endorse(t.Context(), p.Say(v, who, env, change...)); err != nil {
		t.Fatal(err)
	}
}

// mails are the recipients of those whose subject holds a text, sorted.
func (p *post) mails(t *testing.T, subject string) []string {
	t.Helper()
	var out []string
	for _, m := range p.mail.Mails() {
		if h, _ := m.Parse(t); strings.Contains(h.Get("Subject"), subject) {
			out = append(out, strings.TrimSuffix(m.To[0], "@acme.example"))
		}
	}
	slices.Sort(out)
	return out
}

// until waits for a condition, at most a minute.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}

// told waits until exactly these have had mail with the subject.
func (p *post) told(t *testing.T, subject string, who ...string) {
	t.Helper()
	until(t, subject, func() bool { return len(p.mails(t, subject)) >= len(who) })
	p.quiet(t)
	if got := p.mails(t, subject); !slices.Equal(got, who) {
		t.Errorf("%s: %v, not %v", subject, got, who)
	}
}

// quiet waits until nothing is due any more. Something may be in hand.
func (p *post) quiet(t *testing.T) {
	t.Helper()
	p.noneDue(t, 0)
}

// done waits until nothing is due or in hand any more, nor due soon: what is in hand
// is due again when its lease ends, and would be somebody else's when time is passed.
func (p *post) done(t *testing.T) {
	t.Helper()
	p.noneDue(t, 10*time.Minute)
}

func (p *post) noneDue(t *testing.T, within time.Duration) {
	t.Helper()
	until(t, "rest", func() bool {
		kinds, err := p.st.DueKinds(context.Background(), "notice.", p.Now().Add(within))
		if err != nil {
			t.Fatal(err)
		}
		return len(kinds) == 0
	})
}

// gate is a way to a server that can be shut.
type gate struct {
	net.Listener
	mu   sync.Mutex
	shut bool
}

func newGate(t *testing.T, to int) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			g.mu.Lock()
			shut := g.shut
			g.mu.Unlock()
			if shut {
				c.Close()
				continue
			}
			go func() {
				defer c.Close()
				d, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
				if err != nil {
					return
				}
				defer d.Close()
				go io.Copy(d, c)
				io.Copy(c, d)
			}()
		}
	}()
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

func port(g *gate) int { return g.Addr().(*net.TCPAddr).Port }

func share(t *testing.T, s string) (x config.Share) {
	t.Helper()
	if err := x.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return x
}
