package macho

import (
	"fmt"
	"io"
	"math"

	"github.com/greatseal-io/greatseal/format"
)

// Numbers of mach-o/fat.h; a universal file's table is big-endian.
const (
	magicFat   = 0xcafebabe
	magicFat64 = 0xcafebabf
	fatHeader  = 8
	fatEntry   = 20
	fatEntry64 = 32
)

// file is a thin file, or a universal one.
type file struct {
	width  uint // of offsets in the table: 32 or 64; 0: a thin file
	slices []*part
	size   int64
}

// part is one slice and its place in the file.
type part struct {
	*head
	sub   uint32 // as the table has it
	off   int64
	align uint32 // power of two
}

func (f *file) entrySize() int64 {
	if f.width == 64 {
		return fatEntry64
	}
	return fatEntry
}

// parse reads headers and load commands of all slices.
func parse(a format.Artifact) (*file, error) {
	f := &file{size: a.Size()}
	if f.size > maxSize {
		return nil, malformed("%d bytes: at most %d", f.size, int64(maxSize))
	}
	var b [fatHeader]byte
	if err := format.ReadFull(a, b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotMachO, err)
	}
	switch m := be.Uint32(b[:]); {
	case thin(b[:]):
		h, err := parseHead(a, 0, f.size)
		if err != nil {
			return nil, err
		}
		f.slices = []*part{{head: h, sub: h.sub}}
		return f, nil
	case m == magicFat:
		f.width = 32
	case m == magicFat64:
		f.width = 64
	default:
		return nil, fmt.Errorf("%w: magic number %x", ErrNotMachO, b[:4])
	}
	n := be.Uint32(b[4:])
	if n == 0 || n > maxSlices {
		return nil, malformed("universal file of %d slices: 1 to %d are read", n, maxSlices)
	}
	table := make([]byte, int64(n)*f.entrySize())
	if err := format.ReadFull(a, table, fatHeader); err != nil {
		return nil, fmt.Errorf("macho: %w", err)
	}
	end := fatHeader + int64(len(table))
	for ; len(table) > 0; table = table[f.entrySize():] {
		p, err := f.slice(a, table, end)
		if err != nil {
			return nil, err
		}
		f.slices = append(f.slices, p)
		end = p.off + p.size
	}
	if end != f.size {
		return nil, malformed("%d bytes follow the last slice", f.size-end)
	}
	return f, nil
}

// slice reads the slice of one entry of the table, which begins at end or after
// zeros there.
func (f *file) slice(a format.Artifact, e []byte, end int64) (*part, error) {
	cpu, p := be.Uint32(e), &part{sub: be.Uint32(e[4:])}
	var off, size uint64
	if f.width == 64 {
		off, size, p.align = be.Uint64(e[8:]), be.Uint64(e[16:]), be.Uint32(e[24:])
		if be.Uint32(e[28:]) != 0 {
			return nil, malformed("reserved field of a slice")
		}
	} else {
		off, size, p.align = uint64(be.Uint32(e[8:])), uint64(be.Uint32(e[12:])), be.Uint32(e[16:])
	}
	arch := architecture(cpu, p.sub)
	if off > uint64(f.size) || size > uint64(f.size)-off || int64(off) < end || p.align > maxAlign || off%(1<<p.align) != 0 {
		return nil, malformed("slice %s of %d bytes at %d: out of order, not aligned or outside of the file", arch, size, off)
	}
	p.off = int64(off)
	if err := zeros(a, end, p.off, 1<<maxAlign); err != nil {
		return nil, err
	}
	var err error
	if p.head, err = parseHead(a, p.off, int64(size)); err != nil {
		return nil, fmt.Errorf("slice %s: %w", arch, err)
	}
	// The upper byte says what the slice is able to, which some linkers leave out here.
	if p.cpu != cpu || (p.sub^p.head.sub)&0xffffff != 0 || p.sub>>24 != 0 && p.sub>>24 != p.head.sub>>24 {
		return nil, malformed("slice %s is of %s", arch, p.architecture())
	}
	for _, o := range f.slices {
		if o.cpu == p.cpu && (o.sub^p.sub)&0xffffff == 0 {
			return nil, malformed("two slices for %s", arch)
		}
	}
	return p, nil
}

