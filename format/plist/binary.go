package plist

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"unicode/utf16"
)

// binaryReader reads the binary form (CFBinaryPList.c): objects, a table of their
// offsets, and a trailer of 32 bytes.
type binaryReader struct {
	b        []byte // what stands before the table of offsets
	offsets  []byte
	width    int // of an offset
	refWidth int // of a reference to an object
	count    uint64
	nodes    int
}

const (
	magicSize   = 8
	trailerSize = 32
)

func parseBinary(b []byte) (Value, error) {
	if len(b) < magicSize+trailerSize || string(b[:magicSize]) != "bplist00" {
		return nil, bad("binary list of another version, or cut off")
	}
	t := b[len(b)-trailerSize:]
	r := &binaryReader{width: int(t[6]), refWidth: int(t[7]), count: binary.BigEndian.Uint64(t[8:])}
	top, at := binary.BigEndian.Uint64(t[16:]), binary.BigEndian.Uint64(t[24:])
	body := b[:len(b)-trailerSize]
	if !width(r.width) || !width(r.refWidth) || at < magicSize || at > uint64(len(body)) ||
		r.count > uint64(len(body)) || r.count*uint64(r.width) != uint64(len(body))-at {
		return nil, bad("trailer of a binary list")
	}
	r.b, r.offsets = body[:at], body[at:]
	return r.object(top, 0)
}

func width(n int) bool { return n == 1 || n == 2 || n == 4 || n == 8 }

func number(b []byte) uint64 {
	n := uint64(0)
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// take cuts n elements of size bytes off b.
func take(b []byte, n uint64, size int) (head, rest []byte, err error) {
	if n > uint64(len(b)) || n*uint64(size) > uint64(len(b)) {
		return nil, nil, bad("an object runs out of the list")
	}
	return b[:n*uint64(size)], b[n*uint64(size):], nil
}

func (r *binaryReader) object(ref uint64, depth int) (Value, error) {
	if r.nodes++; r.nodes > MaxNodes || depth > MaxDepth {
		return nil, bad("more than %d values, or %d levels", MaxNodes, MaxDepth)
	}
	if ref >= r.count {
		return nil, bad("object %d of %d", ref, r.count)
	}
	at := number(r.offsets[ref*uint64(r.width):][:r.width])
	if at < magicSize || at >= uint64(len(r.b)) {
		return nil, bad("an object lies outside of the list")
	}
	kind, b := r.b[at], r.b[at+1:]
	switch kind {
	case 0x08, 0x09:
		return kind == 0x09, nil
	case 0x10, 0x11, 0x12, 0x13, 0x22, 0x23, 0x33:
		return fixed(kind, b)
	}
	n := uint64(kind & 15)
	if n == 15 {
		if len(b) == 0 || b[0]&0xf0 != 0x10 || b[0]&15 > 3 {
			return nil, bad("length of an object")
		}
		raw, rest, err := take(b[1:], 1<<(b[0]&15), 1)
		if err != nil {
			return nil, err
		}
		n, b = number(raw), rest
	}
	switch kind & 0xf0 {
	case 0x40:
		raw, _, err := take(b, n, 1)
		return Data(raw), err
	case 0x50:
		raw, _, err := take(b, n, 1)
		for _, c := range raw {
			if c >= 0x80 {
				return nil, bad("ASCII text that is none")
			}
		}
		return string(raw), err
	case 0x60:
		return wide(b, n)
	case 0xa0:
		return r.array(b, n, depth)
	case 0xd0:
		return r.dict(b, n, depth)
	}
	return nil, bad("an object of kind %#x", kind)
}

// fixed reads numbers and dates, whose size is in their kind.
func fixed(kind byte, b []byte) (Value, error) {
	raw, _, err := take(b, 1<<(kind&15), 1)
	if err != nil {
		return nil, err
	}
	switch kind & 0xf0 {
	case 0x10:
		return int64(number(raw)), nil // eight bytes are signed, fewer are not
	case 0x20:
		return Real("0x" + hex.EncodeToString(raw)), nil
	}
	return Date("0x" + strconv.FormatUint(number(raw), 16)), nil
}

// wide reads text in UTF-16, in which a lone surrogate is refused.
func wide(b []byte, n uint64) (Value, error) {
	raw, _, err := take(b, n, 2)
	if err != nil {
		return nil, err
	}
	units := make([]uint16, n)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(raw[2*i:])
	}
	runes := utf16.Decode(units)
	if len(utf16.Encode(runes)) != len(units) {
		return nil, bad("UTF-16 text")
	}
	for i, u := range utf16.Encode(runes) {
		if units[i] != u {
			return nil, bad("UTF-16 text")
		}
	}
	return string(runes), nil
}

func (r *binaryReader) array(b []byte, n uint64, depth int) (Value, error) {
	refs, _, err := take(b, n, r.refWidth)
	if err != nil {
		return nil, err
	}
	out := Array{}
	for ; len(refs) > 0; refs = refs[r.refWidth:] {
		v, err := r.object(number(refs[:r.refWidth]), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (r *binaryReader) dict(b []byte, n uint64, depth int) (Value, error) {
	keys, rest, err := take(b, n, r.refWidth)
	if err != nil {
		return nil, err
	}
	values, _, err := take(rest, n, r.refWidth)
	if err != nil {
		return nil, err
	}
	out := Dict{}
	for ; len(keys) > 0; keys, values = keys[r.refWidth:], values[r.refWidth:] {
		k, err := r.object(number(keys[:r.refWidth]), depth+1)
		if err != nil {
			return nil, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, bad("a key that is no text")
		}
		v, err := r.object(number(values[:r.refWidth]), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, Pair{name, v})
	}
	return out, out.unique()
}
