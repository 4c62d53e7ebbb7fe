package circle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// saveEvery is how much of the time that passed may be lost from the state: a
// clock that was set back by less, across a restart, is not noticed.
const saveEvery = 10 * time.Minute

// side is one pinned side.
type side struct {
	root    statement.ID
	version *Version // nil: none yet
	fresh   *Fresh   // of that version; nil: none
}

// Circle holds what is known of the pinned sides. It is safe for concurrent use.
type Circle struct {
	store Store

	mu    sync.Mutex
	sides []*side   // in the order of the pins
	time  time.Time // the latest at which trust was given
	saved time.Time // what of it is in the store
}

// New reads what the store holds of the sides that are pinned by the IDs of their
// first charters. Their order counts: where two sides speak of one instance, the
// earlier is heard. What the store holds of other sides is forgotten with the
// next Save.
func New(ctx context.Context, store Store, roots ...statement.ID) (*Circle, error) {
	if len(roots) == 0 || len(roots) > MaxSides {
		return nil, fmt.Errorf("circle: %d pinned charters: want 1 to %d", len(roots), MaxSides)
	}
	c := &Circle{store: store}
	for i, r := range roots {
		if r.IsZero() || slices.Contains(roots[:i], r) {
			return nil, fmt.Errorf("circle: pinned charter %d is no ID or stands twice", i)
		}
		c.sides = append(c.sides, &side{root: r})
	}
	st, err := store.Load(ctx)
	if errors.Is(err, ErrNoState) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("circle: %w", err)
	}
	c.time, c.saved = st.Time, st.Time
	for _, s := range c.sides {
		kept, ok := st.Sides[s.root]
		if !ok {
			continue
		}
		if s.version, err = Judge(s.root, &kept.Circle); err != nil {
			return nil, fmt.Errorf("circle: stored version of %s: %w", s.root, err)
		}
		if kept.Freshness == nil {
			continue
		}
		if s.fresh, err = JudgeFreshness(s.root, kept.Freshness); err == nil {
			err = s.about(s.fresh)
		}
		if err != nil {
			return nil, fmt.Errorf("circle: stored freshness of %s: %w", s.root, err)
		}
	}
	return c, nil
}

// about wants a freshness statement to speak of the side's version.
func (s *side) about(f *Fresh) error {
	if s.version == nil || f.statement.Circle != s.version.id || f.statement.Version != s.version.statement.Version {
		return refuse(rejection.TrustStoreStale, fmt.Sprintf("version %d", f.statement.Version), "freshness of another version than the one that is known")
	}
	return nil
}

// backwards refuses a clock that is behind the time at which trust was given.
func (c *Circle) backwards(now time.Time) error {
	if now.Before(c.time.Add(-Skew)) {
		return refuse(rejection.ClockBackwards, "", fmt.Sprintf("the clock says %s: it was %s already", now.UTC().Format(time.RFC3339), c.time.Format(time.RFC3339)))
	}
	return nil
}

// Apply takes up what a side hands over, all of it or nothing. What is known
// already changes nothing; what is older than that is refused. The error is a
// [*rejection.Error], or the store's.
func (c *Circle) Apply(ctx context.Context, b *Bundle, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.backwards(now); err != nil {
		return err
	}
	if b == nil {
		return refuse(rejection.PayloadMalformed, "", "no bundle")
	}
	if err := b.check(); err != nil {
		return err
	}
	i := slices.IndexFunc(c.sides, func(s *side) bool { return s.root == b.Root })
	if i < 0 {
		return refuse(rejection.CertUntrusted, b.Root.String(), "is no pinned charter")
	}
	next := *c.sides[i]
	if err := next.circles(b.Circles, now); err != nil {
		return err
	}
	if next.version == nil {
		return refuse(rejection.TrustStoreStale, "", "freshness of a version that is not known")
	}
	if err := c.claims(i, next.version); err != nil {
		return err
	}
	if b.Freshness != nil {
		if err := next.refresh(b.Freshness, now); err != nil {
			return err
		}
	}
	sides := slices.Clone(c.sides)
	sides[i] = &next
	at := later(c.time, statement.Seconds(next.version.at))
	if err := c.save(ctx, sides, at); err != nil {
		return err
	}
	c.sides, c.time = sides, at
	return nil
}

// circles takes versions up, in their order.
func (s *side) circles(updates []Update, now time.Time) error {
	newest := uint64(0)
	for i := range updates {
		v, err := Judge(s.root, &updates[i])
		if err != nil {
			return err
		}
		n := v.statement.Version
		if n <= newest {
			return refuse(rejection.PayloadMalformed, "", "versions of a bundle that are not in order")
		}
		newest = n
		if err := s.step(v); err != nil {
			return err
		}
	}
	if len(updates) == 0 {
		return nil
	}
	if newest < s.version.statement.Version {
		return refuse(rejection.RevisionRollback, fmt.Sprintf("version %d", newest), fmt.Sprintf("version %d is known", s.version.statement.Version))
	}
	return s.version.timely(now)
}

