// Package cfb reads compound files ([MS-CFB] version 3 and 4: installer packages,
// patches and transforms of Windows are ones) and makes the small edits that put
// streams into their root storage, replace them and take them out.
//
// A compound file is a file system in a file: sectors of 512 or 4 096 bytes, a
// table that chains them (FAT), itself found through a table (DIFAT), a directory,
// and a stream whose 64-byte sectors hold the streams under 4 096 bytes.
//
// Invariants:
//
//  1. What Open accepts is consistent: every sector and every mini-sector belongs to
//     one chain or is free, every directory entry stands in the tree once or is
//     unused, no chain has a loop, and no two entries of a storage have one name.
//  2. Memory is bounded by the tables that are in the file (4 bytes for each
//     sector), never by what a header claims.
//  3. Edit changes sectors of the tables, of the directory and of the streams that
//     it is about, and appends or cuts off sectors at the end; every other byte stays
//     where it is.
//  4. What Edit makes is accepted by Open and has every other stream as it was.
//
// A caller may not conclude that bytes which belong to no stream are zero: free
// sectors, and what follows a stream's end in its last sector, may hold anything
// (Unused counts them).
package cfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of what is read.
const (
	MaxSectors = 1 << 24 // 8 GiB in sectors of 512 bytes, 64 GiB in sectors of 4 096
	MaxEntries = 1 << 16 // of the directory
	maxDepth   = 64      // of storages in one another
)

// What callers branch on.
var (
	ErrNotCompound = errors.New("cfb: not a compound file")
	ErrMalformed   = errors.New("cfb: malformed compound file")
)

const (
	headerSize  = 512
	headerSlots = 109 // of the DIFAT in the header
	entrySize   = 128
	miniSize    = 64
	miniShift   = 6
	miniCutoff  = 4096

	maxRegular = 0xfffffffa
	difatSect  = 0xfffffffc
	fatSect    = 0xfffffffd
	endOfChain = 0xfffffffe
	freeSect   = 0xffffffff
	noStream   = 0xffffffff

	// rangeLock is the offset of the bytes that Windows locks in place of others in
	// files beyond 2 GiB: the sector that holds it is no stream's ([MS-CFB] 2.7).
	rangeLock = 0x7fffff00
)

// Magic begins every compound file.
const Magic = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

// File is an open compound file. Its methods are safe for concurrent use.
type File struct {
	r     io.ReaderAt
	size  int64
	head  []byte // the first sector
	shift uint   // of a sector's size
	n     uint32 // sectors after the header

	fat        []uint32 // one entry for each sector of the file, and those that the last table sector has beyond
	fatSects   []uint32 // where the FAT stands
	difatSects []uint32
	mini       []uint32
	miniSects  []uint32 // where the mini FAT stands
	dirSects   []uint32
	miniStream []uint32 // where the mini stream stands
	dir        []byte
	entries    []Entry
	unused     int64
}

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return malformed("file ends within %d bytes at offset %d", len(b), off)
	}
	return fmt.Errorf("cfb: read: %w", err)
}

// Open reads the tables and the directory of r, which has size bytes.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size}
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	if err := f.readFAT(); err != nil {
		return nil, err
	}
	own := newOwners(f.n)
	if err := f.claimTables(own); err != nil {
		return nil, err
	}
	var err error
	if f.dirSects, err = f.chain(own, le32(f.head[0x30:]), "directory", f.n); err != nil {
		return nil, err
	}
	if f.dir, err = f.table(f.dirSects, MaxEntries*entrySize, "directory"); err != nil {
		return nil, err
	}
	if err := f.readDirectory(); err != nil {
		return nil, err
	}
	if err := f.readMini(own); err != nil {
		return nil, err
	}
	if err := f.claimStreams(own); err != nil {
		return nil, err
	}
	return f, f.checkFree(own)
}

// RootClass reads the class of the root storage and nothing else; what it says of a
// file that Open refuses means nothing.
func RootClass(r io.ReaderAt, size int64) (class [16]byte, ok bool) {
	f := &File{r: r, size: size}
	if f.readHeader() != nil {
		return class, false
	}
	var b [entrySize]byte
	if first := le32(f.head[0x30:]); first >= f.n || readFull(r, b[:], f.offset(first)) != nil || Type(b[0x42]) != Root {
		return class, false
	}
	return [16]byte(b[0x50:0x60]), true
}

// SectorSize is 512 or 4 096.
func (f *File) SectorSize() int { return 1 << f.shift }

// Unused is the number of bytes of the file that belong to no stream and to no
// table: free sectors and the ends of last sectors.
func (f *File) Unused() int64 { return f.unused }

// Structure gives the header, the tables and the directory, as they stand in the
// file: what decides where streams are.
func (f *File) Structure() [][]byte {
	return [][]byte{f.head, f.dir, words(f.fat), words(f.mini), words(f.fatSects), words(f.difatSects), words(f.miniSects), words(f.dirSects)}
}

