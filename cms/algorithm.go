package cms

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/sigalg"
)

var (
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}

	oidRSA       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidMGF1      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidPSS       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidRSASHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidRSASHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}
	oidRSASHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}
	oidEC        = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // of keys; old signers give it for signatures
	oidECSHA256  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECSHA384  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECSHA512  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
	oidEd25519   = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidMLDSA65   = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87   = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}
)

var derNull = []byte{5, 0}

// algorithm is an AlgorithmIdentifier: params is one element or nil.
type algorithm struct {
	oid    asn1.ObjectIdentifier
	params []byte
}

func (a algorithm) encode() ([]byte, error) {
	oid, err := oidDER(a.oid)
	if err != nil {
		return nil, err
	}
	return tlv(cbasn1.SEQUENCE, oid, a.params)
}

// plain reports whether the parameters say nothing: absent or NULL.
func (a algorithm) plain() bool { return a.params == nil || bytes.Equal(a.params, derNull) }

// same compares two identifiers; absent and NULL parameters are one (RFC 5754 section 2).
func (a algorithm) same(b algorithm) bool {
	return a.oid.Equal(b.oid) && (a.plain() && b.plain() || bytes.Equal(a.params, b.params))
}

func readAlgorithm(s *cryptobyte.String, tag cbasn1.Tag) (algorithm, bool) {
	var seq cryptobyte.String
	var a algorithm
	if !s.ReadASN1(&seq, tag) || !ReadOID(&seq, &a.oid) {
		return a, false
	}
	if seq.Empty() {
		return a, true
	}
	var p cryptobyte.String
	var t cbasn1.Tag
	if !seq.ReadAnyASN1Element(&p, &t) || !seq.Empty() {
		return a, false
	}
	a.params = p
	return a, walk(p, 0) == nil
}

// digestOID gives the identifier of a digest that may be signed with.
func digestOID(h crypto.Hash) (asn1.ObjectIdentifier, error) {
	switch h {
	case crypto.SHA256:
		return oidSHA256, nil
	case crypto.SHA384:
		return oidSHA384, nil
	case crypto.SHA512:
		return oidSHA512, nil
	}
	return nil, fmt.Errorf("%w: digest %v: want SHA-256, SHA-384 or SHA-512", ErrAlgorithm, h)
}

// DigestAlgorithm gives the AlgorithmIdentifier of h in DER, parameters absent
// (RFC 5754 section 2).
func DigestAlgorithm(h crypto.Hash) ([]byte, error) {
	oid, err := digestOID(h)
	if err != nil {
		return nil, err
	}
	return algorithm{oid: oid}.encode()
}

// ParseDigestAlgorithm reads the AlgorithmIdentifier of SHA-256, SHA-384 or
// SHA-512, parameters absent or NULL; another digest is ErrAlgorithm.
func ParseDigestAlgorithm(der []byte) (crypto.Hash, error) {
	s := cryptobyte.String(der)
	a, ok := readAlgorithm(&s, cbasn1.SEQUENCE)
	if !ok || !s.Empty() {
		return 0, syntax("digest algorithm")
	}
	h := hashOf(a)
	if h != crypto.SHA256 && h != crypto.SHA384 && h != crypto.SHA512 {
		return 0, fmt.Errorf("%w: digest %v", ErrAlgorithm, a.oid)
	}
	return h, nil
}

// hashOf names a digest, or gives 0 for an unknown one. SHA-1 is named so that
// messages can say it; nothing verifies with it.
func hashOf(a algorithm) crypto.Hash {
	if !a.plain() {
		return 0
	}
	switch {
	case a.oid.Equal(oidSHA256):
		return crypto.SHA256
	case a.oid.Equal(oidSHA384):
		return crypto.SHA384
	case a.oid.Equal(oidSHA512):
		return crypto.SHA512
	case a.oid.Equal(oidSHA1):
		return crypto.SHA1
	}
	return 0
}

