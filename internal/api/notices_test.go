package api_test

import (
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

func noticing(t *testing.T) (*site, *notifytest.Server) {
	t.Helper()
	mail := notifytest.Start(t, "starttls")
	w := servertest.New(t, func(c *charter.Charter) {
		for _, n := range []string{"alice", "bob"} {
			p := c.People[n]
			p.Email = n + "@acme.example"
			c.People[n] = p
		}
	})
	m, err := notify.NewMailer(notify.SMTP{Host: "localhost", Port: mail.Port, From: "seal@acme.example", TLS: "starttls", Roots: mail.Roots})
	if err != nil {
		t.Fatal(err)
	}
	return siteOf(t, w, func(c *api.Config) {
		c.Server, _ = w.Server(c.Store, func(sc *server.Config) {
			sc.Notices, err = notices.New(notices.Config{Store: c.Store.(*store.SQL), Mailer: m, Clock: w.Now, Defaults: notices.Preferences{Deliver: "immediate", At: "08:00", Zone: "UTC"}})
			if err != nil {
				t.Fatal(err)
			}
		})
	}), mail
}

// Everybody sets what is his own; a token sets nothing.
func TestNoticePreferences(t *testing.T) {
	s, mail := noticing(t)
	bob := s.as(t, "bob")
	got, err := bob.NoticeSettings(t.Context())
	if err != nil || got.Set || got.Deliver != "immediate" || len(got.Reached) != 1 || got.Reached[0] != "mail" {
		t.Errorf("%+v %v", got, err)
	}
	want := wire.NoticePreferences{Deliver: "daily", At: "08:30", Zone: "Europe/Berlin", QuietFrom: "20:00", QuietTo: "07:00", Ways: []string{"mail"}, Outcomes: true}
	if _, err := bob.SetNoticePreferences(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got, err = bob.NoticeSettings(t.Context()); err != nil || !got.Set || got.Zone != "Europe/Berlin" || !got.Outcomes {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := s.as(t, "alice").NoticeSettings(t.Context()); err != nil || got.Set {
		t.Errorf("alice has bob's: %+v %v", got, err)
	}
	bad := want
	bad.Zone = "Mars/Olympus"
	if _, err := bob.SetNoticePreferences(t.Context(), bad); code(err) != "malformed" {
		t.Errorf("a zone that is none: %v", err)
	}
	token := s.token(t, "bob", "read", "request")
	for _, path := range []string{"/v1/notices/preferences", "/v1/notices/test"} {
		a := s.raw(t, "POST", path, []byte(`{"deliver":"daily","at":"08:00","zone":"UTC"}`), "Authorization", "Bearer "+token, "Content-Type", "application/json")
		if a.StatusCode != 403 || a.Code != "session-wanted" {
			t.Errorf("%s with a token: %d %s", path, a.StatusCode, a.body)
		}
		if a := s.raw(t, "POST", path, []byte(`{}`), "Content-Type", "application/json"); a.StatusCode != 401 {
			t.Errorf("%s as nobody: %d", path, a.StatusCode)
		}
	}
	if _, err := s.as(t, "ci").NoticeSettings(t.Context()); code(err) != "not-a-person" {
		t.Errorf("a machine: %v", err)
	}
	if _, err := s.as(t, "carol").TestNotices(t.Context()); code(err) != "no-way" {
		t.Errorf("without an address: %v", err)
	}
	if ways, err := s.as(t, "alice").TestNotices(t.Context()); err != nil || len(ways) != 1 {
		t.Errorf("%v %v", ways, err)
	}
	if m := mail.Wait(1); m[0].To[0] != "alice@acme.example" {
		t.Errorf("%+v", m[0])
	}
}

// Who was told is for the requester, officers and administrators.
func TestTold(t *testing.T) {
	s, mail := noticing(t)
	items := s.Files("a", 1)
	env := s.Sign("alice", "release", items)
	v, err := s.as(t, "alice").Submit(t.Context(), env, items)
	if err != nil {
		t.Fatal(err)
	}
	mail.Wait(1)
	for _, who := range []string{"alice", "bob", "dave"} {
		list, err := s.as(t, who).Told(t.Context(), v.ID)
		if err != nil || len(list) != 3 { // bob by mail; carol and dave have no address
			t.Errorf("%s: %+v %v", who, list, err)
		}
		for _, x := range list {
			if x.Event != "request.pending" || (x.Recipient == "bob") != (x.Way == "mail") || strings.Contains(x.Error, "acme.example") {
				t.Errorf("%s: %+v", who, x)
			}
		}
	}
	if _, err := s.as(t, "ann").Told(t.Context(), v.ID); code(err) != "not-yours" {
		t.Errorf("ann: %v", err)
	}
	if _, err := newSite(t).as(t, "bob").NoticeSettings(t.Context()); code(err) != "notices-off" {
		t.Errorf("a server that tells nobody: %v", err)
	}
}
