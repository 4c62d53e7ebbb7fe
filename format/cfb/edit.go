package cfb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/greatseal-io/greatseal/format"
)

// Change is what becomes of one stream of the root storage: Data is its new
// content, nil takes it out.
type Change struct {
	Name string
	Data []byte
}

// maxStream bounds what is put into a file: it is held in memory.
const maxStream = 64 << 20

// Edit returns the edits that make the changes, one after the other. Sectors that
// become free are overwritten with zeros, or cut off where they stand at the end.
func (f *File) Edit(changes []Change) ([]format.Edit, error) {
	e := &editor{
		f: f, n: f.n, head: bytes.Clone(f.head), fat: slices.Clone(f.fat), mini: slices.Clone(f.mini), dir: bytes.Clone(f.dir),
		fatSects: slices.Clone(f.fatSects), difatSects: slices.Clone(f.difatSects), miniSects: slices.Clone(f.miniSects),
		dirSects: slices.Clone(f.dirSects), miniStream: slices.Clone(f.miniStream), miniSize: f.entries[0].Size,
		data: map[uint32][]byte{},
	}
	children := map[string]uint32{}
	for _, c := range f.entries[0].Children {
		children[string(f.entries[c].Name)] = uint32(c)
	}
	tree := false
	for _, c := range changes {
		name := Name(c.Name)
		i, there := children[string(name)]
		if there && Type(e.entry(i)[0x42]) != Stream {
			return nil, fmt.Errorf("cfb: %q is a storage", c.Name)
		}
		switch {
		case len(name) == 0 || len(name) > 62:
			return nil, fmt.Errorf("cfb: name of %d bytes", len(name))
		case len(c.Data) > maxStream:
			return nil, fmt.Errorf("cfb: stream of %d bytes: at most %d", len(c.Data), maxStream)
		case c.Data == nil && !there:
			continue
		}
		if there {
			if err := e.release(i); err != nil {
				return nil, err
			}
		}
		if c.Data == nil {
			e.clear(i)
			delete(children, string(name))
			tree = true
			continue
		}
		if !there {
			var err error
			if i, err = e.newEntry(name); err != nil {
				return nil, err
			}
			children[string(name)] = i
			tree = true
		}
		if err := e.write(i, c.Data); err != nil {
			return nil, err
		}
	}
	if tree {
		e.plant(slices.Collect(maps.Values(children)))
	}
	return e.finish()
}

// editor holds the tables while they change.
type editor struct {
	f          *File
	n          uint32 // sectors
	low        uint32 // no sector before it is free
	head       []byte
	fat, mini  []uint32
	fatSects   []uint32
	difatSects []uint32
	miniSects  []uint32
	dirSects   []uint32
	miniStream []uint32
	miniSize   int64
	dir        []byte
	data       map[uint32][]byte // sectors whose contents change, tables apart
}

func (e *editor) sectorSize() int { return 1 << e.f.shift }

func (e *editor) entry(i uint32) []byte { return e.dir[i*entrySize:][:entrySize] }

// sector gives the contents of a sector, to be changed.
func (e *editor) sector(s uint32) ([]byte, error) {
	if b, ok := e.data[s]; ok {
		return b, nil
	}
	b := make([]byte, e.sectorSize())
	if s < e.f.n {
		if err := readFull(e.f.r, b, e.f.offset(s)); err != nil {
			return nil, err
		}
	}
	e.data[s] = b
	return b, nil
}

// take marks a free sector, at the end of the file where there is none before.
func (e *editor) take(mark uint32) (uint32, error) {
	for s := e.low; s < e.n; s++ {
		if e.fat[s] == freeSect && s != e.f.lockSector() {
			e.low = s + 1
			e.fat[s] = mark
			e.data[s] = make([]byte, e.sectorSize())
			return s, nil
		}
	}
	e.low = e.n
	return e.append(mark)
}

