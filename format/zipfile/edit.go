package zipfile

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"

	"github.com/greatseal-io/greatseal/format"
)

// File is an entry to put into an archive. It gets no time but ZIP's first
// (1980-01-01), no attributes, and is stored or deflated.
type File struct {
	Name    string
	Content []byte
	Packed  *Packed // instead of Content, for Method Deflated
	Method  uint16
	// Padding is the length in bytes of an extra field of zeros in the local header:
	// 0, or 6 to 65 535. It stands under the identifier of alignment (0xd935).
	Padding int
}

const extraAlignment = 0xd935

// Editor collects changes of an archive.
type Editor struct {
	z        *Archive
	removed  map[int]bool
	replaced map[int][]byte
	front    []File
	back     []File
	after    []byte // between the entries and the directory
	hasNew   bool
}

// Edit begins a change of z.
func (z *Archive) Edit() *Editor {
	return &Editor{z: z, removed: map[int]bool{}, replaced: map[int][]byte{}}
}

// Remove takes entry i out.
func (e *Editor) Remove(i int) { e.removed[i] = true }

// Replace gives entry i another content. It keeps its place, name, method, time and
// attributes, and loses extra fields and its comment.
func (e *Editor) Replace(i int, content []byte) { e.replaced[i] = content }

// rewrite is entry i with another content.
func (z *Archive) rewrite(i int, content []byte) (written, error) {
	old, from := z.RawRecord(i), &z.Entries[i]
	f := File{Name: from.Name, Content: content, Method: from.Method}
	w, err := f.write()
	if err != nil {
		return w, err
	}
	flags := from.Flags & flagUTF8
	le.PutUint16(w.head[6:], flags)
	le.PutUint16(w.record[8:], flags)
	copy(w.head[10:], old[12:16])
	copy(w.record[12:], old[12:16])
	copy(w.record[4:6], old[4:6])     // which system's the attributes are
	copy(w.record[36:42], old[36:42]) // attributes
	return w, nil
}

// Front puts files before all entries, in their order.
func (e *Editor) Front(files ...File) { e.front = append(e.front, files...) }

// Back puts files after all entries, in their order.
func (e *Editor) Back(files ...File) { e.back = append(e.back, files...) }

// Between replaces what stands between the entries and the directory.
func (e *Editor) Between(b []byte) { e.after, e.hasNew = b, true }

// Packed is a content that is deflated while it is written: of a long one there is
// never more than that in memory. Write and Close it, then put it into a [File].
type Packed struct {
	data bytes.Buffer
	w    *flate.Writer
	size int64
	sum  uint32
	done bool
}

// NewPacked begins a content.
func NewPacked() (*Packed, error) {
	p := &Packed{}
	var err error
	if p.w, err = flate.NewWriter(&p.data, flate.DefaultCompression); err != nil {
		return nil, fmt.Errorf("zipfile: %w", err)
	}
	return p, nil
}

// Write adds b to the content.
func (p *Packed) Write(b []byte) (int, error) {
	p.size += int64(len(b))
	p.sum = crc32.Update(p.sum, crc32.IEEETable, b)
	return p.w.Write(b)
}

// Close ends the content.
func (p *Packed) Close() error {
	err := p.w.Close()
	p.w, p.done = nil, err == nil
	return err
}

// written is a File in its encoding.
type written struct {
	head   []byte // local header and extra field
	data   []byte
	record []byte // of the directory, without its offset
}

// size is that of what stands among the entries.
func (w *written) size() int { return len(w.head) + len(w.data) }

// local adds what stands among the entries to b.
func (w *written) local(b []byte) []byte { return append(append(b, w.head...), w.data...) }

func (f *File) write() (written, error) {
	var w written
	if err := CheckName(f.Name); err != nil {
		return w, err
	}
	size, sum := int64(len(f.Content)), uint32(0)
	if f.Packed != nil {
		if f.Content != nil || f.Method != Deflated || !f.Packed.done {
			return w, fmt.Errorf("zipfile: entry %.80q: its content is not one that was packed and closed", f.Name)
		}
		size, sum = f.Packed.size, f.Packed.sum
	} else {
		sum = crc32.ChecksumIEEE(f.Content)
	}
	if len(f.Name) > MaxName || size >= max32 || f.Padding < 0 || f.Padding > max16 || f.Padding > 0 && f.Padding < 6 {
		return w, fmt.Errorf("%w: entry %.80q with %d bytes and %d of padding", ErrLimit, f.Name, size, f.Padding)
	}
	w.data = f.Content
	switch f.Method {
	case Stored:
	case Deflated:
		p := f.Packed
		if p == nil {
			var err error
			if p, err = NewPacked(); err != nil {
				return w, err
			}
			if _, err := p.Write(f.Content); err != nil {
				return w, fmt.Errorf("zipfile: %w", err)
			}
			if err := p.Close(); err != nil {
				return w, fmt.Errorf("zipfile: %w", err)
			}
		}
		w.data = p.data.Bytes()
	default:
		return w, fmt.Errorf("%w: compression method %d", ErrUnsupported, f.Method)
	}
	var h []byte // what local header and record share
	version := uint16(10)
	if f.Method == Deflated {
		version = 20
	}
	h = le.AppendUint16(h, version)
	h = le.AppendUint16(h, flagUTF8)
	h = le.AppendUint16(h, f.Method)
	h = le.AppendUint32(h, 0x00210000) // 1980-01-01 00:00, as MS-DOS writes it
	h = le.AppendUint32(h, sum)
	h = le.AppendUint32(h, uint32(len(w.data)))
	h = le.AppendUint32(h, uint32(size))
	h = le.AppendUint16(h, uint16(len(f.Name)))

	w.head = append(le.AppendUint32(nil, sigLocal), h...)
	w.head = le.AppendUint16(w.head, uint16(f.Padding))
	w.head = append(w.head, f.Name...)
	if f.Padding > 0 {
		w.head = le.AppendUint16(w.head, extraAlignment)
		w.head = le.AppendUint16(w.head, uint16(f.Padding-4))
		w.head = append(w.head, make([]byte, f.Padding-4)...)
	}

	w.record = le.AppendUint32(nil, sigCentral)
	w.record = le.AppendUint16(w.record, version)
	w.record = append(w.record, h...)
	w.record = append(w.record, make([]byte, 16)...)
	w.record = append(w.record, f.Name...)
	return w, nil
}

