package openpgp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"time"

	"github.com/greatseal-io/greatseal/sigalg"
)

// The subpackets that mean something here (RFC 9580 section 5.2.3.7).
const (
	SubCreated     = 2
	SubExpires     = 3
	SubRevocable   = 7
	SubKeyExpires  = 9
	SubCiphers     = 11
	SubIssuer      = 16
	SubNotation    = 20
	SubHashes      = 21
	SubCompression = 22
	SubServer      = 23
	SubPrimary     = 25
	SubPolicy      = 26
	SubFlags       = 27
	SubSigner      = 28
	SubFeatures    = 30
	SubEmbedded    = 32
	SubFingerprint = 33
)

// understood are the subpackets that may be marked critical.
func understood(t byte) bool {
	switch t {
	case SubCreated, SubExpires, SubRevocable, SubKeyExpires, SubCiphers, SubIssuer, SubHashes, SubCompression, SubServer,
		SubPrimary, SubFlags, SubFeatures, SubEmbedded, SubFingerprint:
		return true
	}
	return false
}

// Subpacket is one statement inside a signature.
type Subpacket struct {
	Type     byte
	Critical bool
	Data     []byte
}

func appendSubpacket(b []byte, s Subpacket) []byte {
	b = appendLength(b, 1+len(s.Data))
	if s.Critical {
		s.Type |= 0x80
	}
	return append(append(b, s.Type), s.Data...)
}

func parseSubpackets(b []byte) (out []Subpacket, err error) {
	r := &reader{b: b}
	for len(r.b) > 0 {
		n := int64(r.byte())
		switch {
		case n >= 192 && n < 255:
			n = (n-192)<<8 + int64(r.byte()) + 192
		case n == 255:
			n = int64(r.uint32())
		}
		if n > int64(len(r.b)) || n == 0 || r.bad || len(out) == maxSubpackets {
			return nil, malformed("subpackets")
		}
		v := r.take(int(n))
		out = append(out, Subpacket{v[0] & 0x7f, v[0]&0x80 != 0, v[1:]})
	}
	return out, nil
}

// Signature is a signature packet of version 4 or 6.
type Signature struct {
	Version     int
	Type        Type
	Hash        crypto.Hash
	Created     time.Time
	Expires     time.Duration // after Created; 0: never
	Fingerprint []byte        // of the issuer, as it says under its own signature; may be empty
	KeyID       []byte        // of the issuer; unhashed in many signatures, a hint
	Salt        []byte        // hashed in front of the content in version 6
	Hashed      []Subpacket
	Unhashed    []Subpacket

	algo    byte
	trailer []byte
	left    [2]byte
	value   []byte // the algorithm's own fields
	body    []byte
}

// ParseSignature reads the body of a signature packet.
func ParseSignature(body []byte) (*Signature, error) {
	r := &reader{b: body}
	s := &Signature{Version: int(r.byte()), body: bytes.Clone(body)}
	if s.Version != 4 && s.Version != 6 && !r.bad {
		return nil, fmt.Errorf("openpgp: signature version %d: %w", s.Version, ErrUnsupported)
	}
	s.Type, s.algo = Type(r.byte()), r.byte()
	id := r.byte()
	area := func() []byte {
		n := int64(0)
		if s.Version == 6 {
			n = int64(r.uint32())
		} else {
			n = int64(r.uint16())
		}
		if n > maxArea {
			r.bad = true
			return nil
		}
		return r.take(int(n))
	}
	hashed := area()
	s.trailer = appendTrailer(s.Version, body[:len(body)-len(r.b)])
	unhashed := area()
	copy(s.left[:], r.take(2))
	if s.Version == 6 {
		s.Salt = r.take(int(r.byte()))
	}
	s.value = r.b
	if r.bad {
		return nil, malformed("signature")
	}
	var err error
	if s.Hash, err = hashByID(id); err != nil {
		return nil, err
	}
	if s.Version == 6 && len(s.Salt) != SaltSize(s.Hash) {
		return nil, malformed("salt of %d bytes", len(s.Salt))
	}
	if s.Hashed, err = parseSubpackets(hashed); err != nil {
		return nil, err
	}
	if s.Unhashed, err = parseSubpackets(unhashed); err != nil {
		return nil, err
	}
	if err := s.statements(); err != nil {
		return nil, err
	}
	_, _, err = s.decode(nil)
	return s, err
}

