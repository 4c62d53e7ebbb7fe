package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/sigalg"
)

// SignedData is a parsed signature. Its slices point into Raw: do not change them.
type SignedData struct {
	// Raw is the whole ContentInfo.
	Raw []byte
	// Type is the type of the content.
	Type asn1.ObjectIdentifier
	// Content is the octets that digests are made over, nil when detached: the
	// value of the OCTET STRING, or of the content of PKCS #7, without tag and length.
	Content []byte
	// ContentRaw is the content's element with tag and length, nil when detached.
	ContentRaw []byte
	// PKCS7 says that the content is a SEQUENCE, no OCTET STRING.
	PKCS7 bool
	// Certificates are those that parse and are no larger than MaxCertificate;
	// RawCertificates all that are embedded.
	Certificates    []*x509.Certificate
	RawCertificates [][]byte
	// RawCRLs are embedded revocation lists, unparsed.
	RawCRLs [][]byte
	Signers []*ParsedSigner

	structure *structure
}

// ParsedSigner is one signature of a SignedData.
type ParsedSigner struct {
	// Issuer (DER of the name) and Serial name the signer's certificate, or
	// SubjectKeyID does and they are empty.
	Issuer       []byte
	Serial       *big.Int
	SubjectKeyID []byte
	// Digest is the digest algorithm, 0 when unknown. SHA-1 is named, though
	// nothing verifies with it.
	Digest crypto.Hash
	// Scheme is empty when the algorithms are unknown, weak or contradictory.
	Scheme sigalg.Scheme
	// RawSignedAttrs is the message that was signed, with tag 0x31, nil when there
	// are no signed attributes.
	RawSignedAttrs []byte
	Signed         []Attribute
	Signature      []byte
	Unsigned       []Attribute

	parent    *SignedData
	structure *signerStructure
	digest    algorithm
	algorithm algorithm
}

// Parse reads a ContentInfo with SignedData, strictly and within the limits of
// this package. It verifies nothing. The error wraps ErrSyntax, ErrIndefinite or
// ErrLimit.
//
// Signatures made with algorithms that are not accepted parse, so that a newer
// one nested in them can be found; they do not verify.
func Parse(der []byte) (*SignedData, error) {
	t, err := parseStructure(der)
	if err != nil {
		return nil, err
	}
	d := &SignedData{
		Raw: der, Type: t.typ, ContentRaw: t.content, Content: t.contentOctets(), PKCS7: t.pkcs7Style,
		RawCertificates: t.certs, structure: t,
	}
	if t.content != nil && d.Content == nil {
		d.Content = []byte{}
	}
	if d.RawCRLs, err = elements(t.crls, MaxCertificates, "revocation lists"); err != nil {
		return nil, err
	}
	for _, raw := range t.certs {
		if len(raw) > MaxCertificate {
			continue
		}
		if c, err := x509.ParseCertificate(raw); err == nil {
			d.Certificates = append(d.Certificates, c)
		}
	}
	for i := range t.signers {
		s, err := d.signer(&t.signers[i])
		if err != nil {
			return nil, fmt.Errorf("signer %d: %w", i, err)
		}
		d.Signers = append(d.Signers, s)
	}
	return d, nil
}

func (d *SignedData) signer(t *signerStructure) (*ParsedSigner, error) {
	s := &ParsedSigner{Signature: t.signature, parent: d, structure: t}
	var err error
	if t.version == 1 {
		if s.Issuer, s.Serial, err = issuerAndSerial(t.sid); err != nil {
			return nil, err
		}
	} else {
		sid := cryptobyte.String(t.sid)
		var ski cryptobyte.String
		if !sid.ReadASN1(&ski, tagSKI) || ski.Empty() {
			return nil, syntax("subject key identifier")
		}
		s.SubjectKeyID = ski
	}
	if s.Signed, err = parseAttributes(t.signed); err != nil {
		return nil, fmt.Errorf("signed attributes: %w", err)
	}
	if s.Unsigned, err = parseAttributes(t.unsigned); err != nil {
		return nil, fmt.Errorf("unsigned attributes: %w", err)
	}
	for i, a := range s.Signed {
		if len(find(s.Signed[:i], a.Type)) != 0 {
			return nil, syntax(fmt.Sprintf("signed attribute %v twice", a.Type))
		}
	}
	if t.hasSigned {
		if s.RawSignedAttrs, err = tlv(cbasn1.SET, t.signed...); err != nil {
			return nil, err
		}
	}
	x := cryptobyte.String(t.digest)
	s.digest, _ = readAlgorithm(&x, cbasn1.SEQUENCE)
	x = cryptobyte.String(t.algorithm)
	s.algorithm, _ = readAlgorithm(&x, cbasn1.SEQUENCE)
	s.Digest = hashOf(s.digest)
	s.Scheme = schemeOf(s.algorithm, s.Digest)
	return s, nil
}

