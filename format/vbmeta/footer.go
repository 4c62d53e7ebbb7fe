package vbmeta

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/verity"
)

const (
	footerSize = 64
	footerSum  = 28 // offset of the image's size in a footer
)

// footer is struct AvbFooter (libavb/avb_footer.h), at the end of a partition that
// carries its own image. Nobody signs it: every number must be the one that follows
// from the rest.
type footer struct {
	original int64 // bytes of the partition's content
	offset   int64 // of the image
	size     int64 // of the image
}

func readFooter(a format.Artifact) (*footer, error) {
	b := make([]byte, footerSize)
	if err := format.ReadFull(a, b, a.Size()-footerSize); err != nil {
		return nil, fmt.Errorf("vbmeta: %w", err)
	}
	if string(b[:4]) != "AVBf" {
		return nil, ErrNotVBMeta
	}
	if be32(b[4:]) != 1 || be32(b[8:]) != 0 || !zero(b[36:]) {
		return nil, fmt.Errorf("%w: footer", ErrMalformed)
	}
	f := &footer{int64(be64(b[12:])), int64(be64(b[20:])), int64(be64(b[footerSum:]))}
	if f.original < 0 || f.offset < f.original || f.offset > a.Size()-footerSize || f.offset%sector != 0 || a.Size()%sector != 0 {
		return nil, fmt.Errorf("%w: numbers in its footer", ErrMalformed)
	}
	return f, nil
}

// content is how a descriptor describes the content of its partition.
type content interface {
	// check refuses a descriptor that does not fit: original is the size of the
	// content by the footer, at is where the image begins.
	check(original, at int64) error
	// read compares the content with it.
	read(ctx context.Context, a format.Artifact, original, at int64) error
	// open names what the descriptor leaves open.
	open() []string
}

// own is the descriptor of the partition's content: there must be one.
func own(list []descriptor) (content, error) {
	var out []content
	for _, d := range list {
		if d.hash != nil {
			out = append(out, d.hash)
		}
		if d.tree != nil {
			out = append(out, d.tree)
		}
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("%w: %d digests of partitions behind the content of one: want one", ErrMalformed, len(out))
	}
	return out[0], nil
}

func (im *image) checkFooter() error {
	c, err := own(im.list)
	if err != nil {
		return err
	}
	if im.footer.size != int64(len(im.raw)) {
		return errFooter
	}
	return c.check(im.footer.original, im.at)
}

var errFooter = fmt.Errorf("%w: its footer contradicts it", ErrMalformed)

// hashed is what a descriptor says of a partition's content.
type hashed struct {
	size         uint64
	name         string // of the algorithm
	salt, digest []byte
}

func hashNamed(name string, size int) crypto.Hash {
	h, err := format.HashByName(name)
	if err != nil || h == crypto.SHA384 || h.Size() != size {
		return 0
	}
	return h
}

var errWeak = errors.New("vbmeta: digest of the partition's content: want sha256 or sha512")

func (h *hashed) check(original, at int64) error {
	switch {
	case hashNamed(h.name, len(h.digest)) == 0:
		return errWeak
	case original < 0 || original > at || h.size != uint64(original):
		return errFooter
	}
	return nil
}

func (h *hashed) read(ctx context.Context, a format.Artifact, original, at int64) error {
	x := hashNamed(h.name, len(h.digest)).New()
	x.Write(h.salt)
	if err := read(ctx, a, 0, original, func(b []byte) error { x.Write(b); return nil }); err != nil {
		return err
	}
	if !bytes.Equal(x.Sum(nil), h.digest) {
		return fmt.Errorf("vbmeta: the partition's content does not have the digest that its descriptor says")
	}
	return read(ctx, a, original, at, zeros)
}

func (h *hashed) open() []string { return nil }

// maxSalt is the most bytes of salt that dm-verity takes. It is hashed with every
// block: a long one would be more work than the content.
const maxSalt = 256

// hashTree is what a descriptor says of content with a dm-verity tree behind it,
// and error correction behind that.
type hashTree struct {
	version              uint32
	size, at, bytes      uint64 // of the data, of the tree
	dataBlock, hashBlock uint32
	fecAt, fec           uint64
	name                 string
	salt, root           []byte
}

