// Package codesign is Apple's code signature: the CodeDirectory, what stands beside
// it, and the CMS signature over it (Apple's Security framework, codedirectory.h,
// requirement.h and cscdefs.h; XNU, cs_blobs.h). Mach-O files and disk images
// carry it; packages macho and dmg say where.
//
//	SuperBlob 0xfade0cc0 {
//	    0        CodeDirectory 0xfade0c02   hashes of the pages and of what follows
//	    2        Requirements  0xfade0c01   slot -2
//	    5        entitlements  0xfade7171   slot -5, a property list in XML
//	    7        entitlements  0xfade7172   slot -7, the same in DER
//	    0x1000…  further CodeDirectories, with other hashes
//	    0x10000  CMS           0xfade0b01   over the first CodeDirectory, detached
//	}
//
// Slot -1 is the digest of Info.plist, -3 of CodeResources, -6 of what is special
// to the container (a disk image's trailer); they stand elsewhere.
//
// [Code] is what a CodeDirectory says before it is known who signs, the part of a
// plan; [Code.Assemble] adds what follows from the certificate (the designated
// requirement, the team) and gives the message to sign. [Parse] reads a signature
// strictly and [Signature.Verify] judges it.
//
// Invariants:
//
//  1. The CodeDirectory and every blob beside it are functions of the Code, the
//     identity and the time; nothing else is signed.
//  2. Parse accepts blobs only in the order of their index and without gaps, each
//     kind once; after the last one there are zeros alone.
//  3. Verify accepts a blob only when a slot of the CodeDirectory that is believed
//     has its digest, and a slot with a digest only when there is what it is of.
//  4. The CodeDirectory that is believed has SHA-256 or SHA-384; where it is not
//     the one under the CMS signature, that signature's attributes name it.
//  5. Entitlements in DER are made from the XML text here, and Verify refuses two
//     that do not say the same.
//
// New signatures have one CodeDirectory, with SHA-256: every system since macOS
// 10.11.4 and iOS 9 reads it, and one with SHA-1 beside it would add a hash that
// can be collided for the sake of systems that get no updates. SHA-384 is there for
// who asks.
//
// A caller may not conclude that Apple's systems run the code: what they trust, which
// entitlements they grant and what notarization adds is their own. Requirements
// are carried and hashed, not evaluated.
package codesign

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read and made.
const (
	MaxSize         = 48 << 20 // bytes of a signature: page hashes of a file of 4 GiB
	MaxEntitlements = 48 << 10 // bytes of the property list: an option's value holds it
	MaxRequirements = 16 << 10 // bytes of a requirement set
	maxBlobs        = 32
	maxText         = 1024 // bytes of an identifier or a team
)

// What callers branch on.
var (
	ErrMalformed = errors.New("codesign: malformed signature")
	ErrWeak      = errors.New("codesign: digest algorithm is too weak")
	ErrDigest    = errors.New("codesign: not what was signed")
	ErrAdHoc     = fmt.Errorf("codesign: ad-hoc signature, which nobody made: %w", format.ErrUnsigned)
	ErrSpace     = errors.New("codesign: signature does not fit the space reserved for it")
)

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Magic numbers of blobs, and their places in a SuperBlob (cscdefs.h).
const (
	magicRequirement     = 0xfade0c00
	magicRequirements    = 0xfade0c01
	magicDirectory       = 0xfade0c02
	magicEmbedded        = 0xfade0cc0
	magicEntitlements    = 0xfade7171
	magicEntitlementsDER = 0xfade7172
	magicWrapper         = 0xfade0b01

	placeDirectory  = 0
	placeAlternate  = 0x1000 // to 0x1004
	placeAlternates = 5
	placeSignature  = 0x10000
	placeTicket     = 0x10002
)

// Special slots of a CodeDirectory.
const (
	SlotInfo            = 1
	SlotRequirements    = 2
	SlotResources       = 3
	SlotApplication     = 4
	SlotEntitlements    = 5
	SlotContainer       = 6
	SlotEntitlementsDER = 7
	slots               = 7
	maxSlots            = 11 // newer systems know launch constraints in 8 to 11
)

