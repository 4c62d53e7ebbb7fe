// Package verity makes and checks the hash trees of dm-verity, version 1 (the salt
// before the data), in blocks of 4 KiB for data and tree, without a superblock, the
// tree's top first (Documentation/admin-guide/device-mapper/verity.rst).
//
// Invariants:
//
//  1. The data is read once, in order, in constant memory; blocks are hashed on all
//     cores.
//  2. [Check] compares every byte of a tree that is there, through a digest of each
//     of its levels.
//
// A caller may not conclude from a root that anybody signed it.
package verity

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"sync"

	"github.com/greatseal-io/greatseal/format"
)

// BlockSize is that of data and tree, in bytes.
const BlockSize = 4096

// ErrDiffers is wrapped when data or tree are not those of the root.
var ErrDiffers = errors.New("verity: not the data of this root")

// Tree is the form of one.
type Tree struct {
	Hash crypto.Hash // SHA-256 or SHA-512
	Salt []byte
	Size int64 // of the data, a multiple of BlockSize
}

// levels are the sizes, in blocks, of the levels, the lowest first.
func (t *Tree) levels() []int64 {
	var out []int64
	per := int64(BlockSize / t.Hash.Size())
	for n := t.Size / BlockSize; n > 1; {
		n = (n + per - 1) / per
		out = append(out, n)
	}
	return out
}

// Bytes is the size of the tree.
func (t *Tree) Bytes() int64 {
	var n int64
	for _, l := range t.levels() {
		n += l * BlockSize
	}
	return n
}

// builder keeps one block of each level.
type builder struct {
	tree   *Tree
	blocks [][]byte                      // being filled, by level
	emit   func(level int, block []byte) // hands out a full one
	root   []byte
}

// add takes the digest of a block below level.
func (b *builder) add(level int, sum []byte) {
	if level == len(b.blocks) {
		b.root = bytes.Clone(sum)
		return
	}
	if b.blocks[level] = append(b.blocks[level], sum...); len(b.blocks[level]) == BlockSize {
		b.flush(level)
	}
}

func (b *builder) flush(level int) {
	block := b.blocks[level]
	if len(block) == 0 {
		return
	}
	block = append(block, make([]byte, BlockSize-len(block))...)
	b.emit(level, block)
	h := b.tree.Hash.New()
	h.Write(b.tree.Salt)
	h.Write(block)
	b.blocks[level] = b.blocks[level][:0]
	b.add(level+1, h.Sum(nil))
}

// Root reads the data at the beginning of a and returns the tree's root. The tree's
// blocks are handed to emit, those of each level in order, level 0 being the lowest;
// emit may not keep them.
func (t *Tree) Root(ctx context.Context, a format.Artifact, emit func(level int, block []byte)) ([]byte, error) {
	if t.Hash != crypto.SHA256 && t.Hash != crypto.SHA512 || t.Size < BlockSize || t.Size%BlockSize != 0 {
		return nil, fmt.Errorf("verity: %d bytes of data under %v: want a multiple of %d under SHA-256 or SHA-512", t.Size, t.Hash, BlockSize)
	}
	build := &builder{tree: t, blocks: make([][]byte, len(t.levels())), emit: emit}
	const batch = 256 // blocks
	buf := make([]byte, min(t.Size, batch*BlockSize))
	sums := make([][]byte, batch)
	workers := runtime.GOMAXPROCS(0)
	for off := int64(0); off < t.Size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), t.Size-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return nil, fmt.Errorf("verity: %w", err)
		}
		n := len(b) / BlockSize
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				h := t.Hash.New()
				for i := w; i < n; i += workers {
					h.Reset()
					h.Write(t.Salt)
					h.Write(b[i*BlockSize : (i+1)*BlockSize])
					sums[i] = h.Sum(sums[i][:0])
				}
			})
		}
		wg.Wait()
		for i := range n {
			build.add(0, sums[i])
		}
		off += int64(len(b))
	}
	for level := range build.blocks {
		build.flush(level)
	}
	return build.root, nil
}

// Make returns the tree and its root.
func (t *Tree) Make(ctx context.Context, a format.Artifact) (tree, root []byte, err error) {
	if n := t.Bytes(); n > format.MaxInsert/2 {
		return nil, nil, fmt.Errorf("verity: tree of %d bytes: at most %d", n, format.MaxInsert/2)
	}
	tree = make([]byte, t.Bytes())
	ls := t.levels()
	at := make([]int64, len(ls)) // where each level goes on
	for i := len(ls) - 1; i > 0; i-- {
		at[i-1] = at[i] + ls[i]*BlockSize
	}
	root, err = t.Root(ctx, a, func(level int, block []byte) { at[level] += int64(copy(tree[at[level]:], block)) })
	return tree, root, err
}

// Check compares the data with the root, and the tree that stands at offset off of
// a with the one that the data has.
func (t *Tree) Check(ctx context.Context, a format.Artifact, off int64, root []byte) error {
	ls := t.levels()
	want := make([]hash.Hash, len(ls))
	for i := range want {
		want[i] = crypto.SHA256.New()
	}
	got, err := t.Root(ctx, a, func(level int, block []byte) { want[level].Write(block) })
	if err != nil {
		return err
	}
	if !bytes.Equal(got, root) {
		return fmt.Errorf("%w: it has root %x", ErrDiffers, got)
	}
	for i := len(ls) - 1; i >= 0; i-- {
		sums, err := format.Sum(ctx, section{a, off, ls[i] * BlockSize}, crypto.SHA256)
		if err != nil {
			return fmt.Errorf("verity: %w", err)
		}
		if !bytes.Equal(sums[0], want[i].Sum(nil)) {
			return fmt.Errorf("%w: level %d of the tree differs", ErrDiffers, i)
		}
		off += ls[i] * BlockSize
	}
	return nil
}

// section is a piece of an artifact.
type section struct {
	format.Artifact
	off, size int64
}

func (s section) Size() int64                             { return s.size }
func (s section) ReadAt(p []byte, off int64) (int, error) { return s.Artifact.ReadAt(p, s.off+off) }
