// Package cab is Authenticode for cabinets (.cab; [MS-CAB]).
//
// The signature stands behind the cabinet, and a reserve in the header says where.
// The digest covers the header without its second field (a checksum that nobody
// uses) and without the reserve's sizes; of the reserve the first of its two parts;
// the names of the cabinets before and after; the folders; and everything from there
// to the cabinet's end. A reserve that is added moves all that follows: the digest is
// that of the file as it will be.
//
// Each cabinet of a set of several is signed alone.
//
// Invariants:
//
//  1. Plan reads the file once, in order and in constant memory but for the header
//     and the folders.
//  2. Plan is deterministic, and Assemble refuses what no Plan made.
//  3. Verify accepts a file only when every signature in it verifies and when every
//     byte is covered by one, is zero as it has to be, or is named as open.
//  4. Attach keeps what is in the reserve: its first part, its size where it is large
//     enough, and the reserves of folders and blocks.
//
// A caller may not conclude from a verified report that a cabinet can be unpacked:
// the size of the reserve in each block of data is open, and what is packed is not
// looked at.
package cab

import (
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Name is the format's word in plans and charters.
const Name = "cab"

// What callers branch on.
var (
	ErrNotCab    = errors.New("cab: not a cabinet")
	ErrMalformed = errors.New("cab: malformed cabinet")
)

// Format implements format.Format and what formats may do besides.
// Where all signatures are taken off, so is the reserve for them.
type Format struct {
	format.OneRound
	authenticode.Methods[opener]
}

type opener struct{}

// Open reads the structure of a cabinet.
func (opener) Open(_ context.Context, a format.Artifact) (authenticode.File, error) { return open(a) }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "cab".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option { return authenticode.Options() }

// Detect says whether a begins as a cabinet does.
func (Format) Detect(a format.Artifact) bool {
	var b [36]byte
	return format.ReadFull(a, b[:], 0) == nil && string(b[:4]) == "MSCF" && b[25] == 1
}

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Report says what the cabinet is.
func (c *cabinet) Report() *format.Report {
	return &format.Report{Format: Name, Size: c.size, Facts: c.facts(), Signatures: []format.SignatureInfo{}}
}

// PKCS7 is the signature behind the cabinet.
func (c *cabinet) PKCS7() []byte { return c.der }

// ContentType is Authenticode's.
func (c *cabinet) ContentType() asn1.ObjectIdentifier { return cms.OIDSpcIndirectData }

// Stated reads what a signature says of a cabinet. With the digest there is a link to
// nothing, as osslsigncode writes it, or the data of an image, as jsign does; Windows
// writes a link that holds a further digest, of a kind that nobody else computes.
func (c *cabinet) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	d, err := authenticode.ParseIndirect(sd.ContentRaw)
	if err != nil {
		return nil, err
	}
	s := &authenticode.Stated{
		Hash: d.Hash, Digest: d.Digest, Covers: []string{fmt.Sprintf("all %d bytes of the cabinet, but the reserve's sizes and the place of the signature", c.end)},
		Open: []string{"the size of the reserve in blocks of data"},
	}
	value := cryptobyte.String(d.Value) // one element, or none
	switch about := d.Type.Equal(authenticode.OIDCabData) || d.Type.Equal(authenticode.OIDLink); {
	case about && authenticode.ParseFileLink(d.Value) == nil:
	case about && value.PeekASN1Tag(cbasn1.SEQUENCE):
	case about && value.PeekASN1Tag(cbasn1.Tag(1).ContextSpecific().Constructed()):
		s.Open = append(s.Open, "a further digest in the signature (it is signed, and nothing here is compared with it)")
	default:
		return nil, fmt.Errorf("%w: it is not about a cabinet", authenticode.ErrContent)
	}
	return s, nil
}

// Digests reads the cabinet.
func (c *cabinet) Digests(ctx context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	head, err := c.signedHead()
	if err != nil {
		return nil, err
	}
	return c.digests(ctx, head, hashes)
}

// Put replaces the signature; without one, the reserve goes that signing added.
func (c *cabinet) Put(_ context.Context, der []byte) (*format.Patch, error) {
	var head []byte
	var err error
	pad := (8 - len(der)%8) % 8
	if len(der) == 0 {
		head, pad = c.bareHead(), 0
	} else if head, err = c.signedHead(); err != nil {
		return nil, err
	}
	end := c.end + int64(len(head)-len(c.head))
	if end+int64(len(der)+pad) > maxSize {
		return nil, fmt.Errorf("cab: %d bytes with the signature: at most %d", end+int64(len(der)), int64(maxSize))
	}
	if at := c.layout(head); at.sig > 0 && len(der) > 0 {
		binary.LittleEndian.PutUint32(head[at.sig:], uint32(end))
		binary.LittleEndian.PutUint32(head[at.sig+4:], uint32(len(der)+pad))
	}
	edits := []format.Edit{{Offset: 0, Delete: int64(len(c.head)), Insert: head}}
	if tail := append(der[:len(der):len(der)], make([]byte, pad)...); len(tail) > 0 || c.size > c.end {
		edits = append(edits, format.Edit{Offset: c.end, Delete: c.size - c.end, Insert: tail})
	}
	return &format.Patch{Size: c.size, Edits: edits}, nil
}

// Assemble returns the one message of an Authenticode signature. The time is not in
// it; a timestamp tells it.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, s, err := f.statement(p)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done)
}

// CatalogDigest is the digest by which catalogues know a cabinet: that of its own
// signature where it has one; else of the file but for the header's second field.
func CatalogDigest(ctx context.Context, a format.Artifact, h crypto.Hash) ([]byte, error) {
	c, err := open(a)
	if err != nil {
		return nil, err
	}
	if c.der != nil {
		d, err := c.Digests(ctx, []crypto.Hash{h})
		return d[h], err
	}
	if _, err := authenticode.DigestOID(h); err != nil {
		return nil, err
	}
	x := h.New()
	x.Write(c.head[:4])
	x.Write(c.head[8:])
	err = c.rest(ctx, func(b []byte) { x.Write(b) })
	return x.Sum(nil), err
}
