// Package unpack reads xz and Zstandard, the compressions of packages that the
// standard library does not know, out of hostile input.
//
// Invariants:
//
//  1. What asks for a window of more than [Window] bytes is refused with [ErrLimit]
//     before anything is made of that size.
//  2. What is unpacked is at most as much as the caller says, and beyond a first megabyte
//     at most [Ratio] times what was read: the error comes in place of the piece in which
//     that is exceeded.
//  3. Work is done when Read wants it: who stops reading stops the work.
//  4. io.EOF means that every checksum that there was is right, and that nothing
//     followed. Every other end is an error, and stays one.
//
// A caller may not conclude from data that he was given before io.EOF that it is whole.
package unpack

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// What callers branch on.
var (
	ErrMalformed = errors.New("unpack: malformed")
	ErrLimit     = errors.New("unpack: more than the limits allow")
)

// What hostile input may cost.
const (
	Window = 64 << 20 // bytes of what was unpacked that may be referred to: those of xz -9
	Ratio  = 500      // of bytes unpacked to bytes read
)

// limits are [Window], what the caller says, and [Ratio].
type limits struct {
	window int
	bytes  int64
	ratio  int64
}

const (
	free  = 1 << 20   // what may be unpacked from however little
	piece = 128 << 10 // how much is unpacked at once
)

// XZ unpacks one stream of xz (The .xz File Format 1.2.1), which zeros may follow, of at
// most so many bytes.
func XZ(r io.Reader, most int64) io.Reader { return unxz(r, limits{Window, most, Ratio}) }

func unxz(r io.Reader, l limits) io.Reader {
	return &reader{in: counter{r: r}, limits: l, open: func(in io.Reader) (io.Reader, error) {
		x, err := xz.NewReader(in, uint32(l.window))
		if err != nil {
			return nil, err
		}
		x.Multistream(false)
		return stream{x}, nil
	}}
}

// stream is one stream of xz, and an error where another follows: readers do not agree
// on whether that belongs to it.
type stream struct{ x *xz.Reader }

func (s stream) Read(p []byte) (int, error) {
	n, err := s.x.Read(p)
	if err == io.EOF {
		switch err = s.x.Reset(nil); err {
		case io.EOF:
		case nil:
			err = errors.New("another stream follows")
		}
	}
	return n, err
}

// Zstd unpacks frames of Zstandard (RFC 8878), without dictionaries from outside, to at
// most so many bytes.
func Zstd(r io.Reader, most int64) io.Reader { return unzstd(r, limits{Window, most, Ratio}) }

func unzstd(r io.Reader, l limits) io.Reader {
	return &reader{in: counter{r: r}, limits: l, open: func(in io.Reader) (io.Reader, error) {
		return zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(l.window)), zstd.WithDecoderMaxMemory(uint64(max(l.bytes, int64(l.window)))))
	}}
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// reader holds a decoder to limits.
type reader struct {
	in     counter
	limits limits
	open   func(io.Reader) (io.Reader, error)
	from   io.Reader // nil: not begun
	total  int64
	err    error
}

// Read is io.Reader's.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.from == nil {
		if r.from, r.err = r.open(&r.in); r.err != nil {
			r.err = kind(r.err)
			return 0, r.err
		}
	}
	n, err := r.from.Read(p[:min(len(p), piece)])
	if r.total += int64(n); r.total > r.limits.bytes || r.total > free && r.total/r.limits.ratio > r.in.n {
		r.err = fmt.Errorf("%w: %d bytes out of %d", ErrLimit, r.total, r.in.n)
		return 0, r.err
	}
	if r.err = kind(err); r.err == io.EOF && r.in.n == 0 {
		r.err = fmt.Errorf("%w: it is empty", ErrMalformed)
	}
	return n, r.err
}

// kind tells what a decoder's error is.
func kind(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}
