package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Verify checks one signature made with cert against a content whose digest the
// caller computed: [SignedData.ContentDigest] for an embedded content, the file's
// own for a detached one. It checks that cert is the one that the signature
// names, that digest and signature algorithm are accepted and agree, that content
// type and message digest are among the signed attributes once and right, that
// the algorithm protection (RFC 6211), if present, says the same, and that the
// attributes are in DER order. Attributes in another order are refused (ErrOrder):
// the order that was signed is not the one that was sent.
//
// A signature without signed attributes is accepted for plain data only; it is
// checked against the embedded content, which must have the caller's digest.
func (s *ParsedSigner) Verify(cert *x509.Certificate, contentDigest func(crypto.Hash) ([]byte, error)) error {
	pub, err := s.prepare(cert)
	if err != nil {
		return err
	}
	digest, err := contentDigest(s.Digest)
	if err != nil {
		return fmt.Errorf("cms: content digest: %w", err)
	}
	if len(digest) != s.Digest.Size() {
		return fmt.Errorf("%w: %d bytes, %v has %d", ErrDigest, len(digest), s.Digest, s.Digest.Size())
	}
	if s.RawSignedAttrs == nil {
		own, err := s.parent.ContentDigest(s.Digest)
		if err != nil {
			return err
		}
		if !bytes.Equal(own, digest) {
			return ErrDigest
		}
		return s.verifyBare(pub, s.parent.Content)
	}
	return s.verifyAttributes(pub, digest)
}

// VerifyContent is Verify with the content itself, also for detached signatures
// without signed attributes. Content that is embedded must be the same.
func (s *ParsedSigner) VerifyContent(cert *x509.Certificate, content []byte) error {
	pub, err := s.prepare(cert)
	if err != nil {
		return err
	}
	if s.parent.Content != nil && !bytes.Equal(s.parent.Content, content) {
		return ErrDigest
	}
	if s.RawSignedAttrs == nil {
		return s.verifyBare(pub, content)
	}
	h := s.Digest.New()
	h.Write(content)
	return s.verifyAttributes(pub, h.Sum(nil))
}

// prepare checks all that does not depend on the content.
func (s *ParsedSigner) prepare(cert *x509.Certificate) (crypto.PublicKey, error) {
	if !s.Names(cert) {
		return nil, ErrCertificate
	}
	if _, err := digestOID(s.Digest); err != nil {
		return nil, fmt.Errorf("%w (%v)", err, s.digest.oid)
	}
	if !s.Scheme.Valid() || !digestFits(s.Scheme, s.Digest) {
		return nil, fmt.Errorf("%w: signature algorithm %v with digest %v", ErrAlgorithm, s.algorithm.oid, s.Digest)
	}
	if err := s.parent.structure.checkDigests(); err != nil {
		return nil, err
	}
	return PublicKey(cert)
}

func (s *ParsedSigner) verifyBare(pub crypto.PublicKey, content []byte) error {
	if !s.parent.Type.Equal(OIDData) {
		return fmt.Errorf("%w: none, and the content is not plain data", ErrAttribute)
	}
	if looksSigned(content) {
		return fmt.Errorf("%w: content could be another signature's attributes", ErrAttribute)
	}
	return s.check(pub, content)
}

func (s *ParsedSigner) verifyAttributes(pub crypto.PublicKey, digest []byte) error {
	if !inOrder(s.structure.signed) {
		return ErrOrder
	}
	for _, a := range s.Signed {
		values := make([][]byte, len(a.Values))
		for i, v := range a.Values {
			values[i] = v.FullBytes
		}
		if !inOrder(values) {
			return fmt.Errorf("%w: values of %v", ErrOrder, a.Type)
		}
	}
	typ, err := s.ContentType()
	if err != nil {
		return err
	}
	if !typ.Equal(s.parent.Type) {
		return fmt.Errorf("%w: content type %v was signed, content is %v", ErrAttribute, typ, s.parent.Type)
	}
	md, err := s.MessageDigest()
	if err != nil {
		return err
	}
	if err := s.checkProtection(); err != nil {
		return err
	}
	if !bytes.Equal(md, digest) {
		return ErrDigest
	}
	return s.check(pub, s.RawSignedAttrs)
}

// checkProtection compares the signed algorithm identifiers, if there are any,
// with those that stand unsigned beside the signature (RFC 6211 section 3).
func (s *ParsedSigner) checkProtection() error {
	if _, ok := s.Attribute(OIDAlgorithmProtection); !ok {
		return nil
	}
	v, err := s.value(OIDAlgorithmProtection, "algorithm protection")
	if err != nil {
		return err
	}
	var seq cryptobyte.String
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() {
		return fmt.Errorf("%w: algorithm protection", ErrAttribute)
	}
	digest, ok1 := readAlgorithm(&seq, cbasn1.SEQUENCE)
	if !ok1 {
		return fmt.Errorf("%w: algorithm protection", ErrAttribute)
	}
	sig, ok2 := readAlgorithm(&seq, tagExplicit1)
	if !ok2 || !seq.Empty() {
		return fmt.Errorf("%w: algorithm protection", ErrAttribute)
	}
	if !digest.same(s.digest) || !sig.same(s.algorithm) {
		return fmt.Errorf("%w: algorithm protection names other algorithms", ErrAlgorithm)
	}
	return nil
}

func (s *ParsedSigner) check(pub crypto.PublicKey, message []byte) error {
	err := sigalg.Verify(pub, s.Scheme, message, s.Signature)
	if errors.Is(err, sigalg.ErrSignature) {
		return ErrSignature
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return nil
}
