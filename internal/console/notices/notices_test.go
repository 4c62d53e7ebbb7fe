package notices_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	area "github.com/greatseal-io/greatseal/internal/console/notices"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/console/webtest"
	"github.com/greatseal-io/greatseal/internal/notices"
	"github.com/greatseal-io/greatseal/internal/notify"
	"github.com/greatseal-io/greatseal/internal/notify/notifytest"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
)

func bench(t *testing.T, mail *notifytest.Server) *webtest.Bench {
	t.Helper()
	o := webtest.Options{Charter: func(c *charter.Charter) {
		p := c.People["bob"]
		p.Email = "bob@acme.example"
		c.People["bob"] = p
	}}
	if mail != nil {
		m, err := notify.NewMailer(notify.SMTP{Host: "localhost", Port: mail.Port, From: "seal@acme.example", TLS: "starttls", Roots: mail.Roots})
		if err != nil {
			t.Fatal(err)
		}
		o.Server = func(c *server.Config) {
			c.Notices, err = notices.New(notices.Config{Store: c.Store.(*store.SQL), Mailer: m, Clock: c.Clock, Defaults: notices.Preferences{Deliver: "immediate", At: "08:00", Zone: "UTC"}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return webtest.New(t, o, func(b *webtest.Bench) []web.Area { return []web.Area{area.Area(b.Server)} })
}

func form() url.Values {
	return url.Values{"deliver": {"daily"}, "at": {"07:15"}, "zone": {"Europe/Berlin"}, "quiet_from": {"20:00"}, "quiet_to": {"06:00"}, "mail": {"on"}, "chat": {"on"}, "outcomes": {"on"}}
}

// Invariant 1: what is set is there, for the one who has set it.
func TestPreferences(t *testing.T) {
	b := bench(t, notifytest.Start(t, "starttls"))
	bob, carol := b.As("bob"), b.As("carol")
	if p := bob.Get("/console/notices").OK(); !strings.Contains(p.Body, "By mail.") || strings.Contains(p.Body, "acme.example") || !strings.Contains(p.Body, "defaults") {
		t.Errorf("bob's page:\n%s", p.Body)
	}
	if p := carol.Get("/console/notices").OK(); !strings.Contains(p.Body, "nowhere") {
		t.Error("carol is reached without an address")
	}
	if p := bob.Post("/console/notices", form()); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, p.Body)
	}
	p := bob.Get("/console/notices?saved=1").OK()
	for _, want := range []string{`value="07:15"`, `value="Europe/Berlin"`, `value="daily" selected`, `value="20:00"`, "saved"} {
		if !strings.Contains(p.Body, want) {
			t.Errorf("%s is missing:\n%s", want, p.Body)
		}
	}
	if p := carol.Get("/console/notices").OK(); strings.Contains(p.Body, "07:15") {
		t.Error("carol has bob's preferences")
	}
	for what, change := range map[string]func(url.Values){
		"zone":     func(f url.Values) { f.Set("zone", "../../etc/passwd") },
		"markup":   func(f url.Values) { f.Set("zone", "<script>alert(1)</script>") },
		"time":     func(f url.Values) { f.Set("at", "25:00") },
		"deliver":  func(f url.Values) { f.Set("deliver", "never") },
		"no way":   func(f url.Values) { f.Del("mail"); f.Del("chat") },
		"half":     func(f url.Values) { f.Del("quiet_to") },
		"all day":  func(f url.Values) { f.Set("quiet_to", "20:00") },
		"no times": func(f url.Values) { f.Del("at") },
	} {
		f := form()
		change(f)
		p := bob.Post("/console/notices", f)
		if p.Status != 422 || strings.Contains(p.Body, "<script>alert") {
			t.Errorf("%s: %d %s", what, p.Status, p.Body)
		}
		// What was typed is there still, and what was wrong with it.
		if !strings.Contains(p.Body, `name="quiet_from" type="time" value="20:00"`) || what != "deliver" && !strings.Contains(p.Body, `value="daily" selected`) || !strings.Contains(p.Body, `role="alert" id="refused"`) {
			t.Errorf("%s: the form has lost what was typed:\n%s", what, p.Body)
		}
	}
	if p := bob.Get("/console/notices").OK(); !strings.Contains(p.Body, "07:15") {
		t.Error("what was refused has changed something")
	}
}

// Invariant 2: the message comes to the charter's address, once a minute.
func TestTestMessage(t *testing.T) {
	mail := notifytest.Start(t, "starttls")
	b := bench(t, mail)
	bob := b.As("bob")
	if p := bob.Post("/console/notices/test", url.Values{"mail": {"eve@evil.example"}, "to": {"eve@evil.example"}}); p.Status != 303 {
		t.Fatalf("%d %s", p.Status, p.Body)
	}
	if m := mail.Wait(1)[0]; len(m.To) != 1 || m.To[0] != "bob@acme.example" || !m.TLS {
		t.Errorf("%+v", m)
	}
	if p := bob.Post("/console/notices/test", nil); p.Status != 429 && p.Status != 303 { // 303: another minute has begun
		t.Errorf("the second: %d", p.Status)
	}
	if p := b.As("carol").Post("/console/notices/test", nil); p.Status != 409 {
		t.Errorf("carol: %d", p.Status)
	}
	if p := b.As("auditor", web.Auditor).Get("/console/notices").OK(); !strings.Contains(p.Body, "not a person") {
		t.Error("an auditor is told")
	}
	if p := b.As("auditor", web.Auditor).Post("/console/notices", form()); p.Status != 403 {
		t.Errorf("an auditor sets: %d", p.Status)
	}
}

func TestOff(t *testing.T) {
	b := bench(t, nil)
	if p := b.As("bob").Get("/console/notices").OK(); !strings.Contains(p.Body, "nobody anything") {
		t.Error(p.Body)
	}
	if p := b.As("bob").Post("/console/notices", form()); p.Status != 404 {
		t.Errorf("%d", p.Status)
	}
}
