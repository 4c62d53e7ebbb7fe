package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxHashes bounds a proof: a path has a hash a level, a consistency proof
	// at most one more than twice that.
	maxHashes = 2*TileHeight*(MaxLevel+1) + 1
	// maxProof bounds a proof's JSON: 47 bytes a hash and the frame.
	maxProof = 47*maxHashes + 128
)

// Inclusion proves that an entry is at Index of the tree of Size entries
// (RFC 6962 section 2.1.1), lowest hash first. Its JSON is
//
//	{"index":1,"size":3,"hashes":["base64","base64"]}
type Inclusion struct {
	Index  int64
	Size   int64
	Hashes []tlog.Hash
}

// Consistency proves that the tree of New entries begins with the tree of Old
// entries (RFC 6962 section 2.1.2). Its JSON is
//
//	{"old":2,"new":3,"hashes":["base64"]}
type Consistency struct {
	Old    int64
	New    int64
	Hashes []tlog.Hash
}

func (p Inclusion) check() error {
	if p.Size < 1 || p.Size > MaxSize || p.Index < 0 || p.Index >= p.Size || len(p.Hashes) > maxHashes {
		return fmt.Errorf("audit: inclusion proof of %d in %d: %w", p.Index, p.Size, ErrLimit)
	}
	return nil
}

func (p Consistency) check() error {
	if p.New < 0 || p.New > MaxSize || p.Old < 0 || p.Old > p.New || len(p.Hashes) > maxHashes {
		return fmt.Errorf("audit: consistency proof of %d to %d: %w", p.Old, p.New, ErrLimit)
	}
	return nil
}

type (
	wireInclusion struct {
		Index  int64       `json:"index"`
		Size   int64       `json:"size"`
		Hashes []tlog.Hash `json:"hashes"`
	}
	wireConsistency struct {
		Old    int64       `json:"old"`
		New    int64       `json:"new"`
		Hashes []tlog.Hash `json:"hashes"`
	}
)

// some makes an empty list of no list, for JSON has a null too many.
func some(hashes []tlog.Hash) []tlog.Hash {
	if hashes == nil {
		return []tlog.Hash{}
	}
	return hashes
}

// MarshalJSON is the proof's only encoding.
func (p Inclusion) MarshalJSON() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return json.Marshal(wireInclusion{p.Index, p.Size, some(p.Hashes)})
}

// MarshalJSON is the proof's only encoding.
func (p Consistency) MarshalJSON() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return json.Marshal(wireConsistency{p.Old, p.New, some(p.Hashes)})
}

// UnmarshalJSON reads a proof inside other JSON, where white space is not ours
// to refuse; everything else must be in its only form.
func (p *Inclusion) UnmarshalJSON(data []byte) error {
	compact, err := compactJSON(data)
	if err != nil {
		return err
	}
	*p, err = ParseInclusion(compact)
	return err
}

// UnmarshalJSON is as that of [Inclusion].
func (p *Consistency) UnmarshalJSON(data []byte) error {
	compact, err := compactJSON(data)
	if err != nil {
		return err
	}
	*p, err = ParseConsistency(compact)
	return err
}

func compactJSON(data []byte) ([]byte, error) {
	if len(data) > 4*maxProof {
		return nil, fmt.Errorf("audit: proof of %d bytes: %w", len(data), ErrLimit)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return nil, fmt.Errorf("audit: proof: %w: %w", ErrMalformed, err)
	}
	return b.Bytes(), nil
}

// ParseInclusion reads a proof in its only form, without white space.
func ParseInclusion(data []byte) (Inclusion, error) {
	var w wireInclusion
	if err := parseProof(data, &w); err != nil {
		return Inclusion{}, err
	}
	p := Inclusion(w)
	if again, err := p.MarshalJSON(); err != nil || !bytes.Equal(again, data) {
		return Inclusion{}, fmt.Errorf("audit: inclusion proof: %w", ErrMalformed)
	}
	return p, nil
}

// ParseConsistency reads a proof in its only form, without white space.
func ParseConsistency(data []byte) (Consistency, error) {
	var w wireConsistency
	if err := parseProof(data, &w); err != nil {
		return Consistency{}, err
	}
	p := Consistency(w)
	if again, err := p.MarshalJSON(); err != nil || !bytes.Equal(again, data) {
		return Consistency{}, fmt.Errorf("audit: consistency proof: %w", ErrMalformed)
	}
	return p, nil
}

