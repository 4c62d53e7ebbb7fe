package cfb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
)

func open(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func apply(t testing.TB, b []byte, edits []format.Edit) []byte {
	t.Helper()
	if len(edits) == 0 {
		return b
	}
	p := format.Patch{Size: int64(len(b)), Edits: edits}
	out, err := p.Bytes(format.BytesArtifact("x", b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func edit(t testing.TB, b []byte, changes ...Change) []byte {
	t.Helper()
	edits, err := open(t, b).Edit(changes)
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, b, edits)
}

func empty(t testing.TB, sector int) []byte {
	t.Helper()
	b, err := New(sector)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// streams are the contents of the root storage.
func streams(t testing.TB, b []byte) map[string]string {
	t.Helper()
	f := open(t, b)
	out := map[string]string{}
	for _, i := range f.Entry(0).Children {
		data, err := f.Read(context.Background(), i, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Entry(i).Text()] = string(data)
	}
	return out
}

func text(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + seed
	}
	return b
}

// checkTree holds the root storage's tree to the rules of red-black trees.
func checkTree(t testing.TB, b []byte) {
	t.Helper()
	f := open(t, b)
	var walk func(i uint32, red bool) (black int, names [][]byte)
	walk = func(i uint32, red bool) (int, [][]byte) {
		if i == noStream {
			return 1, nil
		}
		raw := f.dir[i*entrySize:][:entrySize]
		if red && raw[0x43] == 0 {
			t.Errorf("entry %d is red under red", i)
		}
		e := f.entries[i]
		l, ln := walk(e.left, raw[0x43] == 0)
		r, rn := walk(e.right, raw[0x43] == 0)
		if l != r {
			t.Errorf("entry %d: %d black entries on the left, %d on the right", i, l, r)
		}
		return l + int(raw[0x43]), append(append(ln, e.Name), rn...)
	}
	_, names := walk(f.entries[0].child, false)
	for i := 1; i < len(names); i++ {
		if compare(names[i-1], names[i]) >= 0 {
			t.Errorf("%q stands before %q", Text(names[i-1]), Text(names[i]))
		}
	}
}

// Invariants 3 and 4: after any row of edits the file has the streams that were put
// into it and no others, in a tree that is in order.
func TestEdits(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			rnd := rand.New(rand.NewSource(1))
			b := empty(t, sector)
			want := map[string]string{}
			for i := range 200 {
				name := fmt.Sprintf("stream %d", rnd.Intn(40))
				size := []int{0, 1, 63, 64, 65, 4095, 4096, 4097, rnd.Intn(9000), rnd.Intn(90000)}[rnd.Intn(10)]
				c := Change{Name: name, Data: text(size, byte(i))}
				if rnd.Intn(3) == 0 {
					c.Data = nil
					delete(want, name)
				} else {
					want[name] = string(c.Data)
				}
				b = edit(t, b, c)
				if got := streams(t, b); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("edit %d: streams differ", i)
				}
			}
			checkTree(t, b)
			for name := range want {
				b = edit(t, b, Change{Name: name})
			}
			if got := streams(t, b); len(got) != 0 {
				t.Error(got)
			}
			for i := 0; i+8 < len(b) && sector == 512; i++ {
				if d := b[i+1] - b[i]; d == 7 && b[i+2]-b[i+1] == 7 && b[i+3]-b[i+2] == 7 && b[i+4]-b[i+3] == 7 {
					t.Fatal("something of what was taken out is left")
				}
			}
		})
	}
}

// Each number of children gives a balanced tree.
func TestTreeOfEverySize(t *testing.T) {
	b := empty(t, 512)
	for i := range 70 {
		b = edit(t, b, Change{Name: fmt.Sprintf("%c%d", 'a'+i%7, i*i), Data: []byte{1}})
		checkTree(t, b)
	}
}

