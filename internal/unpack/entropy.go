package unpack

import "math/bits"

// fse is a table of finite state entropy (RFC 8878, section 4.1).
type fse struct {
	log     int
	entries []entry
}

// entry is a state: what it says, and which follow it.
type entry struct {
	symbol, bits uint8
	next         uint16
}

// readCounts reads how often each symbol is.
func readCounts(b []byte, maxLog, maxSymbol int) (log int, counts []int16, used int, err error) {
	at := 0
	peek := func(n int) (v int) {
		for i := range n {
			if j := at + i; j>>3 < len(b) {
				v |= int(b[j>>3]>>(j&7)&1) << i
			}
		}
		return v
	}
	log = peek(4) + 5
	at = 4
	if log > maxLog {
		return 0, nil, 0, malformed("a table of 2^%d states", log)
	}
	left := 1 << log
	for left > 0 {
		if len(counts) > maxSymbol {
			return 0, nil, 0, malformed("more than %d symbols", maxSymbol+1)
		}
		n := bits.Len(uint(left + 1))
		v := peek(n)
		low, threshold := 1<<(n-1)-1, 1<<n-1-(left+1)
		if v&low < threshold {
			v &= low
			n--
		} else if v > low {
			v -= threshold
		}
		at += n
		v--
		counts = append(counts, int16(v))
		left -= max(v, -v)
		if v != 0 {
			continue
		}
		for more := 3; more == 3; {
			more = peek(2)
			at += 2
			for range more {
				counts = append(counts, 0)
			}
			if len(counts) > maxSymbol+1 {
				return 0, nil, 0, malformed("more than %d symbols", maxSymbol+1)
			}
		}
	}
	used = (at + 7) / 8
	if left != 0 || used > len(b) {
		return 0, nil, 0, malformed("a table of symbols")
	}
	return log, counts, used, nil
}

// newFSE spreads the symbols over the states.
func newFSE(log int, counts []int16) (*fse, error) {
	size := 1 << log
	t := &fse{log, make([]entry, size)}
	next := make([]int, len(counts))
	high := size
	for s, c := range counts {
		if next[s] = int(c); c == -1 {
			high--
			if next[s] = 1; high < 0 {
				return nil, malformed("a table of symbols")
			}
			t.entries[high].symbol = uint8(s)
		}
	}
	step, at := size>>1+size>>3+3, 0
	for s, c := range counts {
		for range max(c, 0) {
			t.entries[at].symbol = uint8(s)
			for at = (at + step) & (size - 1); at >= high; {
				at = (at + step) & (size - 1)
			}
		}
	}
	if at != 0 {
		return nil, malformed("a table of symbols")
	}
	for i := range t.entries {
		e := &t.entries[i]
		n := next[e.symbol]
		next[e.symbol]++
		e.bits = uint8(log - bits.Len(uint(n)) + 1)
		e.next = uint16(n<<e.bits - size)
	}
	return t, nil
}

// huffman is a table of 2^log entries: the symbol that so many bits begin with, and how
// many are its own.
type huffman struct {
	log     int
	entries []struct{ symbol, bits uint8 }
}

const maxHuffman = 11 // bits of a code

// readHuffman reads a table (RFC 8878, section 4.2.1).
func readHuffman(b []byte) (*huffman, []byte, error) {
	if len(b) == 0 {
		return nil, nil, malformed("a table of codes")
	}
	var weights []uint8
	n := int(b[0])
	b = b[1:]
	if n >= 128 {
		n -= 127
		if len(b) < (n+1)/2 {
			return nil, nil, malformed("a table of codes is cut")
		}
		for i := range n {
			weights = append(weights, b[i/2]>>(4-4*(i&1))&15)
		}
		b = b[(n+1)/2:]
	} else {
		if len(b) < n {
			return nil, nil, malformed("a table of codes is cut")
		}
		var err error
		if weights, err = readWeights(b[:n]); err != nil {
			return nil, nil, err
		}
		b = b[n:]
	}
	h, err := newHuffman(weights)
	return h, b, err
}

