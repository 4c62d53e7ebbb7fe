package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/sigalg"
)

// SignerSpec is all that the signed attributes of one signer follow from.
type SignerSpec struct {
	// ContentType is the type of what is signed: OIDData, OIDSpcIndirectData …
	ContentType asn1.ObjectIdentifier
	// ContentDigest is the digest of the content's octets under Digest: of an
	// OCTET STRING or a PKCS #7 content its value, without tag and length.
	ContentDigest []byte
	// Digest is SHA-256, SHA-384 or SHA-512. It must be the scheme's own hash;
	// schemes without one: SHA-512, or SHA-384 too for ML-DSA-65. See DigestFor.
	Digest crypto.Hash
	Scheme sigalg.Scheme
	// Attributes are further signed attributes, fixed by the caller; contentType,
	// messageDigest and algorithm protection are added and may not be among them.
	Attributes []Attribute
	// AlgorithmProtection adds the attribute of RFC 6211, as RFC 8933 asks for.
	AlgorithmProtection bool
	// NoAttributes makes a signature over the content itself, as kernel modules
	// have it: ContentType must be OIDData and all the fields about attributes empty.
	NoAttributes bool
}

// SignedAttributes returns the DER SET OF Attribute (tag 0x31): exactly the
// message that is signed (RFC 5652 section 5.4).
func (s SignerSpec) SignedAttributes() ([]byte, error) {
	attributes, err := s.attributes()
	if err != nil {
		return nil, err
	}
	return tlv(cbasn1.SET, attributes...)
}

func (s SignerSpec) attributes() ([][]byte, error) {
	digest, err := digestAlgorithm(s.Scheme, s.Digest)
	if err != nil {
		return nil, err
	}
	if s.NoAttributes {
		return nil, ErrNoAttributes
	}
	if len(s.ContentDigest) != s.Digest.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes, %v has %d", ErrDigest, len(s.ContentDigest), s.Digest, s.Digest.Size())
	}
	typ, err := oidDER(s.ContentType)
	if err != nil {
		return nil, fmt.Errorf("cms: content type %v: %w", s.ContentType, err)
	}
	md, err := tlv(cbasn1.OCTET_STRING, s.ContentDigest)
	if err != nil {
		return nil, err
	}
	all := []Attribute{NewAttribute(OIDContentType, typ), NewAttribute(OIDMessageDigest, md)}
	if s.AlgorithmProtection {
		p, err := protection(digest, s.Scheme)
		if err != nil {
			return nil, err
		}
		all = append(all, NewAttribute(OIDAlgorithmProtection, p))
	}
	for _, a := range s.Attributes {
		if a.Type.Equal(OIDAlgorithmProtection) || len(find(all, a.Type)) != 0 {
			return nil, fmt.Errorf("%w: %v given twice or reserved", ErrAttribute, a.Type)
		}
		all = append(all, a)
	}
	if len(all) > MaxAttributes {
		return nil, fmt.Errorf("%w: more than %d signed attributes", ErrLimit, MaxAttributes)
	}
	out := make([][]byte, len(all))
	for i, a := range all {
		if out[i], err = a.encode(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return out, nil
}

// protection gives CMSAlgorithmProtection (RFC 6211 section 2).
func protection(digest algorithm, s sigalg.Scheme) ([]byte, error) {
	d, err := digest.encode()
	if err != nil {
		return nil, err
	}
	a, err := signatureAlgorithm(s)
	if err != nil {
		return nil, err
	}
	oid, err := oidDER(a.oid)
	if err != nil {
		return nil, err
	}
	sig, err := tlv(tagExplicit1, oid, a.params)
	if err != nil {
		return nil, err
	}
	return tlv(cbasn1.SEQUENCE, d, sig)
}

// SignerInfo is one finished signature.
type SignerInfo struct {
	Spec      SignerSpec
	Signature []byte
	// Certificate is the signer's own. It is named in the signature by issuer and
	// serial number, or by its subject key identifier when KeyIdentifier is set;
	// it is embedded only if it is among the certificates that Encode is given.
	Certificate   *x509.Certificate
	KeyIdentifier bool
	Unsigned      []Attribute
}

// Content is what a SignedData to encode carries.
type Content struct {
	Type asn1.ObjectIdentifier
	// Bytes is nil for a detached signature. Otherwise the octets of the content,
	// which become an OCTET STRING; with PKCS7 and a type other than OIDData the
	// DER of the content itself, a SEQUENCE.
	Bytes []byte
	// PKCS7 asks for the form of PKCS #7 1.5: version 1 and a content that is a
	// SEQUENCE, no OCTET STRING, unless its type is OIDData. It goes with no other detached type.
	PKCS7 bool
}

// Encode puts finished signatures into a ContentInfo in DER. Certificates, digest
// algorithms and signers come out in SET OF order; the version is that of RFC 5652
// section 5.1, or 1 for PKCS #7. Encode checks that the parts fit each other, and
// the content's digest when the content is there, but not the signatures.
func Encode(c Content, certs []*x509.Certificate, signers ...SignerInfo) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("cms: encode: no signer")
	}
	t := structure{typ: c.Type}
	asIs := c.PKCS7 && !c.Type.Equal(OIDData)
	switch {
	case c.Bytes == nil && asIs:
		return nil, errors.New("cms: encode: a detached PKCS #7 signature must be of type data")
	case c.Bytes == nil:
	case asIs:
		if err := single(c.Bytes); err != nil {
			return nil, fmt.Errorf("cms: encode: content: %w", err)
		}
		if cbasn1.Tag(c.Bytes[0]) != cbasn1.SEQUENCE {
			return nil, errors.New("cms: encode: content of PKCS #7 is no SEQUENCE")
		}
		t.content, t.pkcs7Style = c.Bytes, true
	default:
		var err error
		if t.content, err = tlv(cbasn1.OCTET_STRING, c.Bytes); err != nil {
			return nil, fmt.Errorf("cms: encode: content: %w", err)
		}
	}
	t.addCertificates(certs)
	for i, s := range signers {
		if err := t.addSigner(s); err != nil {
			return nil, fmt.Errorf("cms: encode: signer %d: %w", i, err)
		}
	}
	var err error
	slices.SortFunc(t.signers, func(a, b signerStructure) int {
		x, e1 := a.bytes()
		y, e2 := b.bytes()
		err = errors.Join(err, e1, e2)
		return bytes.Compare(x, y)
	})
	if err != nil {
		return nil, fmt.Errorf("cms: encode: %w", err)
	}
	t.version = t.wantVersion()
	return t.encode()
}

