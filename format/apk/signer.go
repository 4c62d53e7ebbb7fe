package apk

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Signature algorithms of schemes v2 and above.
const (
	algPSSSHA256   = 0x0101
	algPSSSHA512   = 0x0102
	algPKCS1SHA256 = 0x0103
	algPKCS1SHA512 = 0x0104
	algECSHA256    = 0x0201
	algECSHA512    = 0x0202
)

// Attributes of signed data.
const (
	attrStripping = 0xbeeff00d // of v2: the newest other scheme that signed
	attrLineage   = 0x3ba06f8c // of v3 and v3.1
	attrRotation  = 0x559f8b02 // of v3: platform version from which v3.1 signs
)

// Limits of what is read of one scheme.
const (
	maxSigners = 10
	maxItems   = 32 // digests, certificates, attributes, signatures of one signer
)

// schemeOf names the scheme of an algorithm; "" for those that are not known.
func schemeOf(alg uint32) sigalg.Scheme {
	switch alg {
	case algPSSSHA256:
		return sigalg.RSAPSSSHA256
	case algPSSSHA512:
		return sigalg.RSAPSSSHA512
	case algPKCS1SHA256:
		return sigalg.RSAPKCS1SHA256
	case algPKCS1SHA512:
		return sigalg.RSAPKCS1SHA512
	case algECSHA256:
		return sigalg.ECDSASHA256
	case algECSHA512:
		return sigalg.ECDSASHA512
	}
	return ""
}

// algorithmOf is the inverse of schemeOf; 0 for schemes that Android does not know.
func algorithmOf(s sigalg.Scheme) uint32 {
	for _, a := range []uint32{algPSSSHA256, algPSSSHA512, algPKCS1SHA256, algPKCS1SHA512, algECSHA256, algECSHA512} {
		if schemeOf(a) == s {
			return a
		}
	}
	return 0
}

// algorithm is a value under a signature algorithm.
type algorithm struct {
	id    uint32
	value []byte
}

// signer is one signer of scheme v2, v3 or v3.1.
type signer struct {
	signed     []byte // what the signatures are over
	digests    []algorithm
	certs      []*x509.Certificate
	rawCerts   [][]byte
	attributes []algorithm
	signatures []algorithm
	key        []byte // SubjectPublicKeyInfo
	min, max   uint32 // platform versions, of v3 and v3.1
}

// content is the digest under a hash that the signer states, nil for none.
func (s *signer) content(h crypto.Hash) []byte {
	for _, d := range s.digests {
		if schemeOf(d.id).Hash() == h {
			return d.value
		}
	}
	return nil
}

// attribute returns the value of an attribute, nil when it is not there.
func (s *signer) attribute(id uint32) []byte {
	for _, a := range s.attributes {
		if a.id == id {
			return a.value
		}
	}
	return nil
}

// sdkAttribute is an attribute that is a number of four bytes.
func (s *signer) sdkAttribute(id uint32) (uint32, bool, error) {
	v := s.attribute(id)
	if v == nil {
		return 0, false, nil
	}
	if len(v) != 4 {
		return 0, false, fmt.Errorf("%w: attribute %#x of %d bytes", ErrContradiction, id, len(v))
	}
	return le.Uint32(v), true, nil
}

// pairsOf reads elements that are a number and the rest, or a prefixed rest.
func pairsOf(elements [][]byte, prefixed bool) ([]algorithm, bool) {
	var out []algorithm
	for _, e := range elements {
		r := reader{b: e}
		a := algorithm{id: r.u32()}
		if prefixed {
			a.value = r.prefixed()
			if !r.end() {
				return nil, false
			}
		} else {
			a.value = r.b
		}
		if r.bad {
			return nil, false
		}
		for _, b := range out {
			if a.id == b.id {
				return nil, false
			}
		}
		out = append(out, a)
	}
	return out, true
}

