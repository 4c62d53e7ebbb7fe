package platform

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
)

// tileHeight is the number of levels of the tree that one tile covers.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	maxLevels  = 64
)

// node hashes two children as package merkle does; a test holds the two together.
func node(l, r []byte) (h [sha256.Size]byte) {
	var b [1 + 2*sha256.Size]byte
	b[0] = 0x01
	copy(b[1:], l)
	copy(b[1+sha256.Size:], r)
	return sha256.Sum256(b[:])
}

// raise is the list of parents of neighbouring hashes of one level; an odd last one
// rises unchanged. It overwrites and shortens hashes.
func raise(hashes []byte) []byte {
	const n = sha256.Size
	to := 0
	for from := 0; from < len(hashes); from += 2 * n {
		if from+n < len(hashes) {
			h := node(hashes[from:from+n], hashes[from+n:from+2*n])
			copy(hashes[to:], h[:])
		} else {
			copy(hashes[to:], hashes[from:from+n])
		}
		to += n
	}
	return hashes[:to]
}

// TilesOf computes the tiles of the tree over count leaf hashes, which stand in
// leaves one after another, 32 bytes each. It holds one tile a level in memory.
func TilesOf(leaves io.ReaderAt, count int64) iter.Seq2[Tile, error] {
	return func(yield func(Tile, error) bool) {
		if count < 1 {
			yield(Tile{}, errors.New("platform: a tree needs at least one leaf"))
			return
		}
		var open []*Tile // the tile that each level is filling
		// add appends a hash to a level, and hands full tiles on.
		var add func(level int, h []byte) bool
		flush := func(level int) bool {
			t := open[level]
			if !yield(Tile{t.Level, t.Index, append([]byte(nil), t.Hashes...)}, nil) {
				return false
			}
			top := append([]byte(nil), t.Hashes...)
			for range tileHeight {
				top = raise(top)
			}
			t.Index, t.Hashes = t.Index+1, t.Hashes[:0]
			return add(level+1, top)
		}
		add = func(level int, h []byte) bool {
			if level == len(open) {
				open = append(open, &Tile{Level: uint8(level)})
			}
			t := open[level]
			t.Hashes = append(t.Hashes, h...)
			if len(t.Hashes) < tileWidth*sha256.Size {
				return true
			}
			return flush(level)
		}
		buf := make([]byte, tileWidth*sha256.Size)
		for at := int64(0); at < count; at += tileWidth {
			b := buf[:min(tileWidth, count-at)*sha256.Size]
			if n, err := leaves.ReadAt(b, at*sha256.Size); n < len(b) {
				yield(Tile{}, fmt.Errorf("platform: leaf hashes: %w", cmp.Or(err, io.ErrUnexpectedEOF)))
				return
			}
			for i := 0; i < len(b); i += sha256.Size {
				if !add(0, b[i:i+sha256.Size]) {
					return
				}
			}
		}
		// Unfinished tiles rise until one level has a single tile, the first.
		for level := 0; level < len(open); level++ {
			t := open[level]
			if len(t.Hashes) == 0 {
				continue
			}
			if t.Index == 0 {
				yield(Tile{t.Level, 0, append([]byte(nil), t.Hashes...)}, nil)
				return // all of the level is in this tile: it is the top
			}
			if !flush(level) {
				return
			}
		}
	}
}

// PathOf is the path of the leaf at index in a tree of count leaves: the hashes of its
// siblings, leaf to top. get returns a tile's hashes, which it does not keep.
func PathOf(index, count int64, get func(level uint8, index int64) ([]byte, error)) ([]byte, error) {
	const n = sha256.Size
	if index < 0 || index >= count {
		return nil, fmt.Errorf("platform: leaf %d of %d does not exist", index, count)
	}
	var path []byte
	for level := uint8(0); count > 1; level++ {
		if level*tileHeight >= maxLevels {
			return nil, errors.New("platform: tree is too high")
		}
		tile := index / tileWidth
		stored, err := get(level, tile)
		if err != nil {
			return nil, err
		}
		want := min(tileWidth, count-tile*tileWidth) * n
		if int64(len(stored)) < want || int64(len(stored)) > tileWidth*n {
			return nil, fmt.Errorf("platform: tile %d of level %d is cut", tile, level)
		}
		hashes := append([]byte(nil), stored[:want]...)
		for i, step := index%tileWidth, 0; step < tileHeight && count > 1; step++ {
			if s := i ^ 1; s*n < int64(len(hashes)) {
				path = append(path, hashes[s*n:(s+1)*n]...)
			}
			hashes = raise(hashes)
			i, index, count = i/2, index/2, (count+1)/2
		}
	}
	return path, nil
}
