package audit

import (
	"context"
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// TileReader reads the tiles of one log.
//
// ReadTiles returns the data of each tile asked for, in order: the first W
// hashes of the tile, 32 bytes each, or with level -1 the first W entries of
// the bundle. Any stored width of at least W will do ([Narrow]). A tile that
// the log does not have is an error that wraps fs.ErrNotExist. The data is the
// caller's to keep.
//
// Within a transaction that writes a [Batch], reads see what it wrote.
type TileReader interface {
	ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error)
}

// Tile is a tile and its data: W hashes of 32 bytes.
type Tile struct {
	Tile tlog.Tile
	Data []byte
}

// Batch is what must be stored, all of it or nothing, for a log to go from one
// tree to the next.
type Batch struct {
	Old  Tree // the stored tree must be this one, else ErrConflict
	Tree Tree // the tree afterwards

	// Tiles are the tiles that became full and the new partial tiles of the
	// right edge. A partial tile may take the place of a narrower one.
	Tiles []Tile
	// Bundles are the entry bundles that became full and the partial last one.
	Bundles []Bundle
	// Leaves are the hashes of the new entries; the first is that of entry
	// Old.Size.
	Leaves []tlog.Hash
}

// Integrate appends entries to a log. It reads the partial tiles of the right
// edge (at most one a level) and the partial last bundle, checks them against
// the old root, and returns what to store. It stores nothing.
//
// Entries are bytes here; a caller appends what [Entry.Encode] made. No entries
// give a batch that changes nothing.
func Integrate(ctx context.Context, r TileReader, old Tree, entries [][]byte) (Batch, error) {
	if old.Size < 0 || old.Size > MaxSize || int64(len(entries)) > MaxSize-old.Size {
		return Batch{}, fmt.Errorf("audit: integrate %d entries into %d: %w", len(entries), old.Size, ErrLimit)
	}
	f, bundle, err := readEdge(ctx, r, old)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{Old: old, Leaves: make([]tlog.Hash, 0, len(entries))}
	f.full = func(t tlog.Tile, data []byte) error {
		b.Tiles = append(b.Tiles, Tile{t, data})
		return nil
	}
	var buf []byte
	for i, e := range entries {
		if bundle, err = AppendBundle(bundle, e); err != nil {
			return Batch{}, fmt.Errorf("entry %d of the batch: %w", i, err)
		}
		var h tlog.Hash
		h, buf = leafHash(buf, e)
		b.Leaves = append(b.Leaves, h)
		if err := f.push(0, h); err != nil {
			return Batch{}, err
		}
		if size := old.Size + int64(i) + 1; size%TileWidth == 0 {
			b.Bundles = append(b.Bundles, Bundle{size/TileWidth - 1, TileWidth, bundle})
			bundle = make([]byte, 0, len(bundle))
		}
	}
	b.Tree = Tree{old.Size + int64(len(entries)), f.root()}
	if w := int(b.Tree.Size % TileWidth); w > 0 && len(entries) > 0 {
		b.Bundles = append(b.Bundles, Bundle{b.Tree.Size / TileWidth, w, bundle})
	}
	b.Tiles = append(b.Tiles, f.partial()...)
	return b, nil
}

// readEdge reads and checks the right edge of a tree: its partial tiles and its
// partial bundle.
func readEdge(ctx context.Context, r TileReader, t Tree) (*frontier, []byte, error) {
	tiles := edgeTiles(t.Size)
	w := int(t.Size % TileWidth)
	if w > 0 {
		tiles = append(tiles, BundleTile(t.Size/TileWidth, w))
	}
	data, err := readTiles(ctx, r, tiles)
	if err != nil {
		return nil, nil, fmt.Errorf("audit: right edge of the tree of size %d: %w", t.Size, err)
	}
	f := newFrontier(t.Size)
	for i, tile := range tiles {
		if tile.L >= 0 {
			f.edge[tile.L] = append(f.edge[tile.L], data[i]...)
		}
	}
	if f.root() != t.Root {
		return nil, nil, fmt.Errorf("audit: right edge of the tree of size %d: %w", t.Size, ErrInconsistent)
	}
	if w == 0 {
		return f, nil, nil
	}
	bundle := data[len(data)-1]
	entries, err := ParseBundle(bundle, w)
	if err != nil {
		return nil, nil, err
	}
	var buf []byte
	for i, e := range entries {
		var h tlog.Hash
		if h, buf = leafHash(buf, e); h != hashAt(f.edge[0], i) {
			return nil, nil, fmt.Errorf("audit: entry %d: %w", t.Size-int64(w-i), ErrInconsistent)
		}
	}
	return f, append(make([]byte, 0, 2*len(bundle)), bundle...), nil
}