// parseSigners reads the value of a pair: signers of scheme v2, or of v3 and v3.1.
func parseSigners(b []byte, v3 bool) ([]*signer, error) {
	r := reader{b: b}
	list := r.list(maxSigners)
	if !r.end() || len(list) == 0 {
		return nil, malformed("no signers, too many, or a list that does not end")
	}
	var out []*signer
	for i, e := range list {
		s, err := parseSigner(e, v3)
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func parseSigner(b []byte, v3 bool) (*signer, error) {
	r := reader{b: b}
	s := &signer{signed: r.prefixed()}
	if v3 {
		s.min, s.max = r.u32(), r.u32()
	}
	sigs := r.list(maxItems)
	s.key = r.prefixed()
	if !r.end() {
		return nil, malformed("its parts do not fit")
	}
	var ok bool
	if s.signatures, ok = pairsOf(sigs, true); !ok {
		return nil, malformed("signatures")
	}
	// What follows the attributes is signed and has no meaning: some signers leave an
	// empty list there.
	d := reader{b: s.signed}
	digests := d.list(maxItems)
	s.rawCerts = d.list(maxItems)
	if v3 {
		if min, max := d.u32(), d.u32(); min != s.min || max != s.max {
			return nil, fmt.Errorf("%w: platform versions %d to %d are signed, %d to %d are stated", ErrContradiction, min, max, s.min, s.max)
		}
		if s.min > s.max {
			return nil, malformed("platform versions %d to %d", s.min, s.max)
		}
	}
	attributes := d.list(maxItems)
	if d.bad {
		return nil, malformed("signed data")
	}
	if s.digests, ok = pairsOf(digests, true); !ok {
		return nil, malformed("digests")
	}
	if s.attributes, ok = pairsOf(attributes, false); !ok {
		return nil, malformed("attributes")
	}
	if len(s.rawCerts) == 0 {
		return nil, malformed("no certificates")
	}
	for _, raw := range s.rawCerts {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, malformed("certificate: %v", err)
		}
		s.certs = append(s.certs, c)
	}
	return s, s.consistent()
}

// consistent checks what a signer says against itself.
func (s *signer) consistent() error {
	if !bytes.Equal(s.certs[0].RawSubjectPublicKeyInfo, s.key) {
		return fmt.Errorf("%w: the public key is not the certificate's", ErrContradiction)
	}
	if len(s.signatures) != len(s.digests) {
		return fmt.Errorf("%w: %d signatures and %d digests", ErrContradiction, len(s.signatures), len(s.digests))
	}
	for i := range s.signatures {
		if s.signatures[i].id != s.digests[i].id {
			return fmt.Errorf("%w: signature under %#x, digest under %#x", ErrContradiction, s.signatures[i].id, s.digests[i].id)
		}
	}
	// Two algorithms with the same digest must state the same.
	for _, d := range s.digests {
		if h := schemeOf(d.id).Hash(); h != 0 && !bytes.Equal(s.content(h), d.value) {
			return fmt.Errorf("%w: two digests under %v", ErrContradiction, h)
		}
	}
	return nil
}

// signedData writes what a signer signs.
func (s *signer) signedData(v3 bool) []byte {
	var digests, attributes [][]byte
	for _, d := range s.digests {
		digests = append(digests, append(le.AppendUint32(nil, d.id), prefix(d.value)...))
	}
	for _, a := range s.attributes {
		attributes = append(attributes, append(le.AppendUint32(nil, a.id), a.value...))
	}
	b := prefix(prefix(digests...), prefix(s.rawCerts...))
	if v3 {
		b = le.AppendUint32(b, s.min)
		b = le.AppendUint32(b, s.max)
		return append(b, prefix(prefix(attributes...))...)
	}
	// Signers of scheme v2 end with an empty field, and have since the first one.
	return append(b, prefix(prefix(attributes...), nil)...)
}

// encode writes a signer whose signed data and signatures are there.
func (s *signer) encode(v3 bool) []byte {
	var sigs [][]byte
	for _, x := range s.signatures {
		sigs = append(sigs, append(le.AppendUint32(nil, x.id), prefix(x.value)...))
	}
	b := prefix(s.signed)
	if v3 {
		b = le.AppendUint32(b, s.min)
		b = le.AppendUint32(b, s.max)
	}
	return append(b, prefix(prefix(sigs...), s.key)...)
}

// encodeSigners writes the value of a pair.
func encodeSigners(v3 bool, signers ...*signer) []byte {
	var list [][]byte
	for _, s := range signers {
		list = append(list, s.encode(v3))
	}
	return prefix(prefix(list...))
}
