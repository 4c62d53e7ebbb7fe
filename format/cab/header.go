package cab

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

const (
	maxSize    = 1<<32 - 1 // all offsets are 32-bit numbers
	maxName    = 255       // bytes of a cabinet's or a disk's name
	headerSize = 36
	folderSize = 8
	signature  = 16 // bytes of the reserve's second part, when it tells of a signature

	flagPrevious = 1
	flagNext     = 2
	flagReserve  = 4
)

// cabinet is an open file: an authenticode.File.
type cabinet struct {
	a       format.Artifact
	size    int64
	end     int64  // of the cabinet: where a signature begins
	head    []byte // header and folders
	at      places
	flags   uint16
	folders int
	files   int
	first   []byte // the first part of the reserve
	names   []string
	der     []byte // the signature
}

// places are offsets in a head; sig is 0 where there is no place for a signature.
type places struct{ reserve, first, sig, names, folders int }

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func read(a format.Artifact, off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > a.Size() || n > a.Size()-off {
		return nil, malformed("file ends within %d bytes at offset %d", n, off)
	}
	b := make([]byte, n)
	return b, format.ReadFull(a, b, off)
}

func open(a format.Artifact) (*cabinet, error) {
	c := &cabinet{a: a, size: a.Size()}
	if c.size < headerSize {
		return nil, ErrNotCab
	}
	b, err := read(a, 0, headerSize)
	if err != nil {
		return nil, fmt.Errorf("cab: %w", err)
	}
	if string(b[:4]) != "MSCF" || b[25] != 1 {
		return nil, ErrNotCab
	}
	c.end, c.flags, c.folders, c.files = int64(le32(b[8:])), le16(b[30:]), int(le16(b[26:])), int(le16(b[28:]))
	coff := int64(le32(b[16:]))
	switch {
	case c.size > maxSize:
		return nil, malformed("%d bytes: at most %d", c.size, int64(maxSize))
	case le32(b[4:]) != 0 || le32(b[12:]) != 0 || le32(b[20:]) != 0:
		return nil, malformed("reserved bytes are not zero")
	case c.flags&^(flagPrevious|flagNext|flagReserve) != 0:
		return nil, malformed("flags %#x", c.flags)
	case c.folders == 0:
		return nil, malformed("no folders")
	case c.end > c.size || coff > c.end || coff < headerSize:
		return nil, malformed("cabinet of %d bytes with files at %d in a file of %d", c.end, coff, c.size)
	}
	if c.head, err = read(a, 0, coff); err != nil {
		return nil, err
	}
	if err := c.readHead(); err != nil {
		return nil, err
	}
	return c, c.readSignature()
}

// readHead finds the parts of the header.
func (c *cabinet) readHead() error {
	at := headerSize
	folder := folderSize
	if c.flags&flagReserve != 0 {
		if at+4 > len(c.head) {
			return malformed("header ends within the reserve")
		}
		n := int(le16(c.head[at:]))
		folder += int(c.head[at+2])
		c.at.reserve = at + 4
		if at += 4 + n; at > len(c.head) {
			return malformed("reserve of %d bytes", n)
		}
		if n > 0 {
			if err := c.readReserve(c.head[c.at.reserve:at]); err != nil {
				return err
			}
		}
	}
	c.at.names = at
	for flag := uint16(flagPrevious); flag <= flagNext; flag <<= 1 {
		for range 2 {
			if c.flags&flag == 0 {
				continue
			}
			n := bytes.IndexByte(c.head[at:min(len(c.head), at+maxName+1)], 0)
			if n < 0 {
				return malformed("name of a cabinet or disk does not end")
			}
			c.names = append(c.names, string(c.head[at:at+n]))
			at += n + 1
		}
	}
	c.at.folders = at
	if at+c.folders*folder != len(c.head) {
		return malformed("%d folders of %d bytes at %d, files at %d", c.folders, folder, at, len(c.head))
	}
	for i := range c.folders {
		if data := int64(le32(c.head[at+i*folder:])); data < int64(len(c.head)) || data > c.end {
			return malformed("data of folder %d at %d", i, data)
		}
	}
	return nil
}