// append adds a sector at the end of the file; the FAT grows with it.
func (e *editor) append(mark uint32) (uint32, error) {
	if e.n >= MaxSectors {
		return 0, fmt.Errorf("cfb: more than %d sectors", MaxSectors)
	}
	if int(e.n) == len(e.fat) {
		if err := e.growFAT(); err != nil {
			return 0, err
		}
		return e.take(mark)
	}
	s := e.n
	e.n++
	if s == e.f.lockSector() {
		e.fat[s] = endOfChain
		e.data[s] = make([]byte, e.sectorSize())
		return e.append(mark)
	}
	e.fat[s] = mark
	e.data[s] = make([]byte, e.sectorSize())
	return s, nil
}

// growFAT adds a sector of the FAT, which is the first that it tells of, and where
// the DIFAT is full one of that.
func (e *editor) growFAT() error {
	per := e.sectorSize() / 4
	for range per {
		e.fat = append(e.fat, freeSect)
	}
	s, err := e.append(fatSect)
	if err != nil {
		return err
	}
	e.fatSects = append(e.fatSects, s)
	if len(e.fatSects) > headerSlots+len(e.difatSects)*(per-1) {
		if s, err = e.append(difatSect); err != nil {
			return err
		}
		e.difatSects = append(e.difatSects, s)
	}
	return nil
}

// extend adds a sector to a chain, which is empty or ends with its last one.
func (e *editor) extend(chain []uint32) ([]uint32, error) {
	s, err := e.take(endOfChain)
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 {
		e.fat[chain[len(chain)-1]] = s
	}
	return append(chain, s), nil
}

// free gives a sector back, with zeros in it.
func (e *editor) free(s uint32) {
	e.fat[s] = freeSect
	e.low = min(e.low, s)
	e.data[s] = make([]byte, e.sectorSize())
}

// release frees the sectors of stream i.
func (e *editor) release(i uint32) error {
	b := e.entry(i)
	size, start := int64(le32(b[0x78:])), le32(b[0x74:])
	switch {
	case size == 0:
	case size >= miniCutoff:
		for s := start; s != endOfChain; {
			next := e.fat[s]
			e.free(s)
			s = next
		}
	default:
		for s := start; s != endOfChain; {
			part, err := e.miniSector(s)
			if err != nil {
				return err
			}
			clear(part)
			s, e.mini[s] = e.mini[s], freeSect
		}
		return e.shrinkMini()
	}
	return nil
}

// shrinkMini cuts free mini-sectors off the end of the mini stream.
func (e *editor) shrinkMini() error {
	count := (e.miniSize + miniSize - 1) / miniSize
	for count > 0 && e.mini[count-1] == freeSect {
		count--
		e.miniSize = count * miniSize
	}
	need := int((e.miniSize + int64(e.sectorSize()) - 1) >> e.f.shift)
	for len(e.miniStream) > need {
		last := len(e.miniStream) - 1
		e.free(e.miniStream[last])
		if e.miniStream = e.miniStream[:last]; last > 0 {
			e.fat[e.miniStream[last-1]] = endOfChain
		}
	}
	return nil
}

// miniSector gives the contents of a mini-sector, to be changed.
func (e *editor) miniSector(m uint32) ([]byte, error) {
	at := int64(m) << miniShift
	b, err := e.sector(e.miniStream[at>>e.f.shift])
	if err != nil {
		return nil, err
	}
	return b[at&int64(e.sectorSize()-1):][:miniSize], nil
}

// takeMini marks a free mini-sector as the end of a chain; the mini stream and its
// table grow where there is none.
func (e *editor) takeMini() (m uint32, err error) {
	count := uint32((e.miniSize + miniSize - 1) / miniSize)
	for m = range count {
		if e.mini[m] == freeSect {
			e.mini[m] = endOfChain
			return m, nil
		}
	}
	m = count
	if int(m) == len(e.mini) {
		if e.miniSects, err = e.extend(e.miniSects); err != nil {
			return 0, err
		}
		for range e.sectorSize() / 4 {
			e.mini = append(e.mini, freeSect)
		}
	}
	if e.miniSize = (int64(m) + 1) * miniSize; e.miniSize > int64(len(e.miniStream))<<e.f.shift {
		if e.miniStream, err = e.extend(e.miniStream); err != nil {
			return 0, err
		}
	}
	e.mini[m] = endOfChain
	return m, nil
}

