package unpack

import "encoding/binary"

// lzma2 is a run of chunks, each of them LZMA or plain (xz-file-format, section 5.3.1,
// and the LZMA specification of the LZMA SDK).
type lzma2 struct {
	ready  bool // the dictionary began anew
	proper bool // properties were set
	left   int  // bytes of the chunk that are not unpacked
	plain  bool
	packed *[1 << 16]byte // of an LZMA chunk
	*probabilities
	lc, lp, pb uint
	state      int
	reps       [4]uint32 // the last distances, less one
	pending    int       // bytes of a match that are not copied
	// The range decoder.
	in        []byte
	rng, code uint32
	short     bool // it wanted more than there is
}

const (
	states  = 12
	probOne = 1 << 10 // a half
)

// probabilities are what the decoder learns.
type probabilities struct {
	match, rep0Long          [states << 4]uint16
	rep, repG0, repG1, repG2 [states]uint16
	slot                     [4][64]uint16
	special                  [115]uint16
	align                    [16]uint16
	length, repLength        lengths
	literals                 [0x300 << 4]uint16
}

type lengths struct {
	choice, choice2 uint16
	low, mid        [16][8]uint16
	high            [256]uint16
}

func half(p ...[]uint16) {
	for _, l := range p {
		for i := range l {
			l[i] = probOne
		}
	}
}

func (l *lengths) reset() {
	l.choice, l.choice2 = probOne, probOne
	for i := range l.low {
		half(l.low[i][:], l.mid[i][:])
	}
	half(l.high[:])
}

// reset forgets what was learnt.
func (d *lzma2) reset() {
	p := d.probabilities
	half(p.match[:], p.rep0Long[:], p.rep[:], p.repG0[:], p.repG1[:], p.repG2[:], p.special[:], p.align[:], p.literals[:0x300<<(d.lc+d.lp)])
	for i := range p.slot {
		half(p.slot[i][:])
	}
	p.length.reset()
	p.repLength.reset()
	d.state, d.reps, d.pending = 0, [4]uint32{}, 0
}

// step unpacks a piece; last says that the run is over.
func (d *lzma2) step(r *reader) (last bool, err error) {
	if d.left == 0 {
		if last, err = d.chunk(r); last || err != nil {
			return last, err
		}
	}
	n := min(d.left, piece)
	d.left -= n
	if d.plain {
		at := len(r.window)
		r.put(make([]byte, n))
		return false, r.fill(r.window[at:])
	}
	if err := d.unpack(r, n); err != nil {
		return false, err
	}
	if d.left == 0 && (d.code != 0 || len(d.in) > 0 || d.pending > 0) {
		return false, malformed("a chunk of LZMA does not end where it should")
	}
	return false, nil
}

// chunk reads the header of the next one.
func (d *lzma2) chunk(r *reader) (last bool, err error) {
	control, err := r.byte()
	if err != nil || control == 0 {
		return control == 0 && err == nil, err
	}
	switch {
	case control == 1 || control >= 0xe0:
		d.ready, d.proper, r.since = true, false, 0
	case !d.ready:
		return false, malformed("a run of LZMA2 that does not begin with a new dictionary")
	case control > 2 && control < 0x80:
		return false, malformed("a chunk of kind %d", control)
	}
	var h [4]byte
	if d.plain = control < 0x80; d.plain {
		if err := r.fill(h[:2]); err != nil {
			return false, err
		}
		d.left = int(binary.BigEndian.Uint16(h[:])) + 1
		return false, nil
	}
	if err := r.fill(h[:]); err != nil {
		return false, err
	}
	d.left = int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(h[:])) + 1
	packed := int(binary.BigEndian.Uint16(h[2:])) + 1
	if d.probabilities == nil {
		d.probabilities, d.packed = &probabilities{}, new([1 << 16]byte)
	}
	switch {
	case control >= 0xc0:
		b, err := r.byte()
		if err != nil {
			return false, err
		}
		d.lc, d.lp, d.pb = uint(b%9), uint(b/9%5), uint(b/45)
		if d.pb > 4 || d.lc+d.lp > 4 {
			return false, malformed("properties of LZMA")
		}
		d.proper = true
		d.reset()
	case !d.proper:
		return false, malformed("LZMA without properties")
	case control >= 0xa0:
		d.reset()
	}
	if packed < 5 {
		return false, malformed("a chunk of LZMA of %d bytes", packed)
	}
	if err := r.fill(d.packed[:packed]); err != nil {
		return false, err
	}
	if d.packed[0] != 0 {
		return false, malformed("a chunk of LZMA does not begin like one")
	}
	d.rng, d.code, d.in = 1<<32-1, binary.BigEndian.Uint32(d.packed[1:]), d.packed[5:packed]
	return false, nil
}

// bit decodes one bit by its probability.
func (d *lzma2) bit(p *uint16) uint32 {
	bound := d.rng >> 11 * uint32(*p)
	var b uint32
	if d.code < bound {
		d.rng = bound
		*p += (1<<11 - *p) >> 5
	} else {
		d.rng -= bound
		d.code -= bound
		*p -= *p >> 5
		b = 1
	}
	if d.rng < 1<<24 {
		d.more()
	}
	return b
}

