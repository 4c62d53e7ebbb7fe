package single

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// MaxCMS limits what is read as one CMS signature, in bytes.
const MaxCMS = 1 << 20

// Certificate refuses an identity whose first certificate is not of the key that
// signs, or not for code signing.
func Certificate(name string, id format.Identity) error {
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return fmt.Errorf("%s: the key has no certificate", name)
	}
	leaf := id.Chain[0]
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if k, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(id.Public) {
		return fmt.Errorf("%s: certificate %q is not of the key that signs", name, leaf.Subject)
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("%s: certificate %q is not for code signing", name, leaf.Subject)
	}
	return nil
}

// Spec is a CMS signature over plain data with this digest under h. The time, if
// it is not zero, is signed along.
func Spec(name string, digest []byte, h crypto.Hash, id format.Identity, at time.Time) (cms.SignerSpec, error) {
	s := cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: digest, Digest: h, Scheme: id.Scheme}
	if err := Certificate(name, id); err != nil {
		return s, err
	}
	if k, err := sigalg.KeyOf(id.Public); err != nil || !id.Scheme.Fits(k) {
		return s, fmt.Errorf("%s: scheme %q does not fit the key", name, id.Scheme)
	}
	if cms.DigestFor(id.Scheme) != h {
		return s, fmt.Errorf("%s: plan has digest %s: scheme %s wants %s", name, format.HashName(h), id.Scheme, format.HashName(cms.DigestFor(id.Scheme)))
	}
	if !at.IsZero() {
		t, err := signingTime(at)
		if err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
		s.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, t)}
	}
	return s, nil
}

// signingTime encodes Time (RFC 5652 section 11.3): UTCTime through 2049.
func signingTime(at time.Time) ([]byte, error) {
	at = at.UTC().Truncate(time.Second)
	if at.Year() < 2000 || at.Year() > 9999 {
		return nil, fmt.Errorf("signing time %s: want the years 2000 to 9999", at.Format(time.RFC3339))
	}
	var b cryptobyte.Builder
	if at.Year() < 2050 {
		b.AddASN1UTCTime(at)
	} else {
		b.AddASN1GeneralizedTime(at)
	}
	return b.Bytes()
}

// signedTime reads signingTime, if it is there and can be read.
func signedTime(s *cms.ParsedSigner) (time.Time, bool) {
	a, ok := s.Attribute(cms.OIDSigningTime)
	if !ok || len(a.Values) != 1 {
		return time.Time{}, false
	}
	v := cryptobyte.String(a.Values[0].FullBytes)
	var t time.Time
	if v.PeekASN1Tag(cbasn1.UTCTime) {
		ok = v.ReadASN1UTCTime(&t)
	} else {
		ok = v.ReadASN1GeneralizedTime(&t)
	}
	return t.UTC(), ok && v.Empty()
}

// ParseCMS reads a SignedData over data with at least one signer.
func ParseCMS(name string, der []byte) (*cms.SignedData, error) {
	if len(der) > MaxCMS {
		return nil, fmt.Errorf("%s: signature of %d bytes: at most %d", name, len(der), MaxCMS)
	}
	d, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !d.Type.Equal(cms.OIDData) || d.PKCS7 {
		return nil, fmt.Errorf("%s: signature over content type %v: want data", name, d.Type)
	}
	if len(d.Signers) == 0 {
		return nil, fmt.Errorf("%s: nobody signed", name)
	}
	return d, nil
}

// VerifyCMS checks every signer of d over the content whose digests digest gives.
// covers says what that content is.
func VerifyCMS(name string, d *cms.SignedData, t format.Trust, covers []string, digest func(crypto.Hash) ([]byte, error)) ([]format.SignatureInfo, error) {
	if t.Roots == nil {
		return nil, fmt.Errorf("%s: no root certificates are trusted", name)
	}
	var out []format.SignatureInfo
	used := map[string]bool{}
	for i, s := range d.Signers {
		info, err := verifySigner(d, s, t, digest, used)
		if err != nil {
			return nil, fmt.Errorf("%s: signature %d: %w", name, i, err)
		}
		info.Index, info.Covers = i, covers
		out = append(out, info)
	}
	for i, raw := range d.RawCertificates {
		if !used[string(raw)] {
			out[0].Open = append(out[0].Open, fmt.Sprintf("certificate %d in the signature, which no chain uses", i))
		}
	}
	if len(d.RawCRLs) > 0 {
		out[0].Open = append(out[0].Open, "revocation lists in the signature")
	}
	return out, nil
}

func verifySigner(d *cms.SignedData, s *cms.ParsedSigner, t format.Trust, digest func(crypto.Hash) ([]byte, error), used map[string]bool) (format.SignatureInfo, error) {
	info := DescribeCMS(s, s.Certificate(t.Intermediates...))
	if info.Signer == nil {
		return info, fmt.Errorf("%w: it is not there", cms.ErrCertificate)
	}
	if s.RawSignedAttrs == nil {
		return info, fmt.Errorf("%w: there are none", cms.ErrAttribute)
	}
	if err := s.Verify(info.Signer, digest); err != nil {
		return info, err
	}
	var err error
	if info.Content, err = digest(s.Digest); err != nil {
		return info, err
	}
	chains, err := cms.VerifyChain(info.Signer, append(slices.Clone(d.Certificates), t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: t.Now})
	if err != nil {
		return info, err
	}
	for _, chain := range chains {
		for _, c := range chain {
			used[string(c.Raw)] = true
		}
	}
	return info, nil
}

// DescribeCMS is what a signer says of himself; cert may be nil.
func DescribeCMS(s *cms.ParsedSigner, cert *x509.Certificate) format.SignatureInfo {
	info := format.SignatureInfo{Scheme: s.Scheme, Digest: format.HashName(s.Digest), Value: s.Signature, Covers: []string{}}
	if cert != nil {
		info.Signer, info.Subject, info.Issuer = cert, cert.Subject.String(), cert.Issuer.String()
		if pub, err := cms.PublicKey(cert); err == nil {
			info.Key = pub
		}
	}
	if md, err := s.MessageDigest(); err == nil {
		info.Content = md
	}
	if at, ok := signedTime(s); ok {
		info.Facts = append(info.Facts, format.Fact{Name: "signing time", Value: at.Format(time.RFC3339)})
	}
	for _, u := range s.Unsigned {
		info.Open = append(info.Open, "unsigned attribute "+attributeName(u.Type))
	}
	return info
}

func attributeName(oid asn1.ObjectIdentifier) string {
	if oid.Equal(cms.OIDTimeStampToken) {
		return "timestamp"
	}
	return oid.String()
}

// EncodeCMS puts a finished signature into a SignedData with the identity's
// certificates; content is nil for a detached one.
func EncodeCMS(name string, s cms.SignerSpec, content []byte, id format.Identity, value []byte) ([]byte, error) {
	if len(id.Chain) == 0 {
		return nil, errors.New(name + ": the key has no certificate")
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDData, Bytes: content}, id.Chain, cms.SignerInfo{Spec: s, Signature: value, Certificate: id.Chain[0]})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(der) > MaxCMS {
		return nil, fmt.Errorf("%s: signature of %d bytes: at most %d", name, len(der), MaxCMS)
	}
	return der, nil
}
