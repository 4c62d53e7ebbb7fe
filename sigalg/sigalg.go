// Package sigalg names the kinds of key and the ways of signing that Greatseal
// knows, and checks signatures made in them.
//
// A [Key] says what a key is ("rsa-3072"); a [Scheme] says how a message is
// signed with one ("rsa-pss-sha256"). Both are the words that charters,
// receipts and command lines use.
//
// Invariants:
//
//  1. Every Scheme belongs to exactly one family of keys, and [Verify] refuses a
//     public key of another family, an RSA key below 2048 bits and a curve that
//     the scheme does not name.
//  2. Verify is given the message, never a digest of unknown origin; VerifyDigest
//     is for a caller that finished the hash itself.
//  3. An ECDSA signature is ASN.1 DER in its only form; what is accepted
//     re-encodes to itself.
//
// A caller may not conclude from a valid signature that its key is trusted.
package sigalg

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Key names a kind of key: family and size.
type Key string

// The kinds of key.
const (
	RSA3072 Key = "rsa-3072"
	RSA4096 Key = "rsa-4096"
	P256    Key = "ecdsa-p256"
	P384    Key = "ecdsa-p384"
	Ed25519 Key = "ed25519"
	MLDSA65 Key = "ml-dsa-65"
	MLDSA87 Key = "ml-dsa-87"
)

// Keys lists every kind of key, in the order in which documents name them.
func Keys() []Key { return []Key{RSA3072, RSA4096, P256, P384, Ed25519, MLDSA65, MLDSA87} }

// Scheme names a way of signing: family, padding and hash.
type Scheme string

// The schemes. PSS uses MGF1 with the same hash and a salt as long as the hash
// (RFC 8017 section 8.1). ECDSA signatures are ASN.1 (RFC 3279 section 2.2.3).
// Ed25519 (RFC 8032) and ML-DSA (FIPS 204, empty context) take the message itself.
const (
	RSAPKCS1SHA256 Scheme = "rsa-pkcs1-sha256"
	RSAPKCS1SHA384 Scheme = "rsa-pkcs1-sha384"
	RSAPKCS1SHA512 Scheme = "rsa-pkcs1-sha512"
	RSAPSSSHA256   Scheme = "rsa-pss-sha256"
	RSAPSSSHA384   Scheme = "rsa-pss-sha384"
	RSAPSSSHA512   Scheme = "rsa-pss-sha512"
	ECDSASHA256    Scheme = "ecdsa-sha256"
	ECDSASHA384    Scheme = "ecdsa-sha384"
	ECDSASHA512    Scheme = "ecdsa-sha512"
	PureEd25519    Scheme = "ed25519"
	PureMLDSA65    Scheme = "ml-dsa-65"
	PureMLDSA87    Scheme = "ml-dsa-87"
)

type family int

const (
	familyRSAPKCS1 family = iota + 1
	familyRSAPSS
	familyECDSA
	familyEd25519
	familyMLDSA
)

type schemeInfo struct {
	scheme Scheme
	family family
	hash   crypto.Hash
}

func info(s Scheme) (schemeInfo, bool) {
	for _, i := range [...]schemeInfo{
		{RSAPKCS1SHA256, familyRSAPKCS1, crypto.SHA256},
		{RSAPKCS1SHA384, familyRSAPKCS1, crypto.SHA384},
		{RSAPKCS1SHA512, familyRSAPKCS1, crypto.SHA512},
		{RSAPSSSHA256, familyRSAPSS, crypto.SHA256},
		{RSAPSSSHA384, familyRSAPSS, crypto.SHA384},
		{RSAPSSSHA512, familyRSAPSS, crypto.SHA512},
		{ECDSASHA256, familyECDSA, crypto.SHA256},
		{ECDSASHA384, familyECDSA, crypto.SHA384},
		{ECDSASHA512, familyECDSA, crypto.SHA512},
		{PureEd25519, familyEd25519, 0},
		{PureMLDSA65, familyMLDSA, 0},
		{PureMLDSA87, familyMLDSA, 0},
	} {
		if i.scheme == s {
			return i, true
		}
	}
	return schemeInfo{}, false
}

// ErrSignature is returned by Verify for a signature that does not verify.
var ErrSignature = errors.New("sigalg: signature does not verify")

// Valid reports whether s is a scheme that this package knows.
func (s Scheme) Valid() bool { _, ok := info(s); return ok }

// Hash is the hash of the message that the scheme signs, or 0 for schemes that
// sign the message itself.
func (s Scheme) Hash() crypto.Hash { i, _ := info(s); return i.hash }

// PSS reports whether the scheme is RSASSA-PSS.
func (s Scheme) PSS() bool { i, _ := info(s); return i.family == familyRSAPSS }

// Input is what a key is handed to sign message under s: the message's hash, or
// the message itself for pure schemes.
func (s Scheme) Input(message []byte) []byte {
	h := s.Hash()
	if h == 0 {
		return message
	}
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// SignerOpts are the options under which a crypto.Signer signs s.Input.
func (s Scheme) SignerOpts() crypto.SignerOpts {
	if s.PSS() {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.Hash()}
	}
	return s.Hash()
}