// digestFits holds which digests may accompany a scheme: the scheme's own hash;
// SHA-512 for Ed25519 (RFC 8419 section 3.1); one no weaker than the key for
// ML-DSA (RFC 9882 section 3.3).
func digestFits(s sigalg.Scheme, h crypto.Hash) bool {
	if s.Hash() != 0 {
		return s.Hash() == h
	}
	switch s {
	case sigalg.PureEd25519, sigalg.PureMLDSA87:
		return h == crypto.SHA512
	case sigalg.PureMLDSA65:
		return h == crypto.SHA384 || h == crypto.SHA512
	}
	return false
}

// DigestFor is the content digest that this package would choose for a scheme.
func DigestFor(s sigalg.Scheme) crypto.Hash {
	if h := s.Hash(); h != 0 {
		return h
	}
	return crypto.SHA512
}

// digestAlgorithm is the digest's identifier beside a scheme: with NULL for RSA,
// as every platform writes it there, without parameters for the others (RFC 5754,
// RFC 8419, RFC 9882).
func digestAlgorithm(s sigalg.Scheme, h crypto.Hash) (algorithm, error) {
	if !s.Valid() {
		return algorithm{}, fmt.Errorf("%w: scheme %q", ErrAlgorithm, s)
	}
	oid, err := digestOID(h)
	if err != nil {
		return algorithm{}, err
	}
	if !digestFits(s, h) {
		return algorithm{}, fmt.Errorf("%w: digest %v does not go with scheme %q", ErrAlgorithm, h, s)
	}
	if s.Fits(sigalg.RSA3072) {
		return algorithm{oid, derNull}, nil
	}
	return algorithm{oid: oid}, nil
}

// signatureAlgorithm is the identifier of a scheme: rsaEncryption for PKCS #1
// v1.5, as Windows wants it; the digest's identifier gives the hash.
func signatureAlgorithm(s sigalg.Scheme) (algorithm, error) {
	switch s {
	case sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512:
		return algorithm{oidRSA, derNull}, nil
	case sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA384, sigalg.RSAPSSSHA512:
		p, err := pssParams(s.Hash())
		return algorithm{oidPSS, p}, err
	case sigalg.ECDSASHA256:
		return algorithm{oid: oidECSHA256}, nil
	case sigalg.ECDSASHA384:
		return algorithm{oid: oidECSHA384}, nil
	case sigalg.ECDSASHA512:
		return algorithm{oid: oidECSHA512}, nil
	case sigalg.PureEd25519:
		return algorithm{oid: oidEd25519}, nil
	case sigalg.PureMLDSA65:
		return algorithm{oid: oidMLDSA65}, nil
	case sigalg.PureMLDSA87:
		return algorithm{oid: oidMLDSA87}, nil
	}
	return algorithm{}, fmt.Errorf("%w: scheme %q", ErrAlgorithm, s)
}

// pssParams gives RSASSA-PSS-params (RFC 4055 section 3.1): hash, MGF1 with the
// same hash, salt as long as the hash.
func pssParams(h crypto.Hash) ([]byte, error) {
	oid, err := digestOID(h)
	if err != nil {
		return nil, err
	}
	hash, err := algorithm{oid, derNull}.encode()
	if err != nil {
		return nil, err
	}
	mgf, err := algorithm{oidMGF1, hash}.encode()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagExplicit0, func(b *cryptobyte.Builder) { b.AddBytes(hash) })
		b.AddASN1(tagExplicit1, func(b *cryptobyte.Builder) { b.AddBytes(mgf) })
		b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1Int64(int64(h.Size()))
		})
	})
	return b.Bytes()
}

