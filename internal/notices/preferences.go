package notices

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/store"
)

// Preferences are how a person wants to be told. The zero value is not valid:
// [Engine.Preferences] gives the deployment's defaults to whoever has set none.
type Preferences struct {
	Deliver   string   `json:"deliver"`            // "immediate", "hourly", "daily"
	At        string   `json:"at"`                 // HH:MM of daily, in Zone
	Zone      string   `json:"zone"`               // "Europe/Berlin"
	QuietFrom string   `json:"quietFrom,omitzero"` // HH:MM in Zone; with QuietTo, or both empty
	QuietTo   string   `json:"quietTo,omitzero"`
	Ways      []string `json:"ways,omitzero"`     // of Ways; empty: all that there are
	Outcomes  bool     `json:"outcomes,omitzero"` // what became of requests that one has endorsed
}

// Ways lists how a person can be reached.
func Ways() []string { return []string{"mail", "chat"} }

// ErrPreferences is the error of preferences that cannot be.
var ErrPreferences = errors.New("notices: preferences")

// Check refuses preferences that cannot be.
func (p Preferences) Check() error {
	if p.Deliver == "" || p.At == "" || p.Zone == "" {
		return fmt.Errorf("%w: deliver, at and zone are wanted", ErrPreferences)
	}
	if _, err := (config.Digest{Deliver: p.Deliver, At: p.At, Zone: p.Zone}).Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrPreferences, err)
	}
	if p.QuietFrom != "" || p.QuietTo != "" {
		if _, _, err := (config.Quiet{From: p.QuietFrom, To: p.QuietTo}).Check(); err != nil {
			return fmt.Errorf("%w: quiet: %w", ErrPreferences, err)
		}
	}
	for i, w := range p.Ways {
		if !slices.Contains(Ways(), w) || slices.Contains(p.Ways[:i], w) {
			return fmt.Errorf("%w: ways: want mail and chat, each once", ErrPreferences)
		}
	}
	return nil
}

// zone is where the person is. Preferences that were checked have one; should the
// zone have gone since, it is UTC.
func (p Preferences) zone() *time.Location {
	if l, err := time.LoadLocation(p.Zone); err == nil {
		return l
	}
	return time.UTC
}

// next is when the digest after now is due. An hour that a change of clocks leaves
// out is the one after it.
func (p Preferences) next(now time.Time) time.Time {
	if p.Deliver == "hourly" {
		return now.Truncate(time.Hour).Add(time.Hour)
	}
	m, err := config.ClockTime(p.At)
	if err != nil {
		m = 8 * 60
	}
	l := now.In(p.zone())
	for d := 0; ; d++ {
		t := time.Date(l.Year(), l.Month(), l.Day()+d, m/60, m%60, 0, 0, l.Location())
		if t.After(now) {
			return t.UTC()
		}
	}
}

// after is when somebody may be told what happens at now: now, or the end of his
// quiet hours.
func (p Preferences) after(now time.Time) time.Time {
	from, to, err := (config.Quiet{From: p.QuietFrom, To: p.QuietTo}).Check()
	if err != nil {
		return now // none are set
	}
	l := now.In(p.zone())
	m := l.Hour()*60 + l.Minute()
	in, day := from <= m && m < to, 0
	if from > to {
		in = m >= from || m < to
		if m >= from {
			day = 1
		}
	}
	if !in {
		return now
	}
	return time.Date(l.Year(), l.Month(), l.Day()+day, to/60, to%60, 0, 0, l.Location()).UTC()
}

// Preferences returns a person's, or the defaults; set says which.
func (e *Engine) Preferences(ctx context.Context, person string) (p Preferences, set bool, err error) {
	b, err := e.c.Store.NoticePreferences(ctx, person)
	if errors.Is(err, store.ErrNotFound) {
		return e.c.Defaults, false, nil
	}
	if err != nil {
		return p, false, err
	}
	if err := json.Unmarshal(b, &p, json.RejectUnknownMembers(true)); err != nil || p.Check() != nil {
		e.c.Logger.Error("preferences in the database are none: the defaults hold", "person", person)
		return e.c.Defaults, false, nil
	}
	return p, true, nil
}

// SetPreferences keeps a person's.
func (e *Engine) SetPreferences(ctx context.Context, person string, p Preferences) error {
	if err := p.Check(); err != nil {
		return err
	}
	b, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("notices: preferences: %w", err)
	}
	return e.c.Store.SetNoticePreferences(ctx, person, b, e.now())
}
