package rauc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"hash"
	"runtime"
	"sync"

	"github.com/greatseal-io/greatseal/format"
)

// dm-verity as RAUC has it: version 1 (the salt before the data), SHA-256, blocks
// of 4 KiB for data and tree, no superblock, the tree's top first
// (Documentation/admin-guide/device-mapper/verity.rst).
const (
	blockSize = 4096
	perBlock  = blockSize / sha256.Size
)

// levels are the sizes, in blocks, of the levels of a tree over data of size
// bytes, the lowest first.
func levels(size int64) []int64 {
	var out []int64
	for n := size / blockSize; n > 1; {
		n = (n + perBlock - 1) / perBlock
		out = append(out, n)
	}
	return out
}

func treeSize(size int64) int64 {
	var n int64
	for _, l := range levels(size) {
		n += l * blockSize
	}
	return n
}

func saltOf(text string) []byte { return digest(crypto.SHA256, []byte(text)) }

// verity makes a tree of which it keeps one block of each level.
type verity struct {
	salt   []byte
	blocks [][]byte                      // being filled, by level
	emit   func(level int, block []byte) // hands out a full one
	root   []byte
}

// add takes the digest of a block below level.
func (v *verity) add(level int, sum []byte) {
	if level == len(v.blocks) {
		v.root = sum
		return
	}
	if v.blocks[level] = append(v.blocks[level], sum...); len(v.blocks[level]) == blockSize {
		v.flush(level)
	}
}

func (v *verity) flush(level int) {
	b := v.blocks[level]
	if len(b) == 0 {
		return
	}
	b = append(b, make([]byte, blockSize-len(b))...)
	v.emit(level, b)
	h := sha256.New()
	h.Write(v.salt)
	h.Write(b)
	v.blocks[level] = v.blocks[level][:0]
	v.add(level+1, h.Sum(nil))
}

// rootOf reads the image once, on all cores, and hands the tree's blocks out,
// those of each level in order.
func rootOf(ctx context.Context, a format.Artifact, size int64, salt []byte, emit func(level int, block []byte)) ([]byte, error) {
	v := &verity{salt: salt, blocks: make([][]byte, len(levels(size))), emit: emit}
	const batch = 256 // blocks
	buf := make([]byte, min(size, batch*blockSize))
	sums := make([][sha256.Size]byte, batch)
	workers := runtime.GOMAXPROCS(0)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), size-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return nil, fmt.Errorf("rauc: %w", err)
		}
		n := len(b) / blockSize
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				h := sha256.New()
				for i := w; i < n; i += workers {
					h.Reset()
					h.Write(salt)
					h.Write(b[i*blockSize : (i+1)*blockSize])
					h.Sum(sums[i][:0])
				}
			})
		}
		wg.Wait()
		for i := range n {
			v.add(0, sums[i][:])
		}
		off += int64(len(b))
	}
	for level := range v.blocks {
		v.flush(level)
	}
	return bytes.Clone(v.root), nil
}

// makeManifest completes a manifest for an image that has no tree.
func (b *bundle) makeManifest(ctx context.Context, a format.Artifact, text string) (*manifest, error) {
	if b.cms != nil {
		return nil, fmt.Errorf("rauc: take the plain signature off before making a verity bundle")
	}
	if b.image%blockSize != 0 {
		return nil, fmt.Errorf("rauc: squashfs of %d bytes: a verity bundle wants it padded to %d", b.image, blockSize)
	}
	if treeSize(b.image) == 0 {
		return nil, fmt.Errorf("rauc: squashfs of one block has no tree")
	}
	root, err := rootOf(ctx, a, b.image, saltOf(text), func(int, []byte) {})
	if err != nil {
		return nil, err
	}
	return complete(text, root, treeSize(b.image))
}

// makeTree makes the tree for Attach, which must have the root in the manifest.
func (b *bundle) makeTree(ctx context.Context, a format.Artifact, text []byte) ([]byte, error) {
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	if m.size > format.MaxInsert/2 {
		return nil, fmt.Errorf("rauc: tree of %d bytes: at most %d", m.size, format.MaxInsert/2)
	}
	out := make([]byte, m.size)
	at := starts(b.image)
	root, err := rootOf(ctx, a, b.image, m.salt, func(level int, block []byte) { at[level] += int64(copy(out[at[level]:], block)) })
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(root, m.root) {
		return nil, fmt.Errorf("rauc: the image is not the one that was planned: its tree has another root")
	}
	return out, nil
}

// starts are the offsets of the levels in the tree, the lowest level first.
func starts(size int64) []int64 {
	ls := levels(size)
	out := make([]int64, len(ls))
	at := int64(0)
	for i := len(ls) - 1; i >= 0; i-- {
		out[i] = at
		at += ls[i] * blockSize
	}
	return out
}

// checkTree compares the image with the root in the manifest, and the tree that
// stands in the file with the one that the image has: by a digest of each level.
func (b *bundle) checkTree(ctx context.Context, a format.Artifact) error {
	m := b.manifest
	ls := levels(b.image)
	want := make([]hash.Hash, len(ls))
	for i := range want {
		want[i] = sha256.New()
	}
	root, err := rootOf(ctx, a, b.image, m.salt, func(level int, block []byte) { want[level].Write(block) })
	if err != nil {
		return err
	}
	if !bytes.Equal(root, m.root) {
		return fmt.Errorf("rauc: image does not have the root hash %x that its manifest says", m.root)
	}
	at := b.image
	for i := len(ls) - 1; i >= 0; i-- {
		sums, err := format.Sum(ctx, section{a, at, ls[i] * blockSize}, crypto.SHA256)
		if err != nil {
			return fmt.Errorf("rauc: %w", err)
		}
		if !bytes.Equal(sums[0], want[i].Sum(nil)) {
			return fmt.Errorf("rauc: tree in the bundle is not the image's: level %d", i)
		}
		at += ls[i] * blockSize
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
