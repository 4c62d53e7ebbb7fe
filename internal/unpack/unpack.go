// Package unpack reads xz and Zstandard, the compressions of packages that the
// standard library does not know. It has two decoders of its own, without assembly
// and without dependencies, since every program that knows the formats links it.
//
// Input is hostile. Invariants:
//
//  1. Memory grows with what was unpacked, to less than twice the window that the input
//     asks for, and a few hundred KiB; what asks for more than [Limits] allow is refused with ErrLimit
//     before anything is made of that size.
//  2. What is unpacked is at most Limits.Bytes, and beyond a first megabyte at most
//     Limits.Ratio times what was read: the error comes in place of the piece in which
//     that is exceeded.
//  3. Work is done in pieces of at most 128 KiB of output, when Read wants them: who
//     stops reading stops the work.
//  4. io.EOF means that every checksum was there and right, and that nothing followed.
//     Every other end is an error, and stays one.
//
// A caller may not conclude from data that he was given before io.EOF that it is whole.
//
// What is refused although it exists: filters of xz but for LZMA2, several streams or
// frames one after the other, and dictionaries from outside.
package unpack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// What callers branch on.
var (
	ErrMalformed = errors.New("unpack: malformed")
	ErrLimit     = errors.New("unpack: more than the limits allow")
)

// Limits bound what hostile input may cost.
type Limits struct {
	Window int   // bytes of what was unpacked that may be referred to
	Bytes  int64 // unpacked
	Ratio  int64 // of bytes unpacked to bytes read, beyond the first megabyte
}

// free is what may be unpacked from however little.
const free = 1 << 20

// piece is how much is unpacked at once.
const piece = 128 << 10

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// decoder unpacks the next piece into the reader's window. io.EOF is its end.
type decoder interface{ step(r *reader) error }

// reader is input, decoder and window.
type reader struct {
	in      *bufio.Reader
	read    int64 // bytes taken from in
	decoder decoder
	limits  Limits
	window  []byte // what was unpacked, the last of it
	size    int    // how much of it may be referred to
	since   int64  // how many bytes it has had since it began anew
	given   int    // of window, to the caller
	total   int64
	err     error
}

// XZ unpacks a file of xz (The .xz File Format 1.2.1).
func XZ(r io.Reader, l Limits) io.Reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), limits: l, decoder: &xz{}}
}

// Zstd unpacks one frame of Zstandard (RFC 8878).
func Zstd(r io.Reader, l Limits) io.Reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), limits: l, decoder: &zstd{}}
}

// Read is io.Reader's.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.given == len(r.window) {
		if r.err != nil {
			return 0, r.err
		}
		before := r.total
		r.err = r.decoder.step(r)
		if r.total > r.limits.Bytes || r.total > free && r.total/r.limits.Ratio > r.read {
			r.err = fmt.Errorf("%w: %d bytes out of %d", ErrLimit, r.total, r.read)
		}
		if r.err != nil && r.err != io.EOF {
			// What came before the error is not told: it may be what no other decoder makes of it.
			r.window = r.window[:len(r.window)-int(r.total-before)]
			return 0, r.err
		}
	}
	n := copy(p, r.window[r.given:])
	r.given += n
	return n, nil
}

// begin empties the window, which shall have size bytes.
func (r *reader) begin(size int) error {
	if size > r.limits.Window {
		return fmt.Errorf("%w: a window of %d bytes", ErrLimit, size)
	}
	r.size = size
	r.since = 0
	return nil
}

// room lets n bytes be appended, when all was given. The window moves to its front
// seldom enough that this costs little.
func (r *reader) room(n int) {
	if len(r.window)+n > r.size+max(r.size/4, 2*piece) {
		keep := min(r.size, len(r.window))
		copy(r.window, r.window[len(r.window)-keep:])
		r.window = r.window[:keep]
	}
	r.given = len(r.window)
}

// put appends bytes.
func (r *reader) put(b []byte) {
	r.window = append(r.window, b...)
	r.total += int64(len(b))
	r.since += int64(len(b))
}

// repeat appends n bytes from distance back.
func (r *reader) repeat(distance, n int) error {
	if distance <= 0 || distance > r.size || int64(distance) > r.since {
		return malformed("a distance of %d bytes", distance)
	}
	r.total += int64(n)
	r.since += int64(n)
	for at := len(r.window) - distance; n > 0; {
		c := min(n, len(r.window)-at)
		r.window = append(r.window, r.window[at:at+c]...)
		n -= c
	}
	return nil
}

// fill reads all of b; an end within it is an error.
func (r *reader) fill(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.read += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return malformed("it is cut")
	}
	return err
}

func (r *reader) byte() (byte, error) {
	var b [1]byte
	err := r.fill(b[:])
	return b[0], err
}

// end wants nothing more to follow.
func (r *reader) end() error {
	switch _, err := r.in.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return malformed("something follows it")
	default:
		return err
	}
}