// statements reads what the subpackets say.
func (s *Signature) statements() error {
	created := false
	for i, p := range append(s.Hashed[:len(s.Hashed):len(s.Hashed)], s.Unhashed...) {
		inside := i < len(s.Hashed)
		if p.Critical && !(inside && understood(p.Type)) {
			return fmt.Errorf("openpgp: critical subpacket %d: %w", p.Type, ErrUnsupported)
		}
		switch {
		case p.Type == SubCreated && inside:
			if len(p.Data) != 4 || created {
				return malformed("time of signing")
			}
			created, s.Created = true, time.Unix(int64(binary.BigEndian.Uint32(p.Data)), 0).UTC()
		case p.Type == SubExpires && inside:
			if len(p.Data) != 4 || s.Expires != 0 {
				return malformed("expiration")
			}
			s.Expires = time.Duration(binary.BigEndian.Uint32(p.Data)) * time.Second
		case p.Type == SubIssuer:
			if len(p.Data) != 8 || s.KeyID != nil && !bytes.Equal(s.KeyID, p.Data) || s.Version == 6 {
				return malformed("issuer")
			}
			s.KeyID = p.Data
		case p.Type == SubFingerprint:
			n := 20
			if s.Version == 6 {
				n = 32
			}
			if len(p.Data) != n+1 || int(p.Data[0]) != s.Version || s.Fingerprint != nil && !bytes.Equal(s.Fingerprint, p.Data[1:]) {
				return malformed("fingerprint of the issuer")
			}
			if inside {
				s.Fingerprint = p.Data[1:]
			}
		case !inside && (p.Type == SubCreated || p.Type == SubExpires || p.Type == SubKeyExpires):
			return malformed("subpacket %d in the unhashed area", p.Type)
		}
	}
	if !created {
		return malformed("signature without a time")
	}
	if s.Fingerprint != nil {
		id := keyID(s.Version, s.Fingerprint)
		if s.KeyID != nil && !bytes.Equal(id, s.KeyID) {
			return malformed("issuer is not the one of the fingerprint")
		}
		s.KeyID = id
	}
	return nil
}

// appendTrailer is what is hashed after the content (RFC 9580 section 5.2.4):
// the signature up to the hashed subpackets, and how long that is.
func appendTrailer(version int, hashed []byte) []byte {
	b := append(bytes.Clone(hashed), byte(version), 0xff)
	return binary.BigEndian.AppendUint32(b, uint32(len(hashed)))
}

// Body is the packet without its header.
func (s *Signature) Body() []byte { return bytes.Clone(s.body) }

// Trailer is what is hashed after the content.
func (s *Signature) Trailer() []byte { return bytes.Clone(s.trailer) }

// Flags is the first octet of the key flags under the signature, or 0.
func (s *Signature) Flags() byte {
	for _, p := range s.Hashed {
		if p.Type == SubFlags && len(p.Data) > 0 {
			return p.Data[0]
		}
	}
	return 0
}

// ClockSkew is how far in the future of a verifier a signature may have been made.
const ClockSkew = 10 * time.Minute

// ValidAt refuses a signature that was not made yet or has expired. Without a time
// to judge at, one that may expire is refused.
func (s *Signature) ValidAt(now time.Time) error {
	switch {
	case now.IsZero() && s.Expires != 0:
		return errors.New("openpgp: signature expires, and there is no time to judge it at")
	case now.IsZero():
		return nil
	case s.Created.After(now.Add(ClockSkew)):
		return fmt.Errorf("openpgp: signature of the future: made at %s", s.Created.Format(time.RFC3339))
	case s.Expires != 0 && !now.Before(s.Created.Add(s.Expires)):
		return fmt.Errorf("openpgp: signature expired at %s", s.Created.Add(s.Expires).Format(time.RFC3339))
	}
	return nil
}

