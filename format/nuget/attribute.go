package nuget

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// text is what a signature is over: the digest of the package.
func text(h crypto.Hash, digest []byte) ([]byte, error) {
	oid, err := authenticode.DigestOID(h)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "Version:1\n\n%s-Hash:%s\n\n", oid, base64.StdEncoding.EncodeToString(digest)), nil
}

// parseText reads the text, in the one form that NuGet writes.
func parseText(b []byte) (crypto.Hash, []byte, error) {
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		oid, err := authenticode.DigestOID(h)
		if err != nil {
			return 0, nil, err
		}
		rest, ok := bytes.CutPrefix(b, fmt.Appendf(nil, "Version:1\n\n%s-Hash:", oid))
		rest, end := bytes.CutSuffix(rest, []byte("\n\n"))
		if !ok || !end {
			continue
		}
		d, err := base64.StdEncoding.Strict().DecodeString(string(rest))
		if again, _ := text(h, d); err != nil || len(d) != h.Size() || !bytes.Equal(again, b) {
			break
		}
		return h, d, nil
	}
	return 0, nil, bad("the text that is signed is not version 1 with one digest by SHA-2")
}

// attributes are those that every signature has besides contentType and messageDigest.
func attributes(p format.Params, leaf *x509.Certificate, h crypto.Hash, at time.Time) ([]cms.Attribute, error) {
	at = at.UTC().Truncate(time.Second)
	if at.Year() < 2000 || at.Year() > 2049 {
		return nil, fmt.Errorf("nuget: signing time %s: want the years 2000 to 2049", at.Format(time.RFC3339))
	}
	var out []cms.Attribute
	var failed error
	add := func(oid asn1.ObjectIdentifier, f func(b *cryptobyte.Builder)) {
		var b cryptobyte.Builder
		f(&b)
		v, err := b.Bytes()
		if err != nil {
			failed = fmt.Errorf("nuget: attribute %v: %w", oid, err)
		}
		out = append(out, cms.NewAttribute(oid, v))
	}
	commitment := oidProofOfOrigin
	if p["type"] == repository {
		commitment = oidProofOfReceipt
	}
	add(cms.OIDSigningTime, func(b *cryptobyte.Builder) { b.AddASN1UTCTime(at) })
	add(oidCommitment, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(commitment) })
	})
	certificate, err := signingCertificate(leaf, h)
	if err != nil {
		return nil, err
	}
	add(cms.OIDSigningCertificateV2, func(b *cryptobyte.Builder) { b.AddBytes(certificate) })
	if p["type"] == repository {
		add(oidServiceIndex, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.IA5String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(p["service-index"])) })
		})
		if names := owners(p["owners"]); len(names) > 0 {
			add(oidOwners, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, n := range names {
						b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n)) })
					}
				})
			})
		}
	}
	return out, failed
}

// signingCertificate is SigningCertificateV2 with one ESSCertIDv2 (RFC 5035 section 3):
//
//	SEQUENCE { SEQUENCE OF SEQUENCE { hashAlgorithm DEFAULT sha256, certHash OCTET STRING, issuerSerial } }
func signingCertificate(leaf *x509.Certificate, h crypto.Hash) ([]byte, error) {
	var algorithm []byte
	if h != crypto.SHA256 {
		var err error
		if algorithm, err = cms.DigestAlgorithm(h); err != nil {
			return nil, err
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(algorithm)
				b.AddASN1OctetString(sum(h, leaf.Raw))
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(leaf.RawIssuer) })
					})
					b.AddASN1BigInt(leaf.SerialNumber)
				})
			})
		})
	})
	return b.Bytes()
}

// claims is what signed attributes say.
type claims struct {
	kind  string // author or repository
	time  time.Time
	facts []format.Fact
}

// get is the only value of an attribute.
func get(all []cms.Attribute, oid asn1.ObjectIdentifier) (cryptobyte.String, bool, error) {
	var v cryptobyte.String
	n := 0
	for _, a := range all {
		if a.Type.Equal(oid) {
			if n++; n > 1 || len(a.Values) != 1 {
				return nil, false, bad("attribute %v has not one value", oid)
			}
			v = a.Values[0].FullBytes
		}
	}
	return v, n == 1, nil
}

