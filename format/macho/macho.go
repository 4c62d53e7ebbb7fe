// Package macho is code signing for Mach-O files, thin and universal ("OS X ABI
// Mach-O File Format Reference"; mach-o/loader.h, mach-o/fat.h): programs,
// libraries, bundles and kernel extensions, little-endian, of 32 and 64 bits.
// Package codesign has the signature itself.
//
// A signature stands at the end of __LINKEDIT, which ends the file, and
// LC_CODE_SIGNATURE says where. The load command and the sizes in it are hashed with
// the first page, so the space for the signature is reserved before anything is
// hashed (option reserve): the pages of a plan are those of the file as it will be.
// In a universal file each slice has a signature of its own: an item has as many
// signatures as slices, in one round.
//
// Invariants:
//
//  1. Plan reads the file once, in memory that does not grow with it but for the
//     page hashes; pages are hashed on all cores.
//  2. Attach changes load commands, what follows the code of each slice and the
//     table of a universal file, and nothing else.
//  3. A file has a signature on every slice after Attach, and Verify wants that.
//  4. Verify accepts a slice only when the pages that are hashed are all bytes
//     before the signature, the signature ends __LINKEDIT and __LINKEDIT the slice.
//  5. The table of a universal file, which no signature covers, agrees with the
//     slices in it; between slices there are zeros alone.
//  6. A signature that somebody made is replaced only when asked for; those that
//     nobody made (ad-hoc, the linker's) are replaced always.
//
// What is refused although it exists: big-endian code, object files, static
// libraries, files in which something stands behind __LINKEDIT, two slices for
// the same processor, signatures with SHA-1 alone.
//
// A caller may not conclude from a verified report that macOS runs the program:
// see package codesign. An Info.plist or CodeResources that stands beside the file
// is sealed by its digest, which Verify reports and cannot check.
package macho

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read. They are far above what linkers make.
const (
	maxSize     = 1<<32 - 1 // places of signatures are 32-bit numbers
	maxCommands = 1 << 20   // bytes of load commands
	maxSlices   = 16
	maxInfo     = 512 << 10 // bytes of an Info.plist in the program
	maxAlign    = 24
	maxPages    = 14 << 20 // bytes of page hashes: a plan holds 16 MiB
)

// What callers branch on.
var (
	ErrNotMachO  = errors.New("macho: not a Mach-O file")
	ErrMalformed = errors.New("macho: malformed file")
	ErrUnsigned  = fmt.Errorf("macho: not signed: %w", format.ErrUnsigned)
	ErrSigned    = errors.New("macho: signed already: option replace=true takes that signature off")
	ErrDigest    = errors.New("macho: file is not the one that was signed")
	ErrChanged   = errors.New("macho: file is not the one that was planned")
	ErrPlan      = errors.New("macho: plan contradicts itself")
	ErrNoRoom    = errors.New("macho: no room for another load command: link with -headerpad")
)

var (
	errDetached  = errors.New("macho: signatures stand in the file, not beside it")
	errUniversal = errors.New("macho: a universal file, where code follows a signature")
	le           = binary.LittleEndian
	be           = binary.BigEndian
)

const name = "macho"

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

// Name is "macho".
func (Format) Name() string { return name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	yes := []string{"true", "false"}
	return []format.Option{
		{Name: "code-resources", Help: "digest of the bundle's CodeResources, in hexadecimal, under the hash of option digest"},
		{Name: "digest", Help: "hash of pages and everything else", Values: []string{"sha256", "sha384"}, Default: "sha256"},
		{Name: "entitlements", Help: "entitlements: an XML property list on one line, or the base64 of one"},
		{Name: "flags", Help: "flags of the signature, joined by commas: runtime, library, kill, hard, expires, restrict, enforcement, host; or none", Default: "runtime"},
		{Name: "identifier", Help: "identifier of the code; without it that of the Info.plist in the program, or of the signature that is there"},
		{Name: "info-plist", Help: "digest of the bundle's Info.plist, in hexadecimal, under the hash of option digest"},
		{Name: "page-size", Help: "bytes that one hash is over", Values: []string{"4096", "16384"}, Default: "4096"},
		{Name: "replace", Help: "replace a signature that somebody made", Values: yes, Default: "false"},
		{Name: "requirements", Help: "requirement set in base64, as csreq writes it; without it the designated requirement of the certificate"},
		{Name: "reserve", Help: "bytes to reserve for the certificates, the signature and its timestamp", Default: "24576"},
		{Name: "signing-time", Help: "claim the time of signing in the signature", Values: yes, Default: "true"},
		{Name: "team", Help: "team identifier; without it that of a certificate that Apple issued"},
	}
}

// Detect says whether a starts as a Mach-O file does, or as a universal file whose
// first slice does: Java classes have the same magic number.
func (Format) Detect(a format.Artifact) bool {
	var b [16]byte
	if format.ReadFull(a, b[:], 0) != nil {
		return false
	}
	if thin(b[:]) {
		return true
	}
	var at int64
	switch n := be.Uint32(b[4:]); {
	case n == 0 || n > maxSlices:
		return false
	case be.Uint32(b[:]) == magicFat:
		var e [4]byte
		if format.ReadFull(a, e[:], fatHeader+8) != nil {
			return false
		}
		at = int64(be.Uint32(e[:]))
	case be.Uint32(b[:]) == magicFat64:
		var e [8]byte
		if format.ReadFull(a, e[:], fatHeader+8) != nil {
			return false
		}
		at = int64(be.Uint64(e[:]) & (1<<62 - 1))
	default:
		return false
	}
	return format.ReadFull(a, b[:4], at) == nil && thin(b[:])
}

func thin(b []byte) bool {
	m := le.Uint32(b)
	return m == magic32 || m == magic64
}
