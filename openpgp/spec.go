package openpgp

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Spec is a signature that is to be made. Its version is the key's.
type Spec struct {
	Type    Type
	Hash    crypto.Hash
	Created time.Time // truncated to seconds
	Key     *Key
	Salt    []byte      // version 6: SaltSize bytes
	More    []Subpacket // hashed, after the time of signing and the issuer
}

// fields is the packet from its version to its hashed subpackets. All that it says
// is hashed, the issuer too: the unhashed area of our signatures is empty.
func (s *Spec) fields() ([]byte, error) {
	id, err := hashID(s.Hash)
	if err != nil {
		return nil, err
	}
	at := s.Created.Unix()
	switch {
	case at < 0 || at > math.MaxUint32:
		return nil, fmt.Errorf("openpgp: signature made in %d: want 1970 to 2106", s.Created.UTC().Year())
	case s.Created.Before(s.Key.Created):
		return nil, fmt.Errorf("openpgp: signature made at %s, before its key (%s)", s.Created.UTC().Format(time.RFC3339), s.Key.Created.Format(time.RFC3339))
	case s.Key.Version == 6 && len(s.Salt) != SaltSize(s.Hash), s.Key.Version == 4 && len(s.Salt) > 0:
		return nil, fmt.Errorf("openpgp: salt of %d bytes in a signature of version %d", len(s.Salt), s.Key.Version)
	}
	fp := s.Key.Fingerprint()
	sub := appendSubpacket(nil, Subpacket{Type: SubCreated, Data: binary.BigEndian.AppendUint32(nil, uint32(at))})
	sub = appendSubpacket(sub, Subpacket{Type: SubFingerprint, Data: append([]byte{byte(s.Key.Version)}, fp...)})
	if s.Key.Version == 4 {
		sub = appendSubpacket(sub, Subpacket{Type: SubIssuer, Data: s.Key.ID()})
	}
	for _, p := range s.More {
		sub = appendSubpacket(sub, p)
	}
	if len(sub) > math.MaxUint16 || len(sub) > maxArea {
		return nil, fmt.Errorf("openpgp: %d bytes of subpackets", len(sub))
	}
	b := []byte{byte(s.Key.Version), byte(s.Type), s.Key.algo, id}
	if s.Key.Version == 6 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(sub)))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(len(sub)))
	}
	return append(b, sub...), nil
}

// Trailer is what is hashed after the content.
func (s *Spec) Trailer() ([]byte, error) {
	b, err := s.fields()
	if err != nil {
		return nil, err
	}
	return appendTrailer(s.Key.Version, b), nil
}

// CheckScheme refuses a scheme that signs no signature of this spec.
func (s *Spec) CheckScheme(scheme sigalg.Scheme) error {
	ok := scheme.Valid() && !scheme.PSS()
	switch s.Key.algo {
	case algoRSA:
		ok = ok && scheme.Hash() == s.Hash && (scheme == sigalg.RSAPKCS1SHA256 || scheme == sigalg.RSAPKCS1SHA384 || scheme == sigalg.RSAPKCS1SHA512)
	case algoECDSA:
		ok = ok && scheme.Hash() == s.Hash && (scheme == sigalg.ECDSASHA256 || scheme == sigalg.ECDSASHA384 || scheme == sigalg.ECDSASHA512)
	default:
		ok = ok && scheme == sigalg.PureEd25519
	}
	if !ok {
		return fmt.Errorf("openpgp: scheme %s does not sign %s with this key: %w", scheme, HashName(s.Hash), ErrUnsupported)
	}
	return nil
}

// Body makes the packet, without its header: digest is what was signed, value the
// signature as package sigalg has it.
func (s *Spec) Body(digest, value []byte) ([]byte, error) {
	b, err := s.fields()
	if err != nil {
		return nil, err
	}
	if len(digest) != s.Hash.Size() {
		return nil, fmt.Errorf("openpgp: digest of %d bytes", len(digest))
	}
	if s.Key.Version == 6 {
		b = append(b, 0, 0, 0, 0)
	} else {
		b = append(b, 0, 0)
	}
	b = append(b, digest[:2]...)
	if s.Key.Version == 6 {
		b = append(append(b, byte(len(s.Salt))), s.Salt...)
	}
	switch s.Key.algo {
	case algoRSA:
		b = appendMPI(b, value)
	case algoECDSA:
		var v struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(value, &v); err != nil || len(rest) > 0 || v.R.Sign() <= 0 || v.S.Sign() <= 0 {
			return nil, malformed("ECDSA signature")
		}
		b = appendMPI(appendMPI(b, v.R.Bytes()), v.S.Bytes())
	default:
		if len(value) != 64 {
			return nil, malformed("Ed25519 signature of %d bytes", len(value))
		}
		if s.Key.algo == algoEd25519 {
			b = append(b, value...)
		} else {
			b = appendMPI(appendMPI(b, value[:32]), value[32:])
		}
	}
	// What is made is what can be read, and it verifies.
	p, err := ParseSignature(b)
	if err != nil {
		return nil, err
	}
	if t, err := s.Trailer(); err != nil || !bytes.Equal(t, p.trailer) {
		return nil, malformed("signature")
	}
	return b, p.Verify(s.Key.Public, digest)
}
