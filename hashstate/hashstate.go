// Package hashstate carries hashes that are in the middle of their input, so that
// what has been read can be digested in one place and continued in another one: the
// content where the file is, and what follows it (a trailer, a signature) where it is
// known who signs.
//
// Invariants:
//
//  1. A state continues to what hashing at once gives.
//  2. The layout is ours and fixed; Go's encoding of its hashes is taken apart and put
//     together here alone, and tests hold it against published values.
//  3. Two states that differ do not finish to the same digest by their layout: counts
//     are limited, and states of less than a block are what the hash begins with.
//
// A caller may not conclude that whoever gives a state knows a content that leads to
// it, nor that two states of different hashes are of the same content.
package hashstate

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// What callers branch on.
var (
	ErrHash      = errors.New("hashstate: hash without a state that can be carried")
	ErrMalformed = errors.New("hashstate: malformed state")
)

// State is a hash in the middle of its input: the chaining values of FIPS 180-4 in big
// endian, the number of bytes read, and those of them that do not fill a block.
type State struct {
	Chain []byte `cbor:"1,keyasint"` // 20 bytes for SHA-1, 32 for SHA-256, 64 for SHA-384 and SHA-512
	Count uint64 `cbor:"2,keyasint"` // bytes read
	Tail  []byte `cbor:"3,keyasint"` // the last Count mod block-size bytes
}

// The encoding of Go's hashes: magic, chain, one block, count.
const (
	magicSHA1   = "sha\x01"
	magicSHA256 = "sha\x03"
	magicSHA384 = "sha\x04"
	magicSHA512 = "sha\x07"
)

func layout(h crypto.Hash) (magic string, chain, block int, err error) {
	switch h {
	case crypto.SHA1:
		return magicSHA1, 20, 64, nil
	case crypto.SHA256:
		return magicSHA256, 32, 64, nil
	case crypto.SHA384:
		return magicSHA384, 64, 128, nil
	case crypto.SHA512:
		return magicSHA512, 64, 128, nil
	}
	return "", 0, 0, fmt.Errorf("%w: %v", ErrHash, h)
}

// Of is the state of x, a hash of kind h.
func Of(h crypto.Hash, x hash.Hash) (*State, error) {
	magic, chain, block, err := layout(h)
	if err != nil {
		return nil, err
	}
	m, ok := x.(encoding.BinaryMarshaler)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrHash, x)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("hashstate: %w", err)
	}
	if len(b) != len(magic)+chain+block+8 || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: %T is not %v", ErrMalformed, x, h)
	}
	b = b[len(magic):]
	n := binary.BigEndian.Uint64(b[chain+block:])
	return &State{Chain: b[:chain:chain], Count: n, Tail: bytes.Clone(b[chain:][:n%uint64(block)])}, nil
}

// Resume is the hash of kind h that was in this state.
func (s *State) Resume(h crypto.Hash) (hash.Hash, error) {
	magic, chain, block, err := layout(h)
	if err != nil {
		return nil, err
	}
	// Go counts bits in 64 bits: 1<<61 bytes more would finish to the same digest.
	if len(s.Chain) != chain || s.Count >= 1<<60 || uint64(len(s.Tail)) != s.Count%uint64(block) {
		return nil, fmt.Errorf("%w: of %v", ErrMalformed, h)
	}
	b := append([]byte(magic), s.Chain...)
	b = append(b, s.Tail...)
	b = append(b, make([]byte, block-len(s.Tail))...)
	b = binary.BigEndian.AppendUint64(b, s.Count)
	x := h.New()
	u, ok := x.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrHash, x)
	}
	if err := u.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("hashstate: %w", err)
	}
	// A state that had read less than a block has the initial chaining values:
	// nothing else leads there, and the check costs nothing.
	if s.Count < uint64(block) {
		fresh := h.New()
		fresh.Write(s.Tail)
		if !bytes.Equal(fresh.Sum(nil), x.Sum(nil)) {
			return nil, fmt.Errorf("%w: of %v", ErrMalformed, h)
		}
	}
	return x, nil
}
