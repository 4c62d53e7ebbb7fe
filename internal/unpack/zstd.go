package unpack

import (
	"encoding/binary"
	"math/bits"
)

// zstd is a frame: header, blocks, checksum.
type zstd struct {
	begun, over bool
	size        int64 // as the header says, or -1
	max         int   // of a block
	hash        *xxh64
	block       []byte
	literals    []byte
	huffman     *huffman
	tables      [3]*fse // lengths of literals, offsets, lengths of matches
	reps        [3]int
}

func (z *zstd) step(r *reader) error {
	if !z.begun {
		if err := z.start(r); err != nil {
			return err
		}
	}
	if z.over {
		return z.finish(r)
	}
	var h [3]byte
	if err := r.fill(h[:]); err != nil {
		return err
	}
	v := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	last, kind, n := v&1 == 1, v>>1&3, v>>3
	if n > z.max || kind == 3 {
		return malformed("a block of kind %d, %d bytes", kind, n)
	}
	r.room(z.max)
	from := len(r.window)
	size := n
	if kind == 1 {
		size = 1
	}
	if cap(z.block) < size {
		z.block = make([]byte, max(z.max, 1))
	}
	b := z.block[:size]
	if err := r.fill(b); err != nil {
		return err
	}
	switch kind {
	case 0:
		r.put(b)
	case 1:
		if n > 0 {
			r.put(b)
			if err := r.repeat(1, n-1); err != nil {
				return err
			}
		}
	case 2:
		if err := z.compressed(r, b); err != nil {
			return err
		}
		if len(r.window)-from > z.max {
			return malformed("a block unpacks to more than %d bytes", z.max)
		}
	}
	if z.hash != nil {
		z.hash.write(r.window[from:])
	}
	z.over = last
	return nil
}

