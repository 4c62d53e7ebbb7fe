package cfb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf16"
)

// Type is what a directory entry is.
type Type byte

// The types of entries that are in use.
const (
	Storage Type = 1
	Stream  Type = 2
	Root    Type = 5
)

// Entry is one storage or stream.
type Entry struct {
	Name     []byte // UTF-16LE, without the terminator
	Type     Type
	Class    [16]byte // of a storage
	State    [4]byte
	Created  [8]byte
	Modified [8]byte
	Size     int64 // of a stream, in bytes
	Children []int // of a storage: numbers of entries, in the byte order of their names

	start uint32
	child uint32
	left  uint32
	right uint32
}

// Text is the name as a string.
func (e *Entry) Text() string { return Text(e.Name) }

// Text decodes UTF-16LE.
func Text(name []byte) string {
	w := make([]uint16, 0, len(name)/2)
	for i := 0; i+1 < len(name); i += 2 {
		w = append(w, le16(name[i:]))
	}
	return string(utf16.Decode(w))
}

// Name encodes a name as it stands in a directory: UTF-16LE, without terminator.
func Name(s string) []byte {
	var b []byte
	for _, w := range utf16.Encode([]rune(s)) {
		b = append(b, byte(w), byte(w>>8))
	}
	return b
}

// Entry returns an entry by its number; 0 is the root storage. Entries that are not
// in use have Type 0.
func (f *File) Entry(i int) *Entry { return &f.entries[i] }

// Find looks a name up in the root storage.
func (f *File) Find(name string) (int, bool) {
	want := Name(name)
	for _, i := range f.entries[0].Children {
		if bytes.Equal(f.entries[i].Name, want) {
			return i, true
		}
	}
	return 0, false
}

func (f *File) readDirectory() error {
	n := len(f.dir) / entrySize
	if n == 0 {
		return malformed("no directory")
	}
	if v := le32(f.head[0x28:]); f.shift == 12 && int(v) != len(f.dirSects) || f.shift == 9 && v != 0 {
		return malformed("directory of %d sectors: header says %d", len(f.dirSects), v)
	}
	f.entries = make([]Entry, n)
	for i := range f.entries {
		if err := f.parseEntry(i); err != nil {
			return err
		}
	}
	seen := make([]bool, n)
	seen[0] = true
	if err := f.readStorage(0, seen, 0); err != nil {
		return err
	}
	for i := range f.entries {
		if !seen[i] && f.entries[i].Type != 0 {
			return malformed("directory entry %d belongs to no storage", i)
		}
	}
	return nil
}

func (f *File) parseEntry(i int) error {
	b := f.dir[i*entrySize:][:entrySize]
	e := &f.entries[i]
	e.Type = Type(b[0x42])
	switch {
	case e.Type == 0:
		return nil
	case e.Type != Storage && e.Type != Stream && e.Type != Root, (e.Type == Root) != (i == 0):
		return malformed("directory entry %d is of type %d", i, e.Type)
	}
	n := int(le16(b[0x40:]))
	if n < 4 || n > 64 || n%2 != 0 || le16(b[n-2:]) != 0 {
		return malformed("directory entry %d: name of %d bytes", i, n)
	}
	e.Name = b[:n-2]
	for j := 0; j < len(e.Name); j += 2 {
		if le16(e.Name[j:]) == 0 {
			return malformed("directory entry %d: name of %d bytes holds a zero", i, n)
		}
	}
	if b[0x43] > 1 {
		return malformed("directory entry %d has color %d", i, b[0x43])
	}
	e.left, e.right, e.child = le32(b[0x44:]), le32(b[0x48:]), le32(b[0x4c:])
	copy(e.Class[:], b[0x50:])
	copy(e.State[:], b[0x60:])
	copy(e.Created[:], b[0x64:])
	copy(e.Modified[:], b[0x6c:])
	e.start = le32(b[0x74:])
	e.Size = int64(le32(b[0x78:]))
	if f.shift == 12 {
		if high := le32(b[0x7c:]); high>>8 != 0 {
			return malformed("directory entry %d has a size of more than 40 bits", i)
		} else if e.Type != Storage {
			e.Size |= int64(high) << 32
		}
	}
	if e.Type == Storage {
		e.Size, e.start = 0, endOfChain
	}
	if e.Type == Stream && e.child != noStream {
		return malformed("directory entry %d is a stream and has children", i)
	}
	if e.Type == Root && (e.left != noStream || e.right != noStream) {
		return malformed("the root storage has siblings")
	}
	return nil
}

