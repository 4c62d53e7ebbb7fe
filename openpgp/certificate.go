package openpgp

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Certificate is a transferable public key (RFC 9580 section 10.1): what of it
// its own signatures say.
type Certificate struct {
	Primary *Key
	UserIDs []string // those that the primary key certified itself
	Signing []*Key   // keys that may sign data: the primary key, and bound subkeys
}

// Limits of one certificate.
const (
	maxCertificate = 4 << 20
	maxPackets     = 10000
	// MaxUserID is the most bytes of a user ID.
	MaxUserID = 1024
)

const (
	flagCertify = 1
	flagSign    = 2
)

// CertifyMessage is what a certification of a user ID hashes between salt and
// trailer (RFC 9580 section 5.2.4).
func (k *Key) CertifyMessage(userID string) []byte {
	b := binary.BigEndian.AppendUint32(append(k.hashed(), 0xb4), uint32(len(userID)))
	return append(b, userID...)
}

// DirectMessage is what a signature over the key alone hashes.
func (k *Key) DirectMessage() []byte { return k.hashed() }

// CheckUserID refuses what is no line of UTF-8 text.
func CheckUserID(s string) error {
	if s == "" || len(s) > MaxUserID || !utf8.ValidString(s) || !printable([]byte(s)) {
		return malformed("user ID: want one line of 1 to %d bytes of UTF-8", MaxUserID)
	}
	return nil
}

// NewCertificate writes a transferable public key: the primary key, signatures
// over it alone, a user ID and the certification of it. All are bodies of packets.
func NewCertificate(k *Key, direct [][]byte, userID string, certification []byte) []byte {
	b := AppendPacket(nil, TagPublicKey, k.body)
	for _, d := range direct {
		b = AppendPacket(b, TagSignature, d)
	}
	b = AppendPacket(b, TagUserID, []byte(userID))
	return AppendPacket(b, TagSignature, certification)
}

// ReadCertificates reads transferable public keys, armoured or binary, and judges
// them at now: keys without a valid signature of their own, expired and revoked
// ones are an error. A revocation that cannot be read counts as one.
func ReadCertificates(b []byte, now time.Time) ([]*Certificate, error) {
	if bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		var err error
		if b, _, err = Dearmor(ArmorPublicKey, b); err != nil {
			return nil, err
		}
	}
	if len(b) > maxCertificate {
		return nil, malformed("public keys of %d bytes", len(b))
	}
	ps, err := ReadPackets(b, maxPackets)
	if err != nil {
		return nil, err
	}
	var out []*Certificate
	for len(ps) > 0 {
		end := 1
		for end < len(ps) && ps[end].Tag != TagPublicKey {
			end++
		}
		c, err := readCertificate(ps[:end], now)
		if err != nil {
			return nil, err
		}
		out, ps = append(out, c), ps[end:]
	}
	if len(out) == 0 {
		return nil, malformed("no public key")
	}
	return out, nil
}

// component is a key or user ID with the signatures that follow it.
type component struct {
	Packet
	sigs [][]byte
}

func components(ps []Packet) (out []component, err error) {
	for _, p := range ps {
		switch p.Tag {
		case TagPublicKey, TagPublicSubkey, TagUserID, TagUserAttribute:
			out = append(out, component{Packet: p})
		case TagSignature:
			if len(out) == 0 {
				return nil, malformed("signature before the key")
			}
			c := &out[len(out)-1]
			c.sigs = append(c.sigs, p.Body)
		case TagTrust, TagPadding:
		default:
			return nil, malformed("packet of type %d in a public key", p.Tag)
		}
	}
	if len(out) == 0 || out[0].Tag != TagPublicKey {
		return nil, malformed("public key does not begin with a key")
	}
	return out, nil
}

// own returns the newest valid signature by k of one of the types, over message.
// revoked says whether one of type revocation is there that is k's or unreadable.
func (c *component) own(k *Key, message []byte, now time.Time, revocation Type, types ...Type) (best *Signature, revoked bool) {
	for _, body := range c.sigs {
		s, err := ParseSignature(body)
		if err != nil {
			// Which type it is can be read in every version from 3 on.
			revoked = revoked || len(body) < 3 || Type(body[1]) == revocation || Type(body[2]) == revocation
			continue
		}
		good := s.Version == k.Version && s.Verify(k.Public, sum(s, message)) == nil
		if s.Type == revocation {
			revoked = revoked || good || bytes.Equal(s.KeyID, k.ID())
			continue
		}
		fits := false
		for _, t := range types {
			fits = fits || s.Type == t
		}
		if good && fits && s.ValidAt(now) == nil && !s.Created.Before(k.Created) && (best == nil || !s.Created.Before(best.Created)) {
			best = s
		}
	}
	return best, revoked
}

