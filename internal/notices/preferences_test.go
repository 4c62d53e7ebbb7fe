package notices

import (
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return x.UTC()
}

func TestNextDigest(t *testing.T) {
	for _, c := range []struct{ deliver, clock, zone, now, want string }{
		{"hourly", "08:00", "UTC", "2026-11-22T08:00:00Z", "2026-11-22T09:00:00Z"},
		{"hourly", "08:00", "UTC", "2026-11-22T08:59:59Z", "2026-11-22T09:00:00Z"},
		{"daily", "08:30", "UTC", "2026-11-22T08:29:59Z", "2026-11-22T08:30:00Z"},
		{"daily", "08:30", "UTC", "2026-11-22T08:30:00Z", "2026-11-23T08:30:00Z"},
		{"daily", "08:30", "Europe/Berlin", "2026-11-22T07:00:00Z", "2026-11-22T07:30:00Z"},
		{"daily", "00:15", "Asia/Tokyo", "2026-11-22T15:00:00Z", "2026-11-22T15:15:00Z"},
		{"daily", "08:00", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T07:00:00Z"}, // clocks go back that night
		{"daily", "02:30", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"}, // an hour that there is not
		{"daily", "08:00", "America/New_York", "2026-12-31T23:59:00Z", "2027-01-01T13:00:00Z"},
	} {
		p := Preferences{Deliver: c.deliver, At: c.clock, Zone: c.zone}
		if got := p.next(at(t, c.now)); !got.Equal(at(t, c.want)) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestQuiet(t *testing.T) {
	for _, c := range []struct{ from, to, now, want string }{
		{"", "", "2026-11-22T03:00:00Z", "2026-11-22T03:00:00Z"},
		{"20:00", "07:00", "2026-11-22T19:59:59Z", "2026-11-22T19:59:59Z"},
		{"20:00", "07:00", "2026-11-22T20:00:00Z", "2026-11-23T07:00:00Z"},
		{"20:00", "07:00", "2026-11-22T03:00:00Z", "2026-11-22T07:00:00Z"},
		{"20:00", "07:00", "2026-11-22T07:00:00Z", "2026-11-22T07:00:00Z"},
		{"12:00", "13:00", "2026-11-22T12:30:00Z", "2026-11-22T13:00:00Z"},
		{"12:00", "13:00", "2026-11-22T13:00:00Z", "2026-11-22T13:00:00Z"},
	} {
		p := Preferences{Zone: "UTC", QuietFrom: c.from, QuietTo: c.to}
		if got := p.after(at(t, c.now)); !got.Equal(at(t, c.want)) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestPreferencesCheck(t *testing.T) {
	good := Preferences{Deliver: "daily", At: "08:30", Zone: "Europe/Berlin", QuietFrom: "20:00", QuietTo: "07:00", Ways: []string{"mail"}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Preferences){
		"deliver": func(p *Preferences) { p.Deliver = "weekly" }, "nothing": func(p *Preferences) { *p = Preferences{} }, "time": func(p *Preferences) { p.At = "8:30" },
		"zone": func(p *Preferences) { p.Zone = "Local" }, "path": func(p *Preferences) { p.Zone = "../passwd" }, "half": func(p *Preferences) { p.QuietTo = "" },
		"day": func(p *Preferences) { p.QuietTo = p.QuietFrom }, "way": func(p *Preferences) { p.Ways = []string{"pigeon"} }, "twice": func(p *Preferences) { p.Ways = []string{"mail", "mail"} },
	} {
		p := good
		change(&p)
		if p.Check() == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
