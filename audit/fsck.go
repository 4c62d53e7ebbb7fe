package audit

import (
	"bytes"
	"context"
	"fmt"
	"runtime"

	"golang.org/x/mod/sumdb/tlog"
)

// Fsck checks a whole log: it recomputes the tree from the entry bundles, on
// all cores, compares every published tile with it, and the root with the head.
// It does not decode entries. Memory is constant.
func (c *Client) Fsck(ctx context.Context, head Head) error {
	if err := c.mine(head); err != nil {
		return err
	}
	size := head.Size()
	bundles := (size + TileWidth - 1) / TileWidth

	f := newFrontier(0)
	f.full = func(t tlog.Tile, data []byte) error { return c.compare(ctx, t, data) }
	work := func(ctx context.Context, n int64) ([]byte, error) {
		w := int(min(size-n*TileWidth, TileWidth))
		_, leaves, err := c.leaves(ctx, n, w)
		if err != nil {
			return nil, err
		}
		if err := c.compare(ctx, tlog.Tile{H: TileHeight, L: 0, N: n, W: w}, leaves); err != nil {
			return nil, err
		}
		if w < TileWidth {
			return leaves, nil
		}
		h := subtree(leaves)
		return h[:], nil
	}
	err := ordered(ctx, 2*runtime.GOMAXPROCS(0), 0, bundles, work, func(n int64, data []byte) (bool, error) {
		if size-n*TileWidth >= TileWidth {
			return true, f.push(1, tlog.Hash(data)) // level 0 was compared where it was hashed
		}
		f.edge[0] = data
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, t := range f.partial() {
		if err := c.compare(ctx, t.Tile, t.Data); err != nil {
			return err
		}
	}
	if f.root() != head.tree.Root {
		return fmt.Errorf("audit: recomputed tree of size %d: %w", size, ErrInconsistent)
	}
	return nil
}

// compare holds a published tile against what it should be.
func (c *Client) compare(ctx context.Context, t tlog.Tile, want []byte) error {
	got, err := c.tile(ctx, t)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("audit: %s: %w", TilePath(t), ErrInconsistent)
	}
	return nil
}
