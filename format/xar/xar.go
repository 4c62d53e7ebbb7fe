// Package xar is the signature of Apple's installer packages: flat packages, which
// are xar archives (xar-1.5 "xarformat"; libxar's xar.h).
//
//	header   28 bytes: "xar!", sizes, hash
//	table    XML, compressed with zlib: files with their digests, and where in the
//	         heap the following stand
//	heap     digest of the compressed table
//	         RSA signature over the compressed table (RSA keys alone)
//	         CMS signature over that digest, detached, zeros up to its space
//	         data of the files
//	ticket   of Apple's notary, stapled; or nothing
//
// The table names the signer's certificates and the signatures' places, so it
// follows from who signs: Assemble writes it, from the table without all that
// (which the plan holds), certificates and lengths. It is stored, not compressed: what
// a compressor makes of it may differ from one version to the next.
//
// Invariants:
//
//  1. Plan and Verify read the file once, in order, and compare each file's data
//     with its digest in the table.
//  2. Table without signatures → table with them → table without them gives the same
//     bytes: that is what the content digest is over.
//  3. Attach changes what stands before the data of the first file, and takes off a
//     ticket, which is for the old signature.
//  4. Verify accepts a package only when every byte of the heap is data of a file
//     with a digest, the table's digest, a signature, or a zero in a signature's
//     space, and all signatures are by the same certificate.
//  5. The table is read strictly: no comment, entity of its own or element that
//     stands twice, for others read these differently.
//
// What is refused although it exists: SHA-1 and MD5 as the table's digest, signing
// and verifying. Files' own digests are SHA-1 in most packages; those are kept, for
// installers expect them (option checksums writes SHA-256), and reported.
//
// A caller may not conclude from a verified report that macOS installs the package,
// nor anything about what the files hold: packages carry scripts.
package xar

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read. They are far above what packages need.
const (
	maxTable  = 8 << 20 // bytes of the table: a plan holds it
	maxNodes  = 1 << 18 // elements in it
	maxDepth  = 64
	maxFiles  = 1 << 16
	maxPath   = 4096    // bytes
	maxSpace  = 1 << 20 // bytes of one signature
	maxTicket = 1 << 20
)

// What callers branch on.
var (
	ErrNotXar    = errors.New("xar: not a xar archive")
	ErrMalformed = errors.New("xar: malformed archive")
	ErrUnsigned  = fmt.Errorf("xar: not signed: %w", format.ErrUnsigned)
	ErrSigned    = errors.New("xar: signed already: option replace=true takes that signature off")
	ErrWeak      = errors.New("xar: digest algorithm is too weak")
	ErrDigest    = errors.New("xar: archive is not the one that was signed")
	ErrChanged   = errors.New("xar: archive is not the one that was planned")
	ErrPlan      = errors.New("xar: plan contradicts itself")
)

var (
	errDetached = errors.New("xar: signatures stand in the package, not beside it")
	be          = binary.BigEndian

	// oidInstaller is the usage of certificates that Apple issues for packages.
	oidInstaller = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 4, 13}
)

const name = "pkg"

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
	_ format.Lister    = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "pkg".
func (Format) Name() string { return name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	yes := []string{"true", "false"}
	return []format.Option{
		{Name: "checksums", Help: "digests of the files: keep those that are there, or write SHA-256 in the place of weaker ones", Values: []string{"keep", "sha256"}, Default: "keep"},
		{Name: "digest", Help: "hash of the table", Values: []string{"sha256", "sha512"}, Default: "sha256"},
		{Name: "replace", Help: "replace a signature that is there", Values: yes, Default: "false"},
		{Name: "reserve", Help: "bytes to reserve for a timestamp", Default: "12288"},
		{Name: "signing-time", Help: "claim the time of signing in the signature", Values: yes, Default: "true"},
	}
}

// Detect says whether a starts as a xar archive does.
func (Format) Detect(a format.Artifact) bool {
	var b [headerSize]byte
	return format.ReadFull(a, b[:], 0) == nil && be.Uint32(b[:]) == magic && be.Uint16(b[6:]) == 1
}
