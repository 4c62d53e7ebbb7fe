package instance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/circle"
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

	mu    sync.Mutex
	heard map[[32]byte][32]byte // digests of the bundles of the database that were judged, by root
}

// Apply takes up a bundle from a file, an API or another server, and tells the other
// replicas. The error is a *rejection.Error when the bundle is refused.
func (c *Circles) Apply(ctx context.Context, b *circle.Bundle) error {
	if err := c.believed.Apply(ctx, b, c.now()); err != nil {
		return err
	}
	return c.share(ctx, b.Root)
}

// share writes what is believed of a side to the database, when it is another.
func (c *Circles) share(ctx context.Context, root statement.ID) error {
	b, err := c.bundle(root)
	if err != nil || b == nil {
		return err
	}
	sum := sha256.Sum256(b)
	c.mu.Lock()
	same := c.heard[root] == sum
	c.mu.Unlock()
	if same {
		return nil
	}
	if err := c.store.PutCircleBundle(ctx, root, b, c.now()); err != nil {
		return err
	}
	c.mu.Lock()
	c.heard[root] = sum
	c.mu.Unlock()
	return nil
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
	var errs []error
	for _, l := range list {
		c.mu.Lock()
		known := c.heard[l.Root] == l.Digest
		c.mu.Unlock()
		if !known {
			errs = append(errs, c.hear(ctx, l.Root))
		}
	}
	return errors.Join(errs...)
}

func (c *Circles) hear(ctx context.Context, root statement.ID) error {
	got, err := c.store.CircleBundle(ctx, root)
	if err != nil {
		return err
	}
	b, err := circle.ReadBundle(bytes.NewReader(got.Bundle))
	if err == nil && b.Root != root {
		err = rejection.New(rejection.SigMalformed, "", "a bundle of another side")
	}
	if err == nil {
		err = c.believed.Apply(ctx, b, c.now())
	}
	c.mu.Lock()
	c.heard[root] = sha256.Sum256(got.Bundle)
	c.mu.Unlock()
	switch r := rejection.Of(err); {
	case err == nil, r != nil && r.Code == rejection.RevisionRollback:
		return c.share(ctx, root) // nothing to do when it is the same
	case r != nil:
		return fmt.Errorf("instance: a bundle of side %s in the database: %w", root, err)
	}
	return err
}

// Bundle is what is known of one side, encoded; nil where nothing is.
func (c *Circles) Bundle(root statement.ID) ([]byte, error) { return c.bundle(root) }

// Roots are the pinned sides, in their order.
func (c *Circles) Roots() []statement.ID { return c.roots }

// Status lists the sides.
func (c *Circles) Status() []circle.Status { return c.believed.Status(c.now()) }

// Trusted is what is believed now.
func (c *Circles) Trusted() (*circle.Trusted, error) { return c.believed.Trusted(c.now()) }

// Bundles implements ecc.Circles: what agents pull.
func (c *Circles) Bundles(context.Context) (bundles [][]byte, digest string, err error) {
	for _, r := range c.roots {
		b, err := c.bundle(r)
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
