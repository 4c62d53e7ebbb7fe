package zipfile

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Open reads the end records and the central directory of a, and checks all that
// can be checked without reading the entries.
func Open(a format.Artifact, o Options) (*Archive, error) {
	z := &Archive{a: a, o: o, Size: a.Size()}
	count, size, err := z.readEnd()
	if err != nil {
		return nil, err
	}
	if size > MaxDirectory || count > MaxEntries {
		return nil, fmt.Errorf("%w: %d entries in a directory of %d bytes", ErrLimit, count, size)
	}
	if count > size/centralSize {
		return nil, malformed("%d entries in a directory of %d bytes", count, size)
	}
	if z.directory, err = readString(a, z.Directory, size); err != nil {
		return nil, fmt.Errorf("zipfile: directory: %w", err)
	}
	z.End = z.Directory
	if o.Before != nil {
		if z.End, err = o.Before(a, z.Directory); err != nil {
			return nil, err
		}
		if z.End < 0 || z.End > z.Directory {
			return nil, malformed("entries end at %d, after the directory's start", z.End)
		}
	}
	if err := z.readDirectory(int(count)); err != nil {
		return nil, err
	}
	if err := z.checkNames(); err != nil {
		return nil, err
	}
	return z, z.checkOrder()
}

// readString reads size bytes of a at off. Names are parts of it: there is no second
// copy.
func readString(a format.Artifact, off, size int64) (string, error) {
	var out strings.Builder
	out.Grow(int(size))
	buf := make([]byte, min(size, 64<<10))
	for left := size; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		if err := format.ReadFull(a, b, off+size-left); err != nil {
			return "", err
		}
		out.Write(b)
		left -= int64(len(b))
	}
	return out.String(), nil
}

// readEnd finds the end records: they end with the file, and no second one could
// be found by another reader.
func (z *Archive) readEnd() (count, size int64, err error) {
	n := min(z.Size, endSize+maxComment)
	if n < endSize {
		return 0, 0, ErrNotZip
	}
	b := make([]byte, n)
	// Most archives have no comment: look at the end alone first.
	short := b[n-endSize:]
	if err := format.ReadFull(z.a, short, z.Size-endSize); err != nil {
		return 0, 0, fmt.Errorf("zipfile: end record: %w", err)
	}
	at := n - endSize
	if le.Uint32(short) != sigEnd || le.Uint16(short[20:]) != 0 {
		if err := format.ReadFull(z.a, b, z.Size-n); err != nil {
			return 0, 0, fmt.Errorf("zipfile: end record: %w", err)
		}
		for at = n - endSize; at >= 0; at-- {
			if le.Uint32(b[at:]) == sigEnd && int64(le.Uint16(b[at+20:])) == n-at-endSize {
				break
			}
		}
		if at < 0 {
			return 0, 0, ErrNotZip
		}
	}
	end := b[at:]
	if bytes.Contains(end[4:], le.AppendUint32(nil, sigEnd)) {
		return 0, 0, malformed("a second end record inside the end record or its comment")
	}
	z.tail = z.Size - n + at
	z.Comment = string(end[endSize:])
	// Makers of app packages leave numbers of disks to the ZIP64 record, like all others.
	left := le.Uint32(end[4:]) == max32
	if le.Uint32(end[4:]) != 0 && !left {
		return 0, 0, fmt.Errorf("%w: an archive on several disks", ErrUnsupported)
	}
	count, size, z.Directory = int64(le.Uint16(end[10:])), int64(le.Uint32(end[12:])), int64(le.Uint32(end[16:]))
	if le.Uint16(end[8:]) != le.Uint16(end[10:]) {
		return 0, 0, malformed("end record counts %d and %d entries", le.Uint16(end[8:]), le.Uint16(end[10:]))
	}
	if count, size, err = z.readEnd64(count, size); err != nil {
		return 0, 0, err
	}
	if left && !z.zip64 {
		return 0, 0, fmt.Errorf("%w: an archive on several disks", ErrUnsupported)
	}
	if size < 0 || z.Directory < 0 || z.Directory > z.tail || size != z.tail-z.Directory {
		return 0, 0, malformed("directory of %d bytes at %d does not end where the end records start, at %d", size, z.Directory, z.tail)
	}
	return count, size, nil
}

