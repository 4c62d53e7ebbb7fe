package nuget

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

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Algorithms of RSA with PKCS #1 v1.5 (RFC 8017 appendix A), which is all that NuGet
// takes.
var (
	oidRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidRSA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}
	oidRSA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}
)

// rsaScheme is the scheme of a hash, and its own algorithm identifier.
func rsaScheme(h crypto.Hash) (sigalg.Scheme, asn1.ObjectIdentifier) {
	switch h {
	case crypto.SHA256:
		return sigalg.RSAPKCS1SHA256, oidRSA256
	case crypto.SHA384:
		return sigalg.RSAPKCS1SHA384, oidRSA384
	case crypto.SHA512:
		return sigalg.RSAPKCS1SHA512, oidRSA512
	}
	return "", nil
}

var (
	context0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	context1 = cbasn1.Tag(1).ContextSpecific().Constructed()
)

// encodeAttributes gives a SET OF Attribute in DER.
func encodeAttributes(all []cms.Attribute) ([]byte, error) {
	var list [][]byte
	for _, a := range all {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(a.Type)
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				for _, v := range a.Values {
					b.AddBytes(v.FullBytes)
				}
			})
		})
		e, err := b.Bytes()
		if err != nil {
			return nil, fmt.Errorf("nuget: %w", err)
		}
		list = append(list, e)
	}
	slices.SortFunc(list, bytes.Compare)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(list...)) })
	return b.Bytes()
}

// counterMessage is the set of signed attributes of a countersignature: as of any
// other signature, but for contentType, which RFC 5652 section 11.4 forbids.
func counterMessage(value []byte, h crypto.Hash, attributes []cms.Attribute) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1OctetString(sum(h, value))
	d, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	return encodeAttributes(append(slices.Clone(attributes), cms.NewAttribute(cms.OIDMessageDigest, d)))
}

// encodeCounter is the SignerInfo of a countersignature.
func encodeCounter(leaf *x509.Certificate, h crypto.Hash, message, value, token []byte) ([]byte, error) {
	digest, err := cms.DigestAlgorithm(h)
	if err != nil {
		return nil, err
	}
	inside := func(set []byte) []byte { // what a SET holds
		s := cryptobyte.String(set)
		var v cryptobyte.String
		s.ReadASN1(&v, cbasn1.SET)
		return v
	}
	var unsigned []byte
	if len(token) > 0 {
		if unsigned, err = encodeAttributes([]cms.Attribute{cms.NewAttribute(cms.OIDTimeStampToken, token)}); err != nil {
			return nil, err
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(leaf.RawIssuer)
			b.AddASN1BigInt(leaf.SerialNumber)
		})
		b.AddBytes(digest)
		b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(inside(message)) })
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidRSA)
			b.AddBytes([]byte{5, 0})
		})
		b.AddASN1OctetString(value)
		if unsigned != nil {
			b.AddASN1(context1, func(b *cryptobyte.Builder) { b.AddBytes(inside(unsigned)) })
		}
	})
	return b.Bytes()
}

// counter is a parsed countersignature.
type counter struct {
	issuer   []byte
	serial   *big.Int
	hash     crypto.Hash
	scheme   sigalg.Scheme
	message  []byte // SET OF Attribute
	signed   []cms.Attribute
	unsigned []cms.Attribute
	value    []byte
}

func parseCounter(der []byte) (*counter, error) {
	c := &counter{serial: new(big.Int)}
	fail := func(why string) (*counter, error) { return nil, bad("countersignature: %s", why) }
	s := cryptobyte.String(der)
	var all, sid, issuer, digest, attributes, algorithm, params, value, unsigned cryptobyte.String
	var version int
	var hasUnsigned bool
	if !s.ReadASN1(&all, cbasn1.SEQUENCE) || !s.Empty() || !all.ReadASN1Integer(&version) || version != 1 ||
		!all.ReadASN1(&sid, cbasn1.SEQUENCE) || !sid.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !sid.ReadASN1Integer(c.serial) || !sid.Empty() ||
		!all.ReadASN1Element(&digest, cbasn1.SEQUENCE) || !all.ReadASN1(&attributes, context0) || !all.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!all.ReadASN1(&value, cbasn1.OCTET_STRING) || !all.ReadOptionalASN1(&unsigned, &hasUnsigned, context1) || !all.Empty() {
		return fail("malformed")
	}
	c.issuer, c.value = issuer, value
	var err error
	if c.hash, err = cms.ParseDigestAlgorithm(digest); err != nil {
		return nil, fmt.Errorf("%w: countersignature: %w", ErrSignature, err)
	}
	var oid, own asn1.ObjectIdentifier
	c.scheme, own = rsaScheme(c.hash)
	if !cms.ReadOID(&algorithm, &oid) || !oid.Equal(oidRSA) && !oid.Equal(own) || !algorithm.ReadASN1(&params, cbasn1.NULL) || !params.Empty() || !algorithm.Empty() {
		return fail("signature algorithm")
	}
	if c.signed, err = parseAttributes(attributes); err != nil {
		return nil, err
	}
	if c.message, err = encodeAttributes(c.signed); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
	if was, err := b.Bytes(); err != nil || !bytes.Equal(was, c.message) {
		return fail("signed attributes are not in DER")
	}
	if hasUnsigned {
		if c.unsigned, err = parseAttributes(unsigned); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func parseAttributes(s cryptobyte.String) ([]cms.Attribute, error) {
	var out []cms.Attribute
	for !s.Empty() {
		var seq, set cryptobyte.String
		var a cms.Attribute
		if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !cms.ReadOID(&seq, &a.Type) || !seq.ReadASN1(&set, cbasn1.SET) || !seq.Empty() || set.Empty() || len(out) == cms.MaxAttributes {
			return nil, bad("countersignature: attributes")
		}
		for !set.Empty() {
			var v cryptobyte.String
			var tag cbasn1.Tag
			if !set.ReadAnyASN1Element(&v, &tag) || len(a.Values) == cms.MaxAttributes {
				return nil, bad("countersignature: attribute %v", a.Type)
			}
			a.Values = append(a.Values, asn1.RawValue{FullBytes: v})
		}
		out = append(out, a)
	}
	return out, nil
}

// certificate finds the countersigner's among certs.
func (c *counter) certificate(certs []*x509.Certificate) *x509.Certificate {
	for _, k := range certs {
		if bytes.Equal(k.RawIssuer, c.issuer) && k.SerialNumber.Cmp(c.serial) == 0 {
			return k
		}
	}
	return nil
}

// verify checks the countersignature over the value of the signature that it is about.
func (c *counter) verify(leaf *x509.Certificate, over []byte) error {
	if _, has, err := get(c.signed, cms.OIDContentType); has || err != nil {
		return bad("countersignature has a content type")
	}
	v, ok, err := get(c.signed, cms.OIDMessageDigest)
	if err != nil {
		return err
	}
	var d cryptobyte.String
	if !ok || !v.ReadASN1(&d, cbasn1.OCTET_STRING) || !v.Empty() || !bytes.Equal(d, sum(c.hash, over)) {
		return bad("countersignature is about another signature")
	}
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	if err := sigalg.Verify(pub, c.scheme, c.message, c.value); err != nil {
		return fmt.Errorf("%w: countersignature: %w", ErrSignature, err)
	}
	return nil
}