// ContentDigest is the digest of the embedded content; it can be handed to
// ParsedSigner.Verify. Detached content is ErrContentNeeded.
func (d *SignedData) ContentDigest(h crypto.Hash) ([]byte, error) {
	if d.Content == nil {
		return nil, ErrContentNeeded
	}
	if !h.Available() {
		return nil, fmt.Errorf("%w: digest %v", ErrAlgorithm, h)
	}
	x := h.New()
	x.Write(d.Content)
	return x.Sum(nil), nil
}

// Attribute gives the signed attribute of a type.
func (s *ParsedSigner) Attribute(oid asn1.ObjectIdentifier) (Attribute, bool) {
	return first(s.Signed, oid)
}

// UnsignedAttribute gives the first unsigned attribute of a type.
func (s *ParsedSigner) UnsignedAttribute(oid asn1.ObjectIdentifier) (Attribute, bool) {
	return first(s.Unsigned, oid)
}

func first(attributes []Attribute, oid asn1.ObjectIdentifier) (Attribute, bool) {
	if found := find(attributes, oid); len(found) != 0 {
		return found[0], true
	}
	return Attribute{}, false
}

// value gives the only value of a signed attribute that must be there.
func (s *ParsedSigner) value(oid asn1.ObjectIdentifier, what string) (cryptobyte.String, error) {
	a, ok := s.Attribute(oid)
	if !ok {
		return nil, fmt.Errorf("%w: no %s", ErrAttribute, what)
	}
	if len(a.Values) != 1 {
		return nil, fmt.Errorf("%w: %s has %d values", ErrAttribute, what, len(a.Values))
	}
	return a.Values[0].FullBytes, nil
}

// MessageDigest is the content digest that was signed (RFC 5652 section 11.2).
func (s *ParsedSigner) MessageDigest() ([]byte, error) {
	v, err := s.value(OIDMessageDigest, "message digest")
	if err != nil {
		return nil, err
	}
	var d cryptobyte.String
	if !v.ReadASN1(&d, cbasn1.OCTET_STRING) || !v.Empty() {
		return nil, fmt.Errorf("%w: message digest", ErrAttribute)
	}
	return d, nil
}

// ContentType is the content type that was signed (RFC 5652 section 11.1).
func (s *ParsedSigner) ContentType() (asn1.ObjectIdentifier, error) {
	v, err := s.value(OIDContentType, "content type")
	if err != nil {
		return nil, err
	}
	var oid asn1.ObjectIdentifier
	if !ReadOID(&v, &oid) || !v.Empty() {
		return nil, fmt.Errorf("%w: content type", ErrAttribute)
	}
	return oid, nil
}

// Names reports whether cert is the one that the signature names, by its key identifier
// or by issuer and number; the issuer's texts may be in another string type.
func (s *ParsedSigner) Names(cert *x509.Certificate) bool {
	if cert == nil {
		return false
	}
	if s.SubjectKeyID != nil {
		return bytes.Equal(s.SubjectKeyID, cert.SubjectKeyId)
	}
	return cert.SerialNumber != nil && sameName(s.Issuer, cert.RawIssuer) && s.Serial.Cmp(cert.SerialNumber) == 0
}

// Certificate finds the signer's certificate among those embedded and others that
// the caller knows; nil when it is in neither. Finding it says nothing about trust:
// whoever can change the file can embed another one of that name.
func (s *ParsedSigner) Certificate(others ...*x509.Certificate) *x509.Certificate {
	for _, c := range slices.Concat(s.parent.Certificates, others) {
		if s.Names(c) {
			return c
		}
	}
	return nil
}
