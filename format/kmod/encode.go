package kmod

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/sigalg"
)

var (
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}

	oidECDSA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSA512 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
)

// encode makes the signature of a module from its fields. It gives, byte for byte,
// what sign-file writes (digest algorithms without parameters, RFC 5754 section 2)
// and, with null, the other form that RFC 5754 has verifiers accept.
func encode(d *cms.SignedData, s *cms.ParsedSigner, null bool) ([]byte, error) {
	var digest, signature asn1.ObjectIdentifier
	switch s.Digest {
	case crypto.SHA256:
		digest, signature = oidSHA256, oidECDSA256
	case crypto.SHA384:
		digest, signature = oidSHA384, oidECDSA384
	case crypto.SHA512:
		digest, signature = oidSHA512, oidECDSA512
	}
	rsa := s.Scheme == sigalg.RSAPKCS1SHA256 || s.Scheme == sigalg.RSAPKCS1SHA384 || s.Scheme == sigalg.RSAPKCS1SHA512
	if rsa {
		signature = oidRSA
	}
	algorithm := func(oid asn1.ObjectIdentifier, null bool) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid)
				if null {
					b.AddASN1NULL()
				}
			})
		}
	}
	context := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	version := int64(1)
	if len(s.SubjectKeyID) > 0 {
		version = 3
	}
	signer := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		if version == 3 {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(s.SubjectKeyID) })
		} else {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(s.Issuer)
				b.AddASN1BigInt(s.Serial)
			})
		}
		algorithm(digest, null)(b)
		algorithm(signature, rsa)(b)
		b.AddASN1OctetString(s.Signature)
	}
	signedData := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(cbasn1.SET, algorithm(digest, null))
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(cms.OIDData) })
		if len(d.RawCertificates) > 0 {
			b.AddASN1(context(0), func(b *cryptobyte.Builder) {
				for _, c := range d.RawCertificates {
					b.AddBytes(c)
				}
			})
		}
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, signer) })
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(cms.OIDSignedData)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, signedData) })
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("kmod: %w", err)
	}
	return der, nil
}

// named is a signature by the key of a certificate, as encode takes it.
func named(cert *x509.Certificate, h crypto.Hash, scheme sigalg.Scheme, value []byte) *cms.ParsedSigner {
	return &cms.ParsedSigner{Issuer: cert.RawIssuer, Serial: cert.SerialNumber, Digest: h, Scheme: scheme, Signature: value}
}
