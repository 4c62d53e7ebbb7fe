package store

import (
	"context"
	"time"
)

// Secret returns the secret that the replicas share under a name. The first to ask
// gives it its value.
func (s *SQL) Secret(ctx context.Context, name string, fresh []byte) ([]byte, error) {
	if _, err := s.exec(ctx, `INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, fresh); err != nil {
		return nil, err
	}
	var b []byte
	err := s.read.QueryRowContext(ctx, `SELECT value FROM secrets WHERE name = $1`, name).Scan(&b)
	return b, s.wrap(err)
}

// Once notes that something is used, until it expires; ErrExists when it was used
// before.
func (s *SQL) Once(ctx context.Context, hash [32]byte, expires, now time.Time) error {
	if _, err := s.exec(ctx, `DELETE FROM used WHERE expires < $1`, ms(now)); err != nil {
		return err
	}
	n, err := s.exec(ctx, `INSERT INTO used (hash, expires) VALUES ($1, $2) ON CONFLICT DO NOTHING`, hash[:], ms(expires))
	if err == nil && n == 0 {
		err = ErrExists
	}
	return err
}