func parseProof(data []byte, into any) error {
	if len(data) > maxProof {
		return fmt.Errorf("audit: proof of %d bytes: %w", len(data), ErrLimit)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("audit: proof: %w: %w", ErrMalformed, err)
	}
	return nil
}

// hashReader finds the nodes of the tree of a size in its tiles. It checks
// nothing: a proof made from it is checked by whoever takes it.
func hashReader(ctx context.Context, r TileReader, size int64) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		at := make(map[tlog.Tile]int)
		var tiles []tlog.Tile
		where := make([]int, len(indexes))
		for i, x := range indexes {
			t := widest(tlog.TileForIndex(TileHeight, x), size)
			j, ok := at[t]
			if !ok {
				j = len(tiles)
				at[t], tiles = j, append(tiles, t)
			}
			where[i] = j
		}
		data, err := readTiles(ctx, r, tiles)
		if err != nil {
			return nil, err
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			if hashes[i], err = tlog.HashFromTile(tiles[where[i]], data[where[i]], x); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}

// widest is the tile as the tree of a size has it. Logs publish that width, and
// need not publish narrower ones.
func widest(t tlog.Tile, size int64) tlog.Tile {
	have := size>>(TileHeight*max(t.L, 0)) - t.N*TileWidth
	t.W = int(min(have, TileWidth))
	return t
}

// ProveInclusion makes a proof from tiles. The tiles are not checked: a proof
// from a bad store does not verify.
func ProveInclusion(ctx context.Context, r TileReader, size, index int64) (Inclusion, error) {
	p := Inclusion{Index: index, Size: size}
	if err := p.check(); err != nil {
		return Inclusion{}, err
	}
	hashes, err := tlog.ProveRecord(size, index, hashReader(ctx, r, size))
	if err != nil {
		return Inclusion{}, fmt.Errorf("audit: prove inclusion of %d in %d: %w", index, size, err)
	}
	p.Hashes = hashes
	return p, nil
}

// ProveConsistency makes a proof from tiles, as [ProveInclusion] does. The tree
// of no entries is the beginning of all trees: its proof has no hashes.
func ProveConsistency(ctx context.Context, r TileReader, old, new int64) (Consistency, error) {
	p := Consistency{Old: old, New: new}
	if err := p.check(); err != nil {
		return Consistency{}, err
	}
	if old == 0 {
		return p, nil
	}
	hashes, err := tlog.ProveTree(new, old, hashReader(ctx, r, new))
	if err != nil {
		return Consistency{}, fmt.Errorf("audit: prove consistency of %d with %d: %w", old, new, err)
	}
	p.Hashes = hashes
	return p, nil
}

// CheckInclusion checks that entry is at p.Index of the log. The proof must be
// for exactly this head's size; the caller compares p.Index if it expects one.
func (h Head) CheckInclusion(p Inclusion, entry []byte) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	if len(entry) == 0 || len(entry) > MaxEntry {
		return fmt.Errorf("audit: entry of %d bytes: %w", len(entry), ErrLimit)
	}
	if p.Size != h.tree.Size {
		return fmt.Errorf("audit: inclusion proof for size %d, head has %d: %w", p.Size, h.tree.Size, ErrInconsistent)
	}
	if err := tlog.CheckRecord(p.Hashes, p.Size, h.tree.Root, p.Index, LeafHash(entry)); err != nil {
		return fmt.Errorf("audit: inclusion of entry %d: %w", p.Index, ErrInconsistent)
	}
	return nil
}

// CheckConsistency checks that the tree new begins with all of old. It is the
// check before a signer signs new.
func CheckConsistency(old, new Tree, p Consistency) error {
	if err := p.check(); err != nil {
		return err
	}
	if err := old.check(); err != nil {
		return err
	}
	if err := new.check(); err != nil {
		return err
	}
	bad := fmt.Errorf("audit: consistency of %d with %d: %w", old.Size, new.Size, ErrInconsistent)
	if p.Old != old.Size || p.New != new.Size {
		return bad
	}
	if old.Size == 0 {
		if len(p.Hashes) != 0 {
			return bad
		}
		return nil
	}
	if err := tlog.CheckTree(p.Hashes, new.Size, new.Root, old.Size, old.Root); err != nil {
		return bad
	}
	return nil
}

// CheckConsistency checks that this head extends an older head of the same log.
func (h Head) CheckConsistency(old Head, p Consistency) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := old.check(); err != nil {
		return err
	}
	if h.origin != old.origin {
		return fmt.Errorf("audit: consistency of %.80q with %.80q: %w", old.origin, h.origin, ErrOrigin)
	}
	return CheckConsistency(old.tree, h.tree, p)
}
