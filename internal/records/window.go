package records

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Window is a time of day, in UTC, in which a job may work. One that ends before it
// begins goes over midnight; one that begins and ends at the same time is all day.
type Window struct {
	Days  []time.Weekday `json:"days,omitzero"` // on which it begins; none: every day
	Start Clock          `json:"start"`
	End   Clock          `json:"end"`
}

// Clock is a time of day: minutes after midnight.
type Clock int

// ParseClock reads "22:30".
func ParseClock(s string) (Clock, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || t.Format("15:04") != s {
		return 0, fmt.Errorf("records: %.20q is not a time of day like 22:30", s)
	}
	return Clock(t.Hour()*60 + t.Minute()), nil
}

func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// MarshalText writes "22:30".
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads "22:30".
func (c *Clock) UnmarshalText(b []byte) (err error) {
	*c, err = ParseClock(string(b))
	return err
}

func (w *Window) check() error {
	if w.Start < 0 || w.Start >= 24*60 || w.End < 0 || w.End >= 24*60 {
		return errors.New("records: window: want times of day from 00:00 to 23:59")
	}
	for i, d := range w.Days {
		if d < time.Sunday || d > time.Saturday || slices.Contains(w.Days[:i], d) {
			return fmt.Errorf("records: window: day %d is wrong or stands twice", d)
		}
	}
	return nil
}

// span is the window that begins on the day of t.
func (w *Window) span(day time.Time) (from, to time.Time, ok bool) {
	if len(w.Days) > 0 && !slices.Contains(w.Days, day.Weekday()) {
		return from, to, false
	}
	from = day.Add(time.Duration(w.Start) * time.Minute)
	long := time.Duration(w.End-w.Start) * time.Minute
	if long <= 0 {
		long += 24 * time.Hour
	}
	return from, from.Add(long), true
}

// Open says whether now is in one of ws, and until when; if not, when the next
// begins. No windows: always open, and until is zero.
func Open(ws []Window, now time.Time) (open bool, until, next time.Time) {
	if len(ws) == 0 {
		return true, until, next
	}
	now = now.UTC()
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for d := -1; d <= 7; d++ { // yesterday's may go over midnight
		for i := range ws {
			from, to, ok := ws[i].span(today.AddDate(0, 0, d))
			switch {
			case !ok || !to.After(now):
			case !from.After(now):
				if open = true; to.After(until) {
					until = to
				}
			case next.IsZero() || from.Before(next):
				next = from
			}
		}
	}
	return open, until, next
}