func words(ws []uint32) []byte {
	b := make([]byte, 0, 4*len(ws))
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func (f *File) readHeader() error {
	f.head = make([]byte, headerSize)
	if f.size < headerSize {
		return ErrNotCompound
	}
	if err := readFull(f.r, f.head, 0); err != nil {
		return err
	}
	// The last sector may hold nothing that is read: it has to be there all the same.
	if err := readFull(f.r, make([]byte, 1), f.size-1); err != nil {
		return err
	}
	h := f.head
	major := le16(h[0x1a:])
	if string(h[:8]) != Magic {
		return ErrNotCompound
	}
	f.shift = uint(le16(h[0x1e:]))
	switch {
	case !zero(h[8:24]):
		return malformed("class in the header")
	case le16(h[0x1c:]) != 0xfffe:
		return malformed("byte order %#x", le16(h[0x1c:]))
	case !(major == 3 && f.shift == 9 || major == 4 && f.shift == 12):
		return malformed("version %d with sectors of 2^%d bytes", major, f.shift)
	case le16(h[0x20:]) != miniShift || le32(h[0x38:]) != miniCutoff:
		return malformed("mini-sectors of 2^%d bytes for streams under %d", le16(h[0x20:]), le32(h[0x38:]))
	case !zero(h[0x22:0x28]):
		return malformed("reserved bytes in the header")
	}
	sector := int64(1) << f.shift
	if f.size < 2*sector || f.size%sector != 0 {
		return malformed("%d bytes are not whole sectors of %d", f.size, sector)
	}
	if f.size/sector-1 > MaxSectors {
		return malformed("more than %d sectors", MaxSectors)
	}
	f.n = uint32(f.size/sector - 1)
	if rest := sector - headerSize; rest > 0 {
		f.head = append(f.head, make([]byte, rest)...)
		if err := readFull(f.r, f.head[headerSize:], headerSize); err != nil {
			return err
		}
		if !zero(f.head[headerSize:]) {
			return malformed("bytes after the header")
		}
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// offset is where a sector stands in the file.
func (f *File) offset(sector uint32) int64 { return (int64(sector) + 1) << f.shift }

// readSector appends the words of a sector to ws.
func (f *File) readSector(ws []uint32, sector uint32) ([]uint32, error) {
	if sector >= f.n {
		return nil, malformed("sector %d of %d", sector, f.n)
	}
	b := make([]byte, 1<<f.shift)
	if err := readFull(f.r, b, f.offset(sector)); err != nil {
		return nil, err
	}
	for i := 0; i < len(b); i += 4 {
		ws = append(ws, le32(b[i:]))
	}
	return ws, nil
}

// readFAT follows the DIFAT, from the header and then from sector to sector.
func (f *File) readFAT() error {
	count, firstDIFAT, nDIFAT := le32(f.head[0x2c:]), le32(f.head[0x44:]), le32(f.head[0x48:])
	per := uint32(1) << (f.shift - 2)
	if want := (f.n + per - 1) / per; count < want || count > want+want/8+16 {
		return malformed("%d sectors of the table for %d sectors: want %d", count, f.n, want)
	}
	var slots []uint32
	for i := range headerSlots {
		slots = append(slots, le32(f.head[0x4c+4*i:]))
	}
	next := firstDIFAT
	for i := uint32(0); i < nDIFAT; i++ {
		if i > count/(per-1)+1 {
			return malformed("%d sectors of the table's table", nDIFAT)
		}
		ws, err := f.readSector(nil, next)
		if err != nil {
			return err
		}
		f.difatSects = append(f.difatSects, next)
		slots = append(slots, ws[:per-1]...)
		next = ws[per-1]
	}
	if next != endOfChain && next != freeSect {
		return malformed("the table's table goes on after %d sectors", nDIFAT)
	}
	for i, s := range slots {
		switch {
		case uint32(i) >= count && s != freeSect:
			return malformed("the table has more than %d sectors", count)
		case uint32(i) < count:
			var err error
			if f.fat, err = f.readSector(f.fat, s); err != nil {
				return err
			}
			f.fatSects = append(f.fatSects, s)
		}
	}
	if uint32(len(f.fatSects)) != count {
		return malformed("the table has %d sectors: want %d", len(f.fatSects), count)
	}
	for i := f.n; i < uint32(len(f.fat)); i++ {
		if f.fat[i] != freeSect {
			return malformed("sector %d lies beyond the file and is not free", i)
		}
	}
	return nil
}

// owners notes which sectors belong to something.
type owners []uint64

func newOwners(n uint32) owners { return make(owners, (n+63)/64) }

// take notes that i has an owner, and says whether it had none before.
func (o owners) take(i uint32) bool {
	had := o[i/64]>>(i%64)&1 != 0
	o[i/64] |= 1 << (i % 64)
	return !had
}

func (o owners) has(i uint32) bool { return o[i/64]>>(i%64)&1 != 0 }

func (f *File) claimTables(own owners) error {
	for kind, sects := range map[uint32][]uint32{fatSect: f.fatSects, difatSect: f.difatSects} {
		for _, s := range sects {
			if !own.take(s) {
				return malformed("sector %d stands twice in the tables", s)
			}
			if f.fat[s] != kind {
				return malformed("sector %d of a table is marked %#x", s, f.fat[s])
			}
		}
	}
	return nil
}

// chain follows a chain of at most max sectors to its end.
func (f *File) chain(own owners, first uint32, what string, max uint32) ([]uint32, error) {
	var out []uint32
	for s := first; s != endOfChain; s = f.fat[s] {
		switch {
		case s >= f.n:
			return nil, malformed("%s: chain leads to sector %#x of %d", what, s, f.n)
		case !own.take(s):
			return nil, malformed("%s: sector %d belongs to something else, or the chain is a loop", what, s)
		case uint32(len(out)) >= max:
			return nil, malformed("%s: more than %d sectors", what, max)
		}
		out = append(out, s)
	}
	return out, nil
}

// table reads the sectors of a table.
func (f *File) table(sects []uint32, limit int64, what string) ([]byte, error) {
	if int64(len(sects))<<f.shift > limit {
		return nil, malformed("%s of %d bytes: at most %d", what, int64(len(sects))<<f.shift, limit)
	}
	out := make([]byte, len(sects)<<f.shift)
	for i, s := range sects {
		if err := readFull(f.r, out[i<<f.shift:(i+1)<<f.shift], f.offset(s)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readMini reads the mini FAT and finds the mini stream.
func (f *File) readMini(own owners) error {
	root := &f.entries[0]
	first, n := le32(f.head[0x3c:]), le32(f.head[0x40:])
	if n == 0 && first == freeSect {
		first = endOfChain
	}
	var err error
	if f.miniSects, err = f.chain(own, first, "mini FAT", f.n); err != nil {
		return err
	}
	if uint32(len(f.miniSects)) != n {
		return malformed("the mini FAT has %d sectors: want %d", len(f.miniSects), n)
	}
	for _, s := range f.miniSects {
		if f.mini, err = f.readSector(f.mini, s); err != nil {
			return err
		}
	}
	start := root.start
	if root.Size == 0 && start != endOfChain {
		start = endOfChain
	}
	if f.miniStream, err = f.chain(own, start, "mini stream", f.n); err != nil {
		return err
	}
	if root.Size > int64(len(f.miniStream))<<f.shift {
		return malformed("mini stream of %d bytes in %d sectors", root.Size, len(f.miniStream))
	}
	for i := f.miniCount(); i < uint32(len(f.mini)); i++ {
		// osslsigncode marks the end of the table like that of a chain.
		if f.mini[i] != freeSect && (f.mini[i] != endOfChain || i != f.miniCount()) {
			return malformed("mini-sector %d lies beyond the mini stream and is not free", i)
		}
	}
	if f.miniCount() > uint32(len(f.mini)) {
		return malformed("the mini FAT has %d entries for %d mini-sectors", len(f.mini), f.miniCount())
	}
	return nil
}

// miniCount is the number of mini-sectors that are whole in the mini stream.
func (f *File) miniCount() uint32 { return uint32((f.entries[0].Size + miniSize - 1) / miniSize) }

// claimStreams follows the chain of every stream.
func (f *File) claimStreams(own owners) error {
	mini := newOwners(f.miniCount())
	used := int64(0)
	for i := 1; i < len(f.entries); i++ {
		e := &f.entries[i]
		if e.Type != Stream || e.Size == 0 {
			continue
		}
		used += e.Size
		fat, count, own, unit := f.fat, f.n, own, int64(1)<<f.shift
		if e.Size < miniCutoff {
			fat, count, own, unit = f.mini, f.miniCount(), mini, miniSize
		}
		want := (e.Size + unit - 1) / unit
		got := int64(0)
		for s := e.start; s != endOfChain; s = fat[s] {
			switch {
			case s >= count:
				return malformed("stream %d: chain leads to sector %#x of %d", i, s, count)
			case !own.take(s):
				return malformed("stream %d: sector %d belongs to something else, or the chain is a loop", i, s)
			}
			if got++; got > want {
				return malformed("stream %d: chain is longer than its %d bytes", i, e.Size)
			}
		}
		if got != want {
			return malformed("stream %d: chain of %d sectors for %d bytes", i, got, e.Size)
		}
	}
	for i := range f.miniCount() {
		if !mini.has(i) && f.mini[i] != freeSect {
			return malformed("mini-sector %d belongs to nothing and is not free", i)
		}
	}
	tables := int64(len(f.fatSects)+len(f.difatSects)+len(f.miniSects)+len(f.dirSects)) << f.shift
	f.unused = f.size - int64(len(f.head)) - tables - used
	return nil
}

// lockSector is the sector that no stream may have, whether or not the file is
// that long.
func (f *File) lockSector() uint32 { return rangeLock>>f.shift - 1 }

func (f *File) checkFree(own owners) error {
	for i := range f.n {
		if own.has(i) || f.fat[i] == freeSect || i == f.lockSector() && f.fat[i] == endOfChain {
			continue
		}
		return malformed("sector %d belongs to nothing and is not free", i)
	}
	return nil
}
