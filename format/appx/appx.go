// Package appx signs Windows app packages (.appx, .msix) and bundles of them
// (.appxbundle, .msixbundle): ZIP archives in the form of the Open Packaging
// Conventions (ECMA-376 part 2).
//
// The signature is Authenticode's, in the file AppxSignature.p7x after the four bytes
// "PKCX". What it states is not one digest but a row, each after four letters that
// name it: AXPC (all bytes of all other entries, headers included), AXCD (directory and
// end records as they were without the signature), AXCT ([Content_Types].xml), AXBM
// (AppxBlockMap.xml) and, where the package has one, AXCI (the catalogue of code). The
// block map has a digest of every 64 KiB of every other content.
//
// Invariants:
//
//  1. Nothing is planned and nothing verifies unless the block map is right: every
//     file is in it with its size and the digest of each block, and nothing else is.
//     Where it is not right, or not there, it is made anew if that is asked for, and
//     not otherwise; the plan has its text.
//  2. Plan reads the archive once; block map, manifest and the like, which are small,
//     before the rest. Memory grows with the block map (a 2048th of the contents). To
//     make a block map anew, compressed files are read once more.
//  3. Assemble refuses a certificate whose subject is not the manifest's publisher,
//     and Verify a signature by one.
//  4. The signature is the last entry, in the archive and in its directory, and the
//     directory has the order of the archive: nothing is left to a reader's choice.
//  5. Attach changes [Content_Types].xml, where the signature or a catalogue is not
//     named in it yet, the block map where it is made anew, and the archive's end. All
//     else keeps its bytes and its place.
//  6. The catalogue of code (AppxMetadata/CodeIntegrity.cat) that is made for a package
//     with executables has their Authenticode digests, which are in the plan, and no
//     others. The keeper writes the list and signs it in a first round, and in a second
//     one the row, which covers the signed catalogue: of directory and entries plans
//     carry the states of the hashes up to where the catalogue will stand (package
//     hashstate). It stands last before the signature, and goes when that goes.
//  7. Verify refuses a package whose catalogue was so made and was not signed by a
//     signer of the package, or lists other executables than those in it.
//  8. The catalogue has no timestamp: it would change what the second round signs.
//
// The content by which a package is known is the digest of its row; where a catalogue
// was made with the signature, of the row as it is without it.
//
// A caller may not conclude anything about packages in a bundle beyond their bytes:
// their own signatures are not looked at. Nor that a catalogue of somebody else inside,
// which is signed by itself, is right: its bytes are covered.
package appx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// Name is the format's word in plans and charters.
const Name = "appx"

// Entries with a meaning.
const (
	entryManifest  = "AppxManifest.xml"
	entryBundle    = "AppxMetadata/AppxBundleManifest.xml"
	entryBlockMap  = "AppxBlockMap.xml"
	entryTypes     = "[Content_Types].xml"
	entryIntegrity = "AppxMetadata/CodeIntegrity.cat"
	entrySignature = "AppxSignature.p7x"
)

// magic begins AppxSignature.p7x.
const magic = "PKCX"

// The classes of Windows's subject interface packages for packages and bundles:
// {0AC5DF4B-CE07-4DE2-B76E-23C839A09FD1}, {0F5F58B3-AADE-4B9A-A434-95742D92ECEB}.
const (
	classPackage = "\x4b\xdf\xc5\x0a\x07\xce\xe2\x4d\xb7\x6e\x23\xc8\x39\xa0\x9f\xd1"
	classBundle  = "\xb3\x58\x5f\x0f\xde\xaa\x9a\x4b\xa4\x34\x95\x74\x2d\x92\xec\xeb"
	sipVersion   = 0x01010000
)

// Limits of what is read whole.
const (
	maxText     = 4 << 20  // bytes of a manifest, or of the content types
	maxBlockMap = 64 << 20 // bytes of the block map: 50 GB of contents
)

// What callers branch on.
var (
	ErrNotPackage = errors.New("appx: not an app package or a bundle")
	ErrMalformed  = errors.New("appx: malformed package")
	ErrBlockMap   = errors.New("appx: block map does not fit the package")
	ErrPublisher  = errors.New("appx: publisher is not the signer")
)

var errStamped = errors.New("appx: the catalogue of code takes no timestamp: the package's signature does")

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format implements format.Format and what formats may do besides.
// Where signatures are taken off, the content types go on naming the entry.
type Format struct {
	authenticode.Methods[opener]
}

type opener struct{}

// Open reads the structure of a package.
func (opener) Open(_ context.Context, a format.Artifact) (authenticode.File, error) {
	return open(a)
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

// Name is "appx".
func (Format) Name() string { return Name }

// Options of packages.
const (
	optionBlockMap  = "block-map"
	optionIntegrity = "code-integrity"
)

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return authenticode.Options(
		format.Option{Name: optionBlockMap, Help: "keep the block map, which has to fit, or rebuild it and what the content types lack from the files", Values: []string{"keep", "rebuild"}, Default: "keep"},
		format.Option{Name: optionIntegrity, Help: "the catalogue of code: auto makes one for a package with executables that has none of somebody else, keep makes none, renew replaces one", Values: []string{"auto", "keep", "renew"}, Default: "auto"},
	)
}

// Detect says whether a is an archive with a block map, or with a manifest alone.
func (Format) Detect(a format.Artifact) bool {
	if !zipfile.Detect(a) {
		return false
	}
	z, err := zipfile.Open(a, zipfile.Options{})
	return err == nil && (z.Index(entryBlockMap) >= 0 || z.Index(entryManifest) >= 0 || z.Index(entryBundle) >= 0)
}

// Verify accepts a when every signature in it verifies and is by the publisher.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	r, err := authenticode.Verify(ctx, p, t)
	if err != nil {
		return nil, err
	}
	for i, s := range r.Signatures {
		if err := checkPublisher(p.publisher, s.Signer); err != nil {
			return nil, fmt.Errorf("%s signature: %w", s.Label, err)
		}
		if h, err := format.HashByName(s.Digest); err == nil && p.made != nil {
			r.Signatures[i].Content = p.made.contents[h]
		}
	}
	return r, p.checkCatalogue(ctx, t, r.Signatures)
}

// List hands out the files of the archive.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	p, err := open(a)
	if err != nil {
		return err
	}
	return p.z.List(ctx, yield)
}

// Assemble returns one message: of the catalogue's signature, where one is made, and
// then of the package's. The time is in the catalogue's list; a timestamp of the
// package's signature tells it.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	b, err := f.decode(p, id)
	if err != nil {
		return nil, err
	}
	if b.making == nil {
		s, err := b.statement(id, b.Parts)
		if err != nil {
			return nil, err
		}
		return s.Assemble(id, done)
	}
	s, err := b.catalogue(at)
	if err != nil {
		return nil, err
	}
	if len(done) == 0 {
		return s.Assemble(id, nil)
	}
	der, err := s.Compose(id, done[0])
	if err != nil {
		return nil, err
	}
	_, s, err = b.second(id, der)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done[1:])
}
