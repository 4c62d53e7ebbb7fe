package pe

import (
	"crypto"
	"fmt"
	"hash"
	"io"
)

// Digester computes the Authenticode digest of an image that comes as a stream, out of
// an archive say: what [Format.Plan] gives for the image as a file. It keeps the
// headers, at most 1 MiB, and nothing else.
type Digester struct {
	h    hash.Hash
	size int64
	head []byte // until the headers are judged
	im   *image
	pos  int64
	err  error // why it is no image that can be signed
}

// NewDigester begins a stream of size bytes.
func NewDigester(h crypto.Hash, size int64) *Digester {
	d := &Digester{h: h.New()}
	d.Reset(size)
	return d
}

// Reset begins another stream.
func (d *Digester) Reset(size int64) {
	d.h.Reset()
	*d = Digester{h: d.h, size: size, head: d.head[:0]}
}

// start is the beginning of a file of a size: what stands behind it cannot be read.
type start struct {
	b    []byte
	size int64
}

func (s start) Name() string { return "" }
func (s start) Size() int64  { return s.size }

func (s start) ReadAt(p []byte, off int64) (int, error) {
	if off > int64(len(s.b)) {
		return 0, io.EOF
	}
	n := copy(p, s.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write takes the next bytes. It has no error: what is no image is told by [Digester.Sum].
func (d *Digester) Write(b []byte) (int, error) {
	n := len(b)
	if d.err != nil {
		return n, nil
	}
	if d.im == nil {
		if len(d.head) == 0 && len(b) >= 2 && string(b[:2]) != "MZ" {
			d.err = ErrNotPE
			return n, nil
		}
		want := int(min(d.size, maxHead)) - len(d.head)
		part := b[:min(want, len(b))]
		d.head = append(d.head, part...)
		b = b[len(part):]
		if len(d.head) >= 2 && string(d.head[:2]) != "MZ" {
			d.err = ErrNotPE
			return n, nil
		}
		if len(part) < want {
			return n, nil
		}
		if d.im, d.err = parseImage(start{d.head, d.size}); d.err != nil {
			return n, nil
		}
		d.take(d.head)
	}
	d.take(b)
	return n, nil
}

// take digests what is signed of the bytes at d.pos.
func (d *Digester) take(b []byte) {
	end := d.pos + int64(len(b))
	for _, s := range [3][2]int64{{0, d.im.checksumAt}, {d.im.checksumAt + 4, d.im.directoryAt}, {d.im.directoryAt + 8, d.im.end()}} {
		if from, to := max(s[0], d.pos), min(s[1], end); from < to {
			d.h.Write(b[from-d.pos : to-d.pos])
		}
	}
	d.pos = end
}

// Sum ends the stream. ErrNotPE is wrapped for what is no image, ErrMalformed for
// images that Format refuses.
func (d *Digester) Sum() ([]byte, error) {
	switch {
	case d.err != nil:
		return nil, d.err
	case d.im == nil:
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrNotPE, len(d.head), d.size)
	case d.pos != d.size:
		return nil, malformed("%d bytes of %d", d.pos, d.size)
	}
	d.h.Write(make([]byte, padding(d.im.end())))
	return d.h.Sum(nil), nil
}
