package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
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
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	le := bytes.Clone(pub)
	le[31] &= 0x7f
	be := bytes.Clone(le)
	slices.Reverse(be)
	y := new(big.Int).SetBytes(be)
	if y.Cmp(p) >= 0 {
		return errors.New("Ed25519 key is not canonical")
	}

	// The y coordinates of the eight points whose order divides eight.
	last := new(big.Int).Sub(p, big.NewInt(1))
	small := y.Sign() == 0 || y.Cmp(big.NewInt(1)) == 0 || y.Cmp(last) == 0
	switch hex.EncodeToString(le) {
	case "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05":
		small = true
	}
	if small {
		return errors.New("Ed25519 key of small order")
	}

	// x^2 = (y^2 - 1) / (d y^2 + 1) must have a root; d = -121665/121666.
	y2 := new(big.Int).Mul(y, y)
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665))
	v := new(big.Int).Mul(d, y2)
	v.Add(v, big.NewInt(1)).Mod(v, p)
	v.ModInverse(v, p) // d is no square, so v is never zero
	u := new(big.Int).Sub(y2, big.NewInt(1))
	u.Mul(u, v).Mod(u, p)
	if big.Jacobi(u, p) == -1 {
		return errors.New("Ed25519 key is not a point of the curve")
	}
	return nil
}
