// Package audittest has stores for tests of what uses package audit, and the
// suite that every store of tiles must pass.
//
// The stores here are real in what they promise and nothing more: [Memory]
// forgets, [Dir] is a folder that a static web server could publish.
package audittest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
)

// Store keeps one log.
//
// Write is atomic and compares: unless the stored tree is batch.Old it stores
// nothing and returns an error that wraps audit.ErrConflict. Once it returned
// nil, Tree and ReadTiles show the batch. Of several writers of one tree exactly
// one succeeds. All methods may be called at once.
type Store interface {
	audit.TileReader
	// Tree is the stored tree, audit.EmptyTree at first.
	Tree(ctx context.Context) (audit.Tree, error)
	// Write stores a batch, all of it or nothing.
	Write(ctx context.Context, batch audit.Batch) error
}

// Serve publishes a store: it gives the function that audit.Client fetches with.
// The checkpoint is the caller's, for a store has no key.
func Serve(s Store, checkpoint func() []byte) func(ctx context.Context, path string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		if path == audit.CheckpointPath {
			return checkpoint(), nil
		}
		t, err := audit.ParseTilePath(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		data, err := s.ReadTiles(ctx, []tlog.Tile{t})
		if err != nil {
			return nil, err
		}
		return data[0], nil
	}
}

// Append integrates entries into a store.
func Append(ctx context.Context, s Store, entries ...[]byte) (audit.Tree, error) {
	old, err := s.Tree(ctx)
	if err != nil {
		return audit.Tree{}, err
	}
	b, err := audit.Integrate(ctx, s, old, entries)
	if err != nil {
		return audit.Tree{}, err
	}
	return b.Tree, s.Write(ctx, b)
}

type place struct {
	level int
	n     int64
}

type stored struct {
	w    int
	data []byte
}

// Memory is a store that keeps the widest form of each tile. The zero value is
// an empty log.
type Memory struct {
	mu    sync.RWMutex
	tree  *audit.Tree // nil: empty
	tiles map[place]stored
}

func (m *Memory) current() audit.Tree {
	if m.tree == nil {
		return audit.EmptyTree()
	}
	return *m.tree
}

// Tree implements Store.
func (m *Memory) Tree(ctx context.Context) (audit.Tree, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.current(), ctx.Err()
}

// ReadTiles implements Store.
func (m *Memory) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		s, ok := m.tiles[place{t.L, t.N}]
		if !ok || s.w < t.W {
			return nil, fmt.Errorf("audittest: %s: %w", audit.TilePath(t), fs.ErrNotExist)
		}
		data, err := audit.Narrow(t, s.data)
		if err != nil {
			return nil, err
		}
		out[i] = append([]byte(nil), data...)
	}
	return out, nil
}

// Write implements Store.
func (m *Memory) Write(ctx context.Context, b audit.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.current() != b.Old {
		return fmt.Errorf("audittest: write: %w", audit.ErrConflict)
	}
	if m.tiles == nil {
		m.tiles = make(map[place]stored)
	}
	for _, t := range b.Tiles {
		m.tiles[place{t.Tile.L, t.Tile.N}] = stored{t.Tile.W, t.Data}
	}
	for _, e := range b.Bundles {
		m.tiles[place{-1, e.Index}] = stored{e.W, e.Data}
	}
	tree := b.Tree
	m.tree = &tree
	return nil
}

// Dir is a store in a folder, in the layout in which a log is published. The
// file "tree.json" is its head and is replaced last: files beyond it are those
// of a write that did not end, and are overwritten before they count.
type Dir struct {
	root string
	mu   sync.Mutex
}

// NewDir opens or begins a log in a folder.
func NewDir(root string) *Dir { return &Dir{root: root} }

// Tree implements Store.
func (d *Dir) Tree(ctx context.Context) (audit.Tree, error) {
	if err := ctx.Err(); err != nil {
		return audit.Tree{}, err
	}
	data, err := os.ReadFile(filepath.Join(d.root, "tree.json"))
	if os.IsNotExist(err) {
		return audit.EmptyTree(), nil
	}
	if err != nil {
		return audit.Tree{}, err
	}
	var t audit.Tree
	return t, json.Unmarshal(data, &t)
}

// ReadTiles implements Store. It reads each tile in the width that the tree has
// and no other, for others may be left from a write that did not end.
func (d *Dir) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	tree, err := d.Tree(ctx)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		have := t
		have.W = int(min(tree.Size>>(audit.TileHeight*max(t.L, 0))-t.N*audit.TileWidth, audit.TileWidth))
		if have.W < t.W {
			return nil, fmt.Errorf("audittest: %s: %w", audit.TilePath(t), fs.ErrNotExist)
		}
		data, err := os.ReadFile(filepath.Join(d.root, filepath.FromSlash(audit.TilePath(have))))
		if err != nil {
			return nil, err
		}
		if out[i], err = audit.Narrow(t, data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Write implements Store.
func (d *Dir) Write(ctx context.Context, b audit.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, err := d.Tree(ctx)
	if err != nil {
		return err
	}
	if old != b.Old {
		return fmt.Errorf("audittest: write: %w", audit.ErrConflict)
	}
	for _, t := range b.Tiles {
		if err := d.Put(audit.TilePath(t.Tile), t.Data); err != nil {
			return err
		}
	}
	for _, e := range b.Bundles {
		if err := d.Put(audit.BundlePath(e.Index, e.W), e.Data); err != nil {
			return err
		}
	}
	head, err := json.Marshal(b.Tree)
	if err != nil {
		return err
	}
	return d.Put("tree.json", head)
}

// Put writes a file of the folder whole or not at all, the checkpoint say.
func (d *Dir) Put(path string, data []byte) error {
	name := filepath.Join(d.root, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