// Fits reports whether keys of kind k can sign under s.
func (s Scheme) Fits(k Key) bool {
	i, ok := info(s)
	if !ok {
		return false
	}
	switch k {
	case RSA3072, RSA4096:
		return i.family == familyRSAPKCS1 || i.family == familyRSAPSS
	case P256, P384:
		return i.family == familyECDSA
	case Ed25519:
		return s == PureEd25519
	case MLDSA65:
		return s == PureMLDSA65
	case MLDSA87:
		return s == PureMLDSA87
	}
	return false
}

// Default is the scheme that a key of kind k signs with when nobody asked for
// another: PKCS #1 v1.5 for RSA, because every platform verifies it.
func (k Key) Default() Scheme {
	switch k {
	case RSA3072, RSA4096:
		return RSAPKCS1SHA256
	case P256:
		return ECDSASHA256
	case P384:
		return ECDSASHA384
	case Ed25519:
		return PureEd25519
	case MLDSA65:
		return PureMLDSA65
	case MLDSA87:
		return PureMLDSA87
	}
	return ""
}

// Valid reports whether k is a kind of key that this package knows.
func (k Key) Valid() bool { return k.Default() != "" }

// KeyOf says which kind of key pub is. It refuses what no charter may name: RSA
// of other sizes, other curves, other algorithms.
func KeyOf(pub crypto.PublicKey) (Key, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		switch p.N.BitLen() {
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
		return "", fmt.Errorf("sigalg: RSA key of %d bits: want 3072 or 4096", p.N.BitLen())
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
		return "", errors.New("sigalg: unknown elliptic curve: want P-256 or P-384")
	case ed25519.PublicKey:
		return Ed25519, nil
	case *mldsa.PublicKey:
		switch p.Parameters() {
		case mldsa.MLDSA65():
			return MLDSA65, nil
		case mldsa.MLDSA87():
			return MLDSA87, nil
		}
		return "", errors.New("sigalg: ML-DSA-44 is not accepted: want ML-DSA-65 or ML-DSA-87")
	}
	return "", fmt.Errorf("sigalg: unknown kind of public key %T", pub)
}

// Verify checks sig over message under s with pub. The error is [ErrSignature]
// when the signature is wrong, another one when pub or s is not usable.
//
// RSA keys of 2048 bits and more are accepted here, whatever their exact size:
// certificates of others carry them. What may sign for Greatseal is narrower:
// [KeyOf] says it for keys, package credential for people and machines.
func Verify(pub crypto.PublicKey, s Scheme, message, sig []byte) error {
	if s.Hash() != 0 {
		return VerifyDigest(pub, s, s.Input(message), sig)
	}
	i, ok := info(s)
	if !ok {
		return fmt.Errorf("sigalg: unknown scheme %q", s)
	}
	switch p := pub.(type) {
	case ed25519.PublicKey:
		if i.family == familyEd25519 {
			return verdict(len(p) == ed25519.PublicKeySize && ed25519.Verify(p, message, sig))
		}
	case *mldsa.PublicKey:
		if i.family == familyMLDSA {
			if k, err := KeyOf(p); err != nil || !s.Fits(k) {
				return fmt.Errorf("sigalg: scheme %q does not fit the key", s)
			}
			return verdict(mldsa.Verify(p, message, sig, nil) == nil)
		}
	}
	return misfit(pub, s)
}

// VerifyDigest is Verify for a message of which the caller has the digest under
// s.Hash(). It refuses schemes that sign the message itself.
func VerifyDigest(pub crypto.PublicKey, s Scheme, digest, sig []byte) error {
	i, ok := info(s)
	switch {
	case !ok:
		return fmt.Errorf("sigalg: unknown scheme %q", s)
	case i.hash == 0:
		return fmt.Errorf("sigalg: scheme %q signs no digest", s)
	case len(digest) != i.hash.Size():
		return fmt.Errorf("sigalg: digest of %d bytes: %s has %d", len(digest), i.hash, i.hash.Size())
	}
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < 2048 || n > 16384 {
			return fmt.Errorf("sigalg: RSA key of %d bits: want 2048 to 16384", n)
		}
		switch i.family {
		case familyRSAPKCS1:
			return verdict(rsa.VerifyPKCS1v15(p, i.hash, digest, sig) == nil)
		case familyRSAPSS:
			o := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: i.hash}
			return verdict(rsa.VerifyPSS(p, i.hash, digest, sig, o) == nil)
		}
	case *ecdsa.PublicKey:
		if i.family == familyECDSA {
			if p.Curve != elliptic.P256() && p.Curve != elliptic.P384() && p.Curve != elliptic.P521() {
				return errors.New("sigalg: unknown elliptic curve")
			}
			return verdict(canonicalECDSA(sig) && ecdsa.VerifyASN1(p, digest, sig))
		}
	}
	return misfit(pub, s)
}

func verdict(ok bool) error {
	if !ok {
		return ErrSignature
	}
	return nil
}

func misfit(pub crypto.PublicKey, s Scheme) error {
	return fmt.Errorf("sigalg: scheme %q does not fit a %T", s, pub)
}

// canonicalECDSA reports whether sig is the one DER encoding of its two
// integers.
func canonicalECDSA(sig []byte) bool {
	var rs struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(sig, &rs)
	if err != nil || len(rest) != 0 {
		return false
	}
	again, err := asn1.Marshal(rs)
	return err == nil && string(again) == string(sig)
}