// Record is the directory's record of f in an archive where it stands at offset.
func (f *File) Record(offset int64) ([]byte, error) {
	w, err := f.write()
	if err != nil {
		return nil, err
	}
	return w.at(offset)
}

// Filler is n bytes, at least 30, that readers of streams take for entries without a
// name, and readers of the directory do not see: what stands in place of entries when
// nothing may move.
func Filler(n int64) []byte {
	var out []byte
	for n > 0 {
		extra := min(n-localSize, max16)
		if rest := n - localSize - extra; rest > 0 && rest < localSize {
			extra -= localSize
		}
		b := make([]byte, localSize+extra)
		le.PutUint32(b, sigLocal)
		le.PutUint16(b[28:], uint16(extra))
		out = append(out, b...)
		n -= int64(len(b))
	}
	return out
}

// Local is the local header and data of f.
func (f *File) Local() ([]byte, error) {
	w, err := f.write()
	if err != nil {
		return nil, err
	}
	return w.local(make([]byte, 0, w.size())), nil
}

// at is the record for a file at offset.
func (w *written) at(offset int64) ([]byte, error) {
	if offset < 0 || offset >= max32 {
		return nil, fmt.Errorf("%w: a new entry at offset %d", ErrLimit, offset)
	}
	r := bytes.Clone(w.record)
	le.PutUint32(r[42:], uint32(offset))
	return r, nil
}

// Result is an edited archive: the edits, and the parts that signatures of formats
// cover apart.
type Result struct {
	Patch     *format.Patch
	End       int64  // where the entries end
	Directory []byte // the central directory
	Tail      []byte // the end records; the directory's offset counts what stands before it
}

// Apply returns the change of the archive.
func (e *Editor) Apply() (*Result, error) {
	z := e.z
	names := map[string]bool{}
	front, back, err := e.encode(names)
	if err != nil {
		return nil, err
	}
	for i := range z.Entries {
		if names[z.Entries[i].Name] && !e.removed[i] {
			return nil, fmt.Errorf("zipfile: %.80q is there already", z.Entries[i].Name)
		}
	}
	r := &Result{Patch: &format.Patch{Size: z.Size}}
	var first format.Edit
	added, records := 0, len(z.directory) // bytes of new entries, and of records at the most
	for _, w := range front {
		added += w.size()
	}
	first.Insert = make([]byte, 0, added)
	var heads []byte // records of what stands in front
	for _, w := range front {
		rec, err := w.at(int64(len(first.Insert)))
		if err != nil {
			return nil, err
		}
		heads = append(heads, rec...)
		first.Insert = w.local(first.Insert)
	}
	records += len(heads)
	edits := []format.Edit{first}
	shift := int64(len(first.Insert))
	shifts := make(map[int]int64, len(e.removed)) // at the first entry after each removed one
	rewritten := make(map[int]written, len(e.replaced))
	for i := range z.Order {
		from, to := z.Span(i)
		content, other := e.replaced[i]
		if !e.removed[i] && !other {
			continue
		}
		var w written
		if !e.removed[i] {
			if w, err = z.rewrite(i, content); err != nil {
				return nil, err
			}
			rewritten[i] = w
			records += len(w.record)
		}
		last := &edits[len(edits)-1]
		if last.Offset+last.Delete == from {
			last.Delete += to - from
			last.Insert = w.local(last.Insert)
		} else {
			edits = append(edits, format.Edit{Offset: from, Delete: to - from, Insert: w.local(nil)})
		}
		shifts[i] = to - from - int64(w.size())
	}
	r.End = z.End + shift
	for _, n := range shifts {
		r.End -= n
	}
	var tails []byte // records of what stands at the back
	added = 0
	for _, w := range back {
		rec, err := w.at(r.End)
		if err != nil {
			return nil, err
		}
		tails = append(tails, rec...)
		added += w.size()
		r.End += int64(w.size())
	}
	after := e.after
	if !e.hasNew && z.Directory > z.End {
		after = make([]byte, z.Directory-z.End)
		if err := format.ReadFull(z.a, after, z.End); err != nil {
			return nil, fmt.Errorf("zipfile: %w", err)
		}
	}
	// All that follows the entries, in one piece that grows no more.
	rest := make([]byte, 0, added+len(after)+records+len(tails)+end64Size+locator64Size+endSize+len(z.Comment))
	for _, w := range back {
		rest = w.local(rest)
	}
	rest = append(rest, after...)
	from := len(rest)
	rest = append(rest, heads...)
	moved := z.moves(shift, shifts)
	for i := range z.Entries {
		if e.removed[i] {
			continue
		}
		at := z.Entries[i].Offset + moved[i]
		if w, ok := rewritten[i]; ok {
			rec, err := w.at(at)
			if err != nil {
				return nil, err
			}
			rest = append(rest, rec...)
		} else if rest, err = z.record(rest, i, at); err != nil {
			return nil, err
		}
	}
	rest = append(rest, tails...)
	r.Directory = rest[from:len(rest):len(rest)]
	count := int64(len(z.Entries) - len(e.removed) + len(front) + len(back))
	r.Tail = z.endRecords(count, int64(len(r.Directory)), r.End+int64(len(after)))
	rest = append(rest, r.Tail...)
	if last := &edits[len(edits)-1]; last.Offset+last.Delete == z.End {
		last.Delete += z.Size - z.End
		last.Insert = append(last.Insert, rest...)
	} else {
		edits = append(edits, format.Edit{Offset: z.End, Delete: z.Size - z.End, Insert: rest})
	}
	if edits[0].Delete == 0 && len(edits[0].Insert) == 0 {
		edits = edits[1:]
	}
	r.Patch.Edits = edits
	return r, r.Patch.Check()
}