func (z *zstd) start(r *reader) error {
	var h [5]byte
	if err := r.fill(h[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(h[:]) != 0xfd2fb528 {
		return malformed("it does not begin with a frame of Zstandard")
	}
	d := h[4]
	single := d&0x20 != 0
	if d&8 != 0 || d&3 != 0 {
		return malformed("a frame with a reserved bit or a dictionary")
	}
	window := int64(0)
	if !single {
		b, err := r.byte()
		if err != nil {
			return err
		}
		window = int64(1) << (10 + b>>3)
		window += window / 8 * int64(b&7)
	}
	n := [4]int{0, 2, 4, 8}[d>>6]
	if n == 0 && single {
		n = 1
	}
	var size [8]byte
	if err := r.fill(size[:n]); err != nil {
		return err
	}
	z.size = -1
	if n > 0 {
		v := binary.LittleEndian.Uint64(size[:])
		if n == 2 {
			v += 256
		}
		if v > 1<<62 {
			return malformed("a frame of %d bytes", v)
		}
		if z.size = int64(v); single {
			window = z.size
		}
	}
	if err := r.begin(int(min(window, 1<<31-1))); err != nil {
		return err
	}
	z.max = int(min(window, piece))
	if d&4 != 0 {
		z.hash = newXXH64()
	}
	z.begun, z.reps = true, [3]int{1, 4, 8}
	return nil
}

func (z *zstd) finish(r *reader) error {
	if z.size >= 0 && z.size != r.total {
		return malformed("%d bytes: its header says %d", r.total, z.size)
	}
	if z.hash != nil {
		var sum [4]byte
		if err := r.fill(sum[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(sum[:]) != uint32(z.hash.sum()) {
			return malformed("checksum of the frame")
		}
	}
	return r.end()
}

// compressed unpacks a block: literals, then sequences of literals and matches.
func (z *zstd) compressed(r *reader, b []byte) error {
	b, err := z.readLiterals(b)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return malformed("a block without sequences")
	}
	n := int(b[0])
	switch b = b[1:]; {
	case n == 255 && len(b) >= 2:
		n, b = int(b[0])+int(b[1])<<8+0x7f00, b[2:]
	case n >= 128 && n < 255 && len(b) >= 1:
		n, b = (n-128)<<8+int(b[0]), b[1:]
	case n >= 128:
		return malformed("number of sequences")
	}
	if n == 0 {
		if len(b) > 0 {
			return malformed("a block without sequences has %d bytes of them", len(b))
		}
		r.put(z.literals)
		return nil
	}
	if b, err = z.readTables(b); err != nil {
		return err
	}
	return z.sequences(r, b, n)
}

func (z *zstd) sequences(r *reader, b []byte, n int) error {
	in, err := newBackwards(b)
	if err != nil {
		return err
	}
	var at [3]uint32
	for i, t := range z.tables {
		at[i] = uint32(in.read(t.log))
	}
	literals, room := z.literals, z.max
	for i := range n {
		lit, off, mat := z.tables[0].entries[at[0]], z.tables[1].entries[at[1]], z.tables[2].entries[at[2]]
		if off.symbol > 31 || lit.symbol > 35 || mat.symbol > 52 {
			return malformed("a code of a sequence")
		}
		offset := int64(1)<<off.symbol + int64(in.read(int(off.symbol)))
		match := int(matchLengths[mat.symbol].base) + int(in.read(int(matchLengths[mat.symbol].bits)))
		length := int(literalLengths[lit.symbol].base) + int(in.read(int(literalLengths[lit.symbol].bits)))
		if length > len(literals) || length+match > room {
			return malformed("a sequence of %d literals, %d bytes", length, match)
		}
		room -= length + match
		r.put(literals[:length])
		literals = literals[length:]
		if err := r.repeat(z.distance(offset, length), match); err != nil {
			return err
		}
		if i < n-1 {
			at[0] = uint32(lit.next) + uint32(in.read(int(lit.bits)))
			at[2] = uint32(mat.next) + uint32(in.read(int(mat.bits)))
			at[1] = uint32(off.next) + uint32(in.read(int(off.bits)))
		}
	}
	if in.at != 0 {
		return malformed("sequences do not end where they should")
	}
	r.put(literals)
	return nil
}

// distance is what an offset means, which may be one of the last three.
func (z *zstd) distance(offset int64, literals int) int {
	if offset > 3 {
		z.reps[2], z.reps[1], z.reps[0] = z.reps[1], z.reps[0], int(min(offset-3, 1<<31-1))
		return z.reps[0]
	}
	i := int(offset) - 1
	if literals == 0 {
		i++
	}
	var d int
	switch i {
	case 0:
		return z.reps[0]
	case 3:
		d = z.reps[0] - 1 // zero is no distance
	default:
		d = z.reps[i]
	}
	if i != 1 {
		z.reps[2] = z.reps[1]
	}
	z.reps[1], z.reps[0] = z.reps[0], d
	return d
}

// code is what a symbol stands for: a number, with bits that are added.
type code struct {
	base uint32
	bits uint8
}

func codes(straight, base int, widths []uint8) (out []code) {
	for i := range straight {
		out = append(out, code{uint32(base + i), 0})
	}
	next := uint32(base + straight)
	for _, b := range widths {
		out = append(out, code{next, b})
		next += 1 << b
	}
	return out
}

var (
	literalLengths = codes(16, 0, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	matchLengths   = codes(32, 3, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})

	// The distributions of blocks that bring none (RFC 8878, section 3.1.1.3.2.2).
	defaults = [3]*fse{
		mustFSE(6, []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}),
		mustFSE(5, []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}),
		mustFSE(6, []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}),
	}
	maxLogs    = [3]int{9, 8, 9}
	maxSymbols = [3]int{35, 31, 52}
)

func mustFSE(log int, counts []int16) *fse {
	t, err := newFSE(log, counts)
	if err != nil {
		panic(err)
	}
	return t
}

