package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"time"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/record"
)

// Believed is what an agent believes at one time.
type Believed struct {
	Digest      [sha256.Size]byte
	RuntimeKeys []crypto.PublicKey // of the protected instance: they sign orders
	Records     *record.Trust      // for verifying records
}

// Belief is an agent's own circle of trust. Its refusals are *rejection.Error.
type Belief interface {
	// Apply takes up a bundle (circle.Bundle, encoded).
	Apply(ctx context.Context, bundle []byte, now time.Time) error
	// At is what is believed of a protected instance now.
	At(instance string, now time.Time) (*Believed, error)
	// Until is when that ends when nothing newer arrives; zero: nothing is believed.
	Until(now time.Time) time.Time
}

// NewBelief is the Belief of a circle.
func NewBelief(c *circle.Circle) Belief { return circleBelief{c} }

type circleBelief struct{ c *circle.Circle }

func (b circleBelief) Apply(ctx context.Context, bundle []byte, now time.Time) error {
	x, err := circle.ReadBundle(bytes.NewReader(bundle))
	if err != nil {
		return err
	}
	return b.c.Apply(ctx, x, now)
}

func (b circleBelief) At(instance string, now time.Time) (*Believed, error) {
	t, err := b.c.Trusted(now)
	if err != nil {
		return nil, err
	}
	return &Believed{Digest: t.Digest(), RuntimeKeys: t.RuntimeKeys(instance), Records: t.Records(instance)}, nil
}

func (b circleBelief) Until(now time.Time) time.Time {
	var out time.Time
	for _, s := range b.c.Status(now) {
		if !s.Known || s.Stale != nil {
			continue
		}
		until := s.Expires
		if !s.FreshUntil.IsZero() && s.FreshUntil.Before(until) {
			until = s.FreshUntil
		}
		if out.IsZero() || until.Before(out) {
			out = until
		}
	}
	return out
}