func (e *Editor) encode(names map[string]bool) (front, back []written, err error) {
	for k, list := range [][]File{e.front, e.back} {
		for i := range list {
			if names[list[i].Name] {
				return nil, nil, fmt.Errorf("zipfile: %.80q is put in twice", list[i].Name)
			}
			names[list[i].Name] = true
			w, err := list[i].write()
			if err != nil {
				return nil, nil, err
			}
			if k == 0 {
				front = append(front, w)
			} else {
				back = append(back, w)
			}
		}
	}
	return front, back, nil
}

// moves says by how many bytes each entry moves, where others shrink.
func (z *Archive) moves(shift int64, removed map[int]int64) []int64 {
	out := make([]int64, len(z.Entries))
	for i := range z.Order {
		out[i] = shift
		shift -= removed[i]
	}
	return out
}

// record adds the directory's record of entry i with another offset to b.
func (z *Archive) record(b []byte, i int, offset int64) ([]byte, error) {
	n := len(b)
	b = append(b, z.RawRecord(i)...)
	r := b[n:]
	if le.Uint32(r[42:]) != max32 {
		if offset >= max32 {
			return nil, fmt.Errorf("%w: %.80q would move beyond 4 GiB", ErrLimit, z.Entries[i].Name)
		}
		le.PutUint32(r[42:], uint32(offset))
		return b, nil
	}
	name, extra := int(le.Uint16(r[28:])), int(le.Uint16(r[30:]))
	wide := false
	err := fields(r[centralSize+name:][:extra], func(id uint16, v []byte) error {
		if id == extraZip64 { // the offset is its last number: see readExtra
			le.PutUint64(v[len(v)-8:], uint64(offset))
			wide = true
		}
		return nil
	})
	if err == nil && !wide {
		err = fmt.Errorf("%w: %.80q stands at the last offset before ZIP64", ErrLimit, z.Entries[i].Name)
	}
	return b, err
}

// endRecords writes the end of an archive, with ZIP64's records when the archive
// had them or has to.
func (z *Archive) endRecords(count, size, offset int64) []byte {
	var b []byte
	if z.zip64 || count >= max16 || size >= max32 || offset >= max32 {
		at := offset + size
		b = le.AppendUint32(b, sigEnd64)
		b = le.AppendUint64(b, end64Size-12)
		b = le.AppendUint16(b, 45)
		b = le.AppendUint16(b, 45)
		b = le.AppendUint64(b, 0)
		b = le.AppendUint64(b, uint64(count))
		b = le.AppendUint64(b, uint64(count))
		b = le.AppendUint64(b, uint64(size))
		b = le.AppendUint64(b, uint64(offset))
		b = le.AppendUint32(b, sigLocator64)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(at))
		b = le.AppendUint32(b, 1)
	}
	b = le.AppendUint32(b, sigEnd)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, uint16(min(count, max16)))
	b = le.AppendUint16(b, uint16(min(count, max16)))
	b = le.AppendUint32(b, uint32(min(size, max32)))
	b = le.AppendUint32(b, uint32(min(offset, max32)))
	b = le.AppendUint16(b, uint16(len(z.Comment)))
	return append(b, z.Comment...)
}
