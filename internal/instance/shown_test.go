package instance

import (
	"bytes"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/circletest"
)

// A new version is not shown before it is said to be fresh, while the one before is
// good: whoever pulled it would refuse every job meanwhile. After a minute it is shown
// as it is, because what it revokes is revoked.
func TestNewVersionIsShownWithItsFreshness(t *testing.T) {
	s := circletest.New(t)
	c := newReplica(t, newDatabase(t), s.Root, s.Now)
	must(t, c.Apply(t.Context(), s.Bundle(s.Publish())))
	shows := func() (version uint64, fresh bool) {
		t.Helper()
		b, err := c.Bundle(s.Root)
		must(t, err)
		x, err := circle.ReadBundle(bytes.NewReader(b))
		must(t, err)
		other := newReplica(t, newDatabase(t), s.Root, c.now)
		must(t, other.Apply(t.Context(), x))
		return other.version(), x.Freshness != nil
	}
	if v, fresh := shows(); v != 1 || !fresh {
		t.Fatalf("version %d is shown, fresh: %v", v, fresh)
	}
	must(t, c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Circles: []circle.Update{s.Publish()}}))
	if v, fresh := shows(); v != 1 || !fresh || c.version() != 2 {
		t.Fatalf("before it is fresh: version %d is shown, fresh: %v", v, fresh)
	}
	c.now = c.now.Add(withheld - time.Second)
	if v, _ := shows(); v != 1 {
		t.Fatalf("version %d is shown too early", v)
	}
	c.now = c.now.Add(time.Second)
	if v, fresh := shows(); v != 2 || fresh {
		t.Fatalf("after a minute: version %d is shown, fresh: %v", v, fresh)
	}
	f := s.Fresh(time.Hour)
	must(t, c.Apply(t.Context(), &circle.Bundle{Root: s.Root, Freshness: &f}))
	if v, fresh := shows(); v != 2 || !fresh {
		t.Fatalf("in the end: version %d is shown, fresh: %v", v, fresh)
	}
}