// DIFAT: from 109 table sectors on (6.875 MiB of sectors of 512 bytes) the table's
// table grows out of the header.
func TestGrowOverTheDIFAT(t *testing.T) {
	b := empty(t, 512)
	for i := range 3 {
		b = edit(t, b, Change{Name: fmt.Sprint("big ", i), Data: text(6<<20+i, byte(i))})
	}
	f := open(t, b)
	if len(f.difatSects) < 2 {
		t.Fatalf("%d sectors of the table's table", len(f.difatSects))
	}
	for n, s := range streams(t, b) {
		if len(s) < 6<<20 || s != string(text(len(s), n[4]-'0')) {
			t.Errorf("%s differs", n)
		}
	}
	edits, err := f.Edit([]Change{{Name: "small", Data: text(5000, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range edits {
		n += len(e.Insert)
	}
	if n > 16<<10 {
		t.Errorf("5 000 bytes are put in by edits of %d", n)
	}
}

// sparse is a file of which only some sectors are not zero.
type sparse struct {
	size    int64
	unit    int64
	sectors map[int64][]byte
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off >= s.size {
			return n, io.EOF
		}
		at := off % s.unit
		m := int(min(s.unit-at, int64(len(p)-n), s.size-off))
		clear(p[n:][:m])
		if b := s.sectors[off/s.unit]; b != nil {
			copy(p[n:][:m], b[at:])
		}
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// Sparse is a compound file of that many sectors: one stream "huge" over all that
// the tables and the directory leave.
func newSparse(t testing.TB, sector int, n uint32) *sparse {
	t.Helper()
	base := empty(t, sector)
	per := uint32(sector / 4)
	fats := (n + per - 1) / per
	difats := uint32(0)
	if fats > headerSlots {
		difats = (fats - headerSlots + per - 2) / (per - 1)
	}
	s := &sparse{size: (int64(n) + 1) * int64(sector), unit: int64(sector), sectors: map[int64][]byte{}}
	// Order: directory, FAT, DIFAT, stream.
	le := binary.LittleEndian
	shift := uint(9)
	if sector == 4096 {
		shift = 12
	}
	lock := uint32(rangeLock>>shift - 1)
	fat := make([]uint32, fats*per)
	for i := range fat {
		fat[i] = freeSect
	}
	fat[0] = endOfChain
	for i := range fats {
		fat[1+i] = fatSect
	}
	for i := range difats {
		fat[1+fats+i] = difatSect
	}
	first := 1 + fats + difats
	last, count := uint32(noStream), int64(0)
	for i := first; i < n; i++ {
		if i == lock {
			fat[i] = endOfChain
			continue
		}
		if last != noStream {
			fat[last] = i
		}
		last = i
		count++
	}
	fat[last] = endOfChain
	for i := range fats {
		s.sectors[int64(i)+2] = words(fat[i*per:][:per])
	}
	head := bytes.Clone(base[:sector])
	le.PutUint32(head[0x2c:], fats)
	le.PutUint32(head[0x30:], 0)
	for i := range min(fats, headerSlots) {
		le.PutUint32(head[0x4c+4*i:], 1+i)
	}
	if difats > 0 {
		le.PutUint32(head[0x44:], 1+fats)
		le.PutUint32(head[0x48:], difats)
	}
	for i := range difats {
		ws := make([]uint32, per)
		for j := range ws {
			ws[j] = freeSect
			if k := headerSlots + i*(per-1) + uint32(j); uint32(j) < per-1 && k < fats {
				ws[j] = 1 + k
			}
		}
		ws[per-1] = endOfChain
		if i+1 < difats {
			ws[per-1] = 1 + fats + i + 1
		}
		s.sectors[int64(fats+i)+2] = words(ws)
	}
	dir := bytes.Clone(base[2*sector:])
	le.PutUint32(dir[0x4c:], 1)
	copy(dir[entrySize:], Name("huge"))
	le.PutUint16(dir[entrySize+0x40:], 10)
	dir[entrySize+0x42], dir[entrySize+0x43] = byte(Stream), 1
	le.PutUint32(dir[entrySize+0x74:], first)
	le.PutUint64(dir[entrySize+0x78:], uint64(count*int64(sector)))
	s.sectors[0], s.sectors[1] = head, dir
	return s
}

// A file beyond 2 GiB, in both sizes of sector: offsets have more than 31 bits, and
// the sector of the range lock is no stream's.
func TestMoreThan2GiB(t *testing.T) {
	for _, c := range []struct {
		sector int
		n      uint32
	}{{4096, 3 << 30 >> 12}, {512, 2<<30>>9 - 2}} {
		t.Run(fmt.Sprint(c.sector), func(t *testing.T) {
			s := newSparse(t, c.sector, c.n)
			f, err := Open(s, s.size)
			if err != nil {
				t.Fatal(err)
			}
			big := &f.entries[1]
			var end, total int64
			if err := f.extents(big, func(off, n int64) error { end = off + n; total += n; return nil }); err != nil || end != s.size {
				t.Fatalf("stream ends at %d of %d: %v", end, s.size, err)
			}
			if total != big.Size {
				t.Fatalf("%d bytes of %d", total, big.Size)
			}
			edits, err := f.Edit([]Change{{Name: "new", Data: text(9000, 3)}, {Name: "tiny", Data: text(32, 4)}})
			if err != nil {
				t.Fatal(err)
			}
			size := s.size
			for _, e := range edits {
				if len(e.Insert)%c.sector != 0 || e.Offset%int64(c.sector) != 0 {
					t.Fatalf("edit of %d bytes at %d", len(e.Insert), e.Offset)
				}
				for i := 0; i < len(e.Insert); i += c.sector {
					s.sectors[(e.Offset+int64(i))/int64(c.sector)] = e.Insert[i:][:c.sector]
				}
				size += int64(len(e.Insert)) - e.Delete
			}
			s.size = size
			if f, err = Open(s, s.size); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]byte{"new": text(9000, 3), "tiny": text(32, 4)} {
				i, ok := f.Find(name)
				if !ok {
					t.Fatalf("%s is not there", name)
				}
				if got, err := f.Read(t.Context(), i, 1<<20); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if lock := f.lockSector(); f.n > lock && f.fat[lock] != endOfChain {
				t.Errorf("the range lock's sector is marked %#x", f.fat[lock])
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	good := edit(t, empty(t, 512), Change{"small", text(100, 1)}, Change{"big", text(5000, 2)}, Change{"other", text(10, 3)})
	f := open(t, good)
	fat, dir, mini := int(f.offset(f.fatSects[0])), int(f.offset(f.dirSects[0])), int(f.offset(f.miniSects[0]))
	id := func(n string) int { i, _ := f.Find(n); return i }
	big, small := f.entries[id("big")], f.entries[id("small")]
	put := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	for name, c := range map[string]struct {
		change func([]byte)
		want   string
	}{
		"version 5":              {func(b []byte) { b[0x1a] = 5 }, "version"},
		"big-endian":             {func(b []byte) { b[0x1c], b[0x1d] = 0xff, 0xfe }, "byte order"},
		"mini-sectors of 128":    {func(b []byte) { b[0x20] = 7 }, "mini-sectors"},
		"class":                  {func(b []byte) { b[9] = 1 }, "class"},
		"no FAT":                 {put(0x2c, 0), "table"},
		"a FAT of 4 GiB":         {put(0x2c, 1<<31), "table"},
		"FAT twice":              {func(b []byte) { put(0x2c, 2)(b); put(0x50, f.fatSects[0])(b) }, "sector 128"},
		"DIFAT that goes on":     {put(0x44, 3), "table"},
		"endless DIFAT":          {func(b []byte) { put(0x44, 0)(b); put(0x48, 1<<30)(b) }, ""},
		"directory beyond":       {put(0x30, 1<<20), "directory"},
		"no directory":           {put(0x30, endOfChain), "no directory"},
		"directory loop":         {put(fat+4*int(f.dirSects[0]), f.dirSects[0]), "loop"},
		"stream loop":            {put(fat+4*int(big.start), big.start), "loop"},
		"streams share sectors":  {put(dir+entrySize*id("small")+0x78, 5000), ""},
		"chain too short":        {put(fat+4*int(big.start), endOfChain), "chain of"},
		"chain too long":         {put(dir+entrySize*id("big")+0x78, 4096+1), ""},
		"stream beyond the file": {put(dir+entrySize*id("big")+0x74, 1<<30), "chain leads"},
		"mini chain beyond":      {put(dir+entrySize*id("small")+0x74, 1<<30), "chain leads"},
		"mini loop":              {put(mini+4*int(small.start), small.start), "loop"},
		"mini lost":              {put(dir+entrySize*id("other")+0x78, 0), "mini-sector"},
		"lost sectors":           {put(dir+entrySize*id("big")+0x78, 0), "belongs to nothing"},
		"child is the root":      {put(dir+0x4c, 0), "twice"},
		"sibling loop":           {put(dir+entrySize*id("big")+0x44, uint32(id("big"))), "twice"},
		"child beyond":           {put(dir+0x4c, 1000), "not there"},
		"orphans":                {put(dir+0x4c, noStream), "belongs to no storage"},
		"second root":            {func(b []byte) { b[dir+entrySize+0x42] = 5 }, "type 5"},
		"type 9":                 {func(b []byte) { b[dir+entrySize+0x42] = 9 }, "type 9"},
		"stream with children":   {put(dir+entrySize*id("big")+0x4c, 1), "children"},
		"name of 70 bytes":       {func(b []byte) { b[dir+entrySize+0x40] = 70 }, "name of"},
		"name of odd length":     {func(b []byte) { b[dir+entrySize+0x40] = 7 }, "name of"},
		"root without name":      {func(b []byte) { b[dir+0x40] = 2 }, "name of"},
		"two of one name": {func(b []byte) {
			copy(b[dir+entrySize*id("big"):][:0x42], b[dir+entrySize*id("small"):][:0x42])
		}, "two directory entries"},
		"mini stream too short": {put(dir+0x78, 64), ""},
		"mini stream too long":  {put(dir+0x78, 1<<20), "mini stream"},
		"no mini FAT":           {put(0x3c, endOfChain), "mini FAT"},
	} {
		b := bytes.Clone(good)
		c.change(b)
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want one with %q", name, err, c.want)
		}
	}
	for n := range good {
		if _, err := Open(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d bytes are accepted", n)
		}
	}
	if _, err := Open(bytes.NewReader(append(good, 0)), int64(len(good)+1)); err == nil {
		t.Error("a byte after the end is accepted")
	}
	if _, err := New(1024); err == nil {
		t.Error("sectors of 1024 bytes")
	}
	if _, err := f.Edit([]Change{{Name: strings.Repeat("x", 32), Data: []byte{1}}}); err == nil {
		t.Error("a name of 32 characters")
	}
}

// What Open accepts can be read, and edited into something that Open accepts, with
// every other stream as it was.
func FuzzOpen(f *testing.F) {
	n := 0
	for _, sector := range []int{512, 4096} {
		b := empty(f, sector)
		f.Add(b)
		b = edit(f, b, Change{"small", text(100, 1)}, Change{"big", text(5000, 2)}, Change{"other", text(10, 3)})
		f.Add(b)
		f.Add(edit(f, b, Change{Name: "big"}))
		n += 3
	}
	if n != 6 {
		f.Fatal("seeds are missing")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		before := map[string]string{}
		for _, i := range c.Entry(0).Children {
			if c.Entry(i).Type != Stream {
				continue
			}
			data, err := c.Read(t.Context(), i, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			before[string(c.Entry(i).Name)] = string(data)
		}
		if _, ok := c.Find("\x05new"); ok {
			return
		}
		edits, err := c.Edit([]Change{{"\x05new", text(5000, 9)}, {"\x05ex", text(32, 9)}})
		if err != nil {
			return
		}
		b = apply(t, b, edits)
		c = open(t, b)
		for _, i := range c.Entry(0).Children {
			if want, ok := before[string(c.Entry(i).Name)]; ok {
				data, err := c.Read(t.Context(), i, 1<<30)
				if err != nil || string(data) != want && c.Entry(i).Text() != "\x05ex" {
					t.Fatalf("%q changed: %v", c.Entry(i).Text(), err)
				}
			}
		}
	})
}
