package zipfile

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/greatseal-io/greatseal/format"
)

// File is an entry to put into an archive. It gets no time but ZIP's first
// (1980-01-01), no attributes, and is stored or deflated.
type File struct {
	Name    string
	Content []byte
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
	le.PutUint16(w.local[6:], flags)
	le.PutUint16(w.record[8:], flags)
	copy(w.local[10:], old[12:16])
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

// written is a File in its encoding.
type written struct {
	local  []byte // header, extra field and data
	record []byte // of the directory, without its offset
}

func (f *File) write() (written, error) {
	var w written
	if err := CheckName(f.Name); err != nil {
		return w, err
	}
	if len(f.Name) > MaxName || int64(len(f.Content)) >= max32 || f.Padding < 0 || f.Padding > max16 || f.Padding > 0 && f.Padding < 6 {
		return w, fmt.Errorf("%w: entry %.80q with %d bytes and %d of padding", ErrLimit, f.Name, len(f.Content), f.Padding)
	}
	data := f.Content
	switch f.Method {
	case Stored:
	case Deflated:
		var b bytes.Buffer
		c, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err != nil {
			return w, fmt.Errorf("zipfile: %w", err)
		}
		if _, err := c.Write(f.Content); err != nil {
			return w, fmt.Errorf("zipfile: %w", err)
		}
		if err := c.Close(); err != nil {
			return w, fmt.Errorf("zipfile: %w", err)
		}
		data = b.Bytes()
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
	h = le.AppendUint32(h, crc32.ChecksumIEEE(f.Content))
	h = le.AppendUint32(h, uint32(len(data)))
	h = le.AppendUint32(h, uint32(len(f.Content)))
	h = le.AppendUint16(h, uint16(len(f.Name)))

	w.local = append(le.AppendUint32(nil, sigLocal), h...)
	w.local = le.AppendUint16(w.local, uint16(f.Padding))
	w.local = append(w.local, f.Name...)
	if f.Padding > 0 {
		w.local = le.AppendUint16(w.local, extraAlignment)
		w.local = le.AppendUint16(w.local, uint16(f.Padding-4))
		w.local = append(w.local, make([]byte, f.Padding-4)...)
	}
	w.local = append(w.local, data...)

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
	return w.local, err
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
	dir := make([]byte, 0, len(z.directory)+1024)
	var first format.Edit
	for _, w := range front {
		rec, err := w.at(int64(len(first.Insert)))
		if err != nil {
			return nil, err
		}
		dir = append(dir, rec...)
		first.Insert = append(first.Insert, w.local...)
	}
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
		}
		last := &edits[len(edits)-1]
		if last.Offset+last.Delete == from {
			last.Delete += to - from
			last.Insert = append(last.Insert, w.local...)
		} else {
			edits = append(edits, format.Edit{Offset: from, Delete: to - from, Insert: w.local})
		}
		shifts[i] = to - from - int64(len(w.local))
	}
	moved := z.moves(shift, shifts)
	for i := range z.Entries {
		if e.removed[i] {
			continue
		}
		at := z.Entries[i].Offset + moved[i]
		rec, err := z.record(i, at)
		if w, ok := rewritten[i]; ok {
			rec, err = w.at(at)
		}
		if err != nil {
			return nil, err
		}
		dir = append(dir, rec...)
	}
	r.End = z.End + shift
	for _, n := range shifts {
		r.End -= n
	}
	var rest []byte
	for _, w := range back {
		rec, err := w.at(r.End)
		if err != nil {
			return nil, err
		}
		dir = append(dir, rec...)
		rest = append(rest, w.local...)
		r.End += int64(len(w.local))
	}
	after := e.after
	if !e.hasNew && z.Directory > z.End {
		after = make([]byte, z.Directory-z.End)
		if err := format.ReadFull(z.a, after, z.End); err != nil {
			return nil, fmt.Errorf("zipfile: %w", err)
		}
	}
	r.Directory = dir
	count := int64(len(z.Entries) - len(e.removed) + len(front) + len(back))
	r.Tail = z.endRecords(count, int64(len(dir)), r.End+int64(len(after)))
	rest = slices.Concat(rest, after, dir, r.Tail)
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

// record is the directory's record of entry i with another offset.
func (z *Archive) record(i int, offset int64) ([]byte, error) {
	r := []byte(z.RawRecord(i))
	if le.Uint32(r[42:]) != max32 {
		if offset >= max32 {
			return nil, fmt.Errorf("%w: %.80q would move beyond 4 GiB", ErrLimit, z.Entries[i].Name)
		}
		le.PutUint32(r[42:], uint32(offset))
		return r, nil
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
	return r, err
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