// Flags of a CodeDirectory (cs_blobs.h).
const (
	FlagAdHoc        = 0x2
	FlagRuntime      = 0x10000
	FlagLinkerSigned = 0x20000
)

// The two attributes that name all CodeDirectories of a signature.
var (
	oidHashList = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 9, 1} // a property list
	oidHashes   = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 9, 2} // SEQUENCE { algorithm, digest } each
)

var be = binary.BigEndian

// Hash types of a CodeDirectory.
const (
	typeSHA1      = 1
	typeSHA256    = 2
	typeTruncated = 3 // SHA-256, 20 bytes of it
	typeSHA384    = 4
)

func hashType(h crypto.Hash) (byte, error) {
	switch h {
	case crypto.SHA256:
		return typeSHA256, nil
	case crypto.SHA384:
		return typeSHA384, nil
	}
	return 0, fmt.Errorf("codesign: %v: a CodeDirectory has sha256 or sha384", h)
}

// Digest hashes b under h.
func Digest(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// blob puts magic and length before data.
func blob(magic uint32, data []byte) []byte {
	b := make([]byte, 0, 8+len(data))
	b = be.AppendUint32(b, magic)
	b = be.AppendUint32(b, uint32(8+len(data)))
	return append(b, data...)
}

// place is a blob with the number under which an index names it.
type place struct {
	number uint32
	blob   []byte
	more   []byte // of the blob, behind the rest: what is too long to be copied
}

func (p *place) size() int { return len(p.blob) + len(p.more) }

// indexSize is the length of a SuperBlob.
func indexSize(ps []place) int {
	size := 12 + 8*len(ps)
	for i := range ps {
		size += ps[i].size()
	}
	return size
}

// index makes a SuperBlob: magic, length, count, places, and the blobs in order.
func index(magic uint32, ps []place) []byte {
	return appendIndex(make([]byte, 0, indexSize(ps)), magic, ps)
}

func appendIndex(b []byte, magic uint32, ps []place) []byte {
	b = be.AppendUint32(b, magic)
	b = be.AppendUint32(b, uint32(indexSize(ps)))
	b = be.AppendUint32(b, uint32(len(ps)))
	at := 12 + 8*len(ps)
	for _, p := range ps {
		b = be.AppendUint32(b, p.number)
		b = be.AppendUint32(b, uint32(at))
		at += p.size()
	}
	for _, p := range ps {
		b = append(append(b, p.blob...), p.more...)
	}
	return b
}

// readIndex is the inverse of index; what follows the SuperBlob is rest.
func readIndex(b []byte, magic uint32) (ps []place, rest []byte, err error) {
	if len(b) < 12 || be.Uint32(b) != magic {
		return nil, nil, malformed("magic number is not %#x", magic)
	}
	size, n := int64(be.Uint32(b[4:])), int64(be.Uint32(b[8:]))
	if n > maxBlobs || size < 12+8*n || size > int64(len(b)) {
		return nil, nil, malformed("%d blobs in %d bytes of %d", n, size, len(b))
	}
	b, rest = b[:size], b[size:]
	at := 12 + 8*n
	for i := range n {
		e := b[12+8*i:]
		number, offset := be.Uint32(e), int64(be.Uint32(e[4:]))
		if offset != at || size-at < 8 {
			return nil, nil, malformed("blob %d stands at %d: want %d, without gaps and overlaps", i, offset, at)
		}
		length := int64(be.Uint32(b[at+4:]))
		if length < 8 || length > size-at {
			return nil, nil, malformed("blob %d has %d bytes", i, length)
		}
		for _, p := range ps {
			if p.number == number {
				return nil, nil, malformed("blob %#x stands twice", number)
			}
		}
		ps = append(ps, place{number: number, blob: b[at : at+length]})
		at += length
	}
	// Some signers count the zeros at the end, but for alignment, into the length, others
	// none.
	if at != size && (len(rest) >= 16 || len(bytes.Trim(b[at:], "\x00")) > 0) {
		return nil, nil, malformed("%d bytes that no index names", size-at)
	}
	return ps, rest, nil
}

// Facts are the parts of a signature that people want to see.
func fact(name, value string) format.Fact { return format.Fact{Name: name, Value: value} }
