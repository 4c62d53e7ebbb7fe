// Package cms makes and checks CMS SignedData (RFC 5652), also in the older form
// of PKCS #7 1.5 that Authenticode uses.
//
// It is made for signing digest-first: a [SignerSpec] gives the bytes to be
// signed without the content and without a key, and [Encode] puts the finished
// signature into its structure later, elsewhere. The package holds no key, reads
// no clock and does no I/O; signatures are checked by package sigalg alone.
//
// The structure that is written and accepted:
//
//	ContentInfo { signedData, [0] SignedData }
//	SignedData  { version, digestAlgorithms, encapContentInfo,
//	              [0] certificates?, [1] crls?, signerInfos }
//	SignerInfo  { version, sid, digestAlgorithm, [0] signedAttrs?,
//	              signatureAlgorithm, signature, [1] unsignedAttrs? }
//
// Parsing is strict: definite lengths in their shortest form only, no bytes
// before or after, versions as RFC 5652 section 5.1 computes them (or 1 with a
// content that is a SEQUENCE: PKCS #7), every count limited.
//
// Invariants:
//
//  1. [SignerSpec.SignedAttributes] is a function of its fields: the same spec
//     gives the same bytes, in DER SET OF order, with contentType and
//     messageDigest exactly once.
//  2. Whatever [Parse] accepts re-encodes to itself.
//  3. No changed bit outside unsigned attributes and embedded certificates that
//     nobody uses leaves a SignedData that parses and verifies. What identifies the
//     signer and the algorithm is not signed where no attribute repeats it: somebody may
//     write the issuer's texts in another string type, or the key's algorithm instead
//     of the signature's, and it still says the same.
//  4. [ParsedSigner.Verify] never uses a digest or a signature algorithm that the
//     SignerInfo's other fields contradict, never SHA-1 or MD5, and never takes
//     signed attributes for content or content for signed attributes.
//  5. [AddUnsigned] and [AddSigner] change no byte of the signatures that are there.
//  6. [VerifyChain] accepts a leaf only if it names the wanted usage itself.
//
// A caller may not conclude from [ParsedSigner.Verify] that the certificate is
// trusted (that is [VerifyChain]), nor anything at all from unsigned attributes
// and embedded certificates: anybody can change those.
package cms

import (
	"encoding/asn1"
	"errors"
)

// Limits of what Parse accepts and Encode makes.
const (
	MaxSize         = 64 << 20 // bytes of a whole ContentInfo
	MaxCertificates = 64
	MaxCertificate  = 64 << 10 // bytes of a certificate that is parsed; a larger one is carried, unread
	MaxSigners      = 32
	MaxAttributes   = 64 // signed or unsigned attributes of one signer; values of one attribute
	MaxDepth        = 64 // nesting inside attributes and contents that are no OCTET STRING
)

// What callers branch on.
var (
	// ErrSyntax is returned for what is not a SignedData in DER.
	ErrSyntax = errors.New("cms: malformed")
	// ErrIndefinite is returned for BER's indefinite lengths, which are not accepted.
	ErrIndefinite = errors.New("cms: indefinite length (BER) is not accepted: want DER")
	// ErrLimit is returned for structures beyond the limits of this package.
	ErrLimit = errors.New("cms: beyond limit")
	// ErrAlgorithm is returned for algorithms that are unknown, weak, or
	// contradict each other.
	ErrAlgorithm = errors.New("cms: algorithm not accepted")
	// ErrDigest is returned when the content is not the one that was signed.
	ErrDigest = errors.New("cms: content digest differs from the signed one")
	// ErrSignature is returned when the signature itself does not verify.
	ErrSignature = errors.New("cms: signature does not verify")
	// ErrAttribute is returned for signed attributes that are missing, doubled or wrong.
	ErrAttribute = errors.New("cms: signed attributes not acceptable")
	// ErrOrder is returned for signed attributes that are not in DER order.
	ErrOrder = errors.New("cms: signed attributes are not in DER order")
	// ErrCertificate is returned for a certificate that is not the signer's.
	ErrCertificate = errors.New("cms: certificate is not the signer's")
	// ErrContentNeeded is returned by Verify for a signature without signed
	// attributes over detached content: use VerifyContent.
	ErrContentNeeded = errors.New("cms: signature without signed attributes: content needed")
	// ErrNoAttributes is returned by SignedAttributes when the spec has none.
	ErrNoAttributes = errors.New("cms: spec asks for a signature without signed attributes")
	// ErrChain is returned when no acceptable chain leads to a root.
	ErrChain = errors.New("cms: no acceptable certificate chain")
)

// Content types and attribute types.
var (
	OIDData             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDTSTInfo          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	OIDSpcIndirectData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	OIDCertificateTrust = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 1} // CTL, the content of .cat files

	OIDContentType          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	OIDAlgorithmProtection  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 52}
	OIDSigningCertificate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	OIDSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}

	OIDTimeStampToken     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}
	OIDMicrosoftTimeStamp = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 3, 3, 1}
	OIDNestedSignature    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 4, 1}
)