// addCertificates adds those that are not there yet.
func (t *structure) addCertificates(certs []*x509.Certificate) {
	for _, c := range certs {
		if !slices.ContainsFunc(t.certs, func(have []byte) bool { return bytes.Equal(have, c.Raw) }) {
			t.certs, t.hasCerts = insert(t.certs, c.Raw), true
		}
	}
}

// contentOctets are what the digest is made over: the value without tag and length.
func (t *structure) contentOctets() []byte {
	if t.content == nil {
		return nil
	}
	s := cryptobyte.String(t.content)
	var v cryptobyte.String
	var tag cbasn1.Tag
	s.ReadAnyASN1(&v, &tag)
	return v
}

func (t *structure) addSigner(s SignerInfo) error {
	if s.Certificate == nil {
		return errors.New("no certificate")
	}
	if len(s.Signature) == 0 {
		return errors.New("no signature")
	}
	if !s.Spec.ContentType.Equal(t.typ) {
		return fmt.Errorf("%w: content type %v, content is %v", ErrAttribute, s.Spec.ContentType, t.typ)
	}
	pub, err := PublicKey(s.Certificate)
	if err != nil {
		return err
	}
	if k, err := sigalg.KeyOf(pub); err == nil && !s.Spec.Scheme.Fits(k) {
		return fmt.Errorf("%w: scheme %q does not fit a key of %s", ErrAlgorithm, s.Spec.Scheme, k)
	}
	var out signerStructure
	if s.Spec.NoAttributes {
		if err := s.Spec.checkNoAttributes(t); err != nil {
			return err
		}
	} else {
		if out.signed, err = s.Spec.attributes(); err != nil {
			return err
		}
		out.hasSigned = true
		if t.content != nil {
			h := s.Spec.Digest.New()
			h.Write(t.contentOctets())
			if !bytes.Equal(h.Sum(nil), s.Spec.ContentDigest) {
				return ErrDigest
			}
		}
	}
	digest, err := digestAlgorithm(s.Spec.Scheme, s.Spec.Digest)
	if err != nil {
		return err
	}
	if out.digest, err = digest.encode(); err != nil {
		return err
	}
	alg, err := signatureAlgorithm(s.Spec.Scheme)
	if err != nil {
		return err
	}
	if out.algorithm, err = alg.encode(); err != nil {
		return err
	}
	if out.version, out.sid, err = identifier(s.Certificate, s.KeyIdentifier); err != nil {
		return err
	}
	out.signature = s.Signature
	for _, a := range s.Unsigned {
		if err := out.addUnsigned(a); err != nil {
			return err
		}
	}
	t.addDigest(out.digest)
	t.signers = append(t.signers, out)
	return nil
}