// sum is the digest of salt, message and trailer.
func sum(s *Signature, message []byte) []byte {
	x := s.NewHash()
	x.Write(message)
	x.Write(s.trailer)
	return x.Sum(nil)
}

// expired reports whether the self-signature gives the key an end before now.
func expired(k *Key, s *Signature, now time.Time) bool {
	for _, p := range s.Hashed {
		if p.Type == SubKeyExpires {
			if len(p.Data) != 4 {
				return true
			}
			if n := binary.BigEndian.Uint32(p.Data); n != 0 && !now.Before(k.Created.Add(time.Duration(n)*time.Second)) {
				return true
			}
		}
	}
	return false
}

func readCertificate(ps []Packet, now time.Time) (*Certificate, error) {
	cs, err := components(ps)
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(cs[0].Body)
	if err != nil {
		return nil, err
	}
	cert := &Certificate{Primary: k}
	self, revoked := cs[0].own(k, k.DirectMessage(), now, KeyRevocation, DirectKey)
	if revoked {
		return nil, errors.New("openpgp: key is revoked")
	}
	var subkeys []component
	for _, c := range cs[1:] {
		switch c.Tag {
		case TagUserID:
			s, revoked := c.own(k, k.CertifyMessage(string(c.Body)), now, CertifyRevocation, CertifyGeneric, 0x11, 0x12, CertifyPositive)
			if s == nil || revoked || CheckUserID(string(c.Body)) != nil {
				continue
			}
			cert.UserIDs = append(cert.UserIDs, string(c.Body))
			if self == nil || self.Type != DirectKey && s.Created.After(self.Created) {
				self = s
			}
		case TagPublicSubkey:
			subkeys = append(subkeys, c)
		}
	}
	if self == nil {
		return nil, fmt.Errorf("openpgp: key %X has no signature of its own that is valid", k.ID())
	}
	if expired(k, self, now) {
		return nil, fmt.Errorf("openpgp: key %X has expired", k.ID())
	}
	if self.Flags()&flagSign != 0 {
		cert.Signing = append(cert.Signing, k)
	}
	for _, c := range subkeys {
		if sub := bound(k, &c, now); sub != nil {
			cert.Signing = append(cert.Signing, sub)
		}
	}
	return cert, nil
}

// bound returns a subkey that may sign: the primary key says so, and the subkey
// says that it belongs to the primary key (RFC 9580 section 5.2.3.29).
func bound(k *Key, c *component, now time.Time) *Key {
	sub, err := ParseKey(c.Body)
	if err != nil || sub.Version != k.Version {
		return nil
	}
	message := append(k.hashed(), sub.hashed()...)
	s, revoked := c.own(k, message, now, SubkeyRevocation, SubkeyBinding)
	if s == nil || revoked || s.Flags()&flagSign == 0 || expired(sub, s, now) {
		return nil
	}
	for _, p := range append(s.Hashed[:len(s.Hashed):len(s.Hashed)], s.Unhashed...) {
		if p.Type != SubEmbedded {
			continue
		}
		back, err := ParseSignature(p.Data)
		if err == nil && back.Type == PrimaryKeyBinding && back.ValidAt(now) == nil && back.Verify(sub.Public, sum(back, message)) == nil {
			return sub
		}
	}
	return nil
}

// SelfSpec is the signature by which a key certifies a user ID, or itself
// (DirectKey): it says that the key certifies and signs, and which algorithms it
// likes. salt is for version 6.
func SelfSpec(k *Key, t Type, h crypto.Hash, at time.Time, salt []byte) *Spec {
	more := []Subpacket{{Type: SubFlags, Critical: true, Data: []byte{flagCertify | flagSign}}}
	if t != DirectKey {
		more = append(more, Subpacket{Type: SubPrimary, Data: []byte{1}})
	}
	if k.Version == 4 || t == DirectKey {
		more = append(more, Subpacket{Type: SubHashes, Data: []byte{hashSHA512, hashSHA384, hashSHA256}}, Subpacket{Type: SubFeatures, Data: []byte{1}})
	}
	return &Spec{Type: t, Hash: h, Created: at, Key: k, Salt: salt, More: more}
}
