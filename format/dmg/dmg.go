// Package dmg is code signing for Apple's disk images (UDIF): a CodeDirectory with
// one hash over everything before the signature, which stands between the image's
// property list and its trailer. Package codesign has the signature itself.
//
//	data, property list | signature | trailer "koly", 512 bytes
//
// The trailer says where the signature stands; it is hashed into slot 6 with the
// signature's place and its length as zero, so a timestamp may come later and the
// space need not be reserved.
//
// Invariants:
//
//  1. Plan and Verify read the file once, in order, in constant memory.
//  2. Attach changes the trailer's two fields about the signature, and what stands
//     between property list and trailer.
//  3. Verify accepts an image only when the hash is over all bytes before the
//     signature, the signature ends where the trailer begins, and the trailer has
//     its slot.
//  4. A signature that somebody made is replaced only when asked for.
//
// What is refused although it exists: images of several segments, images in which
// something stands between property list and trailer, encrypted images (they have
// no trailer), signatures with SHA-1 alone.
//
// A caller may not conclude anything about what is in the image: its file system is
// bytes here.
package dmg

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// What callers branch on.
var (
	ErrNotImage  = errors.New("dmg: not a disk image with a trailer")
	ErrMalformed = errors.New("dmg: malformed image")
	ErrUnsigned  = fmt.Errorf("dmg: not signed: %w", format.ErrUnsigned)
	ErrSigned    = errors.New("dmg: signed already: option replace=true takes that signature off")
	ErrDigest    = errors.New("dmg: image is not the one that was signed")
	ErrChanged   = errors.New("dmg: image is not the one that was planned")
	ErrPlan      = errors.New("dmg: plan contradicts itself")
)

var (
	errDetached = errors.New("dmg: signatures stand in the image, not beside it")
	be          = binary.BigEndian
)

const name = "dmg"

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format implements format.Format and its optional interfaces.
type Format struct{ format.OneRound }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "dmg".
func (Format) Name() string { return name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	yes := []string{"true", "false"}
	return []format.Option{
		{Name: "digest", Help: "hash of the image", Values: []string{"sha256", "sha384"}, Default: "sha256"},
		{Name: "identifier", Help: "identifier of the image; without it that of the signature that is there"},
		{Name: "replace", Help: "replace a signature that somebody made", Values: yes, Default: "false"},
		{Name: "requirements", Help: "requirement set in base64, as csreq writes it; without it the designated requirement of the certificate"},
		{Name: "signing-time", Help: "claim the time of signing in the signature", Values: yes, Default: "true"},
		{Name: "team", Help: "team identifier; without it that of a certificate that Apple issued"},
	}
}

// Detect says whether a ends as a disk image does.
func (Format) Detect(a format.Artifact) bool {
	_, err := parse(a)
	return err == nil
}

// Places in the trailer.
const (
	trailerSize   = 512
	atVersion     = 4
	atSize        = 8
	atSegments    = 60
	atList        = 216 // place and length of the property list
	atSignature   = 296 // place and length of the signature
	imageVersion  = 4
	maxImage      = 1 << 40
	maxSignature  = codesign.MaxSize
	magic         = "koly"
	signatureSpan = 16
)

// image is what the trailer says.
type image struct {
	trailer []byte
	size    int64 // of the file
	list    int64 // where the property list begins
	end     int64 // where the signature stands, or will
	old     int64 // bytes of it
}

func parse(a format.Artifact) (*image, error) {
	m := &image{trailer: make([]byte, trailerSize), size: a.Size()}
	if m.size < trailerSize || m.size > maxImage {
		return nil, fmt.Errorf("%w: %d bytes", ErrNotImage, m.size)
	}
	if err := format.ReadFull(a, m.trailer, m.size-trailerSize); err != nil {
		return nil, fmt.Errorf("dmg: %w", err)
	}
	return m, m.read()
}

func (m *image) read() error {
	t := m.trailer
	if len(t) != trailerSize || string(t[:4]) != magic {
		return ErrNotImage
	}
	list, length := be.Uint64(t[atList:]), be.Uint64(t[atList+8:])
	at, n := be.Uint64(t[atSignature:]), be.Uint64(t[atSignature+8:])
	body := uint64(m.size - trailerSize)
	switch {
	case be.Uint32(t[atVersion:]) != imageVersion || be.Uint32(t[atSize:]) != trailerSize:
		return malformed("trailer of version %d, %d bytes", be.Uint32(t[atVersion:]), be.Uint32(t[atSize:]))
	case be.Uint32(t[atSegments:]) > 1:
		return malformed("one of %d segments", be.Uint32(t[atSegments:]))
	case list > body || length > body-list || length == 0:
		return malformed("property list of %d bytes at %d", length, list)
	}
	m.list, m.end = int64(list), int64(list+length)
	m.old = int64(body) - m.end
	switch {
	case at == 0 && n == 0:
		if m.old != 0 {
			return malformed("%d bytes between property list and trailer", m.old)
		}
	case at != uint64(m.end) || n != uint64(m.old) || n == 0 || n > maxSignature:
		return malformed("signature of %d bytes at %d, and %d bytes between property list and trailer", n, at, m.old)
	}
	return nil
}

// signed is the trailer with a signature of n bytes.
func (m *image) signed(n int64) []byte {
	t := append([]byte{}, m.trailer...)
	be.PutUint64(t[atSignature:], uint64(m.end))
	be.PutUint64(t[atSignature+8:], uint64(n))
	return t
}

func (m *image) unsigned() []byte {
	t := append([]byte{}, m.trailer...)
	clear(t[atSignature : atSignature+signatureSpan])
	return t
}

// hashed is the trailer as slot 6 is over it: the length is not known yet.
func (m *image) hashed() []byte { return m.signed(0) }

// signature reads the one that is there.
func (m *image) signature(a format.Artifact) (*codesign.Signature, error) {
	if m.old == 0 {
		return nil, ErrUnsigned
	}
	b := make([]byte, m.old)
	if err := format.ReadFull(a, b, m.end); err != nil {
		return nil, fmt.Errorf("dmg: %w", err)
	}
	return codesign.Parse(b)
}

// patch replaces what stands behind the property list.
func (m *image) patch(signature, trailer []byte) *format.Patch {
	return &format.Patch{Size: m.size, Edits: []format.Edit{{Offset: m.end, Delete: m.size - m.end, Insert: append(signature, trailer...)}}}
}
