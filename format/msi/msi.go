// Package msi is Authenticode for the compound files of Windows Installer:
// packages (.msi), patches (.msp), transforms (.mst) and merge modules (.msm).
//
// The digest covers the contents of all streams and the class of every storage, in
// the order of the names' UTF-16LE bytes, each storage's own class after what is in
// it. The two streams of the root storage that hold signatures are left out. With
// the stream MsiDigitalSignatureEx the digest begins with another one, over names,
// sizes, state bits and times, which that stream repeats.
//
// Invariants:
//
//  1. Plan reads each stream once; it goes from stream to stream by name, not by
//     place. Memory holds the tables of the file (package cfb), not its streams.
//  2. Plan is deterministic, and Assemble refuses what no Plan made.
//  3. Verify accepts a file only when every signature in it verifies, the file is a
//     consistent compound file, and MsiDigitalSignatureEx, where it is, is right.
//  4. Attach adds or changes the two streams and keeps every byte of the others
//     where it is.
//  5. A file with a signature is never given or robbed of MsiDigitalSignatureEx
//     while that signature is kept: it would be broken.
//
// A caller may not conclude from a verified report without "names, sizes and times"
// among what is covered that a stream had its name or its length when it was signed:
// Windows takes such signatures, and a stream may be renamed or cut in two where the
// row of all contents stays. Such a file may even have had MsiDigitalSignatureEx: the
// simple ways of hiding it are refused (a row that begins with as many bytes as a
// digest has), others cannot be seen. Nor may he conclude anything about bytes that
// belong to no stream.
package msi

import (
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// Name is the format's word in plans and charters.
const Name = "msi"

// The streams that hold the signature and the digest of metadata.
const (
	streamSignature = "\x05DigitalSignature"
	streamExtended  = "\x05MsiDigitalSignatureEx"
)

// sipClass is the class of the installer's subject interface package,
// {000C10F1-0000-0000-C000-000000000046}.
const sipClass = "\xf1\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"

// What callers branch on.
var (
	ErrNotMSI   = errors.New("msi: not an installer package, patch or transform")
	ErrExtended = errors.New("msi: MsiDigitalSignatureEx is wrong")
)

// Format implements format.Format and what formats may do besides.
// Where all signatures are taken off, so is MsiDigitalSignatureEx.
type Format struct {
	format.OneRound
	authenticode.Methods[opener]
}

type opener struct{}

// Open reads the structure of an installer.
func (opener) Open(ctx context.Context, a format.Artifact) (authenticode.File, error) {
	return open(ctx, a)
}

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "msi".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return authenticode.Options(format.Option{
		Name:   "extended",
		Help:   "also sign names, sizes and times of streams; auto: as signatures that are kept have it, else yes",
		Values: []string{"auto", "true", "false"}, Default: "auto",
	})
}

// Detect says whether a is a compound file whose root storage has one of the
// installer's classes.
func (Format) Detect(a format.Artifact) bool {
	class, ok := cfb.RootClass(a, a.Size())
	return ok && kindOf(class) != ""
}

// kindOf says what the class of the root storage stands for.
func kindOf(class [16]byte) string {
	if string(class[1:]) != "\x10\x0c\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46" {
		return ""
	}
	switch class[0] {
	case 0x82:
		return "transform"
	case 0x84:
		return "package"
	case 0x86:
		return "patch"
	}
	return ""
}

// installer is an open file: an authenticode.File.
type installer struct {
	c         *cfb.File
	size      int64
	kind      string
	facts     []format.Fact
	der       []byte // of the signature
	extended  []byte // MsiDigitalSignatureEx
	putEx     []byte // what Put makes of MsiDigitalSignatureEx; nil takes it out
	structure []byte // SHA-256 of the tables
}

func open(ctx context.Context, a format.Artifact) (*installer, error) {
	c, err := cfb.Open(a, a.Size())
	if errors.Is(err, cfb.ErrNotCompound) {
		return nil, ErrNotMSI
	}
	if err != nil {
		return nil, fmt.Errorf("msi: %w", err)
	}
	m := &installer{c: c, size: a.Size(), kind: kindOf(c.Entry(0).Class)}
	if m.kind == "" {
		return nil, fmt.Errorf("%w: class %x", ErrNotMSI, c.Entry(0).Class)
	}
	read := func(name string, limit int64) []byte {
		i, ok := c.Find(name)
		if !ok || err != nil {
			return nil
		}
		if c.Entry(i).Type != cfb.Stream {
			err = fmt.Errorf("msi: %q is a storage", name)
			return nil
		}
		var b []byte
		if b, err = c.Read(ctx, i, limit); b == nil {
			b = []byte{}
		}
		return b
	}
	m.der = read(streamSignature, authenticode.MaxPKCS7)
	m.extended = read(streamExtended, 64)
	if err != nil {
		return nil, fmt.Errorf("msi: %w", err)
	}
	if m.der != nil && len(m.der) == 0 || m.extended != nil && m.der == nil {
		return nil, errors.New("msi: a stream of a signature is there without the signature")
	}
	m.putEx = m.extended
	m.facts = m.readFacts(ctx)
	return m, nil
}

// Report says what the file is.
func (m *installer) Report() *format.Report {
	return &format.Report{Format: Name, Size: m.size, Facts: m.facts, Signatures: []format.SignatureInfo{}}
}

// PKCS7 is the signature's stream.
func (m *installer) PKCS7() []byte { return m.der }

// ContentType is Authenticode's.
func (m *installer) ContentType() asn1.ObjectIdentifier { return cms.OIDSpcIndirectData }

// Stated reads what a signature says of an installer's file.
func (m *installer) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	d, err := authenticode.ParseIndirect(sd.ContentRaw)
	if err != nil {
		return nil, err
	}
	class, err := authenticode.ParseSipInfo(d.Value)
	if err != nil || !d.Type.Equal(authenticode.OIDSipInfo) || class != sipClass {
		return nil, fmt.Errorf("%w: it is not about an installer's file", authenticode.ErrContent)
	}
	s := &authenticode.Stated{Hash: d.Hash, Digest: d.Digest, Covers: []string{"the contents of all streams and the classes of all storages"}}
	if m.extended != nil {
		s.Covers = append(s.Covers, "names, sizes and times of all streams and storages")
	} else {
		s.Open = append(s.Open, "names, sizes and times of streams and storages: their contents are signed in a row")
	}
	s.Open = append(s.Open, fmt.Sprintf("the order of sectors and entries, and %d bytes that belong to no stream", m.c.Unused()))
	return s, nil
}

// Digests reads all streams, and checks MsiDigitalSignatureEx.
func (m *installer) Digests(ctx context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	return m.digests(ctx, hashes, m.extended)
}

// Put replaces the stream of the signature; the metadata's goes with the last one.
func (m *installer) Put(_ context.Context, der []byte) (*format.Patch, error) {
	changes := []cfb.Change{{Name: streamSignature, Data: der}, {Name: streamExtended, Data: m.putEx}}
	if len(der) == 0 {
		changes = []cfb.Change{{Name: streamSignature}, {Name: streamExtended}}
	}
	edits, err := m.c.Edit(changes)
	if err != nil {
		return nil, fmt.Errorf("msi: %w", err)
	}
	return &format.Patch{Size: m.size, Edits: edits}, nil
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
