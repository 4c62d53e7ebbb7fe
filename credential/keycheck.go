package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"filippo.io/edwards25519"
)

// The sizes of RSA keys, in bits. Beyond the upper one a verification costs more
// than a stranger's signature is worth.
const (
	minRSA = 3072
	maxRSA = 8192
)

// checkKey refuses public keys whose signatures prove nothing.
func checkKey(pub crypto.PublicKey) error {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		// The SSH library parses a negative modulus, whose length counts all the same.
		if p.N.Sign() <= 0 {
			return errors.New("RSA key with a modulus that is not positive")
		}
		if n := p.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits: want %d to %d", n, minRSA, maxRSA)
		}
		// An even modulus or a small exponent is no key that any tool of this
		// century made (FIPS 186-5 section A.1.1).
		if p.N.Bit(0) == 0 || p.E < 65537 || p.E%2 == 0 {
			return errors.New("RSA key with an even modulus or an exponent that is even or below 65537")
		}
		return nil
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("elliptic curve: want P-256, P-384 or P-521")
	case ed25519.PublicKey:
		return checkEd25519(p)
	}
	return fmt.Errorf("public key of type %T: want RSA, ECDSA or Ed25519", pub)
}

// checkEd25519 refuses what is not the encoding of a point (RFC 8032 section
// 5.1.3) and the points of small order. With one of those, anybody finds
// signatures that verify: for the neutral element (R, S) = ([S]B, S) is valid for
// every message.
func checkEd25519(pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 key of %d bytes: want %d", len(pub), ed25519.PublicKeySize)
	}
	p, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return errors.New("Ed25519 key is not a point of the curve")
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return errors.New("Ed25519 key of small order")
	}
	if !bytes.Equal(p.Bytes(), pub) {
		return errors.New("Ed25519 key is not canonical")
	}
	return nil
}