// readEnd64 reads the ZIP64 end records, which stand right before the other one.
func (z *Archive) readEnd64(count, size int64) (int64, int64, error) {
	need := count == max16 || size == max32 || z.Directory == max32
	var loc [locator64Size]byte
	if z.tail < locator64Size+end64Size {
		if need {
			return 0, 0, malformed("no ZIP64 end record")
		}
		return count, size, nil
	}
	if err := format.ReadFull(z.a, loc[:], z.tail-locator64Size); err != nil {
		return 0, 0, fmt.Errorf("zipfile: end record: %w", err)
	}
	if le.Uint32(loc[:]) != sigLocator64 {
		// Numbers at their limits are no reference to ZIP64: they stand for themselves.
		return count, size, nil
	}
	at := z.tail - locator64Size - end64Size
	if int64(le.Uint64(loc[8:])) != at || le.Uint32(loc[4:]) != 0 || le.Uint32(loc[16:]) != 1 {
		return 0, 0, malformed("ZIP64 locator points to %d: the record is wanted at %d", le.Uint64(loc[8:]), at)
	}
	var e [end64Size]byte
	if err := format.ReadFull(z.a, e[:], at); err != nil {
		return 0, 0, fmt.Errorf("zipfile: end record: %w", err)
	}
	if le.Uint32(e[:]) != sigEnd64 || le.Uint64(e[4:]) != end64Size-12 || le.Uint32(e[16:]) != 0 || le.Uint32(e[20:]) != 0 || le.Uint64(e[24:]) != le.Uint64(e[32:]) {
		return 0, 0, malformed("ZIP64 end record")
	}
	for _, p := range []struct {
		what  string
		value *int64
		limit int64
		full  uint64
	}{{"entries", &count, max16, le.Uint64(e[32:])}, {"bytes of directory", &size, max32, le.Uint64(e[40:])}, {"offset", &z.Directory, max32, le.Uint64(e[48:])}} {
		if *p.value != p.limit && uint64(*p.value) != p.full || p.full > 1<<62 {
			return 0, 0, malformed("end records disagree: %s %d and %d", p.what, *p.value, p.full)
		}
		*p.value = int64(p.full)
	}
	z.zip64, z.tail = true, at
	return count, size, nil
}

func (z *Archive) readDirectory(count int) error {
	z.Entries = make([]Entry, 0, count)
	var total int64
	fixed, more := make([]byte, centralSize), []byte(nil)
	at := 0
	for len(z.Entries) < count {
		left := len(z.directory) - at
		r := fixed[:copy(fixed, z.directory[at:])]
		if len(r) < centralSize || le.Uint32(r) != sigCentral {
			return malformed("directory record %d", len(z.Entries))
		}
		name, extra, comment := int(le.Uint16(r[28:])), int(le.Uint16(r[30:])), int(le.Uint16(r[32:]))
		end := centralSize + name + extra + comment
		if left < end {
			return malformed("directory record %d is longer than the directory", len(z.Entries))
		}
		e := Entry{
			Name: z.directory[at+centralSize:][:name], record: uint32(at),
			Flags: le.Uint16(r[8:]), Method: le.Uint16(r[10:]), CRC: le.Uint32(r[16:]),
			Compressed: int64(le.Uint32(r[20:])), Size: int64(le.Uint32(r[24:])), Offset: int64(le.Uint32(r[42:])),
		}
		if le.Uint16(r[34:]) != 0 {
			return fmt.Errorf("%w: %.80q: another disk", ErrUnsupported, e.Name)
		}
		more = append(more[:0], z.directory[at+centralSize+name:][:extra]...)
		if err := e.readExtra(more); err != nil {
			return err
		}
		if err := e.check(z.End); err != nil {
			return err
		}
		if total += e.Size; total > MaxContent {
			return fmt.Errorf("%w: more than %d bytes of content", ErrLimit, int64(MaxContent))
		}
		z.Entries = append(z.Entries, e)
		at += end
	}
	if at != len(z.directory) {
		return malformed("%d bytes after the directory's last record", len(z.directory)-at)
	}
	return nil
}

// readExtra walks the extra fields of a directory record and takes the numbers
// that ZIP64 moved there, which must be those that the record lacks, and no more.
func (e *Entry) readExtra(b []byte) error {
	seen := false
	err := fields(b, func(id uint16, v []byte) error {
		switch {
		case id == extraUnicode:
			return malformed("%.80q has a second name", e.Name)
		case id != extraZip64:
			return nil
		case seen:
			return malformed("%.80q: two ZIP64 fields", e.Name)
		}
		seen = true
		for _, p := range []*int64{&e.Size, &e.Compressed, &e.Offset} {
			if *p != max32 {
				continue
			}
			if len(v) < 8 || le.Uint64(v) > 1<<62 {
				return malformed("%.80q: ZIP64 field", e.Name)
			}
			*p, v = int64(le.Uint64(v)), v[8:]
		}
		if len(v) != 0 {
			return malformed("%.80q: ZIP64 field has %d bytes too many", e.Name, len(v))
		}
		return nil
	})
	return err
}