// write puts data into stream i, which has no sectors.
func (e *editor) write(i uint32, data []byte) error {
	start := uint32(endOfChain)
	if len(data) >= miniCutoff {
		var chain []uint32
		for rest := data; len(rest) > 0; {
			var err error
			if chain, err = e.extend(chain); err != nil {
				return err
			}
			rest = rest[copy(e.data[chain[len(chain)-1]], rest):]
		}
		start = chain[0]
	} else {
		last := uint32(endOfChain)
		for rest := data; len(rest) > 0; {
			m, err := e.takeMini()
			if err != nil {
				return err
			}
			b, err := e.miniSector(m)
			if err != nil {
				return err
			}
			clear(b)
			rest = rest[copy(b, rest):]
			if last == endOfChain {
				start = m
			} else {
				e.mini[last] = m
			}
			last = m
		}
	}
	b := e.entry(i)
	binary.LittleEndian.PutUint32(b[0x74:], start)
	binary.LittleEndian.PutUint32(b[0x78:], uint32(len(data)))
	binary.LittleEndian.PutUint32(b[0x7c:], 0)
	return nil
}

// clear makes an entry one that is not in use.
func (e *editor) clear(i uint32) {
	b := e.entry(i)
	clear(b)
	for _, at := range []int{0x44, 0x48, 0x4c} {
		binary.LittleEndian.PutUint32(b[at:], noStream)
	}
}

// newEntry makes an entry for an empty stream.
func (e *editor) newEntry(name []byte) (uint32, error) {
	i := uint32(0)
	for int(i) < len(e.dir)/entrySize && e.entry(i)[0x42] != 0 {
		i++
	}
	if int(i) == len(e.dir)/entrySize {
		if len(e.dir)+e.sectorSize() > MaxEntries*entrySize {
			return 0, fmt.Errorf("cfb: more than %d directory entries", MaxEntries)
		}
		var err error
		if e.dirSects, err = e.extend(e.dirSects); err != nil {
			return 0, err
		}
		e.dir = append(e.dir, make([]byte, e.sectorSize())...)
		for j := i; int(j) < len(e.dir)/entrySize; j++ {
			e.clear(j)
		}
	}
	e.clear(i)
	b := e.entry(i)
	copy(b, name)
	binary.LittleEndian.PutUint16(b[0x40:], uint16(len(name)+2))
	b[0x42] = byte(Stream)
	return i, nil
}

// plant makes a balanced red-black tree of the root storage's children: all levels
// are black but the last, which is red where it is not full.
func (e *editor) plant(children []uint32) {
	slices.SortFunc(children, func(a, b uint32) int { return compare(e.name(a), e.name(b)) })
	depth := 0
	for n := len(children) + 1; n > 1; n >>= 1 {
		depth++ // the full levels
	}
	var grow func(part []uint32, level int) uint32
	grow = func(part []uint32, level int) uint32 {
		if len(part) == 0 {
			return noStream
		}
		m := len(part) / 2
		b := e.entry(part[m])
		b[0x43] = 1
		if level >= depth {
			b[0x43] = 0 // red: below the full levels
		}
		binary.LittleEndian.PutUint32(b[0x44:], grow(part[:m], level+1))
		binary.LittleEndian.PutUint32(b[0x48:], grow(part[m+1:], level+1))
		return part[m]
	}
	binary.LittleEndian.PutUint32(e.entry(0)[0x4c:], grow(children, 0))
}

func (e *editor) name(i uint32) []byte {
	b := e.entry(i)
	return b[:le16(b[0x40:])-2]
}