// readReserve reads the reserve of the header: the lengths of two parts, the parts,
// zeros. The second part tells of a signature.
func (c *cabinet) readReserve(b []byte) error {
	if len(b) < 4 {
		return malformed("reserve of %d bytes in the header", len(b))
	}
	n1, n2 := int(le16(b)), int(le16(b[2:]))
	switch {
	case 4+n1+n2 > len(b):
		return malformed("the header's reserve is not what signatures need: parts of %d and %d bytes in %d", n1, n2, len(b))
	case n2 != 0 && n2 != signature:
		return malformed("second part of the header's reserve has %d bytes: want %d", n2, signature)
	case !zero(b[4+n1+n2:]):
		return malformed("bytes after the two parts of the header's reserve")
	}
	c.at.first, c.first = c.at.reserve+4, b[4:4+n1]
	if n2 > 0 {
		c.at.sig = c.at.first + n1
	}
	return nil
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func (c *cabinet) readSignature() error {
	var off, n int64
	if c.at.sig > 0 {
		s := c.head[c.at.sig:][:signature]
		off, n = int64(le32(s)), int64(le32(s[4:]))
		if !zero(s[8:]) {
			return malformed("bytes after the place of the signature")
		}
	}
	if n == 0 && off == 0 {
		if c.size != c.end {
			return malformed("%d bytes after the cabinet", c.size-c.end)
		}
		return nil
	}
	if off != c.end || n == 0 || off+n != c.size || n > authenticode.MaxPKCS7+8 {
		return malformed("signature of %d bytes at %d, cabinet of %d bytes in a file of %d", n, off, c.end, c.size)
	}
	b, err := read(c.a, off, n)
	if err != nil {
		return err
	}
	der, pad, err := cms.Split(b)
	if err != nil {
		return malformed("signature: %v", err)
	}
	if len(pad) >= 8 || !zero(pad) {
		return malformed("%d bytes after the signature: only padding may stand there", len(pad))
	}
	c.der = der
	return nil
}

// layout finds the place for a signature in a head with a reserve that signedHead
// made.
func (c *cabinet) layout(head []byte) places {
	if le16(head[30:])&flagReserve == 0 {
		return places{}
	}
	return places{reserve: headerSize + 4, first: headerSize + 8, sig: headerSize + 8 + len(c.first)}
}

// signedHead is the header with a reserve for a signature, whose place is zero yet,
// and with all offsets as they are behind it.
func (c *cabinet) signedHead() ([]byte, error) {
	reserve := 4 + len(c.first) + signature
	sizes := []byte{0, 0, 0, 0}
	if c.flags&flagReserve != 0 {
		copy(sizes, c.head[headerSize:])
		reserve = max(reserve, int(le16(sizes)))
	}
	if reserve > 1<<16-1 {
		return nil, malformed("reserve of %d bytes: a signature does not fit", reserve)
	}
	binary.LittleEndian.PutUint16(sizes, uint16(reserve))
	b := append(bytes.Clone(c.head[:headerSize]), sizes...)
	r := make([]byte, reserve)
	binary.LittleEndian.PutUint16(r, uint16(len(c.first)))
	binary.LittleEndian.PutUint16(r[2:], signature)
	copy(r[4:], c.first)
	return c.shift(append(b, r...), c.flags|flagReserve)
}

// bareHead is the header without a signature, and without the reserve where that
// held nothing else.
func (c *cabinet) bareHead() []byte {
	b := bytes.Clone(c.head[:headerSize])
	flags := c.flags
	if c.flags&flagReserve != 0 {
		sizes := c.head[headerSize : headerSize+4]
		if le16(sizes) == 4+signature && len(c.first) == 0 && sizes[2] == 0 && sizes[3] == 0 && c.at.sig > 0 {
			flags &^= flagReserve
		} else {
			b = append(b, bytes.Clone(c.head[headerSize:c.at.names])...)
			if c.at.sig > 0 {
				clear(b[c.at.reserve+2 : c.at.reserve+4])
				clear(b[c.at.sig:][:signature])
			}
		}
	}
	b, _ = c.shift(b, flags) // it shrinks
	return b
}

// shift appends names and folders to a beginning of the header and corrects what
// depends on its length.
func (c *cabinet) shift(b []byte, flags uint16) ([]byte, error) {
	by := int64(len(b) - c.at.names)
	if c.end+by > maxSize {
		return nil, malformed("%d bytes with a reserve: at most %d", c.end+by, int64(maxSize))
	}
	add := func(b []byte) { binary.LittleEndian.PutUint32(b, uint32(int64(le32(b))+by)) }
	binary.LittleEndian.PutUint16(b[30:], flags)
	add(b[8:])
	add(b[16:])
	folders := len(b) + c.at.folders - c.at.names
	b = append(b, c.head[c.at.names:]...)
	step := (len(c.head) - c.at.folders) / c.folders
	for i := range c.folders {
		add(b[folders+i*step:])
	}
	return b, nil
}

// digests reads the cabinet and digests it with the header head, which has a place
// for a signature.
func (c *cabinet) digests(ctx context.Context, head []byte, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	var states []hash.Hash
	for _, h := range hashes {
		if _, err := authenticode.DigestOID(h); err != nil {
			return nil, err
		}
		states = append(states, h.New())
	}
	use := func(b []byte) {
		for _, x := range states {
			x.Write(b)
		}
	}
	use(head[:4])
	use(head[8:headerSize])
	use(head[headerSize+4:][:2]) // the length of the reserve's first part, then the part
	use(c.first)
	use(head[headerSize+4+int(le16(head[headerSize:])):])
	if err := c.rest(ctx, use); err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for i, h := range hashes {
		out[h] = states[i].Sum(nil)
	}
	return out, nil
}

// rest hands out what stands between header and end of the cabinet.
func (c *cabinet) rest(ctx context.Context, use func([]byte)) error {
	buf := make([]byte, 128<<10)
	for off := int64(len(c.head)); off < c.end; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cab: %w", err)
		}
		b := buf[:min(int64(len(buf)), c.end-off)]
		if err := format.ReadFull(c.a, b, off); err != nil {
			return fmt.Errorf("cab: %w", err)
		}
		use(b)
		off += int64(len(b))
	}
	return nil
}