// pssHash reads RSASSA-PSS-params and gives the hash, or 0 when they are not
// what pssParams would say.
func pssHash(params []byte) crypto.Hash {
	s := cryptobyte.String(params)
	var seq, f0, f1, f2, mgf cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadASN1(&f0, tagExplicit0) || !seq.ReadASN1(&f1, tagExplicit1) ||
		!seq.ReadASN1(&f2, cbasn1.Tag(2).ContextSpecific().Constructed()) || !seq.Empty() {
		return 0
	}
	a, ok := readAlgorithm(&f0, cbasn1.SEQUENCE)
	if !ok || !f0.Empty() {
		return 0
	}
	h := hashOf(a)
	m, ok := readAlgorithm(&f1, cbasn1.SEQUENCE)
	if !ok || !f1.Empty() || !m.oid.Equal(oidMGF1) || m.params == nil {
		return 0
	}
	mgf = m.params
	ma, ok := readAlgorithm(&mgf, cbasn1.SEQUENCE)
	if !ok || !mgf.Empty() || hashOf(ma) != h {
		return 0
	}
	var salt int
	if h == 0 || !f2.ReadASN1Integer(&salt) || !f2.Empty() || salt != h.Size() {
		return 0
	}
	return h
}

// schemeOf names the scheme of a signature algorithm beside a digest, or gives
// "" when there is none or the two contradict each other.
func schemeOf(a algorithm, digest crypto.Hash) sigalg.Scheme {
	pick := func(h crypto.Hash, s256, s384, s512 sigalg.Scheme) sigalg.Scheme {
		if h != digest {
			return ""
		}
		switch h {
		case crypto.SHA256:
			return s256
		case crypto.SHA384:
			return s384
		case crypto.SHA512:
			return s512
		}
		return ""
	}
	pkcs1 := func(h crypto.Hash) sigalg.Scheme {
		if !a.plain() {
			return ""
		}
		return pick(h, sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512)
	}
	bare := func(s sigalg.Scheme) sigalg.Scheme {
		if a.params != nil || !digestFits(s, digest) {
			return ""
		}
		return s
	}
	switch {
	case a.oid.Equal(oidRSA):
		return pkcs1(digest)
	case a.oid.Equal(oidRSASHA256):
		return pkcs1(crypto.SHA256)
	case a.oid.Equal(oidRSASHA384):
		return pkcs1(crypto.SHA384)
	case a.oid.Equal(oidRSASHA512):
		return pkcs1(crypto.SHA512)
	case a.oid.Equal(oidPSS):
		return pick(pssHash(a.params), sigalg.RSAPSSSHA256, sigalg.RSAPSSSHA384, sigalg.RSAPSSSHA512)
	case a.oid.Equal(oidEC) && a.plain(): // as rsaEncryption: the digest is the one beside it
		return pick(digest, sigalg.ECDSASHA256, sigalg.ECDSASHA384, sigalg.ECDSASHA512)
	case a.oid.Equal(oidECSHA256):
		return bare(sigalg.ECDSASHA256)
	case a.oid.Equal(oidECSHA384):
		return bare(sigalg.ECDSASHA384)
	case a.oid.Equal(oidECSHA512):
		return bare(sigalg.ECDSASHA512)
	case a.oid.Equal(oidEd25519):
		return bare(sigalg.PureEd25519)
	case a.oid.Equal(oidMLDSA65):
		return bare(sigalg.PureMLDSA65)
	case a.oid.Equal(oidMLDSA87):
		return bare(sigalg.PureMLDSA87)
	}
	return ""
}

// PublicKey gives a certificate's key as sigalg takes it: RSA, ECDSA, Ed25519,
// ML-DSA. Keys bound to RSASSA-PSS in the certificate and all others are
// ErrAlgorithm.
func PublicKey(cert *x509.Certificate) (crypto.PublicKey, error) {
	if cert == nil {
		return nil, fmt.Errorf("%w: no certificate", ErrCertificate)
	}
	switch cert.PublicKeyAlgorithm {
	case x509.RSA, x509.ECDSA, x509.Ed25519, x509.MLDSA:
		if cert.PublicKey != nil {
			return cert.PublicKey, nil
		}
	}
	return nil, fmt.Errorf("%w: public key of certificate %q", ErrAlgorithm, cert.Subject)
}
