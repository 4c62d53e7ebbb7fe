package mcuboot

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

const (
	headerSize = 32
	magic      = 0x96f3b83d
	erased     = 0xff

	infoSize       = 4 // magic and size, before TLVs
	infoMagic      = 0x6907
	protectedMagic = 0x6908
	maxArea        = 1<<16 - 1

	flagsEncrypted = 0x4 | 0x8
)

// Types of TLVs (bootutil/image.h).
const (
	tlvKeyHash    = 0x01
	tlvSHA256     = 0x10
	tlvSHA384     = 0x11
	tlvSHA512     = 0x12
	tlvECDSA      = 0x22
	tlvRSA3072    = 0x23
	tlvEd25519    = 0x24
	tlvPure       = 0x25 // the last of digests, keys and signatures
	tlvDependency = 0x40
	tlvCounter    = 0x50
)

var digestTypes = map[crypto.Hash]byte{crypto.SHA256: tlvSHA256, crypto.SHA384: tlvSHA384, crypto.SHA512: tlvSHA512}

// header is struct image_header.
type header []byte

func (h header) load() uint32      { return binary.LittleEndian.Uint32(h[4:]) }
func (h header) size() int64       { return int64(binary.LittleEndian.Uint16(h[8:])) }
func (h header) protected() int64  { return int64(binary.LittleEndian.Uint16(h[10:])) }
func (h header) payload() int64    { return int64(binary.LittleEndian.Uint32(h[12:])) }
func (h header) flags() uint32     { return binary.LittleEndian.Uint32(h[16:]) }
func (h header) version() []byte   { return h[20:28] }
func (h header) protectsAt() int64 { return h.size() + h.payload() }

// end is where the unprotected TLVs begin: what is before is covered.
func (h header) end() int64 { return h.protectsAt() + h.protected() }

// check refuses a header that no image of this size has.
func (h header) check(size int64) error {
	switch {
	case binary.LittleEndian.Uint32(h) != magic:
		return ErrNotImage
	case h.size() < headerSize || h.end() > size || h.payload() == 0 || h.protected() > 0 && h.protected() < infoSize:
		return fmt.Errorf("%w: sizes in its header", ErrMalformed)
	case h.flags()&flagsEncrypted != 0:
		return ErrEncrypted
	}
	return nil
}

func parseHeader(a format.Artifact) (header, error) {
	if a.Size() < headerSize {
		return nil, ErrNotImage
	}
	h := make(header, headerSize)
	if err := format.ReadFull(a, h, 0); err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	return h, h.check(a.Size())
}

// tlv is one entry.
type tlv struct {
	kind  byte
	value []byte
}

// signature is a key's name and the signature behind it.
type signature struct {
	key   []byte
	kind  byte
	value []byte
}

// image is a file's outline.
type image struct {
	header
	size       int64 // of the file
	end        int64 // of what is covered
	area       int64 // size of the unprotected TLVs with their header, 0 when there are none
	padded     bool  // there is a slot behind
	spare      int64 // erased bytes behind the TLVs, before a boot trailer
	trailer    trailer
	tail       []byte // what Attach knows the file by: the TLVs and a digest of what is behind
	digestType byte
	digest     []byte
	signatures []signature
}

// parse reads all but what is covered, and the padding, which it wants to be
// erased flash.
func parse(a format.Artifact) (*image, error) {
	h, err := parseHeader(a)
	if err != nil {
		return nil, err
	}
	im := &image{header: h, size: a.Size(), end: h.end()}
	var info [infoSize]byte
	if rest := a.Size() - im.end; rest >= infoSize {
		if err := format.ReadFull(a, info[:], im.end); err != nil {
			return nil, fmt.Errorf("mcuboot: %w", err)
		}
		if binary.LittleEndian.Uint16(info[:]) == infoMagic {
			im.area = int64(binary.LittleEndian.Uint16(info[2:]))
			if im.area < infoSize || im.area > rest {
				return nil, fmt.Errorf("%w: size of its TLVs", ErrMalformed)
			}
		}
	}
	im.tail = make([]byte, im.area)
	if err := format.ReadFull(a, im.tail, im.end); err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	if im.area > 0 {
		if err := im.parseArea(im.tail[infoSize:]); err != nil {
			return nil, err
		}
	}
	return im, im.parsePadding(a)
}

// entries cuts TLVs.
func entries(b []byte) ([]tlv, error) {
	var out []tlv
	for len(b) > 0 {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint16(b[2:])) {
			return nil, fmt.Errorf("%w: a TLV is cut", ErrMalformed)
		}
		if b[1] != 0 { // types of vendors have two bytes; kinds that matter here have one
			return nil, fmt.Errorf("%w: TLV of type %#04x", ErrMalformed, binary.LittleEndian.Uint16(b))
		}
		n := 4 + int(binary.LittleEndian.Uint16(b[2:]))
		out = append(out, tlv{b[0], b[4:n]})
		b = b[n:]
	}
	return out, nil
}

