package store

import (
	"context"
	"crypto/sha256"
	"time"
)

// CircleBundle is the newest that replicas have heard of one trusted side, for the
// others: each judges it for itself.
type CircleBundle struct {
	Root   [32]byte // ID of the side's first charter
	Digest [32]byte // SHA-256 of Bundle
	Bundle []byte   // package circle's; nil in a list
	At     time.Time
}

// CircleBundles keeps what replicas tell each other of the circle of trust. Whoever
// writes here by hand can withhold and add nothing: it is judged when it is read.
type CircleBundles interface {
	// PutCircleBundle replaces the bundle of a side whose digest is old; zero: there is
	// none. ErrConflict: another one is there meanwhile, and stays.
	PutCircleBundle(ctx context.Context, root, old [32]byte, bundle []byte, now time.Time) error
	// CircleBundle returns the bundle of a side; ErrNotFound.
	CircleBundle(ctx context.Context, root [32]byte) (*CircleBundle, error)
	// CircleBundles lists them without their bytes.
	CircleBundles(ctx context.Context) ([]CircleBundle, error)
}

var _ CircleBundles = (*SQL)(nil)

// PutCircleBundle replaces the bundle of a side whose digest is old.
func (s *SQL) PutCircleBundle(ctx context.Context, root, old [32]byte, bundle []byte, now time.Time) error {
	sum := sha256.Sum256(bundle)
	n, err := s.exec(ctx, `INSERT INTO circle_bundles (root, digest, bundle, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (root) DO UPDATE SET digest = excluded.digest, bundle = excluded.bundle, updated = excluded.updated WHERE circle_bundles.digest = $5`,
		root[:], sum[:], blob(bundle), ms(now), old[:])
	if err == nil && n == 0 {
		err = ErrConflict
	}
	return err
}

// CircleBundle returns the bundle of a side.
func (s *SQL) CircleBundle(ctx context.Context, root [32]byte) (*CircleBundle, error) {
	out, err := s.circleBundles(ctx, `SELECT root, digest, bundle, updated FROM circle_bundles WHERE root = $1`, root[:])
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, ErrNotFound
	}
	return &out[0], nil
}

// CircleBundles lists them without their bytes.
func (s *SQL) CircleBundles(ctx context.Context) ([]CircleBundle, error) {
	return s.circleBundles(ctx, `SELECT root, digest, NULL, updated FROM circle_bundles ORDER BY root`)
}

func (s *SQL) circleBundles(ctx context.Context, q string, args ...any) ([]CircleBundle, error) {
	rows, err := s.rows(ctx, q, args...)
	out, err := collect(rows, err, func(r scanner) (b CircleBundle, err error) {
		var root, digest []byte
		var t int64
		err = r.Scan(&root, &digest, &b.Bundle, &t)
		copy(b.Root[:], root)
		copy(b.Digest[:], digest)
		b.At = at(t)
		return b, err
	})
	return out, s.wrap(err)
}
