// Package authenticode is what all kinds of file share that Windows signs by
// Authenticode: the statement that is signed (SpcIndirectDataContent and the
// attributes around it), signatures nested in others, timestamps, and the judgement
// of a signature ("Windows Authenticode Portable Executable Signature Format",
// version 1.0; [MS-OSHARED] section 2.3.2 for the structures).
//
// A format says what of its file is digested and where the PKCS #7 stands, as a
// [File]; [Statement] makes the signature, [Inspect], [Verify], [Stamp], [Remove]
// and [Extract] do the rest.
//
// Invariants:
//
//  1. The message that is signed is a function of the statement and the identity:
//     there is no clock in it.
//  2. A certificate that does not name code signing signs nothing and verifies
//     nothing, but for images that firmware alone judges (Statement.Firmware).
//  3. Of unsigned attributes only an RFC 3161 timestamp and, in a signature that is
//     not nested itself, nested signatures are accepted; all others are open bytes.
//  4. Edits of a PKCS #7 keep the value and the signed attributes of every signature
//     in it.
//
// A caller may not conclude from [Signature.Verify] that a file is what was signed:
// that the file has the digest that the content states is the format's to check.
package authenticode

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read and made.
const (
	MaxPKCS7  = 16 << 20 // bytes of one PKCS #7 with all that is nested in it
	MaxNested = 32       // signatures nested in one
	MaxOpus   = 2048     // bytes of a description or a URL
)

// What callers branch on.
var (
	ErrWeak      = errors.New("authenticode: digest algorithm is too weak")
	ErrDigest    = errors.New("authenticode: file does not have the digest that was signed")
	ErrContent   = errors.New("authenticode: malformed content of a signature")
	ErrDetached  = errors.New("authenticode: signatures stand in the file, not beside it")
	ErrMalformed = errors.New("authenticode: malformed signature")
	ErrPlan      = errors.New("authenticode: plan contradicts itself")
	ErrChanged   = errors.New("authenticode: file is not the one that was planned")
)

// Object identifiers of SpcIndirectDataContent and of what stands in it.
var (
	OIDPEImageData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	OIDCabData     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 25}
	OIDLink        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 28}
	OIDSipInfo     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 30}

	oidStatementType = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 11}
	oidIndividual    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 21}
	oidOpusInfo      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}
	oidLifetime      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 13}
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// DigestOID names a hash; ErrWeak for those that nothing of ours states.
func DigestOID(h crypto.Hash) (asn1.ObjectIdentifier, error) {
	switch h {
	case crypto.SHA256:
		return oidSHA256, nil
	case crypto.SHA384:
		return oidSHA384, nil
	case crypto.SHA512:
		return oidSHA512, nil
	}
	return nil, fmt.Errorf("%w: want SHA-256, SHA-384 or SHA-512", ErrWeak)
}

// HashName is format.HashName, with the names of hashes that only others use.
func HashName(h crypto.Hash) string {
	if h == crypto.SHA1 {
		return "sha1"
	}
	return format.HashName(h)
}

// PlainText replaces control and direction characters.
func PlainText(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s))
}