// readStorage collects the children of storage i, and theirs.
func (f *File) readStorage(i int, seen []bool, depth int) error {
	if depth > maxDepth {
		return malformed("storages are nested more than %d deep", maxDepth)
	}
	e := &f.entries[i]
	pending := []uint32{e.child}
	for len(pending) > 0 {
		c := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if c == noStream {
			continue
		}
		if int64(c) >= int64(len(f.entries)) || f.entries[c].Type == 0 {
			return malformed("directory entry %d is named and not there", c)
		}
		if seen[c] {
			return malformed("directory entry %d stands twice in the tree", c)
		}
		seen[c] = true
		e.Children = append(e.Children, int(c))
		pending = append(pending, f.entries[c].left, f.entries[c].right)
	}
	slices.SortFunc(e.Children, f.compareEntries)
	for j, c := range e.Children {
		if j > 0 && f.compareEntries(e.Children[j-1], c) == 0 {
			return malformed("two directory entries are called %q", Text(f.entries[c].Name))
		}
	}
	slices.SortFunc(e.Children, func(a, b int) int { return bytes.Compare(f.entries[a].Name, f.entries[b].Name) })
	for _, c := range e.Children {
		if f.entries[c].Type == Storage {
			if err := f.readStorage(c, seen, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare is the order of siblings in a tree: by length, then by their characters
// in upper case ([MS-CFB] 2.6.4).
func compare(a, b []byte) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	for i := 0; i < len(a); i += 2 {
		if c := cmp.Compare(upper(le16(a[i:])), upper(le16(b[i:]))); c != 0 {
			return c
		}
	}
	return 0
}

func (f *File) compareEntries(a, b int) int { return compare(f.entries[a].Name, f.entries[b].Name) }

func upper(w uint16) rune {
	r := unicode.ToUpper(rune(w))
	if r > 0xffff {
		return rune(w)
	}
	return r
}

// Each hands out the bytes of stream i in order, in pieces; a piece is good until
// the call returns.
func (f *File) Each(ctx context.Context, i int, buf []byte, use func([]byte)) error {
	e := &f.entries[i]
	if e.Type != Stream {
		return fmt.Errorf("cfb: entry %d is no stream", i)
	}
	left := e.Size
	err := f.extents(e, func(off, n int64) error {
		for n = min(n, left); n > 0; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("cfb: %w", err)
			}
			b := buf[:min(int64(len(buf)), n)]
			if err := readFull(f.r, b, off); err != nil {
				return err
			}
			use(b)
			off, n, left = off+int64(len(b)), n-int64(len(b)), left-int64(len(b))
		}
		return nil
	})
	if err == nil && left != 0 {
		err = malformed("stream %d ends %d bytes early", i, left)
	}
	return err
}

// extents calls use for each run of bytes of the file that hold e, in its order.
func (f *File) extents(e *Entry, use func(off, n int64) error) error {
	if e.Size == 0 {
		return nil
	}
	fat, unit, at := f.fat, int64(1)<<f.shift, f.offset
	if e.Size < miniCutoff {
		fat, unit, at = f.mini, miniSize, f.miniOffset
	}
	off, n := at(e.start), unit
	for s := fat[e.start]; s != endOfChain; s = fat[s] {
		if o := at(s); o == off+n {
			n += unit
		} else {
			if err := use(off, n); err != nil {
				return err
			}
			off, n = o, unit
		}
	}
	return use(off, n)
}

// miniOffset is where a mini-sector stands in the file.
func (f *File) miniOffset(mini uint32) int64 {
	at := int64(mini) << miniShift
	return f.offset(f.miniStream[at>>f.shift]) + at&(1<<f.shift-1)
}

// Read returns stream i, which has at most limit bytes.
func (f *File) Read(ctx context.Context, i int, limit int64) ([]byte, error) {
	if n := f.entries[i].Size; n > limit {
		return nil, malformed("stream %q has %d bytes: at most %d", f.entries[i].Text(), n, limit)
	}
	var out bytes.Buffer
	err := f.Each(ctx, i, make([]byte, 32<<10), func(b []byte) { out.Write(b) })
	return out.Bytes(), err
}

// Entries is the number of entries, those not in use among them.
func (f *File) Entries() int { return len(f.entries) }

// Extents are the runs of bytes of the file that hold stream i, each an offset and
// a length; the last one ends with the stream.
func (f *File) Extents(i int) [][2]int64 {
	var out [][2]int64
	left := f.entries[i].Size
	_ = f.extents(&f.entries[i], func(off, n int64) error {
		out = append(out, [2]int64{off, min(n, left)})
		left -= n
		return nil
	})
	return out
}

// DirectorySectors are the numbers of the sectors that hold the directory.
func (f *File) DirectorySectors() []uint32 { return f.dirSects }