func (d *lzma2) more() {
	d.rng <<= 8
	d.code <<= 8
	if len(d.in) == 0 {
		d.short = true
		return
	}
	d.code |= uint32(d.in[0])
	d.in = d.in[1:]
}

// tree decodes n bits, the highest first.
func (d *lzma2) tree(p []uint16, n uint) uint32 {
	m := uint32(1)
	for range n {
		m = m<<1 | d.bit(&p[m])
	}
	return m - 1<<n
}

// reverse decodes n bits, the lowest first.
func (d *lzma2) reverse(p []uint16, n uint) (v uint32) {
	m := uint32(1)
	for i := range n {
		b := d.bit(&p[m])
		m = m<<1 | b
		v |= b << i
	}
	return v
}

// direct decodes n bits without a probability.
func (d *lzma2) direct(n uint32) (v uint32) {
	for range n {
		d.rng >>= 1
		v <<= 1
		if d.code >= d.rng {
			d.code -= d.rng
			v |= 1
		}
		if d.rng < 1<<24 {
			d.more()
		}
	}
	return v
}

func (d *lzma2) lengthOf(l *lengths, at uint) int {
	switch {
	case d.bit(&l.choice) == 0:
		return 2 + int(d.tree(l.low[at][:], 3))
	case d.bit(&l.choice2) == 0:
		return 10 + int(d.tree(l.mid[at][:], 3))
	}
	return 18 + int(d.tree(l.high[:], 8))
}

// unpack appends n bytes.
func (d *lzma2) unpack(r *reader, n int) error {
	end := r.total + int64(n)
	for {
		if d.pending > 0 {
			c := min(d.pending, int(end-r.total))
			d.pending -= c
			if err := r.repeat(int(int64(d.reps[0])+1), c); err != nil {
				return err
			}
		}
		if d.short {
			return malformed("a chunk of LZMA is cut")
		}
		if r.total == end {
			return nil
		}
		// Positions count from where the dictionary began.
		at := uint(r.since) & (1<<d.pb - 1)
		if d.bit(&d.match[d.state<<4+int(at)]) == 0 {
			if err := d.literal(r); err != nil {
				return err
			}
			continue
		}
		if d.bit(&d.rep[d.state]) == 0 {
			d.newMatch(at)
			continue
		}
		if err := d.oldMatch(r, at); err != nil {
			return err
		}
	}
}

func (d *lzma2) literal(r *reader) error {
	prev := uint(0)
	if r.since > 0 {
		prev = uint(r.window[len(r.window)-1])
	}
	p := d.literals[0x300*(uint(r.since)&(1<<d.lp-1)<<d.lc+prev>>(8-d.lc)):][:0x300]
	m := uint32(1)
	if d.state >= 7 {
		distance := int64(d.reps[0]) + 1
		if distance > r.since || distance > int64(r.size) {
			return malformed("a distance of %d bytes", distance)
		}
		matched := uint32(r.window[len(r.window)-int(distance)])
		for m < 0x100 {
			b := matched >> 7 & 1
			matched <<= 1
			c := d.bit(&p[(1+b)<<8+m])
			if m = m<<1 | c; c != b {
				break
			}
		}
	}
	for m < 0x100 {
		m = m<<1 | d.bit(&p[m])
	}
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
	r.window = append(r.window, byte(m))
	r.total++
	r.since++
	return nil
}

// newMatch decodes length and distance of a match.
func (d *lzma2) newMatch(at uint) {
	if d.state < 7 {
		d.state = 7
	} else {
		d.state = 10
	}
	d.reps[3], d.reps[2], d.reps[1] = d.reps[2], d.reps[1], d.reps[0]
	d.pending = d.lengthOf(&d.length, at)
	slot := d.tree(d.slot[min(d.pending-2, 3)][:], 6)
	if slot < 4 {
		d.reps[0] = slot
		return
	}
	n := slot>>1 - 1
	distance := (2 | slot&1) << n
	if slot < 14 {
		distance += d.reverse(d.special[distance-slot:], uint(n))
	} else {
		distance += d.direct(n-4) << 4
		distance += d.reverse(d.align[:], 4)
	}
	d.reps[0] = distance // 1<<32-1, an end marker elsewhere, is too far here
}

// oldMatch takes one of the last distances.
func (d *lzma2) oldMatch(r *reader, at uint) error {
	short := false
	if d.bit(&d.repG0[d.state]) == 0 {
		short = d.bit(&d.rep0Long[d.state<<4+int(at)]) == 0
	} else {
		i := 1
		if d.bit(&d.repG1[d.state]) != 0 {
			i = 2 + int(d.bit(&d.repG2[d.state]))
		}
		v := d.reps[i]
		copy(d.reps[1:i+1], d.reps[:i])
		d.reps[0] = v
	}
	late := d.state >= 7
	if short {
		if d.state = 9; late {
			d.state = 11
		}
		d.pending = 1
		return nil
	}
	if d.state = 8; late {
		d.state = 11
	}
	d.pending = d.lengthOf(&d.repLength, at)
	return nil
}
