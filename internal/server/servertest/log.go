package servertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/verify"
)

// LogSource is the log of a database as a stranger reads it, without a server in
// between.
func LogSource(s store.Store, founding []byte) verify.LogSource {
	missing := func(err error) error {
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return err
	}
	return verify.LogSource{Founding: founding,
		Fetch: func(ctx context.Context, path string) ([]byte, error) {
			if path == audit.CheckpointPath {
				h, err := s.Head(ctx)
				if err != nil {
					return nil, err
				}
				return h.Note, nil
			}
			t, err := audit.ParseTilePath(path)
			if err != nil {
				return nil, err
			}
			if t.L < 0 {
				b, err := s.ReadBundle(ctx, t.N, t.W)
				return b, missing(err)
			}
			out, err := s.ReadTiles(ctx, []tlog.Tile{t})
			if err != nil {
				return nil, missing(err)
			}
			return slices.Clone(out[0]), nil
		},
		Body: func(ctx context.Context, sum [32]byte, _ int64) ([]byte, error) {
			b, err := s.Body(ctx, sum)
			return b, missing(err)
		},
	}
}
