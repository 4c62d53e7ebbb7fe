package credential

import (
	"encoding/binary"
	"errors"
	"math/big"
)

// reader takes apart the data types of RFC 4251 section 5. The first error
// sticks; every length is checked against what is left.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint32) []byte {
	if r.err != nil {
		return nil
	}
	if uint64(n) > uint64(len(r.b)) {
		r.err = errors.New("cut short")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (r *reader) bytes() []byte { return r.take(r.uint32()) }

// positive reads an mpint that is greater than zero and in its only encoding.
func (r *reader) positive() *big.Int {
	b := r.bytes()
	if r.err != nil {
		return nil
	}
	switch {
	case len(b) == 0 || b[0]&0x80 != 0:
		r.err = errors.New("integer is not positive")
		return nil
	case b[0] == 0 && (len(b) == 1 || b[1]&0x80 == 0):
		r.err = errors.New("integer is not minimal")
		return nil
	}
	return new(big.Int).SetBytes(b)
}

// end returns the first error, or one when bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = errors.New("bytes after the end")
	}
	return r.err
}

func appendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(appendUint32(b, uint32(len(s))), s...)
}
