package unpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// The kinds of checks that xz writes.
const (
	checkNone   = 0
	checkCRC32  = 1
	checkCRC64  = 4
	checkSHA256 = 10
)

const maxBlocks = 1 << 20

// xz is a stream: header, blocks, an index of the blocks, footer.
type xz struct {
	begun  bool
	flags  [2]byte
	inside bool      // a block
	check  hash.Hash // of the block; nil for none
	begin  int64     // of the block in the input, behind its header
	header int64     // its size
	out    int64     // unpacked before it
	packed int64     // as the header says, or -1
	size   int64
	blocks hash.Hash // over the sizes of all, as the index has them
	count  uint64
	lzma   lzma2
}

func (x *xz) step(r *reader) error {
	if !x.begun {
		if err := x.start(r); err != nil {
			return err
		}
	}
	if !x.inside {
		n, err := r.byte()
		if err != nil {
			return err
		}
		if n == 0 {
			return x.finish(r)
		}
		if err := x.block(r, n); err != nil {
			return err
		}
	}
	r.room(piece)
	from := len(r.window)
	last, err := x.lzma.step(r)
	if err != nil {
		return err
	}
	if x.check != nil {
		x.check.Write(r.window[from:])
	}
	if last {
		return x.endBlock(r)
	}
	return nil
}

func (x *xz) start(r *reader) error {
	var b [12]byte
	if err := r.fill(b[:]); err != nil {
		return err
	}
	if string(b[:6]) != "\xfd7zXZ\x00" || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return malformed("header of the stream")
	}
	x.begun, x.flags, x.blocks = true, [2]byte(b[6:8]), sha256.New()
	switch {
	case b[6] != 0:
		return malformed("flags of the stream")
	case b[7] == checkNone, b[7] == checkCRC32, b[7] == checkCRC64, b[7] == checkSHA256:
		return nil
	}
	return malformed("a check of kind %d", b[7])
}

// block reads the header of one, whose first byte is n.
func (x *xz) block(r *reader, n byte) error {
	if x.count++; x.count > maxBlocks {
		return malformed("more than %d blocks", maxBlocks)
	}
	h := make([]byte, (int(n)+1)*4)
	h[0] = n
	if err := r.fill(h[1:]); err != nil {
		return err
	}
	x.header = int64(len(h))
	body, sum := h[:len(h)-4], binary.LittleEndian.Uint32(h[len(h)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return malformed("checksum of a block's header")
	}
	flags := body[1]
	if flags&^0xc0 != 0 {
		return malformed("more filters than LZMA2")
	}
	b := body[2:]
	x.packed, x.size = -1, -1
	var ok bool
	if flags&0x40 != 0 {
		if x.packed, b, ok = number(b); !ok {
			return malformed("size of a block")
		}
	}
	if flags&0x80 != 0 {
		if x.size, b, ok = number(b); !ok {
			return malformed("size of a block")
		}
	}
	// Filter 0x21, one byte of properties, zeros.
	if len(b) < 3 || b[0] != 0x21 || b[1] != 1 || b[2] > 40 || len(bytes.Trim(b[3:], "\x00")) > 0 {
		return malformed("another filter than LZMA2")
	}
	dictionary := int64(1<<32 - 1)
	if b[2] < 40 {
		dictionary = int64(2|b[2]&1) << (b[2]/2 + 11)
	}
	if err := r.begin(int(min(dictionary, 1<<31-1))); err != nil {
		return err
	}
	x.lzma = lzma2{packed: x.lzma.packed, probabilities: x.lzma.probabilities}
	x.inside, x.begin, x.out, x.check = true, r.read, r.total, nil
	switch x.flags[1] {
	case checkCRC32:
		x.check = crc32.NewIEEE()
	case checkCRC64:
		x.check = crc64.New(crc64Table)
	case checkSHA256:
		x.check = sha256.New()
	}
	return nil
}

var crc64Table = crc64.MakeTable(crc64.ECMA)

// endBlock reads padding and check.
func (x *xz) endBlock(r *reader) error {
	packed, size := r.read-x.begin, r.total-x.out
	if x.packed >= 0 && x.packed != packed || x.size >= 0 && x.size != size {
		return malformed("a block has another size than its header says")
	}
	var pad [4]byte
	if err := r.fill(pad[:-packed&3]); err != nil {
		return err
	}
	sum := int64(0)
	if x.check != nil {
		sum = int64(x.check.Size())
		want := x.check.Sum(nil)
		if x.flags[1] != checkSHA256 { // hash.Hash is big-endian
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
		got := make([]byte, sum)
		if err := r.fill(got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return malformed("checksum of a block")
		}
	}
	if pad != [4]byte{} {
		return malformed("padding of a block")
	}
	x.inside = false
	x.record(x.blocks, x.header+packed+sum, size)
	return nil
}

func (x *xz) record(h hash.Hash, a, b int64) {
	var p [16]byte
	binary.LittleEndian.PutUint64(p[:], uint64(a))
	binary.LittleEndian.PutUint64(p[8:], uint64(b))
	h.Write(p[:])
}

// finish reads index and footer.
func (x *xz) finish(r *reader) error {
	sum, begin := crc32.NewIEEE(), r.read-1
	sum.Write([]byte{0})
	next := func() (int64, error) {
		var b []byte
		for {
			c, err := r.byte()
			if err != nil {
				return 0, err
			}
			sum.Write([]byte{c})
			if b = append(b, c); c < 0x80 || len(b) == 9 {
				break
			}
		}
		v, rest, ok := number(b)
		if !ok || len(rest) > 0 {
			return 0, malformed("a number in the index")
		}
		return v, nil
	}
	n, err := next()
	if err != nil {
		return err
	}
	if uint64(n) != x.count {
		return malformed("the index tells of %d blocks: there are %d", n, x.count)
	}
	again := sha256.New()
	for range x.count {
		a, err := next()
		if err != nil {
			return err
		}
		b, err := next()
		if err != nil {
			return err
		}
		x.record(again, a, b)
	}
	if !bytes.Equal(again.Sum(nil), x.blocks.Sum(nil)) {
		return malformed("the index has other sizes than the blocks")
	}
	pad := make([]byte, -(r.read-begin)&3)
	if err := r.fill(pad); err != nil {
		return err
	}
	sum.Write(pad)
	var tail [16]byte
	if err := r.fill(tail[:]); err != nil {
		return err
	}
	size := (r.read - 12 - begin) / 4 // of the index with its checksum
	foot := tail[4:]
	if len(bytes.Trim(pad, "\x00")) > 0 || binary.LittleEndian.Uint32(tail[:]) != sum.Sum32() {
		return malformed("checksum of the index")
	}
	if string(foot[10:]) != "YZ" || [2]byte(foot[8:10]) != x.flags || int64(binary.LittleEndian.Uint32(foot[4:]))+1 != size ||
		crc32.ChecksumIEEE(foot[4:10]) != binary.LittleEndian.Uint32(foot) {
		return malformed("footer of the stream")
	}
	return r.end()
}

// number reads an integer of seven bits a byte, of at most 63 bits, in its shortest form.
func number(b []byte) (int64, []byte, bool) {
	var v int64
	for i := 0; i < len(b) && i < 9; i++ {
		v |= int64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], i == 0 || b[i] != 0
		}
	}
	return 0, nil, false
}