// edgeTiles names the partial tiles of a tree, lowest level first. They
// determine its root, for a full tile is one hash of the level above.
func edgeTiles(size int64) []tlog.Tile {
	var tiles []tlog.Tile
	for l := 0; size > 0; l, size = l+1, size/TileWidth {
		if w := int(size % TileWidth); w > 0 {
			tiles = append(tiles, tlog.Tile{H: TileHeight, L: l, N: size / TileWidth, W: w})
		}
	}
	return tiles
}

// readTiles reads tiles and holds the reader to its contract.
func readTiles(ctx context.Context, r TileReader, tiles []tlog.Tile) ([][]byte, error) {
	if len(tiles) == 0 {
		return nil, nil
	}
	data, err := r.ReadTiles(ctx, tiles)
	if err != nil {
		return nil, err
	}
	if len(data) != len(tiles) {
		return nil, fmt.Errorf("reader gave %d tiles of %d: %w", len(data), len(tiles), ErrMalformed)
	}
	for i, t := range tiles {
		if t.L >= 0 && len(data[i]) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("reader gave %d bytes for %s: %w", len(data[i]), TilePath(t), ErrMalformed)
		}
	}
	return data, nil
}

// frontier is the right edge of a growing tree: for each level the hashes of
// its partial tile. Pushing 256 hashes makes a full tile and one hash above.
type frontier struct {
	edge    [MaxLevel + 1][]byte
	tiles   [MaxLevel + 1]int64 // full tiles so far
	touched [MaxLevel + 1]bool
	full    func(t tlog.Tile, data []byte) error // takes each tile that becomes full
}

func newFrontier(size int64) *frontier {
	f := new(frontier)
	for l := range f.tiles {
		size /= TileWidth
		f.tiles[l] = size
	}
	return f
}

func (f *frontier) push(level int, h tlog.Hash) error {
	if f.edge[level] == nil {
		f.edge[level] = make([]byte, 0, TileWidth*tlog.HashSize)
	}
	f.edge[level] = append(f.edge[level], h[:]...)
	f.touched[level] = true
	if len(f.edge[level]) < TileWidth*tlog.HashSize {
		return nil
	}
	data := f.edge[level]
	f.edge[level] = nil
	t := tlog.Tile{H: TileHeight, L: level, N: f.tiles[level], W: TileWidth}
	f.tiles[level]++
	if f.full != nil {
		if err := f.full(t, data); err != nil {
			return err
		}
	}
	return f.push(level+1, subtree(data)) // MaxSize ends before MaxLevel is full
}

// partial gives the partial tiles that have grown.
func (f *frontier) partial() []Tile {
	var tiles []Tile
	for l, data := range f.edge {
		if f.touched[l] && len(data) > 0 {
			t := tlog.Tile{H: TileHeight, L: l, N: f.tiles[l], W: len(data) / tlog.HashSize}
			tiles = append(tiles, Tile{t, data})
		}
	}
	return tiles
}

// root folds the complete subtrees of the edge from the right, which is what
// RFC 6962's largest power of two below n amounts to.
func (f *frontier) root() tlog.Hash {
	var acc tlog.Hash
	empty := true
	for _, data := range f.edge {
		end := len(data) / tlog.HashSize
		for bit := 1; end > 0; bit <<= 1 {
			if end&bit == 0 {
				continue
			}
			h := subtree(data[(end-bit)*tlog.HashSize : end*tlog.HashSize])
			if end -= bit; empty {
				acc, empty = h, false
			} else {
				acc = tlog.NodeHash(h, acc)
			}
		}
	}
	if empty {
		return EmptyTree().Root
	}
	return acc
}

// subtree is the root over 2^k hashes, k ≤ 8.
func subtree(data []byte) tlog.Hash {
	var level [TileWidth]tlog.Hash
	n := len(data) / tlog.HashSize
	for i := range n {
		level[i] = hashAt(data, i)
	}
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
	}
	return level[0]
}

func hashAt(data []byte, i int) tlog.Hash {
	return tlog.Hash(data[i*tlog.HashSize : (i+1)*tlog.HashSize])
}

// leafHash is LeafHash without an allocation: it assembles its input in buf and
// returns buf for the next call.
func leafHash(buf, entry []byte) (tlog.Hash, []byte) {
	buf = append(append(buf[:0], 0), entry...)
	return sha256.Sum256(buf), buf
}
