package swupdate

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"strconv"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

const (
	descriptionName = "sw-description"
	signatureName   = "sw-description.sig"
	trailerName     = "TRAILER!!!"

	maxDescription = 256 << 10
	maxFiles       = 4096
	maxTail        = 64 << 10 // zeros behind the trailer: archivers fill their blocks

	fieldsAt   = 6
	headerSize = 110 // magic and 13 fields of 8 hexadecimal digits
)

// Fields of a header, by number (cpio(5), "New ASCII Format").
const (
	fieldMode  = 1
	fieldLinks = 4
	fieldSize  = 6
	fieldName  = 11
	fieldCheck = 12
	fields     = 13
)

// entry is one file of the archive.
type entry struct {
	name  string
	crc   bool
	check uint32 // sum of the content's bytes; 0 in newc
	data  int64  // where its content begins
	size  int64
	end   int64  // where the next one begins
	sum   []byte // SHA-256, once it is read
}

func round4(n int64) int64 { return (n + 3) &^ 3 }

// readEntry reads the header at off.
func readEntry(a format.Artifact, off int64) (*entry, error) {
	bad := func(s string) error { return fmt.Errorf("%w: entry at %d: %s", ErrMalformed, off, s) }
	b := make([]byte, headerSize)
	if err := format.ReadFull(a, b, off); err != nil {
		return nil, fmt.Errorf("swupdate: %w", err)
	}
	e := &entry{}
	switch string(b[:fieldsAt]) {
	case "070701":
	case "070702":
		e.crc = true
	default:
		return nil, ErrNotImage
	}
	var v [fields]uint32
	for i := range v {
		s := string(b[fieldsAt+8*i : fieldsAt+8*i+8])
		n, err := strconv.ParseUint(s, 16, 32)
		if err != nil || s[0] == '+' || s[0] == '-' {
			return nil, bad("field")
		}
		v[i] = uint32(n)
	}
	if v[fieldName] < 2 || v[fieldName] > 256 {
		return nil, bad("length of its name")
	}
	name := make([]byte, round4(headerSize+int64(v[fieldName]))-headerSize)
	if err := format.ReadFull(a, name, off+headerSize); err != nil {
		return nil, fmt.Errorf("swupdate: %w", err)
	}
	n := v[fieldName] - 1
	if len(bytes.Trim(name[n:], "\x00")) > 0 {
		return nil, bad("padding of its name")
	}
	for _, c := range name[:n] {
		if c <= ' ' || c >= 0x7f || c == '/' || c == '\\' {
			return nil, bad("name")
		}
	}
	e.name, e.check, e.size = string(name[:n]), v[fieldCheck], int64(v[fieldSize])
	e.data = off + headerSize + int64(len(name))
	e.end = round4(e.data + e.size)
	if e.end > a.Size() {
		return nil, bad("it is cut")
	}
	if e.name != trailerName && v[fieldMode]&0o170000 != 0o100000 && v[fieldMode] != 0 {
		return nil, bad("no regular file")
	}
	if !e.crc && e.check != 0 {
		return nil, bad("checksum in an archive that has none")
	}
	return e, nil
}

// encodeEntry writes a file as cpio does: mode 0644, everything else zero.
func encodeEntry(name string, data []byte, crc bool) []byte {
	v := [fields]uint32{fieldMode: 0o100644, fieldLinks: 1, fieldSize: uint32(len(data)), fieldName: uint32(len(name) + 1)}
	b := []byte("070701")
	if crc {
		b[5] = '2'
		for _, c := range data {
			v[fieldCheck] += uint32(c)
		}
	}
	for _, n := range v {
		b = fmt.Appendf(b, "%08X", n)
	}
	b = pad(append(append(b, name...), 0))
	return pad(append(b, data...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// read hashes the content, checks its sum and the padding behind it.
func (e *entry) read(ctx context.Context, a format.Artifact, keep *bytes.Buffer) error {
	h := crypto.SHA256.New()
	var sum uint32
	buf := make([]byte, min(256<<10, max(e.end-e.data, 1)))
	for off := e.data; off < e.end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), e.end-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return fmt.Errorf("swupdate: %w", err)
		}
		content := b[:min(int64(len(b)), max(0, e.data+e.size-off))]
		if len(bytes.Trim(b[len(content):], "\x00")) > 0 {
			return fmt.Errorf("%w: padding behind %s", ErrMalformed, e.name)
		}
		h.Write(content)
		if e.crc {
			for _, c := range content {
				sum += uint32(c)
			}
		}
		if keep != nil {
			keep.Write(content)
		}
		off += int64(len(b))
	}
	if sum != e.check {
		return fmt.Errorf("%w: checksum of %s", ErrMalformed, e.name)
	}
	e.sum = h.Sum(nil)
	return ctx.Err()
}