// readTables reads how the three numbers of sequences are coded.
func (z *zstd) readTables(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]&3 != 0 {
		return nil, malformed("how sequences are coded")
	}
	modes := b[0]
	b = b[1:]
	for i := range z.tables {
		switch modes >> (6 - 2*i) & 3 {
		case 0:
			z.tables[i] = defaults[i]
		case 1:
			if len(b) == 0 || int(b[0]) > maxSymbols[i] {
				return nil, malformed("the one code of sequences")
			}
			z.tables[i] = &fse{entries: []entry{{symbol: b[0]}}}
			b = b[1:]
		case 2:
			log, counts, n, err := readCounts(b, maxLogs[i], maxSymbols[i])
			if err != nil {
				return nil, err
			}
			if z.tables[i], err = newFSE(log, counts); err != nil {
				return nil, err
			}
			b = b[n:]
		case 3:
			if z.tables[i] == nil {
				return nil, malformed("sequences are coded as those before, and there are none")
			}
		}
	}
	return b, nil
}

// backwards reads bits from the end of b, where a set bit stands before the first.
type backwards struct {
	b  []byte
	at int // bits that are left; less than zero where zeros were made up
}

func newBackwards(b []byte) (*backwards, error) {
	if len(b) == 0 || b[len(b)-1] == 0 {
		return nil, malformed("bits without a beginning")
	}
	return &backwards{b, len(b)*8 - bits.LeadingZeros8(b[len(b)-1]) - 1}, nil
}

// read takes n bits, 32 at most.
func (r *backwards) read(n int) uint64 {
	r.at -= n
	return r.peek(r.at, n)
}

// peek gives the n bits from at on; those below zero are zeros.
func (r *backwards) peek(at, n int) uint64 {
	if at < 0 {
		if at+n <= 0 {
			return 0
		}
		return r.peek(0, at+n) << -at
	}
	i := at >> 3
	var v uint64
	if i+8 <= len(r.b) {
		v = binary.LittleEndian.Uint64(r.b[i:])
	} else {
		for j := len(r.b) - 1; j >= i; j-- {
			v = v<<8 | uint64(r.b[j])
		}
	}
	return v >> (at & 7) & (1<<n - 1)
}

// xxh64 is the frame's checksum (XXH64 with seed zero).
type xxh64 struct {
	v     [4]uint64
	buf   [32]byte
	n     int
	total uint64
}

const (
	prime1 = 0x9E3779B185EBCA87
	prime2 = 0xC2B2AE3D27D4EB4F
	prime3 = 0x165667B19E3779F9
	prime4 = 0x85EBCA77C2B2AE63
	prime5 = 0x27D4EB2F165667C5
)

func newXXH64() *xxh64 {
	p1 := uint64(prime1)
	return &xxh64{v: [4]uint64{p1 + prime2, prime2, 0, -p1}}
}

func round64(v, in uint64) uint64 { return bits.RotateLeft64(v+in*prime2, 31) * prime1 }

func (x *xxh64) stripe(b []byte) {
	for i := range x.v {
		x.v[i] = round64(x.v[i], binary.LittleEndian.Uint64(b[8*i:]))
	}
}

func (x *xxh64) write(b []byte) {
	x.total += uint64(len(b))
	if x.n > 0 {
		c := copy(x.buf[x.n:], b)
		if b, x.n = b[c:], x.n+c; x.n < len(x.buf) {
			return
		}
		x.stripe(x.buf[:])
	}
	for ; len(b) >= 32; b = b[32:] {
		x.stripe(b)
	}
	x.n = copy(x.buf[:], b)
}

func (x *xxh64) sum() uint64 {
	h := x.v[2] + prime5
	if x.total >= 32 {
		h = bits.RotateLeft64(x.v[0], 1) + bits.RotateLeft64(x.v[1], 7) + bits.RotateLeft64(x.v[2], 12) + bits.RotateLeft64(x.v[3], 18)
		for _, v := range x.v {
			h = (h^round64(0, v))*prime1 + prime4
		}
	}
	h += x.total
	b := x.buf[:x.n]
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round64(0, binary.LittleEndian.Uint64(b)), 27)*prime1 + prime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*prime1, 23)*prime2 + prime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}
