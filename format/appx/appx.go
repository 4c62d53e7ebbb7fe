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
//  2. Plan reads the archive once; block map, manifest and the like, which are small,
//     before the rest. Memory grows with the block map (a 2048th of the contents).
//  3. Assemble refuses a certificate whose subject is not the manifest's publisher,
//     and Verify a signature by one.
//  4. The signature is the last entry, in the archive and in its directory, and the
//     directory has the order of the archive: nothing is left to a reader's choice.
//  5. Attach changes [Content_Types].xml, where the signature is not named in it yet,
//     and the archive's end. All else keeps its bytes and its place.
//
// A caller may not conclude anything about packages in a bundle beyond their bytes:
// their own signatures are not looked at. Nor that a catalogue of code inside, which is
// signed by itself, is right: its bytes are covered.
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

// Name is "appx".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option { return authenticode.Options() }

// Detect says whether a is an archive with a block map.
func (Format) Detect(a format.Artifact) bool {
	if !zipfile.Detect(a) {
		return false
	}
	z, err := zipfile.Open(a, zipfile.Options{})
	return err == nil && z.Index(entryBlockMap) >= 0
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
	for _, s := range r.Signatures {
		if err := checkPublisher(p.publisher, s.Signer); err != nil {
			return nil, fmt.Errorf("%s signature: %w", s.Label, err)
		}
	}
	return r, nil
}

// List hands out the files of the archive.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	p, err := open(a)
	if err != nil {
		return err
	}
	return p.z.List(ctx, yield)
}

// Assemble returns the one message of an Authenticode signature. The time is not in
// it; a timestamp tells it.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, s, err := f.statement(p, id)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done)
}
