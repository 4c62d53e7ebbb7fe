package xar

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha1" // digests of files in packages
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/greatseal-io/greatseal/format"
)

const (
	magic      = 0x78617221 // "xar!"
	headerSize = 28
	hashSHA1   = 1
	hashMD5    = 2
	hashSHA256 = 3
	hashSHA512 = 4
)

func hashNumber(h crypto.Hash) uint32 {
	if h == crypto.SHA512 {
		return hashSHA512
	}
	return hashSHA256
}

// archive is a package: header and table.
type archive struct {
	*table
	size   int64
	number uint32      // of the table's hash
	hash   crypto.Hash // 0: none or one that is too weak
	packed []byte      // the table, compressed, as it stands
	heap   int64       // where the heap begins
	end    int64       // where the data ends
	ticket []byte      // what follows
	kept   *keep       // what scan shall remember, or nil
}

func parse(a format.Artifact) (*archive, error) {
	var b [headerSize]byte
	if err := format.ReadFull(a, b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotXar, err)
	}
	if be.Uint32(b[:]) != magic {
		return nil, fmt.Errorf("%w: magic number %x", ErrNotXar, b[:4])
	}
	x := &archive{size: a.Size(), number: be.Uint32(b[24:])}
	packed, plain := be.Uint64(b[8:]), be.Uint64(b[16:])
	switch {
	case be.Uint16(b[4:]) != headerSize || be.Uint16(b[6:]) != 1:
		return nil, malformed("header of %d bytes, version %d", be.Uint16(b[4:]), be.Uint16(b[6:]))
	case plain > maxTable || packed > 2*maxTable || int64(packed) > x.size-headerSize:
		return nil, malformed("table of %d bytes, %d compressed", plain, packed)
	}
	want := ""
	switch x.number {
	case 0, hashMD5:
	case hashSHA1:
		want = "sha1"
	case hashSHA256:
		want, x.hash = "sha256", crypto.SHA256
	case hashSHA512:
		want, x.hash = "sha512", crypto.SHA512
	default:
		return nil, malformed("hash %d", x.number)
	}
	x.packed = make([]byte, packed)
	if err := format.ReadFull(a, x.packed, headerSize); err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	xml, err := inflate(x.packed, int64(plain))
	if err != nil {
		return nil, err
	}
	if x.table, err = parseTable(xml); err != nil {
		return nil, err
	}
	if want != "" && (x.checksum == nil || x.style != want || x.checksum.off != 0) {
		return nil, malformed("header says %s, the table's digest is %.20q", want, x.style)
	}
	x.heap = headerSize + int64(packed)
	return x, x.layout(a)
}

// layout checks that the data covers the heap behind the signatures, and reads a
// notary's ticket behind it.
func (x *archive) layout(a format.Artifact) error {
	at := x.signatures
	if x.heap+at > x.size {
		return malformed("signatures run out of the file")
	}
	var last *data
	for _, d := range x.files {
		same := last != nil && d.extent == last.extent && d.style == last.style && bytes.Equal(d.sum, last.sum)
		if d.off != at && !same {
			return malformed("data of %.100q stands at %d: want %d, without gaps and overlaps", d.path, d.off, at)
		}
		if d.extent.size > x.size-x.heap-d.off {
			return malformed("data of %.100q runs out of the file", d.path)
		}
		at, last = d.end(), d
	}
	x.end = x.heap + at
	n := x.size - x.end
	if n == 0 {
		return nil
	}
	if n > maxTicket || n < 32 {
		return malformed("%d bytes follow the data", n)
	}
	x.ticket = make([]byte, n)
	if err := format.ReadFull(a, x.ticket, x.end); err != nil {
		return fmt.Errorf("xar: %w", err)
	}
	return checkTicket(x.ticket)
}

// checkTicket knows what stapler writes behind a package: blocks, read from the end,
// each with 16 bytes behind its content: "t8lr", version, kind (1: the last, which
// is empty; 2: a ticket), length, and four bytes that are not used, little-endian.
func checkTicket(b []byte) error {
	for {
		if len(b) < 16 || string(b[len(b)-16:len(b)-12]) != "t8lr" {
			return malformed("bytes after the data that are no notary's ticket")
		}
		t := b[len(b)-16:]
		b = b[:len(b)-16]
		kind, n := binary.LittleEndian.Uint16(t[6:]), int64(binary.LittleEndian.Uint32(t[8:]))
		if kind == 1 && n == 0 && len(b) == 0 {
			return nil
		}
		if kind != 2 || n == 0 || n > int64(len(b)) {
			return malformed("notary's ticket: block %d of %d bytes", kind, n)
		}
		b = b[:int64(len(b))-n]
	}
}

// chunk is the unit of reading.
const chunk = 256 << 10

// scan reads the data of all files once, in order, and compares it with the
// digests in the table. With all it gives the SHA-256 of each.
func (x *archive) scan(ctx context.Context, a format.Artifact, all bool) (map[*data][]byte, error) {
	sums := map[*data][]byte{}
	buf := make([]byte, chunk)
	var last *data
	for _, d := range x.files {
		if last != nil && d.extent == last.extent && d.extent.size > 0 {
			sums[d] = sums[last]
			continue
		}
		h, _ := fileHash(d.style)
		hs := []hash.Hash{h.New()}
		if all && h != crypto.SHA256 {
			hs = append(hs, crypto.SHA256.New())
		}
		var held *bytes.Buffer
		if x.kept != nil && wanted(d) && d.extent.size <= x.kept.room {
			held = &bytes.Buffer{}
			x.kept.room -= d.extent.size
		}
		for off := d.off; off < d.end(); {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("xar: %w", err)
			}
			b := buf[:min(chunk, d.end()-off)]
			if err := format.ReadFull(a, b, x.heap+off); err != nil {
				return nil, fmt.Errorf("xar: %w", err)
			}
			for _, w := range hs {
				w.Write(b)
			}
			if held != nil {
				held.Write(b)
			}
			off += int64(len(b))
		}
		if !bytes.Equal(hs[0].Sum(nil), d.sum) {
			return nil, fmt.Errorf("%w: data of %.100q does not have its digest", ErrDigest, d.path)
		}
		sums[d] = hs[len(hs)-1].Sum(nil)
		if held != nil {
			x.kept.data[d.path] = held.Bytes()
		}
		last = d
	}
	return sums, nil
}

// weak is how many files have a digest of SHA-1.
func (x *table) weak() (n int) {
	for _, d := range x.files {
		if d.style == "sha1" {
			n++
		}
	}
	return n
}

func digest(h crypto.Hash, b []byte) []byte {
	s := h.New()
	s.Write(b)
	return s.Sum(nil)
}

// read gives a part of the heap.
func (x *archive) read(a format.Artifact, e extent) ([]byte, error) {
	b := make([]byte, e.size)
	if err := format.ReadFull(a, b, x.heap+e.off); err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	return b, nil
}
