package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
	"github.com/greatseal-io/greatseal/sigalg"
)

// COSE_Key as authenticators send it: RFC 9052 section 7, RFC 9053 section 7,
// RFC 8230 section 4; algorithms of the IANA COSE registry.
const (
	coseOKP = 1
	coseEC2 = 2
	coseRSA = 3

	coseES256 = -7
	coseEdDSA = -8
	coseRS256 = -257

	coseCurveP256    = 1
	coseCurveEd25519 = 6
)

type coseHead struct {
	Kty int64 `cbor:"1,keyasint"`
	Alg int64 `cbor:"3,keyasint"`
}

type coseEC2Key struct {
	Kty int64  `cbor:"1,keyasint"`
	Alg int64  `cbor:"3,keyasint"`
	Crv int64  `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

type coseOKPKey struct {
	Kty int64  `cbor:"1,keyasint"`
	Alg int64  `cbor:"3,keyasint"`
	Crv int64  `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
}

type coseRSAKey struct {
	Kty int64  `cbor:"1,keyasint"`
	Alg int64  `cbor:"3,keyasint"`
	N   []byte `cbor:"-1,keyasint"`
	E   []byte `cbor:"-2,keyasint"`
}

// parseCOSE reads a public key and says how it signs.
func parseCOSE(b []byte) (crypto.PublicKey, sigalg.Scheme, error) {
	var head coseHead
	if err := cborform.Read(b, &head, false); err != nil {
		return nil, "", err
	}
	var pub crypto.PublicKey
	var scheme sigalg.Scheme
	switch {
	case head.Kty == coseEC2 && head.Alg == coseES256:
		var k coseEC2Key
		if err := cborform.Decode(b, &k); err != nil {
			return nil, "", err
		}
		if k.Crv != coseCurveP256 || len(k.X) != 32 || len(k.Y) != 32 {
			return nil, "", errors.New("cose key: ES256 wants a point of P-256 with 32-byte coordinates")
		}
		point := append(append([]byte{4}, k.X...), k.Y...)
		p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return nil, "", errors.New("cose key: not a point of P-256")
		}
		pub, scheme = p, sigalg.ECDSASHA256
	case head.Kty == coseOKP && head.Alg == coseEdDSA:
		var k coseOKPKey
		if err := cborform.Decode(b, &k); err != nil {
			return nil, "", err
		}
		if k.Crv != coseCurveEd25519 {
			return nil, "", errors.New("cose key: EdDSA wants Ed25519")
		}
		pub, scheme = ed25519.PublicKey(k.X), sigalg.PureEd25519
	case head.Kty == coseRSA && head.Alg == coseRS256:
		var k coseRSAKey
		if err := cborform.Decode(b, &k); err != nil {
			return nil, "", err
		}
		if len(k.N) == 0 || k.N[0] == 0 || len(k.E) == 0 || k.E[0] == 0 || len(k.E) > 3 {
			return nil, "", errors.New("cose key: RSA numbers must have no leading zero, the exponent at most 24 bits")
		}
		pub = &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(new(big.Int).SetBytes(k.E).Int64())}
		scheme = sigalg.RSAPKCS1SHA256
	default:
		return nil, "", fmt.Errorf("cose key: type %d with algorithm %d: want ES256, EdDSA or RS256", head.Kty, head.Alg)
	}
	if err := checkKey(pub); err != nil {
		return nil, "", fmt.Errorf("cose key: %w", err)
	}
	return pub, scheme, nil
}
