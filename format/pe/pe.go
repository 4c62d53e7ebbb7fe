// Package pe is Authenticode for PE images: programs, libraries, drivers and
// EFI applications, PE32 and PE32+ ("Windows Authenticode Portable Executable
// Signature Format", version 1.0; "PE Format").
//
// The image digest covers every byte of the file before the certificate table
// in file order, without the checksum field and the certificate table's entry
// in the data directories, and is padded with zeros to a multiple of 8. For
// images without gaps that is what the specification says section by section;
// where a gap makes the two differ Windows and its peers hash the gap too, and
// EFI firmware does not: EFI images with gaps are refused.
//
// A signature is one PKCS #7 SignedData over SpcIndirectDataContent in an entry
// of the certificate table. A further signature is nested in the first one
// (1.3.6.1.4.1.311.2.4.1), but EFI images get a further entry, because firmware
// does not look at nested signatures.
//
// Invariants:
//
//  1. Plan reads the file once, in constant memory, and Attach reads nothing but
//     the headers and an existing certificate table.
//  2. Plan is deterministic, and its body holds every number that Assemble needs;
//     Assemble checks each against all others and refuses what no Plan made.
//  3. Verify accepts a file only when every signature in it verifies, and only
//     when every byte is covered by one, is checked against the rest (the
//     checksum, padding, lengths), or is named in the report as open.
//  4. Attach keeps every byte of existing signatures but lengths, unless the
//     option existing is "replace".
//  5. Whatever the bytes are, nothing here panics or takes memory beyond its
//     limits.
//
// What is refused although it can be seen in the wild: SHA-1, countersignatures
// in the form before RFC 3161, unsigned attributes of other kinds, anything but
// padding after a signature or after the certificate table, and certificates that
// package sigalg does not accept. The length field of a table's entry is read with
// its padding and without; that is the only freedom that is left.
//
// A caller may not conclude from a plan that its facts are so: machine, version,
// names and earlier signers stand in no signature, nor does the size. They are the
// plan maker's word, unless the plan is made anew from the bytes and is the same.
// He may not conclude from a verified report that a driver loads or that
// firmware accepts the image: what those trust is their own. An image digest
// does not cover the certificate table, and two files that differ in it alone
// have the same digest.
package pe

import (
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Limits of what is read. They are far above what linkers and signers make.
const (
	maxSize     = 1<<32 - 1 // a certificate table's place is a 32-bit number
	maxHead     = 1 << 20   // bytes of DOS stub, headers and section table
	maxSections = 1024
	maxTable    = 16 << 20 // bytes of a certificate table
	maxEntries  = 16       // WIN_CERTIFICATE entries
	maxPages    = 14 << 20 // bytes of page hashes: a plan holds 16 MiB
)

// What callers branch on.
var (
	ErrNotPE     = errors.New("pe: not a PE image")
	ErrMalformed = errors.New("pe: malformed image")
	ErrUnsigned  = fmt.Errorf("pe: image is not signed: %w", format.ErrUnsigned)
	ErrChecksum  = errors.New("pe: checksum in the header is wrong")
	ErrDigest    = authenticode.ErrDigest
	ErrWeak      = authenticode.ErrWeak
	ErrChanged   = errors.New("pe: image is not the one that was planned")
	ErrPlan      = errors.New("pe: plan contradicts itself")
)

// Format implements format.Format and what formats may do besides.
type Format struct{ format.OneRound }

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "pe".
func (Format) Name() string { return "pe" }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return authenticode.Options(format.Option{
		Name: "page-hashes", Help: "also hash every page, for drivers and protected processes", Values: []string{"true", "false"}, Default: "false",
	})
}

// Detect says whether a starts as a PE image does.
func (Format) Detect(a format.Artifact) bool {
	var dos [dosHeaderSize]byte
	if readFull(a, dos[:], 0) != nil || dos[0] != 'M' || dos[1] != 'Z' {
		return false
	}
	var sig [4]byte
	return readFull(a, sig[:], int64(le32(dos[0x3c:]))) == nil && string(sig[:]) == "PE\x00\x00"
}

const name = "pe"