// readClaims judges signed attributes. leaf is the certificate that the signature names.
func readClaims(all []cms.Attribute, leaf *x509.Certificate) (*claims, error) {
	c := &claims{}
	v, ok, err := get(all, oidCommitment)
	var seq cryptobyte.String
	var oid asn1.ObjectIdentifier
	if err != nil {
		return nil, err
	}
	if !ok || !v.ReadASN1(&seq, cbasn1.SEQUENCE) || !v.Empty() || !cms.ReadOID(&seq, &oid) || !seq.Empty() {
		return nil, bad("commitment-type-indication is not there, or not one commitment")
	}
	switch {
	case oid.Equal(oidProofOfOrigin):
		c.kind = author
	case oid.Equal(oidProofOfReceipt):
		c.kind = repository
	default:
		return nil, bad("commitment %v: want an author's or a repository's", oid)
	}
	if v, ok, err = get(all, cms.OIDSigningTime); err != nil {
		return nil, err
	}
	if !ok || !(v.PeekASN1Tag(cbasn1.UTCTime) && v.ReadASN1UTCTime(&c.time) || v.PeekASN1Tag(cbasn1.GeneralizedTime) && v.ReadASN1GeneralizedTime(&c.time)) || !v.Empty() {
		return nil, bad("signing-time is not there, or no time")
	}
	if _, ok, err := get(all, cms.OIDSigningCertificate); ok || err != nil {
		return nil, bad("signing-certificate, which is by SHA-1")
	}
	if v, ok, err = get(all, cms.OIDSigningCertificateV2); err != nil {
		return nil, err
	}
	if !ok {
		return nil, bad("signing-certificate-v2 is not there")
	}
	if leaf != nil {
		if err := checkSigningCertificate(v, leaf); err != nil {
			return nil, err
		}
	}
	return c, c.readRepository(all)
}

// readRepository reads what repositories alone say.
func (c *claims) readRepository(all []cms.Attribute) error {
	index, ok, err := get(all, oidServiceIndex)
	if err != nil {
		return err
	}
	list, owned, err := get(all, oidOwners)
	if err != nil {
		return err
	}
	if ok != (c.kind == repository) || owned && c.kind != repository {
		return bad("service index and owners are for repositories, which name the first")
	}
	if !ok {
		return nil
	}
	var url, names cryptobyte.String
	if !index.ReadASN1(&url, cbasn1.IA5String) || !index.Empty() || !strings.HasPrefix(string(url), "https://") || authenticode.PlainText(string(url)) != string(url) || len(url) > format.MaxText {
		return bad("service index is no https URL")
	}
	c.facts = append(c.facts, format.Fact{Name: "service-index", Value: string(url)})
	if !owned {
		return nil
	}
	if !list.ReadASN1(&names, cbasn1.SEQUENCE) || !list.Empty() || names.Empty() {
		return bad("owners")
	}
	for n := 0; !names.Empty(); n++ {
		var name cryptobyte.String
		if !names.ReadASN1(&name, cbasn1.UTF8String) || n == maxOwners || len(name) > format.MaxText || len(name) == 0 || authenticode.PlainText(string(name)) != string(name) {
			return bad("owners")
		}
		c.facts = append(c.facts, format.Fact{Name: "owner", Value: string(name)})
	}
	return nil
}

// checkSigningCertificate compares the first certificate that is named with leaf.
func checkSigningCertificate(v cryptobyte.String, leaf *x509.Certificate) error {
	var all, list, id, digest, rest cryptobyte.String
	if !v.ReadASN1(&all, cbasn1.SEQUENCE) || !v.Empty() || !all.ReadASN1(&list, cbasn1.SEQUENCE) ||
		!list.ReadASN1(&id, cbasn1.SEQUENCE) {
		return bad("signing-certificate-v2")
	}
	h := crypto.SHA256
	if id.PeekASN1Tag(cbasn1.SEQUENCE) {
		var algorithm cryptobyte.String
		var err error
		if !id.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) {
			return bad("signing-certificate-v2")
		}
		if h, err = cms.ParseDigestAlgorithm(algorithm); err != nil {
			return fmt.Errorf("%w: signing-certificate-v2: %w", ErrSignature, err)
		}
	}
	if !id.ReadASN1(&digest, cbasn1.OCTET_STRING) || !id.Empty() && (!id.ReadASN1Element(&rest, cbasn1.SEQUENCE) || !id.Empty()) {
		return bad("signing-certificate-v2")
	}
	if !bytes.Equal(digest, sum(h, leaf.Raw)) {
		return bad("signing-certificate-v2 names another certificate than the signer's")
	}
	if len(rest) == 0 {
		return nil
	}
	var names, name, issuer cryptobyte.String
	var serial []byte
	var pair cryptobyte.String
	if !rest.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1(&names, cbasn1.SEQUENCE) || !names.ReadASN1(&name, cbasn1.Tag(4).ContextSpecific().Constructed()) || !names.Empty() ||
		!name.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !name.Empty() || !pair.ReadASN1Integer(&serial) || !pair.Empty() ||
		!bytes.Equal(issuer, leaf.RawIssuer) || !bytes.Equal(serial, leaf.SerialNumber.Bytes()) {
		return bad("signing-certificate-v2 names another issuer or number than the signer's certificate has")
	}
	return nil
}
