package instance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/statement"
)

// Circles is what an instance believes, and hands on: to other replicas through the
// database, to agents and other instances through the API. What comes from anywhere
// is judged by package circle.
type Circles struct {
	believed *circle.Circle
	store    store.CircleBundles
	roots    []statement.ID
	now      func() time.Time
	log      *slog.Logger

	news chan struct{} // something was taken up

	mu    sync.Mutex
	heard map[[32]byte]heard     // by root
	shown map[statement.ID]shown // by root
}

// heard is a bundle of the database that was judged.
type heard struct {
	digest [32]byte
	said   said      // zero: nothing that its side has signed
	again  time.Time // when it is judged again, because the reason may pass; zero: never
}

// hearAgain is how long a bundle is left alone that was refused for a reason that may
// pass: the clock's, or the disk's.
const hearAgain = 30 * time.Second

// Apply takes up a bundle from a file, an API or another server, and tells the other
// replicas. The error is a *rejection.Error when the bundle is refused.
func (c *Circles) Apply(ctx context.Context, b *circle.Bundle) error {
	if _, err := c.Bundle(b.Root); err != nil { // what is shown while the new one waits
		return err
	}
	if err := c.believed.Apply(ctx, b, c.now()); err != nil {
		return err
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
	return c.share(ctx, b.Root)
}

// pulled is Apply for what a side's server shows: a version is taken up also where
// its freshness has run out.
func (c *Circles) pulled(ctx context.Context, b *circle.Bundle) error {
	if err := c.take(ctx, b); err != nil {
		return err
	}
	return c.share(ctx, b.Root)
}

// share writes what is believed of a side to the database, where that says less. What
// another replica has written meanwhile is judged first: nothing newer is lost.
func (c *Circles) share(ctx context.Context, root statement.ID) error {
	for {
		own := c.believed.Bundle(root)
		if own == nil {
			return nil
		}
		says, err := read(own)
		if err != nil {
			return err
		}
		c.mu.Lock()
		old := c.heard[root]
		c.mu.Unlock()
		// Evidence of one statement may have several forms, and a side that says two
		// things says neither later: replicas that hold one each do not write in turns.
		if !says.more(old.said) {
			return nil
		}
		b, err := own.Encode()
		if err != nil {
			return err
		}
		err = c.store.PutCircleBundle(ctx, root, old.digest, b, c.now())
		if err == nil {
			c.mu.Lock()
			c.heard[root] = heard{digest: sha256.Sum256(b), said: says}
			c.mu.Unlock()
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := c.judge(ctx, root); err != nil {
			return err
		}
	}
}

func (c *Circles) bundle(root statement.ID) ([]byte, error) {
	b := c.believed.Bundle(root)
	if b == nil {
		return nil, nil
	}
	return b.Encode()
}

// Hear judges what other replicas have written since the last time. Where they are
// behind, they are told.
func (c *Circles) Hear(ctx context.Context) error {
	list, err := c.store.CircleBundles(ctx)
	if err != nil {
		return err
	}
	now := c.now()
	var errs []error
	for _, l := range list {
		if !slices.Contains(c.roots, statement.ID(l.Root)) {
			continue
		}
		c.mu.Lock()
		h, known := c.heard[l.Root]
		c.mu.Unlock()
		if wait := h.again.Sub(now); known && h.digest == l.Digest && (h.again.IsZero() || wait > 0 && wait <= hearAgain) {
			continue
		}
		err := c.judge(ctx, l.Root)
		if err == nil {
			err = c.share(ctx, l.Root)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// judge judges the bundle of a side in the database. That it is behind is no error.
func (c *Circles) judge(ctx context.Context, root statement.ID) error {
	got, err := c.store.CircleBundle(ctx, root)
	if err != nil {
		return err
	}
	b, err := circle.ReadBundle(bytes.NewReader(got.Bundle))
	switch {
	case err != nil:
	case b.Root != root, sha256.Sum256(got.Bundle) != got.Digest:
		err = rejection.New(rejection.SigMalformed, "", "a bundle of another side, or of another digest")
	default:
		err = c.take(ctx, b)
	}
	h := heard{digest: got.Digest}
	code := rejection.Code("")
	if r := rejection.Of(err); r != nil {
		code = r.Code
	}
	if err == nil || code == rejection.RevisionRollback || code == rejection.NotYetValid || code == rejection.TrustStoreStale { // its side signed it
		h.said, _ = read(b)
	}
	if err != nil && (code == "" || code == rejection.ClockBackwards || code == rejection.NotYetValid) {
		h.again = c.now().Add(hearAgain)
	}
	c.mu.Lock()
	c.heard[root] = h
	c.mu.Unlock()
	if code == rejection.RevisionRollback {
		if own, oerr := read(c.believed.Bundle(root)); oerr == nil && own.more(h.said) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("instance: a bundle of side %s in the database: %w", root, err)
	}
	return nil
}

// take takes up a bundle. A version stands without the freshness statement that came
// with it when that has run out: what it revokes is revoked.
func (c *Circles) take(ctx context.Context, b *circle.Bundle) error {
	err := c.believed.Apply(ctx, b, c.now())
	if r := rejection.Of(err); r == nil || r.Code != rejection.TrustStoreStale || b.Freshness == nil || len(b.Circles) == 0 {
		return err
	}
	version := *b
	version.Freshness = nil
	return c.believed.Apply(ctx, &version, c.now())
}

// said is what a bundle says, whatever proves it.
type said struct {
	version uint64
	fresh   time.Time
}

// read reads what was judged before.
func read(b *circle.Bundle) (s said, err error) {
	if b == nil || len(b.Circles) == 0 {
		return s, errors.New("instance: a bundle of no version")
	}
	env, err := circleformat.DecodeEnvelope(b.Circles[len(b.Circles)-1].Statement)
	if err != nil {
		return s, err
	}
	st, err := trust.Decode(env.Payload)
	if err != nil {
		return s, err
	}
	s.version = st.Version
	if b.Freshness == nil {
		return s, nil
	}
	if env, err = circleformat.DecodeEnvelope(b.Freshness.Statement); err != nil {
		return s, err
	}
	f, err := trust.DecodeFreshness(env.Payload)
	if err != nil {
		return s, err
	}
	s.fresh = f.At
	return s, nil
}

// more reports whether s is of a later version than o, or fresher.
func (s said) more(o said) bool {
	return s.version > o.version || s.version == o.version && s.fresh.After(o.fresh)
}

// Roots are the pinned sides, in their order.
func (c *Circles) Roots() []statement.ID { return c.roots }

// Status lists the sides.
func (c *Circles) Status() []circle.Status { return c.believed.Status(c.now()) }

// Trusted is what is believed now.
func (c *Circles) Trusted() (*circle.Trusted, error) { return c.believed.Trusted(c.now()) }

// Bundles implements ecc.Circles: what agents pull.
func (c *Circles) Bundles(context.Context) (bundles [][]byte, digest string, err error) {
	for _, r := range c.roots {
		b, err := c.Bundle(r)
		if err != nil {
			return nil, "", err
		}
		if b != nil {
			bundles = append(bundles, b)
		}
	}
	if t, err := c.believed.Trusted(c.now()); err == nil {
		d := t.Digest()
		digest = hex.EncodeToString(d[:])
	}
	return bundles, digest, nil
}