// checkNoAttributes holds the conditions of RFC 5652 section 5.3 for a signature
// over the content itself.
func (s SignerSpec) checkNoAttributes(t *structure) error {
	if !t.typ.Equal(OIDData) || len(s.Attributes) != 0 || s.AlgorithmProtection || len(s.ContentDigest) != 0 {
		return fmt.Errorf("%w: a signature without them is for plain data and has no digest or attribute", ErrAttribute)
	}
	if looksSigned(t.contentOctets()) {
		return fmt.Errorf("%w: content could be taken for signed attributes", ErrAttribute)
	}
	return nil
}

func identifier(cert *x509.Certificate, byKey bool) (version int, sid []byte, err error) {
	if byKey {
		if len(cert.SubjectKeyId) == 0 {
			return 0, nil, errors.New("certificate has no subject key identifier")
		}
		sid, err = tlv(tagSKI, cert.SubjectKeyId)
		return 3, sid, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(cert.RawIssuer)
		b.AddASN1BigInt(cert.SerialNumber)
	})
	sid, err = b.Bytes()
	return 1, sid, err
}

// addUnsigned adds the values to the attribute of that type, or the attribute.
func (t *signerStructure) addUnsigned(a Attribute) error {
	der, err := a.encode()
	if err != nil {
		return err
	}
	if len(t.unsigned) >= MaxAttributes {
		return fmt.Errorf("%w: more than %d unsigned attributes", ErrLimit, MaxAttributes)
	}
	have, err := parseAttributes(t.unsigned)
	if err != nil {
		return err
	}
	added, err := parseAttribute(der)
	if err != nil {
		return err
	}
	for i, h := range have {
		if !h.Type.Equal(a.Type) {
			continue
		}
		var values [][]byte
		for _, v := range h.Values {
			values = append(values, v.FullBytes)
		}
		for _, v := range added.Values {
			values = insert(values, v.FullBytes)
		}
		if len(values) > MaxAttributes {
			return fmt.Errorf("%w: more than %d values in attribute %v", ErrLimit, MaxAttributes, a.Type)
		}
		der, err := encodeAttribute(a.Type, values)
		if err != nil {
			return err
		}
		t.unsigned = insert(slices.Delete(slices.Clone(t.unsigned), i, i+1), der)
		return nil
	}
	t.unsigned, t.hasUnsigned = insert(t.unsigned, der), true
	return nil
}

// AddUnsigned returns the SignedData with an unsigned attribute added to one
// signer, every other byte kept but lengths. When the signer has an attribute of
// that type already, the values join it: a nested signature or a second timestamp
// stands beside the first. Signers keep their places.
func AddUnsigned(der []byte, signer int, a Attribute) ([]byte, error) {
	t, err := parse(der)
	if err != nil {
		return nil, err
	}
	if signer < 0 || signer >= len(t.signers) {
		return nil, fmt.Errorf("cms: add unsigned attribute: no signer %d", signer)
	}
	if err := t.signers[signer].addUnsigned(a); err != nil {
		return nil, fmt.Errorf("cms: add unsigned attribute: %w", err)
	}
	return t.finish()
}

// AddSigner returns the SignedData with one more signature and its certificates.
// The other signatures keep their bytes and places; the new one is the last.
func AddSigner(der []byte, certs []*x509.Certificate, s SignerInfo) ([]byte, error) {
	t, err := parse(der)
	if err != nil {
		return nil, err
	}
	t.addCertificates(certs)
	if err := t.addSigner(s); err != nil {
		return nil, fmt.Errorf("cms: add signer: %w", err)
	}
	t.version = t.wantVersion()
	return t.finish()
}

// AddCertificates returns the SignedData with certificates that it did not carry.
func AddCertificates(der []byte, certs ...*x509.Certificate) ([]byte, error) {
	t, err := parse(der)
	if err != nil {
		return nil, err
	}
	t.addCertificates(certs)
	return t.finish()
}

func parse(der []byte) (*structure, error) {
	d, err := Parse(der)
	if err != nil {
		return nil, err
	}
	return d.structure, nil
}

// finish encodes after an edit; what Parse would refuse is not handed out.
func (t *structure) finish() ([]byte, error) {
	der, err := t.encode()
	if err != nil {
		return nil, err
	}
	_, err = Parse(der)
	return der, err
}
