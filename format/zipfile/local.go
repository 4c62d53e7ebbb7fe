package zipfile

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/greatseal-io/greatseal/format"
)

// checkLocal compares a local header (name and extra fields included) with the
// directory.
func (e *Entry) checkLocal(h []byte) error {
	name := int(le.Uint16(h[26:]))
	if string(h[localSize:][:name]) != e.Name {
		return malformed("%.80q is called %.80q in its local header", e.Name, h[localSize:][:name])
	}
	flags := le.Uint16(h[6:])
	if (flags^e.Flags)&^flagsLevel != 0 {
		return malformed("%.80q: flags %#x in the local header, %#x in the directory", e.Name, flags, e.Flags)
	}
	if m := le.Uint16(h[8:]); m != e.Method {
		return malformed("%.80q: method %d in the local header, %d in the directory", e.Name, m, e.Method)
	}
	crc, packed, size := le.Uint32(h[14:]), int64(le.Uint32(h[18:])), int64(le.Uint32(h[22:]))
	seen := false
	if err := fields(h[localSize+name:], func(id uint16, v []byte) error {
		switch {
		case id == extraUnicode:
			return malformed("%.80q has a second name", e.Name)
		case id != extraZip64:
			return nil
		case seen || len(v) != 16:
			return malformed("%.80q: ZIP64 field of the local header", e.Name)
		}
		seen = true
		if size == max32 {
			size = int64(le.Uint64(v))
		}
		if packed == max32 {
			packed = int64(le.Uint64(v[8:]))
		}
		return nil
	}); err != nil {
		return err
	}
	// With a descriptor the numbers come later; writers that know them put them here too.
	if flags&flagDescriptor != 0 && crc == 0 && packed == 0 && size == 0 {
		return nil
	}
	if crc != e.CRC || packed != e.Compressed || size != e.Size {
		return malformed("%.80q: checksum or sizes differ between local header and directory", e.Name)
	}
	return nil
}

// checkAfter judges the bytes between the data and what follows: the descriptor
// where the flags ask for one, then nothing unless gaps are allowed.
func (e *Entry) checkAfter(b []byte, more, gaps bool) error {
	if e.Flags&flagDescriptor == 0 {
		if (len(b) > 0 || more) && !gaps {
			return malformed("%d bytes after %.80q belong to nothing", len(b), e.Name)
		}
		return nil
	}
	n := e.descriptor(b)
	switch {
	case n == 0:
		return malformed("%.80q: data descriptor", e.Name)
	case (n != len(b) || more) && !gaps:
		return malformed("%d bytes after %.80q belong to nothing", len(b)-n, e.Name)
	}
	return nil
}

// descriptor returns the length of the right data descriptor at the start of b, 0
// when there is none: with or without a signature, with numbers of 4 or 8 bytes.
func (e *Entry) descriptor(b []byte) int {
	for _, signature := range []int{4, 0} {
		for _, wide := range []int{8, 4} {
			n := signature + 4 + 2*wide
			if len(b) < n || signature > 0 && le.Uint32(b) != sigDescriptor {
				continue
			}
			d := b[signature:]
			same := le.Uint32(d) == e.CRC
			if wide == 8 {
				same = same && le.Uint64(d[4:]) == uint64(e.Compressed) && le.Uint64(d[12:]) == uint64(e.Size)
			} else {
				same = same && uint64(le.Uint32(d[4:])) == uint64(e.Compressed) && uint64(le.Uint32(d[8:])) == uint64(e.Size)
			}
			if same {
				return n
			}
		}
	}
	return 0
}

// maxDescriptor is the length of the longest descriptor, in bytes.
const maxDescriptor = 24

// DataOffset reads the local header of entry i and returns where its data starts.
func (z *Archive) DataOffset(i int) (int64, error) {
	e := &z.Entries[i]
	var fixed [localSize]byte
	if err := format.ReadFull(z.a, fixed[:], e.Offset); err != nil {
		return 0, fmt.Errorf("zipfile: %.80q: %w", e.Name, err)
	}
	if le.Uint32(fixed[:]) != sigLocal {
		return 0, malformed("%.80q has no local header", e.Name)
	}
	n := localSize + int64(le.Uint16(fixed[26:])) + int64(le.Uint16(fixed[28:]))
	_, to := z.Span(i)
	if n > to-e.Offset-e.Compressed {
		return 0, malformed("%.80q overlaps what follows it", e.Name)
	}
	h := make([]byte, n)
	if err := format.ReadFull(z.a, h, e.Offset); err != nil {
		return 0, fmt.Errorf("zipfile: %.80q: %w", e.Name, err)
	}
	return e.Offset + n, e.checkLocal(h)
}

// Content reads one entry whole, its header, checksum and what follows it checked.
// Contents of more than limit bytes are ErrLimit.
func (z *Archive) Content(i int, limit int64) ([]byte, error) {
	e := &z.Entries[i]
	if e.Size > limit {
		return nil, fmt.Errorf("%w: %.80q has %d bytes: at most %d", ErrLimit, e.Name, e.Size, limit)
	}
	at, err := z.DataOffset(i)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	c := newContent()
	r := bufio.NewReader(io.NewSectionReader(z.a, at, e.Compressed))
	if err := c.copy(e, r, &out); err != nil {
		return nil, err
	}
	_, to := z.Span(i)
	after := make([]byte, min(to-at-e.Compressed, maxDescriptor))
	if err := format.ReadFull(z.a, after, at+e.Compressed); err != nil {
		return nil, fmt.Errorf("zipfile: %.80q: %w", e.Name, err)
	}
	return out.Bytes(), e.checkAfter(after, to-at-e.Compressed > maxDescriptor, z.o.Gaps)
}

// byteReader is what inflating reads from without taking more than it needs.
type byteReader interface {
	io.Reader
	io.ByteReader
}

// content inflates one entry after the other.
type content struct {
	inflate io.ReadCloser
	buf     []byte
}

func newContent() *content { return &content{buf: make([]byte, 32<<10)} }

// copy hands the content of e, whose data r has and nothing else, to w, and checks
// its size and checksum.
func (c *content) copy(e *Entry, r byteReader, w io.Writer) error {
	var src io.Reader = r
	if e.Method == Deflated {
		if c.inflate == nil {
			c.inflate = flate.NewReader(r)
		} else if err := c.inflate.(flate.Resetter).Reset(r, nil); err != nil {
			return fmt.Errorf("zipfile: %.80q: %w", e.Name, err)
		}
		src = c.inflate
	}
	var size int64
	var sum uint32
	for {
		n, err := src.Read(c.buf)
		if size += int64(n); size > e.Size {
			return fmt.Errorf("%w: %.80q has more than %d bytes", ErrContent, e.Name, e.Size)
		}
		sum = crc32.Update(sum, crc32.IEEETable, c.buf[:n])
		if _, werr := w.Write(c.buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var corrupt flate.CorruptInputError
			if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("%w: %.80q: %v", ErrContent, e.Name, err)
			}
			return fmt.Errorf("zipfile: %.80q: %w", e.Name, err)
		}
	}
	if _, err := r.ReadByte(); err == nil {
		return malformed("%.80q: data goes on after the content's end", e.Name)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if size != e.Size || sum != e.CRC {
		return fmt.Errorf("%w: %.80q", ErrContent, e.Name)
	}
	return nil
}