// walk reads the archive in order, to its end.
func walk(ctx context.Context, a format.Artifact, yield func(entry) error) error {
	off := int64(0)
	for n := 0; ; n++ {
		e, err := readEntry(a, off)
		if err != nil {
			return err
		}
		if n > maxFiles {
			return fmt.Errorf("%w: more than %d files", ErrMalformed, maxFiles)
		}
		if err := e.read(ctx, a, nil); err != nil {
			return err
		}
		off = e.end
		if e.name == trailerName {
			if e.size != 0 {
				return fmt.Errorf("%w: trailer with content", ErrMalformed)
			}
			break
		}
		if err := yield(*e); err != nil {
			return err
		}
	}
	// Archivers fill blocks of 512 bytes; what we inserted moves the end by fours.
	tail := a.Size() - off
	if tail > maxTail || tail%4 != 0 {
		return fmt.Errorf("%w: %d bytes behind the trailer", ErrMalformed, tail)
	}
	b := make([]byte, tail)
	if err := format.ReadFull(a, b, off); err != nil {
		return fmt.Errorf("swupdate: %w", err)
	}
	if len(bytes.Trim(b, "\x00")) > 0 {
		return fmt.Errorf("%w: there is something behind the trailer", ErrMalformed)
	}
	return nil
}

// image is a file's outline.
type image struct {
	crc         bool
	text        []byte // sw-description
	description *description
	at          int64 // where the signature is or goes
	old         int64 // size of its entry
	signature   []byte
	head        []byte // the archive up to its end
}

// openHead reads sw-description and the signature.
func openHead(a format.Artifact) (*image, error) {
	e, err := readEntry(a, 0)
	if err != nil {
		return nil, err
	}
	if e.name != descriptionName {
		return nil, ErrNotImage
	}
	if e.size > maxDescription {
		return nil, fmt.Errorf("%w: sw-description of %d bytes: at most %d", ErrMalformed, e.size, maxDescription)
	}
	im := &image{crc: e.crc, at: e.end}
	end := e.end
	sig, err := readEntry(a, e.end)
	if err != nil {
		return nil, err
	}
	if sig.name == signatureName {
		if sig.size == 0 || sig.size > single.MaxCMS || sig.crc != e.crc {
			return nil, fmt.Errorf("%w: signature of %d bytes", ErrMalformed, sig.size)
		}
		im.old, end = sig.end-sig.data+(sig.data-e.end), sig.end
	}
	im.head = make([]byte, end)
	if err := format.ReadFull(a, im.head, 0); err != nil {
		return nil, fmt.Errorf("swupdate: %w", err)
	}
	im.text = im.head[e.data : e.data+e.size]
	if im.old > 0 {
		im.signature = im.head[sig.data : sig.data+sig.size]
	}
	im.description, err = parseDescription(im.text)
	return im, err
}

// open reads the whole archive: the files are those of sw-description.
func open(ctx context.Context, a format.Artifact) (*image, error) {
	im, err := openHead(a)
	if err != nil {
		return nil, err
	}
	n := 0
	seen := map[string]bool{}
	err = walk(ctx, a, func(e entry) error {
		n++
		switch {
		case n == 1 || n == 2 && im.old > 0:
			return nil
		case e.crc != im.crc:
			return fmt.Errorf("%w: %s is in another format than the rest", ErrMalformed, e.name)
		case seen[e.name]:
			return fmt.Errorf("%w: %s stands twice", ErrMalformed, e.name)
		}
		seen[e.name] = true
		want, ok := im.description.files[e.name]
		if !ok {
			return fmt.Errorf("%w: %s is not in sw-description: nobody signs it", ErrMalformed, e.name)
		}
		if !bytes.Equal(want, e.sum) {
			return fmt.Errorf("swupdate: %s does not have the SHA-256 that sw-description says", e.name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name := range im.description.files {
		if !seen[name] {
			return nil, fmt.Errorf("%w: %s is in sw-description and not in the archive", ErrMalformed, name)
		}
	}
	return im, nil
}
