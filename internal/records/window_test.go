package records

import (
	"encoding/json/v2"
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s) // 2026-11-20 is a Friday
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := []Window{{Start: 22 * 60, End: 6 * 60}}
	friday := []Window{{Days: []time.Weekday{time.Friday}, Start: 22 * 60, End: 6 * 60}}
	two := []Window{{Start: 60, End: 120}, {Start: 100, End: 180}}
	for _, c := range []struct {
		name        string
		ws          []Window
		now         string
		open        bool
		until, next string
	}{
		{"always", nil, "2026-11-20 12:00", true, "", ""},
		{"before", night, "2026-11-20 21:59", false, "", "2026-11-20 22:00"},
		{"at its start", night, "2026-11-20 22:00", true, "2026-11-21 06:00", "2026-11-21 22:00"},
		{"after midnight", night, "2026-11-20 03:00", true, "2026-11-20 06:00", "2026-11-20 22:00"},
		{"at its end", night, "2026-11-20 06:00", false, "", "2026-11-20 22:00"},
		{"the night from friday", friday, "2026-11-21 05:59", true, "2026-11-21 06:00", "2026-11-27 22:00"},
		{"the night from thursday", friday, "2026-11-20 05:59", false, "", "2026-11-20 22:00"},
		{"next week", friday, "2026-11-21 06:00", false, "", "2026-11-27 22:00"},
		{"two that overlap", two, "2026-11-20 01:50", true, "2026-11-20 03:00", "2026-11-21 01:00"},
		{"all day", []Window{{Start: 0, End: 0}}, "2026-11-20 00:00", true, "2026-11-21 00:00", "2026-11-21 00:00"},
	} {
		open, until, next := Open(c.ws, at(c.now))
		show := func(v time.Time) string {
			if v.IsZero() {
				return ""
			}
			return v.Format("2006-01-02 15:04")
		}
		if open != c.open || show(until) != c.until || show(next) != c.next {
			t.Errorf("%s: open %v until %q, next %q", c.name, open, show(until), show(next))
		}
	}
	// Times are UTC, wherever the clock is.
	if open, _, _ := Open(night, at("2026-11-20 23:00").In(time.FixedZone("", -8*3600))); !open {
		t.Error("another zone moves the window")
	}
}

func TestWindowEncoding(t *testing.T) {
	w := Window{Days: []time.Weekday{5}, Start: 22*60 + 30, End: 6 * 60}
	b, err := json.Marshal(w)
	if err != nil || string(b) != `{"days":[5],"start":"22:30","end":"06:00"}` {
		t.Fatalf("%s, %v", b, err)
	}
	for _, s := range []string{`{"start":"24:00","end":"00:00"}`, `{"start":"2:00","end":"00:00"}`, `{"start":"","end":"00:00"}`} {
		if err := json.Unmarshal([]byte(s), &w); err == nil {
			t.Errorf("%s was read", s)
		}
	}
	if (&Window{Days: []time.Weekday{1, 1}}).check() == nil || (&Window{Days: []time.Weekday{9}}).check() == nil {
		t.Error("days that are none were accepted")
	}
}