// step takes v for the newest where it is newer. One that is older says only how
// the newest came about.
func (s *side) step(v *Version) error {
	known := s.version
	if known == nil {
		s.version, s.fresh = v, nil
		return nil
	}
	a, b := known.statement, v.statement
	name := fmt.Sprintf("version %d", b.Version)
	switch {
	case b.Version < a.Version:
		return nil
	case b.Version == a.Version && v.id != known.id:
		return refuse(rejection.RevisionRollback, name, "is known with other content: the side says two things")
	case b.Version == a.Version:
		return nil
	case b.Version == a.Version+1 && b.Previous != known.id:
		return refuse(rejection.RevisionRollback, name, "does not follow the version that is known")
	case v.charter.Version < known.charter.Version, v.charter.Version == known.charter.Version && v.charter.ID != known.charter.ID:
		return refuse(rejection.RevisionRollback, name, "was agreed to under an older charter than the version that is known")
	case v.at.Before(known.at):
		return refuse(rejection.RevisionRollback, name, "was signed before the version that is known")
	}
	s.version, s.fresh = v, nil
	return nil
}

// timely refuses a version that has expired, or that was signed in the future.
func (v *Version) timely(now time.Time) error {
	name := fmt.Sprintf("version %d", v.statement.Version)
	switch {
	case v.at.After(now.Add(Skew)), v.statement.Created.After(now.Add(Skew)):
		return refuse(rejection.NotYetValid, name, "was signed later than the clock says")
	case !now.Before(v.statement.Expires):
		return refuse(rejection.TrustStoreStale, name, "expired at "+v.statement.Expires.Format(time.RFC3339))
	}
	return nil
}

// claims refuses a version in which a side takes an instance for its own that a
// side pinned earlier speaks for.
func (c *Circle) claims(i int, v *Version) error {
	for _, other := range c.sides[:i] {
		if other.version == nil {
			continue
		}
		for n, x := range v.statement.Instances {
			if y, ok := other.version.statement.Instances[n]; ok && (x.Role == trust.Trusted || y.Role == trust.Trusted) {
				return refuse(rejection.CertUntrusted, n, "is an instance of a side that is pinned before")
			}
		}
	}
	return nil
}

// refresh takes a freshness statement up.
func (s *side) refresh(u *Update, now time.Time) error {
	f, err := JudgeFreshness(s.root, u)
	if err != nil {
		return err
	}
	if err := s.about(f); err != nil {
		return err
	}
	if k := s.fresh; k != nil && f.statement.At.Before(k.statement.At) {
		return refuse(rejection.RevisionRollback, "freshness", "is older than the one that is known")
	}
	if err := f.timely(s.version, now); err != nil {
		return err
	}
	s.fresh = f
	return nil
}

// until is when a freshness statement stops to count: when it says, or when it is
// as old as the version lets it become.
func (f *Fresh) until(v *Version) time.Time {
	end := f.statement.Expires
	if most := v.statement.Freshness; most > 0 {
		if t := f.statement.At.Add(time.Duration(most) * time.Second); t.Before(end) {
			return t
		}
	}
	return end
}

func (f *Fresh) timely(v *Version, now time.Time) error {
	switch {
	case f.statement.At.After(now.Add(Skew)), f.at.After(now.Add(Skew)):
		return refuse(rejection.NotYetValid, "freshness", "was signed later than the clock says")
	case !now.Before(f.until(v)):
		return refuse(rejection.TrustStoreStale, "freshness", "expired at "+f.until(v).Format(time.RFC3339))
	}
	return nil
}

// current is nil where the side is believed now.
func (s *side) current(now time.Time) error {
	if s.version == nil {
		return refuse(rejection.TrustStoreStale, s.root.String(), "nothing is known of the side")
	}
	if err := s.version.timely(now); err != nil {
		return err
	}
	if s.version.statement.Freshness == 0 {
		return nil
	}
	if s.fresh == nil {
		return refuse(rejection.TrustStoreStale, "freshness", "there is none of the version that is known")
	}
	return s.fresh.timely(s.version, now)
}

// Trusted is what is believed now. It fails where no side is current, or where
// the clock went back, or where the time cannot be kept. The error is a
// [*rejection.Error], or the store's.
func (c *Circle) Trusted(now time.Time) (*Trusted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.backwards(now); err != nil {
		return nil, err
	}
	t := newTrusted(c.sides, now)
	if len(t.current) == 0 {
		return nil, c.sides[0].current(now)
	}
	// The time is kept only where trust was given, so that a clock which was wrong
	// by years for a moment does not end all trust until then.
	at := later(c.time, statement.Seconds(now))
	if at.Sub(c.saved) >= saveEvery {
		if err := c.save(context.Background(), c.sides, at); err != nil {
			return nil, err
		}
	}
	c.time = at
	return t, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (c *Circle) save(ctx context.Context, sides []*side, at time.Time) error {
	st := &State{Sides: map[statement.ID]Side{}, Time: at}
	for _, s := range sides {
		if s.version == nil {
			continue
		}
		kept := Side{Circle: *s.version.update}
		if s.fresh != nil {
			kept.Freshness = s.fresh.update
		}
		st.Sides[s.root] = kept
	}
	if err := c.store.Save(ctx, st); err != nil {
		return fmt.Errorf("circle: %w", err)
	}
	c.saved = at
	return nil
}

// Bundle is what is known of a side, to hand on; nil where nothing is.
func (c *Circle) Bundle(root statement.ID) *Bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sides {
		if s.root != root || s.version == nil {
			continue
		}
		b := &Bundle{Root: root, Circles: []Update{*s.version.update}}
		if s.fresh != nil {
			b.Freshness = s.fresh.update
		}
		return b
	}
	return nil
}