func (t *hashTree) tree() *verity.Tree {
	return &verity.Tree{Hash: hashNamed(t.name, len(t.root)), Salt: t.salt, Size: int64(t.size)}
}

func (t *hashTree) check(original, at int64) error {
	if hashNamed(t.name, len(t.root)) == 0 {
		return errWeak
	}
	if len(t.salt) > maxSalt {
		return fmt.Errorf("vbmeta: salt of %d bytes: at most %d", len(t.salt), maxSalt)
	}
	rounded := (uint64(max(original, 0)) + verity.BlockSize - 1) / verity.BlockSize * verity.BlockSize
	switch {
	case t.version != 1 || t.dataBlock != verity.BlockSize || t.hashBlock != verity.BlockSize:
		return fmt.Errorf("vbmeta: hash tree of version %d with blocks of %d and %d bytes: want version 1 and %d", t.version, t.dataBlock, t.hashBlock, verity.BlockSize)
	case original <= 0 || original > at || t.size != rounded || t.size > uint64(at) || t.at != t.size || t.bytes != uint64(t.tree().Bytes()):
		return errFooter
	case t.bytes > uint64(at)-t.size || t.fec > 0 && t.fecAt != t.size+t.bytes || t.fec > uint64(at)-t.size-t.bytes:
		return errFooter
	}
	return nil
}

func (t *hashTree) read(ctx context.Context, a format.Artifact, _, at int64) error {
	if err := t.tree().Check(ctx, a, int64(t.at), t.root); err != nil {
		return fmt.Errorf("vbmeta: %w", err)
	}
	// Error correction is read, and covered by nothing.
	end := int64(t.at + t.bytes + t.fec)
	if err := read(ctx, a, int64(t.at+t.bytes), end, func([]byte) error { return nil }); err != nil {
		return err
	}
	return read(ctx, a, end, at, zeros)
}

func (t *hashTree) open() []string {
	out := []string{"where in its last block of 4096 bytes the content ends, by the footer"}
	if t.fec > 0 {
		out = append(out, "data for error correction behind the hash tree: what it corrects is checked by the tree")
	}
	return out
}

// checkRest holds everything in the file against the image: the content of the
// partition, where it carries one, and zeros elsewhere.
func (im *image) checkRest(ctx context.Context, a format.Artifact) error {
	end := a.Size()
	if im.footer != nil {
		c, err := own(im.list)
		if err != nil {
			return err
		}
		if err := c.read(ctx, a, im.footer.original, im.at); err != nil {
			return err
		}
		end -= footerSize
	} else if end > int64(len(im.raw)) && end%sector != 0 {
		return fmt.Errorf("%w: %d bytes with padding: want a multiple of %d", ErrMalformed, end, sector)
	}
	return read(ctx, a, im.at+int64(len(im.raw)), end, zeros)
}

func zeros(b []byte) error {
	if !zero(b) {
		return fmt.Errorf("%w: there are bytes beside it that nobody signs", ErrMalformed)
	}
	return nil
}

func read(ctx context.Context, a format.Artifact, from, to int64, take func([]byte) error) error {
	buf := make([]byte, min(256<<10, max(to-from, 1)))
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), to-from)]
		if err := format.ReadFull(a, b, from); err != nil {
			return fmt.Errorf("vbmeta: %w", err)
		}
		if err := take(b); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return ctx.Err()
}

// replace makes the edits that put another image into the file. One that is padded,
// or has a footer, keeps its size.
func (im *image) replace(size int64, out []byte) (*format.Patch, error) {
	old, length := int64(len(im.raw)), int64(len(out))
	e := format.Edit{Offset: im.at, Delete: old, Insert: out}
	room := size - im.at
	if im.footer != nil {
		room -= footerSize
	}
	if im.footer != nil || size > old { // keeps its size
		n := max(old, length)
		if n > room {
			return nil, fmt.Errorf("vbmeta: an image of %d bytes does not fit: there is room for %d", n, room)
		}
		e.Delete, e.Insert = n, append(out, make([]byte, n-length)...)
	}
	p := &format.Patch{Size: size, Edits: []format.Edit{e}}
	if im.footer != nil {
		p.Edits = append(p.Edits, format.Edit{Offset: size - footerSize + footerSum, Delete: 8, Insert: binary.BigEndian.AppendUint64(nil, uint64(length))})
	}
	return p, nil
}