// Value returns the signature as package sigalg has it, for a key that may have
// made it: leading zeros that OpenPGP leaves out are put back.
func (s *Signature) Value(pub crypto.PublicKey) (sigalg.Scheme, []byte, error) { return s.decode(pub) }

// decode takes the algorithm's fields apart. Without a key it checks their form.
func (s *Signature) decode(pub crypto.PublicKey) (scheme sigalg.Scheme, value []byte, err error) {
	r := &reader{b: s.value}
	misfit := func(ok bool) bool { return pub != nil && !ok }
	switch s.algo {
	case algoRSA:
		k, ok := pub.(*rsa.PublicKey)
		v := r.mpi(2048)
		if misfit(ok) {
			return "", nil, ErrSignature
		}
		if ok {
			if v = pad(v, k.Size()); v == nil {
				return "", nil, ErrSignature
			}
		}
		scheme, value = map[crypto.Hash]sigalg.Scheme{crypto.SHA256: sigalg.RSAPKCS1SHA256, crypto.SHA384: sigalg.RSAPKCS1SHA384, crypto.SHA512: sigalg.RSAPKCS1SHA512}[s.Hash], v
	case algoECDSA:
		_, ok := pub.(*ecdsa.PublicKey)
		v := struct{ R, S *big.Int }{new(big.Int).SetBytes(r.mpi(66)), new(big.Int).SetBytes(r.mpi(66))}
		if misfit(ok) {
			return "", nil, ErrSignature
		}
		if value, err = asn1.Marshal(v); err != nil {
			return "", nil, fmt.Errorf("openpgp: %w", err)
		}
		scheme = map[crypto.Hash]sigalg.Scheme{crypto.SHA256: sigalg.ECDSASHA256, crypto.SHA384: sigalg.ECDSASHA384, crypto.SHA512: sigalg.ECDSASHA512}[s.Hash]
	case algoEdDSALegacy, algoEd25519:
		_, ok := pub.(ed25519.PublicKey)
		if s.algo == algoEd25519 {
			value = r.take(ed25519.SignatureSize)
		} else if s.Version == 4 {
			value = append(pad(r.mpi(32), 32), pad(r.mpi(32), 32)...)
		} else {
			return "", nil, malformed("EdDSA signature of version %d", s.Version)
		}
		if misfit(ok) {
			return "", nil, ErrSignature
		}
		scheme = sigalg.PureEd25519
	default:
		return "", nil, fmt.Errorf("openpgp: signature algorithm %d: %w", s.algo, ErrUnsupported)
	}
	if r.bad || len(r.b) > 0 {
		return "", nil, malformed("signature value")
	}
	return scheme, value, nil
}

// NewHash begins the digest that Verify wants: write the content to it, and then the
// Trailer.
func (s *Signature) NewHash() hash.Hash {
	x := s.Hash.New()
	x.Write(s.Salt)
	return x
}

// Verify checks the signature with a bare key. digest is of the salt (in version
// 6), the content and [Signature.Trailer] under s.Hash. What the signature says of
// its time and issuer is for the caller to judge.
func (s *Signature) Verify(pub crypto.PublicKey, digest []byte) error {
	if pub == nil {
		return fmt.Errorf("openpgp: %w: no key", ErrSignature)
	}
	if len(digest) != s.Hash.Size() || !bytes.Equal(digest[:2], s.left[:]) {
		return fmt.Errorf("openpgp: %w: digest of something else", ErrSignature)
	}
	scheme, value, err := s.decode(pub)
	if err != nil {
		return fmt.Errorf("openpgp: %w", err)
	}
	if scheme.Hash() == 0 {
		err = sigalg.Verify(pub, scheme, digest, value)
	} else {
		err = sigalg.VerifyDigest(pub, scheme, digest, value)
	}
	if err != nil {
		return fmt.Errorf("openpgp: %w: %w", ErrSignature, err)
	}
	return nil
}
