// Package merkle is the Merkle tree over the parts of one request: its items,
// and the signatures made for them. One endorsement of the root covers every
// item; a [Proof] shows that an item is among them.
//
// The tree is that of RFC 6962 section 2.1 (SHA-256, leaf prefix 0x00, node
// prefix 0x01), except that a leaf hashes a domain first, so that a leaf of one
// kind of tree is never one of another:
//
//	leaf = SHA-256(0x00 || len(domain) as one byte || domain || data)
//	node = SHA-256(0x01 || left || right)
//
// and the root binds the number of leaves:
//
//	root = SHA-256(0x02 || len(domain) || domain || n as 8 bytes, big-endian || top)
//
// Invariants:
//
//  1. Two different lists of leaves, or the same leaves in another order or
//     under another domain, have different roots.
//  2. A proof verifies for one index, one number of leaves and one leaf only,
//     and has exactly one encoding.
//  3. The tree of no leaves does not exist: [Root] refuses it.
package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
)

// Hash is a node of the tree.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads the form that String writes: 64 lower-case hexadecimal digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) || hex.EncodeToString(b) != s {
		return h, fmt.Errorf("merkle: %q is not 64 lower-case hexadecimal digits", s)
	}
	copy(h[:], b)
	return h, nil
}

// Domain separates the kinds of tree.
type Domain string

// The domains in use.
const (
	Items      Domain = "greatseal item v1"
	Signatures Domain = "greatseal signature v1"
	Records    Domain = "greatseal record v1" // package record
)

// Leaf hashes one leaf's data.
func Leaf(d Domain, data []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0x00, byte(len(d))})
	h.Write([]byte(d))
	h.Write(data)
	return Hash(h.Sum(nil))
}

func node(l, r Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 0x01
	copy(b[1:], l[:])
	copy(b[1+sha256.Size:], r[:])
	return sha256.Sum256(b[:])
}

func seal(d Domain, n int, top Hash) Hash {
	h := sha256.New()
	h.Write([]byte{0x02, byte(len(d))})
	h.Write([]byte(d))
	var c [8]byte
	binary.BigEndian.PutUint64(c[:], uint64(n))
	h.Write(c[:])
	h.Write(top[:])
	return Hash(h.Sum(nil))
}

// ErrEmpty is returned for a tree without leaves.
var ErrEmpty = errors.New("merkle: a tree needs at least one leaf")

// Tree holds every level of a tree, from which roots and proofs are read.
type Tree struct {
	domain Domain
	levels [][]Hash // levels[0] are the leaves; an odd last node rises unchanged
}

// New builds the tree over leaves, which it keeps.
func New(d Domain, leaves []Hash) (*Tree, error) {
	if len(leaves) == 0 {
		return nil, ErrEmpty
	}
	t := &Tree{domain: d, levels: [][]Hash{leaves}}
	for level := leaves; len(level) > 1; {
		next := make([]Hash, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, node(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		t.levels = append(t.levels, next)
		level = next
	}
	return t, nil
}

// Root is the root over leaves under d.
func Root(d Domain, leaves []Hash) (Hash, error) {
	t, err := New(d, leaves)
	if err != nil {
		return Hash{}, err
	}
	return t.Root(), nil
}

// Root is the root of t.
func (t *Tree) Root() Hash {
	return seal(t.domain, len(t.levels[0]), t.levels[len(t.levels)-1][0])
}

// Proof shows that a leaf stands at Index among Size leaves.
type Proof struct {
	Index int      `json:"index" cbor:"1,keyasint"`
	Size  int      `json:"size" cbor:"2,keyasint"`
	Path  []string `json:"path" cbor:"3,keyasint"` // sibling hashes, leaf to top, hexadecimal
}

// Prove returns the proof for leaf i.
func (t *Tree) Prove(i int) (Proof, error) {
	n := len(t.levels[0])
	if i < 0 || i >= n {
		return Proof{}, fmt.Errorf("merkle: leaf %d of %d does not exist", i, n)
	}
	p := Proof{Index: i, Size: n, Path: []string{}}
	for _, level := range t.levels[:len(t.levels)-1] {
		if s := i ^ 1; s < len(level) {
			p.Path = append(p.Path, level[s].String())
		}
		i /= 2
	}
	return p, nil
}

// ErrProof is returned by Verify for a proof that does not lead to the root.
var ErrProof = errors.New("merkle: proof does not lead to the root")

// Verify checks that leaf stands at p.Index among p.Size leaves of the tree
// with this root.
func (p Proof) Verify(d Domain, root, leaf Hash) error {
	if p.Size < 1 || p.Index < 0 || p.Index >= p.Size || len(p.Path) > bits.Len(uint(p.Size)) {
		return ErrProof
	}
	h, path := leaf, p.Path
	for i, n := p.Index, p.Size; n > 1; i, n = i/2, (n+1)/2 {
		s := i ^ 1
		if s >= n {
			continue // an odd last node rises unchanged
		}
		if len(path) == 0 {
			return ErrProof
		}
		sib, err := ParseHash(path[0])
		if err != nil {
			return ErrProof
		}
		path = path[1:]
		if i%2 == 0 {
			h = node(h, sib)
		} else {
			h = node(sib, h)
		}
	}
	if len(path) != 0 || seal(d, p.Size, h) != root {
		return ErrProof
	}
	return nil
}