// fields calls yield for each extra field. Up to three zeros at the end are
// padding: alignment tools leave them.
func fields(b []byte, yield func(id uint16, v []byte) error) error {
	for len(b) >= 4 {
		id, n := le.Uint16(b), int(le.Uint16(b[2:]))
		if n > len(b)-4 {
			return malformed("extra field of %d bytes where %d are left", n, len(b)-4)
		}
		if err := yield(id, b[4:4+n]); err != nil {
			return err
		}
		b = b[4+n:]
	}
	for _, c := range b {
		if c != 0 {
			return malformed("extra field is cut off")
		}
	}
	return nil
}

// check holds one record to what is supported.
func (e *Entry) check(end int64) error {
	switch {
	case len(e.Name) > MaxName:
		return fmt.Errorf("%w: a name of %d bytes", ErrLimit, len(e.Name))
	case e.Flags&^(flagsLevel|flagDescriptor|flagUTF8) != 0:
		return fmt.Errorf("%w: %.80q has flags %#x (encryption?)", ErrUnsupported, e.Name, e.Flags)
	case e.Method != Stored && e.Method != Deflated:
		return fmt.Errorf("%w: %.80q: compression method %d", ErrUnsupported, e.Name, e.Method)
	case e.Size > MaxContent:
		return fmt.Errorf("%w: %.80q has %d bytes", ErrLimit, e.Name, e.Size)
	case e.Method == Stored && e.Size != e.Compressed:
		return malformed("%.80q is stored, with %d bytes of %d", e.Name, e.Compressed, e.Size)
	case e.Method == Deflated && e.Size/1040 > e.Compressed: // deflate makes at most 1032 of 1
		return malformed("%.80q cannot have %d bytes in %d", e.Name, e.Size, e.Compressed)
	case e.Dir() && e.Size != 0:
		return malformed("folder %.80q has %d bytes", e.Name, e.Size)
	case e.Offset > end-localSize-int64(len(e.Name)) || e.Compressed > end-e.Offset-localSize-int64(len(e.Name)):
		return malformed("%.80q lies outside of the entries", e.Name)
	}
	return CheckName(e.Name)
}

// CheckName refuses names that lead out of a folder or that readers understand in
// several ways. A folder ends with a slash.
func CheckName(n string) error {
	bad := func(why string) error { return malformed("name %.80q %s", n, why) }
	switch {
	case n == "":
		return bad("is empty")
	case !utf8.ValidString(n):
		return bad("is not UTF-8")
	case strings.ContainsFunc(n, unicode.IsControl):
		return bad("holds a control character")
	case strings.Contains(n, `\`):
		return bad("holds a backslash")
	}
	for rest, part, more := n, "", true; more; {
		part, rest, more = strings.Cut(rest, "/")
		if part == ".." || part == "." || part == "" && (more || rest != "" || n == "/") {
			return bad("is not a plain path")
		}
	}
	return nil
}

// checkNames refuses a name that stands twice, also as a file and as a folder.
func (z *Archive) checkNames() error {
	order := make([]uint32, len(z.Entries))
	for i := range order {
		order[i] = uint32(i)
	}
	plain := func(i uint32) string { return strings.TrimSuffix(z.Entries[i].Name, "/") }
	slices.SortFunc(order, func(a, b uint32) int { return strings.Compare(plain(a), plain(b)) })
	for i := 1; i < len(order); i++ {
		if plain(order[i]) == plain(order[i-1]) {
			return malformed("%.80q stands twice", plain(order[i]))
		}
	}
	return nil
}

// checkOrder links the entries in the order of the file and refuses overlaps as
// far as the directory shows them.
func (z *Archive) checkOrder() error {
	n := uint32(len(z.Entries))
	z.first = n
	if n == 0 {
		if z.End != 0 && !z.o.Gaps {
			return malformed("%d bytes before the directory of an empty archive", z.End)
		}
		return nil
	}
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(z.Entries[a].Offset, z.Entries[b].Offset) })
	z.first = order[0]
	if at := z.Entries[z.first].Offset; at != 0 && !z.o.Gaps {
		return malformed("%d bytes before the first entry", at)
	}
	for i, k := range order {
		e := &z.Entries[k]
		e.after = n
		to := z.End
		if i+1 < len(order) {
			e.after = order[i+1]
			to = z.Entries[e.after].Offset
		}
		if e.Compressed > to-e.Offset-localSize-int64(len(e.Name)) {
			return malformed("%.80q overlaps what follows it", e.Name)
		}
	}
	return nil
}