// finish writes the tables into their sectors and compares all with the file.
func (e *editor) finish() ([]format.Edit, error) {
	for e.n > 0 && e.fat[e.n-1] == freeSect {
		e.n--
		delete(e.data, e.n)
	}
	put := binary.LittleEndian.PutUint32
	root := e.entry(0)
	put(root[0x74:], first(e.miniStream))
	put(root[0x78:], uint32(e.miniSize))
	if e.f.shift == 12 {
		put(root[0x7c:], uint32(e.miniSize>>32))
		put(e.head[0x28:], uint32(len(e.dirSects)))
	} else if e.miniSize > math.MaxUint32 {
		return nil, fmt.Errorf("cfb: mini stream of %d bytes", e.miniSize)
	}
	put(e.head[0x2c:], uint32(len(e.fatSects)))
	put(e.head[0x3c:], first(e.miniSects))
	put(e.head[0x40:], uint32(len(e.miniSects)))
	put(e.head[0x44:], first(e.difatSects))
	put(e.head[0x48:], uint32(len(e.difatSects)))
	for i, s := range e.fatSects[:min(len(e.fatSects), headerSlots)] {
		put(e.head[0x4c+4*i:], s)
	}
	per := e.sectorSize() / 4
	for i, s := range e.fatSects {
		e.table(s, e.fat[i*per:][:per], e.f.fat, i*per)
	}
	for i, s := range e.miniSects {
		e.table(s, e.mini[i*per:][:per], e.f.mini, i*per)
	}
	for i, s := range e.dirSects {
		b := e.dir[i*e.sectorSize():][:e.sectorSize()]
		if i >= len(e.f.dirSects) || !bytes.Equal(b, e.f.dir[i*e.sectorSize():][:e.sectorSize()]) {
			e.data[s] = b
		}
	}
	if len(e.fatSects) != len(e.f.fatSects) {
		e.writeDIFAT(per)
	}
	return e.edits()
}

func first(chain []uint32) uint32 {
	if len(chain) == 0 {
		return endOfChain
	}
	return chain[0]
}

// table notes a table's sector where its words are not those of the file.
func (e *editor) table(s uint32, now, before []uint32, at int) {
	if at+len(now) > len(before) || !slices.Equal(now, before[at:][:len(now)]) {
		e.data[s] = words(now)
	}
}

func (e *editor) writeDIFAT(per int) {
	rest := e.fatSects[min(len(e.fatSects), headerSlots):]
	for i, s := range e.difatSects {
		ws := slices.Clone(rest[:min(len(rest), per-1)])
		rest = rest[len(ws):]
		for len(ws) < per-1 {
			ws = append(ws, freeSect)
		}
		next := uint32(endOfChain)
		if i+1 < len(e.difatSects) {
			next = e.difatSects[i+1]
		}
		e.data[s] = words(append(ws, next))
	}
}

// edits are the changed sectors as edits of the file: neighbors in one, new sectors
// and those that are cut off at its end.
func (e *editor) edits() ([]format.Edit, error) {
	var out []format.Edit
	add := func(off, remove int64, insert []byte) {
		if last := len(out) - 1; last >= 0 && out[last].Offset+out[last].Delete == off {
			out[last].Delete += remove
			out[last].Insert = append(out[last].Insert, insert...)
			return
		}
		out = append(out, format.Edit{Offset: off, Delete: remove, Insert: bytes.Clone(insert)})
	}
	if !bytes.Equal(e.head, e.f.head) {
		add(0, int64(len(e.head)), e.head)
	}
	size := int64(e.sectorSize())
	old := make([]byte, size)
	for _, s := range slices.Sorted(maps.Keys(e.data)) {
		switch {
		case s >= e.n:
		case s >= e.f.n:
			add(e.f.size, 0, e.data[s])
		default:
			if err := readFull(e.f.r, old, e.f.offset(s)); err != nil {
				return nil, err
			}
			if !bytes.Equal(old, e.data[s]) {
				add(e.f.offset(s), size, e.data[s])
			}
		}
	}
	if e.n < e.f.n {
		add(e.f.offset(e.n), e.f.size-e.f.offset(e.n), nil)
	}
	return out, nil
}
