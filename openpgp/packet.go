package openpgp

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// Packet is one packet with a definite length.
type Packet struct {
	Tag  Tag
	Body []byte
	Raw  []byte // header and body
}

// AppendPacket writes a packet with a header in the OpenPGP format and the
// shortest length (RFC 9580 section 4.2.1).
func AppendPacket(b []byte, t Tag, body []byte) []byte {
	b = append(b, 0xc0|byte(t))
	return append(appendLength(b, len(body)), body...)
}

func appendLength(b []byte, n int) []byte {
	switch {
	case n < 192:
		return append(b, byte(n))
	case n < 8384:
		n -= 192
		return append(b, byte(n>>8)+192, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 255), uint32(n))
}

// header reads a packet's header: its tag, how long the header is, and how long
// the body. Partial and indeterminate lengths are refused: what they frame would
// have no one encoding.
func header(b []byte) (t Tag, head int, body int64, err error) {
	if len(b) < 2 || b[0]&0x80 == 0 {
		return 0, 0, 0, malformed("packet header")
	}
	be := binary.BigEndian
	if b[0]&0x40 == 0 { // legacy format (section 4.2.2)
		t = Tag(b[0] >> 2 & 15)
		switch n := b[0] & 3; {
		case n == 0:
			return t, 2, int64(b[1]), nil
		case n == 1 && len(b) >= 3:
			return t, 3, int64(be.Uint16(b[1:])), nil
		case n == 2 && len(b) >= 5:
			return t, 5, int64(be.Uint32(b[1:])), nil
		}
		return 0, 0, 0, malformed("packet length")
	}
	t = Tag(b[0] & 63)
	switch n := b[1]; {
	case n < 192:
		return t, 2, int64(n), nil
	case n < 224 && len(b) >= 3:
		return t, 3, int64(n-192)<<8 + int64(b[2]) + 192, nil
	case n == 255 && len(b) >= 6:
		return t, 6, int64(be.Uint32(b[2:])), nil
	}
	return 0, 0, 0, malformed("packet length")
}

// ReadPacket reads the first packet of b, and returns what follows it.
func ReadPacket(b []byte) (p Packet, rest []byte, err error) {
	t, head, n, err := header(b)
	if err != nil {
		return p, nil, err
	}
	if t == 0 || n > maxPacket || n > int64(len(b)-head) {
		return p, nil, malformed("packet of type %d with %d bytes", t, n)
	}
	end := head + int(n)
	return Packet{t, b[head:end], b[:end]}, b[end:], nil
}

// ReadPackets reads all of b; max limits how many packets there may be.
func ReadPackets(b []byte, max int) (out []Packet, err error) {
	for len(b) > 0 {
		if len(out) == max {
			return nil, malformed("more than %d packets", max)
		}
		var p Packet
		if p, b, err = ReadPacket(b); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// appendMPI writes a multiprecision integer (section 3.2).
func appendMPI(b, v []byte) []byte {
	for len(v) > 0 && v[0] == 0 {
		v = v[1:]
	}
	n := 0
	if len(v) > 0 {
		n = len(v)*8 - bits.LeadingZeros8(v[0])
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(n)), v...)
}

// reader takes fields off the front of b; the first that is not there spoils it.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) || r.bad {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() int {
	if v := r.take(2); v != nil {
		return int(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// mpi reads an integer of at most max bytes in its only form: the bit length must
// be that of the value.
func (r *reader) mpi(max int) []byte {
	n := r.uint16()
	v := r.take((n + 7) / 8)
	if len(v) > max || n > 0 && (len(v) == 0 || len(v)*8-bits.LeadingZeros8(v[0]) != n) {
		r.bad = true
	}
	return v
}

// pad is v in n bytes; nil when it has more.
func pad(v []byte, n int) []byte {
	if len(v) > n {
		return nil
	}
	return new(big.Int).SetBytes(v).FillBytes(make([]byte, n))
}

// LiteralHeader reads the beginning of a literal data packet of binary content that
// has neither name nor date, which no signature covers (section 5.9): the length of
// what stands before the content, and of the content.
func LiteralHeader(b []byte) (head int, size int64, err error) {
	t, n, body, err := header(b)
	if err != nil {
		return 0, 0, err
	}
	if t != TagLiteral || body < 6 || len(b) < n+6 || string(b[n:n+6]) != "b\x00\x00\x00\x00\x00" {
		return 0, 0, malformed("literal data: want binary content without name and date")
	}
	return n + 6, body - 6, nil
}