// readWeights unpacks weights by two states that take turns.
func readWeights(b []byte) ([]uint8, error) {
	log, counts, used, err := readCounts(b, 6, 255)
	if err != nil {
		return nil, err
	}
	t, err := newFSE(log, counts)
	if err != nil {
		return nil, err
	}
	in, err := newBackwards(b[used:])
	if err != nil {
		return nil, err
	}
	var out []uint8
	state := [2]uint64{in.read(t.log), in.read(t.log)}
	for i := 0; len(out) < 255; i ^= 1 {
		e := t.entries[state[i]]
		out = append(out, e.symbol)
		if state[i] = uint64(e.next) + in.read(int(e.bits)); in.at < 0 {
			return append(out, t.entries[state[i^1]].symbol), nil
		}
	}
	return nil, malformed("more than 255 codes")
}

func newHuffman(weights []uint8) (*huffman, error) {
	sum := 0
	for _, w := range weights {
		if w > maxHuffman {
			return nil, malformed("a code of weight %d", w)
		}
		sum += 1 << w >> 1
	}
	if sum == 0 || len(weights) > 255 {
		return nil, malformed("a table of codes")
	}
	log := bits.Len(uint(sum))
	left := 1<<log - sum // the last weight is what is missing
	if log > maxHuffman || left&(left-1) != 0 {
		return nil, malformed("a table of codes of %d bits", log)
	}
	weights = append(weights, uint8(bits.Len(uint(left))))
	h := &huffman{log: log}
	for w := 1; w <= log; w++ {
		for s, x := range weights {
			if int(x) != w {
				continue
			}
			for range 1 << (w - 1) {
				h.entries = append(h.entries, struct{ symbol, bits uint8 }{uint8(s), uint8(log + 1 - w)})
			}
		}
	}
	if len(h.entries) != 1<<log {
		return nil, malformed("a table of codes")
	}
	return h, nil
}

// unpack decodes n symbols, which must be all that b holds.
func (h *huffman) unpack(out, b []byte, n int) ([]byte, error) {
	in, err := newBackwards(b)
	if err != nil {
		return nil, err
	}
	for range n {
		e := h.entries[in.peek(in.at-h.log, h.log)]
		out = append(out, e.symbol)
		if in.at -= int(e.bits); in.at < 0 {
			break
		}
	}
	if in.at != 0 {
		return nil, malformed("literals do not end where they should")
	}
	return out, nil
}

// readLiterals reads the literals of a block and returns what follows.
func (z *zstd) readLiterals(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, malformed("a block without literals")
	}
	kind, form := b[0]&3, b[0]>>2&3
	var head [5]byte
	copy(head[:], b)
	v := uint64(head[0]) | uint64(head[1])<<8 | uint64(head[2])<<16 | uint64(head[3])<<24 | uint64(head[4])<<32
	var n, size, packed int
	if kind < 2 {
		switch form {
		case 0, 2:
			n, size = 1, int(v>>3&0x1f)
		case 1:
			n, size = 2, int(v>>4&0xfff)
		case 3:
			n, size = 3, int(v>>4&0xfffff)
		}
		if packed = size; kind == 1 {
			packed = 1
		}
	} else {
		width := [4]int{10, 10, 14, 18}[form]
		n = [4]int{3, 3, 4, 5}[form]
		size, packed = int(v>>4&(1<<width-1)), int(v>>(4+width)&(1<<width-1))
	}
	if size > z.max || n > len(b) || packed > len(b)-n {
		return nil, malformed("%d literals out of %d bytes", size, packed)
	}
	in, rest := b[n:n+packed], b[n+packed:]
	z.literals = z.literals[:0]
	switch kind {
	case 0:
		z.literals = append(z.literals, in...)
		return rest, nil
	case 1:
		for range size {
			z.literals = append(z.literals, in[0])
		}
		return rest, nil
	case 2:
		var err error
		if z.huffman, in, err = readHuffman(in); err != nil {
			return nil, err
		}
	}
	if z.huffman == nil {
		return nil, malformed("literals are coded as those before, and there are none")
	}
	var err error
	if form == 0 {
		z.literals, err = z.huffman.unpack(z.literals, in, size)
		return rest, err
	}
	// Four streams, behind the sizes of the first three.
	if len(in) < 6 {
		return nil, malformed("literals are cut")
	}
	each, sizes := (size+3)/4, in[:6]
	in = in[6:]
	for i := range 4 {
		part, count := len(in), size-3*each
		if i < 3 {
			part, count = int(sizes[2*i])|int(sizes[2*i+1])<<8, each
		}
		if part > len(in) || count < 0 {
			return nil, malformed("literals are cut")
		}
		if z.literals, err = z.huffman.unpack(z.literals, in[:part], count); err != nil {
			return nil, err
		}
		in = in[part:]
	}
	return rest, nil
}
