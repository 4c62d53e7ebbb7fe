package instance

import (
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// withheld is how long a version is held back that nobody has said to be fresh.
const withheld = time.Minute

// shown is what was shown last of one side.
type shown struct {
	bundle []byte
	since  time.Time // a newer one is held back; zero: none is
}

// Bundle is what others are shown of one side, encoded; nil where nothing is known. A
// new version that asks for freshness is held back until there is a statement of it,
// for a minute at most: whoever took it up before would believe nothing meanwhile, and
// refuse every job.
func (c *Circles) Bundle(root statement.ID) ([]byte, error) {
	own := c.believed.Bundle(root)
	if own == nil {
		return nil, nil
	}
	b, err := own.Encode()
	if err != nil {
		return nil, err
	}
	now := c.now()
	waits := false
	for _, s := range c.believed.Status(now) {
		waits = waits || s.Root == root && s.Stale != nil && own.Freshness == nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shown == nil {
		c.shown = map[statement.ID]shown{}
	}
	last, ok := c.shown[root]
	if !waits {
		c.shown[root] = shown{bundle: b}
		return b, nil
	}
	if !ok {
		return b, nil
	}
	if last.since.IsZero() {
		last.since = now
		c.shown[root] = last
	}
	if held := now.Sub(last.since); held < 0 || held >= withheld {
		return b, nil
	}
	return last.bundle, nil
}