// zeros refuses bytes other than zero in [from, to).
func zeros(a format.Artifact, from, to, limit int64) error {
	if to-from > limit {
		return malformed("%d bytes between slices", to-from)
	}
	b := make([]byte, to-from)
	if err := format.ReadFull(a, b, from); err != nil {
		return fmt.Errorf("macho: %w", err)
	}
	for i, c := range b {
		if c != 0 {
			return malformed("byte %d, where zeros are wanted, is %#x", from+int64(i), c)
		}
	}
	return nil
}

// place is where slices of new sizes go: the first stays where it is, each other
// one follows the one before as its alignment lets it.
func (f *file) place(sizes []int64) ([]int64, error) {
	out := make([]int64, len(f.slices))
	end := f.slices[0].off
	for i, p := range f.slices {
		out[i] = end
		if i > 0 {
			n := int64(1) << p.align
			out[i] = (end + n - 1) / n * n
		}
		end = out[i] + sizes[i]
	}
	if end > math.MaxUint32 {
		return nil, malformed("file of %d bytes: at most %d", end, int64(maxSize))
	}
	return out, nil
}

// table is the header of a universal file with slices in these places.
func (f *file) table(offs, sizes []int64) []byte {
	magic := uint32(magicFat)
	if f.width == 64 {
		magic = magicFat64
	}
	b := be.AppendUint32(nil, magic)
	b = be.AppendUint32(b, uint32(len(f.slices)))
	for i, p := range f.slices {
		b = be.AppendUint32(b, p.cpu)
		b = be.AppendUint32(b, p.sub)
		if f.width == 64 {
			b = be.AppendUint64(b, uint64(offs[i]))
			b = be.AppendUint64(b, uint64(sizes[i]))
			b = be.AppendUint32(b, p.align)
			b = be.AppendUint32(b, 0)
			continue
		}
		b = be.AppendUint32(b, uint32(offs[i]))
		b = be.AppendUint32(b, uint32(sizes[i]))
		b = be.AppendUint32(b, p.align)
	}
	return b
}

// patch makes the edits that give each slice a new head and a new end: what
// replaces everything from its code's end on.
func (f *file) patch(heads, tails [][]byte) (*format.Patch, error) {
	out := &format.Patch{Size: f.size}
	sizes := make([]int64, len(f.slices))
	for i, p := range f.slices {
		sizes[i] = p.end() + int64(len(tails[i]))
	}
	offs, err := f.place(sizes)
	if err != nil {
		return nil, err
	}
	add := func(off, del int64, ins []byte) {
		if del > 0 || len(ins) > 0 {
			out.Edits = append(out.Edits, format.Edit{Offset: off, Delete: del, Insert: ins})
		}
	}
	if f.width != 0 {
		t := f.table(offs, sizes)
		add(0, int64(len(t)), t)
	}
	for i, p := range f.slices {
		add(p.off, int64(len(heads[i])), heads[i])
		next, gap := f.size, int64(0)
		if i+1 < len(f.slices) {
			next, gap = f.slices[i+1].off, offs[i+1]-offs[i]-sizes[i]
		}
		add(p.off+p.end(), next-p.off-p.end(), append(tails[i][:len(tails[i]):len(tails[i])], make([]byte, gap)...))
	}
	return out, nil
}

// view is a slice as it is hashed: head in memory, then the file's bytes up to end,
// then zeros. What was read before (seen) must still be there.
type view struct {
	a    format.Artifact
	base int64
	head []byte
	end  int64
	seen piece
}

// piece is something that was read and judged before the file is hashed.
type piece struct {
	off int64
	b   []byte
}

func (v *view) ReadAt(b []byte, off int64) (int, error) {
	n := copy(b, v.head[min(off, int64(len(v.head))):])
	if m := min(int64(len(b)), v.end-off); m > int64(n) {
		part := b[n:m]
		at := off + int64(n)
		if err := format.ReadFull(v.a, part, v.base+at); err != nil {
			return n, err
		}
		from, to := max(at, v.seen.off), min(at+int64(len(part)), v.seen.off+int64(len(v.seen.b)))
		if from < to && string(part[from-at:to-at]) != string(v.seen.b[from-v.seen.off:to-v.seen.off]) {
			return n, fmt.Errorf("%w: it changed while it was read", ErrChanged)
		}
		n = int(m)
	}
	clear(b[n:])
	return len(b), nil
}

var _ io.ReaderAt = (*view)(nil)
