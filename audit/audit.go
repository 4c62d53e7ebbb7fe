// Package audit is the transparency log of Greatseal: what an entry is, how
// entries become a Merkle tree, how a tree is published, and how a stranger
// checks all of it. It holds no storage, no network and no clock; the caller
// brings them.
//
// # The log
//
// The log is an append-only list of entries. Entry i is the leaf i of a Merkle
// tree as RFC 6962 section 2.1 defines it, over SHA-256. It is published in the
// layout of C2SP tlog-tiles (https://c2sp.org/tlog-tiles):
//
//	checkpoint                      the signed head
//	tile/<L>/<N>[.p/<W>]            hash tiles of height 8
//	tile/entries/<N>[.p/<W>]        entry bundles of 256 entries
//
// An entry bundle is its entries, each behind its length as two bytes, big
// endian. A checkpoint (https://c2sp.org/tlog-checkpoint) is a signed note
// (https://c2sp.org/signed-note) of exactly three lines:
//
//	greatseal.example/log
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— greatseal.example/log Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
//
// namely the origin, the number of entries and the root. Extension lines are
// refused. Witnesses add cosignatures (https://c2sp.org/tlog-cosignature).
//
// An entry is one deterministic CBOR map (RFC 8949 section 4.2) with integer
// keys: see [Entry].
//
// # Invariants
//
//  1. A [Head] is made by [ParseCheckpoint] alone: right origin, right key,
//     right form. The zero Head proves nothing and every check refuses it.
//  2. Whatever a parser of this package accepts re-encodes to itself: entries,
//     bundles, paths, checkpoints, proofs, keys.
//  3. Nothing that a reader or a peer returns is used before it was checked
//     against a root: [Integrate] checks the right edge against the old root, a
//     [Client] checks tiles and bundles against its Head.
//  4. Sizes are bounded before work is done on them: no tree above [MaxSize], no
//     entry above [MaxEntry], no proof above what its tree allows.
//  5. The tree depends on the entries alone and not on how they were cut into
//     batches, and integrating reads the right edge only.
//  6. A client that holds a head takes only heads that extend it
//     ([Client.Update]): a smaller one is [ErrRollback], a different one [ErrFork].
//  7. A body that is kept beside the log is returned only if its size and its
//     SHA-256 are those of the entry.
//
// # What may not be concluded
//
// That an entry is in the log says that it was logged, not that it was
// authorised or true: entries record refused requests too, and their time is
// the server's word. That a head verifies says nothing about its freshness, nor
// that others see the same head, unless witnesses cosigned it
// ([Head.CheckCosignatures]). That the log is intact says nothing about what was
// never entered; receipts are numbered for that.
package audit

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// What callers branch on. Every error of this package that is not an error of
// the caller's own reader wraps one of them.
var (
	ErrMalformed    = errors.New("malformed")                             // bytes that are not in their only form
	ErrLimit        = errors.New("beyond the limit")                      // a size, count or index that is refused unseen
	ErrSignature    = errors.New("signature does not verify")             // no good signature by the key that was asked for
	ErrOrigin       = errors.New("another log")                           // a checkpoint of another origin
	ErrInconsistent = errors.New("does not match the root")               // tile, bundle, entry or proof
	ErrRollback     = errors.New("log went back")                         // a smaller head than one seen before
	ErrFork         = errors.New("log forked")                            // two signed heads, neither of which extends the other
	ErrConflict     = errors.New("tree has moved on")                     // a batch for a tree that is not the stored one
	ErrDetached     = errors.New("body is not available")                 // kept beside the log, and not found there
	ErrNoHead       = errors.New("no head: a checkpoint must be checked") // the zero Head
	ErrWitnesses    = errors.New("not enough witnesses")                  // fewer good cosignatures than asked for
)

const (
	// TileHeight is the height of every tile; a full tile has TileWidth hashes.
	TileHeight = 8
	// TileWidth is the number of hashes in a full tile, of entries in a full bundle.
	TileWidth = 1 << TileHeight
	// MaxLevel is the highest level of a tile (C2SP tlog-tiles).
	MaxLevel = 5
	// MaxSize is the largest tree: what six levels of tiles can name. It also
	// keeps the arithmetic of sumdb/tlog, which does not end for sizes near
	// 2^63, far from its edges.
	MaxSize = 1<<(TileHeight*(MaxLevel+1)) - 1
	// MaxBundle is the largest entry bundle in bytes.
	MaxBundle = TileWidth * (2 + MaxEntry)
)

// Tree is a tree's size in entries and its root (RFC 6962 section 2.1). It is
// a claim: only a [Head] is a checked one.
type Tree struct {
	Size int64
	Root tlog.Hash
}

// EmptyTree is the tree of no entries. Its root is the hash of nothing, not zero.
func EmptyTree() Tree {
	root, _ := tlog.TreeHash(0, nil) // reads nothing and cannot fail for size 0
	return Tree{Root: root}
}

// LeafHash is the hash of an entry as a leaf: SHA-256(0x00 || entry)
// (RFC 6962 section 2.1).
func LeafHash(entry []byte) tlog.Hash { return tlog.RecordHash(entry) }
