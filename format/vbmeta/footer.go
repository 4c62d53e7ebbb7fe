package vbmeta

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
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

// own is the descriptor of the partition's content, which must be the only one of
// a partition: a hash tree's has other parts, which are not looked at here.
func own(list []descriptor) (*hashed, error) {
	var out *hashed
	for _, d := range list {
		switch {
		case d.name == "hashtree":
			return nil, fmt.Errorf("vbmeta: partitions with a hash tree behind their content are not supported")
		case d.hash != nil && out != nil:
			return nil, fmt.Errorf("%w: digests of several partitions behind the content of one", ErrMalformed)
		case d.hash != nil:
			out = d.hash
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%w: no digest of the partition's content", ErrMalformed)
	}
	if out.algorithm() == 0 {
		return nil, fmt.Errorf("vbmeta: digest of the partition's content: want sha256 or sha512")
	}
	return out, nil
}

func (im *image) checkFooter() error {
	h, err := own(im.list)
	if err != nil {
		return err
	}
	if im.footer.size != int64(len(im.raw)) || h.size != uint64(im.footer.original) {
		return fmt.Errorf("%w: its footer contradicts it", ErrMalformed)
	}
	return nil
}

// hashed is what a descriptor says of a partition's content.
type hashed struct {
	size         uint64
	name         string // of the algorithm
	salt, digest []byte
}

func (h *hashed) algorithm() crypto.Hash {
	switch x := (map[string]crypto.Hash{"sha256": crypto.SHA256, "sha512": crypto.SHA512})[h.name]; {
	case x == 0, x.Size() != len(h.digest):
		return 0
	default:
		return x
	}
}

// checkRest holds everything in the file against the image: the content of the
// partition, where it carries one, and zeros elsewhere.
func (im *image) checkRest(ctx context.Context, a format.Artifact) error {
	end := a.Size()
	if im.footer != nil {
		h, err := own(im.list)
		if err != nil {
			return err
		}
		x := h.algorithm().New()
		x.Write(h.salt)
		if err := read(ctx, a, 0, im.footer.original, func(b []byte) error { x.Write(b); return nil }); err != nil {
			return err
		}
		if !bytes.Equal(x.Sum(nil), h.digest) {
			return fmt.Errorf("vbmeta: the partition's content does not have the digest that its descriptor says")
		}
		if err := read(ctx, a, im.footer.original, im.at, zeros); err != nil {
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
