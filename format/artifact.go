package format

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
)

// bytesArtifact is an Artifact in memory.
type bytesArtifact struct {
	name string
	data []byte
}

// BytesArtifact is an Artifact of bytes, which it keeps and which nobody may
// change any more. Files are package file's.
func BytesArtifact(name string, b []byte) Artifact { return &bytesArtifact{name, b} }

func (a *bytesArtifact) Name() string { return a.name }
func (a *bytesArtifact) Size() int64  { return int64(len(a.data)) }

func (a *bytesArtifact) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("format: read before the beginning")
	}
	if off >= int64(len(a.data)) {
		return 0, io.EOF
	}
	n := copy(p, a.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ErrShort is returned when an Artifact has fewer bytes than its Size says.
var ErrShort = errors.New("format: artifact is shorter than it said")

// ReadFull reads exactly len(p) bytes of a at off. Beyond the end is ErrShort.
func ReadFull(a Artifact, p []byte, off int64) error {
	n, err := a.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return ErrShort
	}
	return fmt.Errorf("format: %w", err)
}

// readBuffer is the unit of reading: large enough that system calls do not
// count, small enough to stay in the cache while it is hashed.
const readBuffer = 256 << 10

// Sum reads a once, from the beginning to the end, and returns its digest under
// each of hs.
func Sum(ctx context.Context, a Artifact, hs ...crypto.Hash) ([][]byte, error) {
	sums := make([]hash.Hash, len(hs))
	for i, h := range hs {
		if !h.Available() {
			return nil, fmt.Errorf("format: hash %v is not available", h)
		}
		sums[i] = h.New()
	}
	buf := make([]byte, min(readBuffer, max(a.Size(), 1)))
	for off := int64(0); off < a.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), a.Size()-off)]
		if err := ReadFull(a, b, off); err != nil {
			return nil, err
		}
		for _, s := range sums {
			s.Write(b)
		}
		off += int64(len(b))
	}
	out := make([][]byte, len(hs))
	for i, s := range sums {
		out[i] = s.Sum(nil)
	}
	return out, ctx.Err()
}
