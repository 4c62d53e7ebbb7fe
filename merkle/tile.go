package merkle

import (
	"bytes"
	"fmt"
	"math/bits"
)

// A large tree is kept as tiles, as transparency logs keep theirs (C2SP
// tlog-tiles): tile (level, index) is the nodes index·256 … index·256+255 of tree
// level 8·level, leaf hashes at level 0, 32 bytes each. The last tile of a level
// has fewer; a level of one node has no tile, except level 0. Every path is read
// from one tile a level.

// TileWidth is the number of nodes in a full tile.
const TileWidth = 1 << tileHeight

const tileHeight = 8

// MaxLeaves is the number of leaves that a tree in tiles may have.
const MaxLeaves = 1 << 40

// TileWriter keeps tiles.
type TileWriter interface {
	// WriteTile is called once for each tile; hashes are good until it returns.
	WriteTile(level int, index int64, hashes []byte) error
}

// TileReader hands out tiles.
type TileReader interface {
	// ReadTile returns what was written; the reader does not change it.
	ReadTile(level int, index int64) ([]byte, error)
}

// MemoryTiles are tiles in memory, for trees of a moderate size and for tests.
type MemoryTiles map[[2]int64][]byte

// WriteTile keeps a copy.
func (m MemoryTiles) WriteTile(level int, index int64, hashes []byte) error {
	m[[2]int64{int64(level), index}] = bytes.Clone(hashes)
	return nil
}

// ReadTile is the inverse of WriteTile.
func (m MemoryTiles) ReadTile(level int, index int64) ([]byte, error) {
	b, ok := m[[2]int64{int64(level), index}]
	if !ok {
		return nil, fmt.Errorf("merkle: tile %d of level %d does not exist", index, level)
	}
	return b, nil
}

// Builder makes a tree of any size in constant memory: a tile a level. It is not
// safe for concurrent use.
type Builder struct {
	domain Domain
	to     TileWriter
	n      int64
	open   [][]byte // by level: the hashes of the tile that is not full
	tiles  []int64  // by level: the tiles that are written
}

// NewBuilder makes a builder that writes tiles to to; nil: nowhere.
func NewBuilder(d Domain, to TileWriter) *Builder { return &Builder{domain: d, to: to} }

// Len is the number of leaves.
func (b *Builder) Len() int64 { return b.n }

// Add adds a leaf and returns its index.
func (b *Builder) Add(leaf Hash) (int64, error) {
	if b.n == MaxLeaves {
		return 0, fmt.Errorf("merkle: more than %d leaves", int64(MaxLeaves))
	}
	if err := b.push(0, leaf); err != nil {
		return 0, err
	}
	b.n++
	return b.n - 1, nil
}

func (b *Builder) push(level int, h Hash) error {
	if level == len(b.open) {
		b.open, b.tiles = append(b.open, make([]byte, 0, TileWidth*len(h))), append(b.tiles, 0)
	}
	b.open[level] = append(b.open[level], h[:]...)
	if len(b.open[level]) < TileWidth*len(h) {
		return nil
	}
	return b.flush(level)
}

// flush writes the open tile of a level and hands its top up.
func (b *Builder) flush(level int) error {
	tile := b.open[level]
	if b.to != nil {
		if err := b.to.WriteTile(level, b.tiles[level], tile); err != nil {
			return fmt.Errorf("merkle: write tile: %w", err)
		}
	}
	b.tiles[level]++
	t := expand(tile)
	b.open[level] = tile[:0]
	return b.push(level+1, t[len(t)-1][0])
}

// Finish writes the tiles that are not full and returns the root. The builder is
// of no use afterwards.
func (b *Builder) Finish() (Hash, error) {
	if b.n == 0 {
		return Hash{}, ErrEmpty
	}
	for level := 0; ; level++ {
		tile := b.open[level]
		if level > 0 && b.tiles[level] == 0 && len(tile) == len(Hash{}) && level == len(b.open)-1 {
			return seal(b.domain, int(b.n), Hash(tile)), nil
		}
		if len(tile) > 0 {
			if err := b.flush(level); err != nil {
				return Hash{}, err
			}
		}
	}
}

// expand computes the levels of a tile from its hashes to its top.
func expand(tile []byte) [][]Hash {
	level := make([]Hash, len(tile)/len(Hash{}))
	for i := range level {
		level[i] = Hash(tile[i*len(Hash{}):])
	}
	out := make([][]Hash, 0, tileHeight+1)
	for out = append(out, level); len(level) > 1; out = append(out, level) {
		next := make([]Hash, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, node(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		level = next
	}
	return out
}

// Paths reads paths from tiles. It keeps the last tile of each level, so that
// neighbours cost no second reading. It is not safe for concurrent use.
type Paths struct {
	from TileReader
	n    int64
	last []expandedTile
}

type expandedTile struct {
	index  int64
	levels [][]Hash
}

// NewPaths reads the tree of n leaves from tiles.
func NewPaths(n int64, from TileReader) *Paths { return &Paths{from: from, n: n} }

// Path returns the sibling hashes of leaf i, leaf to top, 32 bytes each.
func (p *Paths) Path(i int64) ([]byte, error) {
	if i < 0 || i >= p.n || p.n > MaxLeaves {
		return nil, fmt.Errorf("merkle: leaf %d of %d does not exist", i, p.n)
	}
	out := make([]byte, 0, len(Hash{})*bits.Len64(uint64(p.n)))
	for level, n := 0, p.n; n > 1; level, n, i = level+1, (n+TileWidth-1)/TileWidth, i/TileWidth {
		t, err := p.tile(level, i/TileWidth, n)
		if err != nil {
			return nil, err
		}
		for h, k := 0, int(i%TileWidth); h < len(t)-1; h, k = h+1, k/2 {
			if s := k ^ 1; s < len(t[h]) {
				out = append(out, t[h][s][:]...)
			}
		}
	}
	return out, nil
}

// tile reads one tile of a level of n nodes.
func (p *Paths) tile(level int, index, n int64) ([][]Hash, error) {
	for level >= len(p.last) {
		p.last = append(p.last, expandedTile{index: -1})
	}
	if p.last[level].index == index {
		return p.last[level].levels, nil
	}
	b, err := p.from.ReadTile(level, index)
	if err != nil {
		return nil, fmt.Errorf("merkle: read tile: %w", err)
	}
	if want := int(min(TileWidth, n-index*TileWidth)) * len(Hash{}); len(b) != want {
		return nil, fmt.Errorf("merkle: tile %d of level %d has %d bytes: want %d", index, level, len(b), want)
	}
	p.last[level] = expandedTile{index, expand(b)}
	return p.last[level].levels, nil
}

// VerifyPath checks that leaf stands at index among n leaves of the tree with
// this root. The error is [ErrProof].
func VerifyPath(d Domain, root, leaf Hash, index, n int64, path []byte) error {
	if n < 1 || n > MaxLeaves || index < 0 || index >= n || len(path) > len(leaf)*bits.Len64(uint64(n)) {
		return ErrProof
	}
	h := leaf
	for i, m := index, n; m > 1; i, m = i/2, (m+1)/2 {
		if i^1 >= m {
			continue // an odd last node rises unchanged
		}
		if len(path) < len(h) {
			return ErrProof
		}
		sib := Hash(path)
		path = path[len(h):]
		if i%2 == 0 {
			h = node(h, sib)
		} else {
			h = node(sib, h)
		}
	}
	if len(path) != 0 || seal(d, int(n), h) != root {
		return ErrProof
	}
	return nil
}
