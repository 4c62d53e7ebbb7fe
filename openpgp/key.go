package openpgp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // version 4 fingerprints (RFC 9580 section 5.5.4.2)
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"
)

// Key is a public key: a bare key with the version and the time of creation that
// its fingerprint covers.
type Key struct {
	Version int // 4 or 6
	Created time.Time
	Public  crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algo    byte
	body    []byte
}

// curve of an OpenPGP key by its object identifier, without tag and length
// (RFC 9580 section 9.2).
type curve struct {
	oid   []byte
	curve elliptic.Curve
}

func curves() []curve {
	return []curve{
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, elliptic.P256()},
		{[]byte{0x2b, 0x81, 0x04, 0x00, 0x22}, elliptic.P384()},
		{[]byte{0x2b, 0x81, 0x04, 0x00, 0x23}, elliptic.P521()},
	}
}

// oidEd25519Legacy names the curve in keys of algorithm 22.
const oidEd25519Legacy = "\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"

// NewKey is the OpenPGP form of a public key. An Ed25519 key of version 4 is of
// algorithm 22 (EdDSALegacy), which every implementation reads; one of version 6
// is of algorithm 27. created is truncated to seconds.
func NewKey(version int, created time.Time, pub crypto.PublicKey) (*Key, error) {
	at := created.Unix()
	if at < 0 || at > math.MaxUint32 {
		return nil, fmt.Errorf("openpgp: key created in %d: want 1970 to 2106", created.UTC().Year())
	}
	var algo byte
	var m []byte
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if algo = algoRSA; p.N == nil {
			return nil, malformed("RSA key")
		}
		m = appendMPI(m, p.N.Bytes())
		m = appendMPI(m, big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		algo = algoECDSA
		for _, c := range curves() {
			if c.curve == p.Curve {
				m = append(append(m, byte(len(c.oid))), c.oid...)
			}
		}
		if m == nil {
			return nil, fmt.Errorf("openpgp: elliptic curve: %w", ErrUnsupported)
		}
		point, err := p.Bytes()
		if err != nil {
			return nil, fmt.Errorf("openpgp: %w", err)
		}
		m = appendMPI(m, point)
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, malformed("Ed25519 key of %d bytes", len(p))
		}
		if algo = algoEd25519; version == 4 {
			algo = algoEdDSALegacy
			m = append(append(m, byte(len(oidEd25519Legacy))), oidEd25519Legacy...)
			m = appendMPI(m, append([]byte{0x40}, p...))
		} else {
			m = append(m, p...)
		}
	default:
		return nil, fmt.Errorf("openpgp: key of type %T: %w", pub, ErrUnsupported)
	}
	b := binary.BigEndian.AppendUint32([]byte{byte(version)}, uint32(at))
	b = append(b, algo)
	switch version {
	case 4:
	case 6:
		b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
	default:
		return nil, fmt.Errorf("openpgp: key version %d: %w", version, ErrUnsupported)
	}
	return ParseKey(append(b, m...))
}

// ParseKey reads the body of a public key or public subkey packet.
func ParseKey(body []byte) (*Key, error) {
	r := &reader{b: body}
	k := &Key{Version: int(r.byte()), body: bytes.Clone(body)}
	if k.Version != 4 && k.Version != 6 && !r.bad {
		return nil, fmt.Errorf("openpgp: key version %d: %w", k.Version, ErrUnsupported)
	}
	k.Created = time.Unix(int64(r.uint32()), 0).UTC()
	k.algo = r.byte()
	if k.Version == 6 && int64(r.uint32()) != int64(len(r.b)) || r.bad {
		return nil, malformed("key")
	}
	switch k.algo {
	case algoRSA:
		n, e := new(big.Int).SetBytes(r.mpi(2048)), new(big.Int).SetBytes(r.mpi(4))
		if r.bad || n.BitLen() < 2048 || n.Bit(0) == 0 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > math.MaxInt32 || e.Bit(0) == 0 {
			return nil, malformed("RSA key")
		}
		k.Public = &rsa.PublicKey{N: n, E: int(e.Int64())}
	case algoECDSA:
		oid := r.take(int(r.byte()))
		point := r.mpi(133)
		for _, c := range curves() {
			if !bytes.Equal(c.oid, oid) {
				continue
			}
			p, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil {
				return nil, malformed("point of an ECDSA key")
			}
			k.Public = p
		}
		if k.Public == nil && !r.bad {
			return nil, fmt.Errorf("openpgp: elliptic curve: %w", ErrUnsupported)
		}
	case algoEdDSALegacy:
		oid := r.take(int(r.byte()))
		point := r.mpi(33)
		if k.Version != 4 || string(oid) != oidEd25519Legacy || len(point) != 33 || point[0] != 0x40 {
			return nil, malformed("EdDSA key")
		}
		k.Public = ed25519.PublicKey(point[1:])
	case algoEd25519:
		k.Public = ed25519.PublicKey(r.take(ed25519.PublicKeySize))
	default:
		return nil, fmt.Errorf("openpgp: key algorithm %d: %w", k.algo, ErrUnsupported)
	}
	if r.bad || len(r.b) > 0 {
		return nil, malformed("key")
	}
	return k, nil
}

// Body is the key's packet without its header.
func (k *Key) Body() []byte { return bytes.Clone(k.body) }

// hashed is the key as fingerprints and signatures over keys hash it (RFC 9580
// section 5.2.4).
func (k *Key) hashed() []byte {
	if k.Version == 6 {
		return append(binary.BigEndian.AppendUint32([]byte{0x9b}, uint32(len(k.body))), k.body...)
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(k.body))), k.body...)
}

// Fingerprint has 20 bytes in version 4 and 32 in version 6.
func (k *Key) Fingerprint() []byte {
	if k.Version == 6 {
		s := sha256.Sum256(k.hashed())
		return s[:]
	}
	s := sha1.Sum(k.hashed())
	return s[:]
}

// ID is the key ID: 8 bytes of the fingerprint.
func (k *Key) ID() []byte { return keyID(k.Version, k.Fingerprint()) }

func keyID(version int, fingerprint []byte) []byte {
	if version == 6 {
		return fingerprint[:8]
	}
	return fingerprint[len(fingerprint)-8:]
}
