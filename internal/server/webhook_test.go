package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json/v2"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/statement"
)

// receiver takes webhooks, after it has failed some times.
type receiver struct {
	*httptest.Server
	t      *testing.T
	oracle *standardwebhooks.Webhook
	mu     sync.Mutex
	fail   int
	tries  []string // webhook-ids, failures included
	got    []notify.Message
	news   chan struct{}
}

var hookSecret = bytes.Repeat([]byte{7}, 32)

func newReceiver(t *testing.T, fail int) *receiver {
	t.Helper()
	r := &receiver{t: t, fail: fail, news: make(chan struct{}, 100)}
	var err error
	r.oracle, err = standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(hookSecret))
	must(t, err)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tries = append(r.tries, q.Header.Get("webhook-id"))
		if r.fail > 0 {
			r.fail--
			w.WriteHeader(500)
			return
		}
		// The time is the world's, which the library compares with the true one.
		if err := r.oracle.VerifyIgnoringTimestamp(b, q.Header); err != nil {
			t.Errorf("signature: %v", err)
		}
		var m notify.Message
		if err := json.Unmarshal(b, &m); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		r.got = append(r.got, m)
		r.news <- struct{}{}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) hook(events ...notify.Event) notify.Webhook {
	return notify.Webhook{Name: "hook", URL: r.URL, Secret: hookSecret, Events: events, AllowPrivate: true}
}

// wait waits for n messages.
func (r *receiver) wait(n int) []notify.Message {
	r.t.Helper()
	for range n {
		select {
		case <-r.news:
		case <-time.After(time.Minute):
			r.t.Fatal("a message never came")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func withHooks(hooks ...notify.Webhook) func(*server.Config) {
	return func(c *server.Config) { c.Webhooks, c.Sender = hooks, notify.NewSender() }
}

func TestWebhooks(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		w := servertest.New(t)
		all, some := newReceiver(t, 0), newReceiver(t, 0)
		other := some.hook(notify.Executed)
		other.Name = "other"
		s, _ := w.Server(w.Store(dsn), withHooks(all.hook(), other))
		items := w.Files("app", 2)
		env := w.Sign("alice", "single", items)
		_, _, err := s.Submit(t.Context(), env, items)
		must(t, err)
		m := all.wait(1)[0]
		if m.Type != notify.Pending || m.Data.Request != w.ID(env).String() || m.Data.Policy != "single" || m.Data.Count != 2 || m.Data.State != "pending" ||
			!slices.Equal(m.Data.Awaits, []string{"bob", "carol", "dave"}) {
			t.Errorf("first message: %+v", m)
		}
		_, err = s.Endorse(t.Context(), w.Endorse("bob", env))
		must(t, err)
		if m := all.wait(1)[1]; m.Type != notify.Executed || m.Data.State != "executed" {
			t.Errorf("second message: %+v", m)
		}
		if m := some.wait(1); len(m) != 1 || m[0].Type != notify.Executed {
			t.Errorf("the other receiver got %+v", m)
		}
		env = w.Sign("alice", "release", items)
		_, _, err = s.Submit(t.Context(), env, items)
		must(t, err)
		_, err = s.Endorse(t.Context(), w.Say(statement.Disapprove, "carol", env))
		must(t, err)
		got := all.wait(2)
		if !slices.ContainsFunc(got, func(m notify.Message) bool { return m.Type == notify.Disapproved && m.Data.Reason != "" }) {
			t.Errorf("messages: %+v", got)
		}
	})
}

// A receiver that fails gets the same message, under the same id, until it takes it.
func TestWebhookRetries(t *testing.T) {
	w := servertest.New(t)
	r := newReceiver(t, 2)
	s, _ := w.Server(w.Store(""), withHooks(r.hook(notify.Pending)))
	items := w.Files("app", 1)
	_, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	must(t, err)
	for range 600 { // time passes between attempts
		w.Pass(10 * time.Second)
		r.mu.Lock()
		n := len(r.got)
		r.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.wait(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tries) != 3 || r.tries[0] != r.tries[2] || r.tries[0] == "" || len(r.got) != 1 {
		t.Errorf("tries %v, %d messages", r.tries, len(r.got))
	}
	if f := s.Metrics.NotifyFailures.Load(); f != 2 {
		t.Errorf("%d failures counted", f)
	}
}

// A webhook into the own network reaches nothing, and hurts nothing.
func TestWebhookInside(t *testing.T) {
	w := servertest.New(t)
	r := newReceiver(t, 0)
	hook := r.hook()
	hook.AllowPrivate = false
	s, _ := w.Server(w.Store(""), withHooks(hook))
	items := w.Files("app", 1)
	_, _, err := s.Submit(t.Context(), w.Sign("alice", "release", items), items)
	must(t, err)
	for range 1200 {
		if s.Metrics.NotifyFailures.Load() > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Metrics.NotifyFailures.Load() == 0 || len(r.tries) != 0 {
		t.Errorf("%d failures, %d connections", s.Metrics.NotifyFailures.Load(), len(r.tries))
	}
}

// Half of its time gone, a request that waits is called to mind; one that is
// closed is not.
func TestReminder(t *testing.T) {
	w := servertest.New(t)
	r := newReceiver(t, 0)
	s, _ := w.Server(w.Store(""), withHooks(r.hook(notify.Reminder, notify.Expired)))
	items := w.Files("app", 1)
	env := w.Sign("alice", "release", items)
	_, _, err := s.Submit(t.Context(), env, items)
	must(t, err)
	done := w.Files("done", 1)
	closed := w.Sign("alice", "release", done)
	_, _, err = s.Submit(t.Context(), closed, done)
	must(t, err)
	_, err = s.Endorse(t.Context(), w.Say(statement.Disapprove, "bob", closed))
	must(t, err)
	w.Pass(13 * time.Hour)
	m := r.wait(1)
	if len(m) != 1 || m[0].Type != notify.Reminder || m[0].Data.Request != w.ID(env).String() || len(m[0].Data.Awaits) != 3 {
		t.Errorf("reminder: %+v", m)
	}
	w.Pass(12 * time.Hour)
	if m = r.wait(1); m[len(m)-1].Type != notify.Expired {
		t.Errorf("afterwards: %+v", m)
	}
}
