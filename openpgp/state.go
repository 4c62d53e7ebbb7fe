package openpgp

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
)

// State is a hash in the middle of its input: what it has read is digested, and
// more can follow. Its layout is ours and fixed: the chaining values of FIPS 180-4
// in big endian, the number of bytes read, and those of them that do not fill a
// block.
type State struct {
	Chain []byte `cbor:"1,keyasint"` // 32 bytes for SHA-256, 64 for SHA-384 and SHA-512
	Count uint64 `cbor:"2,keyasint"` // bytes read
	Tail  []byte `cbor:"3,keyasint"` // the last Count mod block-size bytes
}

// The encoding of Go's hashes, which StateOf takes apart and Resume puts together:
// magic, chain, one block, count. It is checked against known states by tests, so
// that a Go that changes it cannot change a plan.
const (
	magicSHA256 = "sha\x03"
	magicSHA384 = "sha\x04"
	magicSHA512 = "sha\x07"
)

func layout(h crypto.Hash) (magic string, chain, block int, err error) {
	switch h {
	case crypto.SHA256:
		return magicSHA256, 32, 64, nil
	case crypto.SHA384:
		return magicSHA384, 64, 128, nil
	case crypto.SHA512:
		return magicSHA512, 64, 128, nil
	}
	return "", 0, 0, fmt.Errorf("openpgp: hash %v: %w", h, ErrUnsupported)
}

// StateOf is the state of x, a hash of kind h.
func StateOf(h crypto.Hash, x hash.Hash) (*State, error) {
	magic, chain, block, err := layout(h)
	if err != nil {
		return nil, err
	}
	m, ok := x.(encoding.BinaryMarshaler)
	if !ok {
		return nil, fmt.Errorf("openpgp: state of a %T: %w", x, ErrUnsupported)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("openpgp: %w", err)
	}
	if len(b) != len(magic)+chain+block+8 || string(b[:len(magic)]) != magic {
		return nil, malformed("state of a %T", x)
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
		return nil, malformed("state of a hash")
	}
	b := append([]byte(magic), s.Chain...)
	b = append(b, s.Tail...)
	b = append(b, make([]byte, block-len(s.Tail))...)
	b = binary.BigEndian.AppendUint64(b, s.Count)
	x := h.New()
	u, ok := x.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("openpgp: state of a %T: %w", x, ErrUnsupported)
	}
	if err := u.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("openpgp: %w", err)
	}
	// A state that had read less than a block has the initial chaining values:
	// nothing else leads there, and the check costs nothing.
	if s.Count < uint64(block) {
		fresh := h.New()
		fresh.Write(s.Tail)
		if !bytes.Equal(fresh.Sum(nil), x.Sum(nil)) {
			return nil, malformed("state of a hash")
		}
	}
	return x, nil
}