// encodeArea makes an area of unprotected TLVs; without any there is none.
func encodeArea(list []tlv) []byte {
	if len(list) == 0 {
		return nil
	}
	out := make([]byte, infoSize)
	for _, t := range list {
		out = append(out, t.kind, 0)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(t.value)))
		out = append(out, t.value...)
	}
	binary.LittleEndian.PutUint16(out, infoMagic)
	binary.LittleEndian.PutUint16(out[2:], uint16(len(out)))
	return out
}

// parseArea accepts a digest and pairs of key name and signature, nothing else:
// nobody signs what stands here, and bootloaders differ in what they read of it.
func (im *image) parseArea(b []byte) error {
	list, err := entries(b)
	if err != nil {
		return err
	}
	var key []byte
	for _, t := range list {
		switch t.kind {
		case tlvSHA256, tlvSHA384, tlvSHA512:
			if im.digest != nil || key != nil || len(im.signatures) > 0 {
				return fmt.Errorf("%w: a digest is out of place", ErrMalformed)
			}
			im.digestType, im.digest = t.kind, t.value
		case tlvKeyHash:
			if key != nil || len(t.value) == 0 {
				return fmt.Errorf("%w: name of a key", ErrMalformed)
			}
			key = t.value
		case tlvECDSA, tlvRSA3072, tlvEd25519:
			if key == nil {
				return fmt.Errorf("%w: a signature without the name of its key", ErrMalformed)
			}
			im.signatures = append(im.signatures, signature{key, t.kind, t.value})
			key = nil
		default:
			return fmt.Errorf("%w: TLV of type %#02x, which nobody signs", ErrMalformed, t.kind)
		}
	}
	if key != nil {
		return fmt.Errorf("%w: name of a key without a signature", ErrMalformed)
	}
	return nil
}

// trailer is what the end of a padded slot asks the bootloader to do.
type trailer struct {
	magic bool // "try this image"
	ok    bool // "it is confirmed"
}

// maxAlign is the largest write size of flash that trailers are laid out for.
const maxAlign = 32

var (
	magicDefault = []byte{0x77, 0xc2, 0x95, 0xf3, 0x60, 0xd2, 0xef, 0x7f, 0x35, 0x52, 0x50, 0x0f, 0x2c, 0xb6, 0x79, 0x80}
	magicAligned = []byte{0x2d, 0xe1, 0x5d, 0x29, 0x41, 0x0b, 0x8d, 0x77, 0x67, 0x9c, 0x11, 0x0f, 0x1f, 0x8a} // behind the alignment
)

// parsePadding wants erased bytes, but for a boot trailer.
func (im *image) parsePadding(a format.Artifact) error {
	at := im.end + im.area
	rest := a.Size() - at
	if rest == 0 {
		return nil
	}
	im.padded = true
	last := make([]byte, min(rest, 16+2*maxAlign))
	stop := a.Size() - int64(len(last))
	buf := make([]byte, min(64<<10, rest))
	for off := at; off < stop; {
		b := buf[:min(int64(len(buf)), stop-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return fmt.Errorf("mcuboot: %w", err)
		}
		if !isErased(b) {
			return fmt.Errorf("%w: there are bytes behind the image that are not erased flash", ErrMalformed)
		}
		off += int64(len(b))
	}
	if err := format.ReadFull(a, last, stop); err != nil {
		return fmt.Errorf("mcuboot: %w", err)
	}
	im.tail = append(im.tail, last...)
	used, err := im.trailer.parse(last)
	if err != nil {
		return err
	}
	im.spare = rest - int64(used)
	return nil
}

// parse reads the end of a slot: erased bytes, or the magic, or the magic and
// image_ok before it. It returns how many bytes at the end TLVs may not take.
func (t *trailer) parse(b []byte) (int, error) {
	n := len(b) - 16
	if n < 0 || isErased(b[n:]) {
		if !isErased(b) {
			return 0, fmt.Errorf("%w: there are bytes behind the image that are not erased flash", ErrMalformed)
		}
		return 0, nil
	}
	align := 8
	if !bytes.Equal(b[n:], magicDefault) {
		align = int(binary.LittleEndian.Uint16(b[n:]))
		if !bytes.Equal(b[n+2:], magicAligned) || align != 16 && align != maxAlign {
			return 0, fmt.Errorf("%w: what is behind the image is no boot trailer", ErrMalformed)
		}
	}
	t.magic = true
	ok := len(b) - (16+align-1)/align*align - align // of image_ok
	for i, c := range b[:n] {
		switch {
		case c == erased:
		case i == ok && c == 1:
			t.ok = true
		default:
			return 0, fmt.Errorf("%w: boot trailer", ErrMalformed)
		}
	}
	return len(b), nil
}

func isErased(b []byte) bool {
	for _, c := range b {
		if c != erased {
			return false
		}
	}
	return true
}
