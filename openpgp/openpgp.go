// Package openpgp makes and reads the parts of OpenPGP that signatures need
// (RFC 9580, and RFC 4880 with the elliptic curves that came between the two):
// public keys, signatures, armour and the cleartext framework, in versions 4 and 6.
//
// It makes signatures in two halves, because whoever has the key does not have the
// content: a [Spec] gives the trailer that is hashed after the content, and makes
// the packet once somebody signed the digest. A [State] carries a hash from where
// the content was read to where the trailer is added.
//
// Invariants:
//
//  1. What a parser accepts has one encoding: [Key.Body] and [Signature.Body]
//     give back the bytes that were read.
//  2. SHA-256, SHA-384 and SHA-512 are the only digests, RSA from 2048 bits, ECDSA
//     on P-256, P-384 and P-521, and Ed25519 the only keys. Everything else is
//     refused, MD5 and SHA-1 signatures first of all.
//  3. A subpacket that is marked critical and is not understood makes the
//     signature wrong (RFC 9580 section 5.2.3.7). What the unhashed area says is
//     never believed.
//  4. The two octets in front of the signature value must be those of the digest.
//  5. A [State] that was decoded is one that [State.Encode] gives, and its size is
//     fixed by the hash: nothing of Go's own encoding of hashes travels.
//
// A caller may not conclude from a signature that verifies that its key is the one
// that the issuer fingerprint names (a fingerprint covers the time of creation, which
// a bare public key does not have), that the key is trusted, or that the user IDs
// beside a key are true.
package openpgp

import (
	"crypto"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by errors about bytes that are not OpenPGP, or not in
// the one encoding that this package accepts.
var ErrMalformed = errors.New("malformed")

// ErrUnsupported is wrapped by errors about versions, algorithms and subpackets
// that are not accepted.
var ErrUnsupported = errors.New("not supported")

// ErrSignature is wrapped when a signature is not over the content.
var ErrSignature = errors.New("signature does not verify")

// Tag is a packet's type ID (RFC 9580 section 5).
type Tag byte

// The packets that are read and made here.
const (
	TagSignature     Tag = 2
	TagOnePass       Tag = 4
	TagPublicKey     Tag = 6
	TagLiteral       Tag = 11
	TagTrust         Tag = 12
	TagUserID        Tag = 13
	TagPublicSubkey  Tag = 14
	TagUserAttribute Tag = 17
	TagPadding       Tag = 21
)

// Type is a signature's type (RFC 9580 section 5.2.1).
type Type byte

// The types of signature.
const (
	Binary            Type = 0x00
	Text              Type = 0x01
	CertifyGeneric    Type = 0x10
	CertifyPositive   Type = 0x13
	SubkeyBinding     Type = 0x18
	PrimaryKeyBinding Type = 0x19
	DirectKey         Type = 0x1f
	KeyRevocation     Type = 0x20
	SubkeyRevocation  Type = 0x28
	CertifyRevocation Type = 0x30
	hashSHA256             = 8
	hashSHA384             = 9
	hashSHA512             = 10
	algoRSA                = 1
	algoECDSA              = 19
	algoEdDSALegacy        = 22
	algoEd25519            = 27
	maxPacket              = 1 << 20 // bytes of a packet other than literal data
	maxSubpackets          = 256
	maxArea                = 64 << 10 // bytes of subpackets, in version 6 too
)

// hashID is the number of a digest (RFC 9580 section 9.5).
func hashID(h crypto.Hash) (byte, error) {
	switch h {
	case crypto.SHA256:
		return hashSHA256, nil
	case crypto.SHA384:
		return hashSHA384, nil
	case crypto.SHA512:
		return hashSHA512, nil
	}
	return 0, fmt.Errorf("openpgp: hash %v: %w", h, ErrUnsupported)
}

// hashByID is the inverse of hashID.
func hashByID(id byte) (crypto.Hash, error) {
	switch id {
	case hashSHA256:
		return crypto.SHA256, nil
	case hashSHA384:
		return crypto.SHA384, nil
	case hashSHA512:
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("openpgp: hash algorithm %d: %w", id, ErrUnsupported)
}

// HashName is the name in a cleartext signature's Hash header: "SHA256".
func HashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "SHA256"
	case crypto.SHA384:
		return "SHA384"
	case crypto.SHA512:
		return "SHA512"
	}
	return ""
}

// SaltSize is the length of a version 6 signature's salt (RFC 9580 section 9.5).
func SaltSize(h crypto.Hash) int { return h.Size() / 2 }

func malformed(f string, args ...any) error {
	return fmt.Errorf("openpgp: "+f+": %w", append(args, ErrMalformed)...)
}
