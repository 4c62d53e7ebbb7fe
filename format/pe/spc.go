package pe

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

var (
	oidPEImageData   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	oidStatementType = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 11}
	oidIndividual    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 21}
	oidOpusInfo      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}
	oidPageHashesV1  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 3, 1}
	oidPageHashesV2  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 3, 2}
	oidLifetime      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 13}
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

// classPageHashes marks the serialized object that holds page hashes.
const classPageHashes = "\xa6\xb5\x86\xd5\xb4\xa1\x24\x66\xae\x05\xa2\x17\xda\x8e\x60\xd6"

var (
	context0 = cbasn1.Tag(0).ContextSpecific()
	context1 = cbasn1.Tag(1).ContextSpecific()
	context2 = cbasn1.Tag(2).ContextSpecific()
	derNull  = []byte{5, 0}
)

func digestOID(h crypto.Hash) (asn1.ObjectIdentifier, error) {
	switch h {
	case crypto.SHA256:
		return oidSHA256, nil
	case crypto.SHA384:
		return oidSHA384, nil
	case crypto.SHA512:
		return oidSHA512, nil
	}
	return nil, fmt.Errorf("pe: hash %v: want SHA-256, SHA-384 or SHA-512", h)
}

// indirectData is SpcIndirectDataContent for an image: which digest it has and,
// where they were asked for, the hashes of its pages.
//
//	SpcIndirectDataContent ::= SEQUENCE { data SpcAttributeTypeAndOptionalValue, messageDigest DigestInfo }
//	SpcPeImageData         ::= SEQUENCE { flags BIT STRING, file [0] EXPLICIT SpcLink }
//	SpcLink                ::= CHOICE { url [0] IA5String, moniker [1] SpcSerializedObject, file [2] EXPLICIT SpcString }
type indirectData struct {
	hash   crypto.Hash
	digest []byte
	pages  []byte // SpcPeImagePageHashesV2's table; nil when there is none
}

// encode gives the DER. Without page hashes the link says "<<<Obsolete>>>", as
// everybody's does.
func (d indirectData) encode() ([]byte, error) {
	oid, err := digestOID(d.hash)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPEImageData)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BitString(nil)
				b.AddASN1(context0.Constructed(), func(b *cryptobyte.Builder) {
					if d.pages != nil {
						addPageHashes(b, d.pages)
						return
					}
					b.AddASN1(context2.Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(utf16be("<<<Obsolete>>>")) })
					})
				})
			})
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid)
				b.AddBytes(derNull)
			})
			b.AddASN1OctetString(d.digest)
		})
	})
	return b.Bytes()
}

func addPageHashes(b *cryptobyte.Builder, pages []byte) {
	b.AddASN1(context1.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1OctetString([]byte(classPageHashes))
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidPageHashesV2)
					b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddASN1OctetString(pages) })
				})
			})
		})
	})
}

var errIndirect = errors.New("pe: malformed SpcIndirectDataContent")

// parseIndirect reads the content of a signature strictly. Links that are neither
// a file name nor page hashes are refused.
func parseIndirect(der []byte) (*indirectData, error) {
	s := cryptobyte.String(der)
	var all, data, image, info, alg cryptobyte.String
	var typ, oid asn1.ObjectIdentifier
	var d indirectData
	if !s.ReadASN1(&all, cbasn1.SEQUENCE) || !s.Empty() ||
		!all.ReadASN1(&data, cbasn1.SEQUENCE) || !all.ReadASN1(&info, cbasn1.SEQUENCE) || !all.Empty() ||
		!cms.ReadOID(&data, &typ) ||
		!info.ReadASN1(&alg, cbasn1.SEQUENCE) || !info.ReadASN1Bytes(&d.digest, cbasn1.OCTET_STRING) || !info.Empty() ||
		!cms.ReadOID(&alg, &oid) || !(alg.Empty() || bytes.Equal(alg, derNull)) {
		return nil, errIndirect
	}
	if !typ.Equal(oidPEImageData) {
		return nil, fmt.Errorf("%w: it is about %v, not about a PE image", errIndirect, typ)
	}
	switch {
	case oid.Equal(oidSHA1):
		d.hash = crypto.SHA1
	case oid.Equal(oidSHA256):
		d.hash = crypto.SHA256
	case oid.Equal(oidSHA384):
		d.hash = crypto.SHA384
	case oid.Equal(oidSHA512):
		d.hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("%w: digest algorithm %v", ErrWeak, oid)
	}
	if len(d.digest) != d.hash.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes", errIndirect, len(d.digest))
	}
	var flags asn1.BitString
	var link cryptobyte.String
	if !data.ReadASN1(&image, cbasn1.SEQUENCE) || !data.Empty() ||
		!image.ReadASN1BitString(&flags) || !image.ReadASN1(&link, context0.Constructed()) || !image.Empty() {
		return nil, errIndirect
	}
	return &d, d.parseLink(link)
}

func (d *indirectData) parseLink(link cryptobyte.String) error {
	var v cryptobyte.String
	switch {
	case link.PeekASN1Tag(context2.Constructed()):
		if !link.ReadASN1(&v, context2.Constructed()) || !link.Empty() {
			return errIndirect
		}
		_, err := readSpcString(&v)
		return err
	case link.PeekASN1Tag(context1.Constructed()):
	default:
		return fmt.Errorf("%w: link is neither file nor moniker", errIndirect)
	}
	var class, object, set, attr, values cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !link.ReadASN1(&v, context1.Constructed()) || !link.Empty() ||
		!v.ReadASN1(&class, cbasn1.OCTET_STRING) || !v.ReadASN1(&object, cbasn1.OCTET_STRING) || !v.Empty() {
		return errIndirect
	}
	if string(class) != classPageHashes {
		return fmt.Errorf("%w: moniker of class %x", errIndirect, []byte(class))
	}
	if !object.ReadASN1(&set, cbasn1.SET) || !object.Empty() ||
		!set.ReadASN1(&attr, cbasn1.SEQUENCE) || !set.Empty() ||
		!cms.ReadOID(&attr, &oid) || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() ||
		!values.ReadASN1Bytes(&d.pages, cbasn1.OCTET_STRING) || !values.Empty() {
		return errIndirect
	}
	switch {
	case oid.Equal(oidPageHashesV1):
		return fmt.Errorf("%w: page hashes with SHA-1", ErrWeak)
	case !oid.Equal(oidPageHashesV2):
		return fmt.Errorf("%w: page hashes of kind %v", errIndirect, oid)
	case len(d.pages) == 0 || len(d.pages)%pageEntry != 0:
		return fmt.Errorf("%w: page hashes of %d bytes", errIndirect, len(d.pages))
	}
	return nil
}

// utf16be is the form of a BMPString; characters beyond the BMP become pairs, as
// Windows writes them.
func utf16be(s string) []byte {
	var out []byte
	for _, w := range utf16.Encode([]rune(s)) {
		out = append(out, byte(w>>8), byte(w))
	}
	return out
}

// readSpcString reads SpcString ::= CHOICE { unicode [0] BMPString, ascii [1] IA5String }.
func readSpcString(s *cryptobyte.String) (string, error) {
	var v cryptobyte.String
	switch {
	case s.PeekASN1Tag(context0):
		if !s.ReadASN1(&v, context0) || !s.Empty() || len(v)%2 != 0 {
			return "", errIndirect
		}
		var w []uint16
		for ; len(v) > 0; v = v[2:] {
			w = append(w, uint16(v[0])<<8|uint16(v[1]))
		}
		return string(utf16.Decode(w)), nil
	case s.PeekASN1Tag(context1):
		if !s.ReadASN1(&v, context1) || !s.Empty() {
			return "", errIndirect
		}
		return string(v), nil
	}
	return "", errIndirect
}

// signedAttributes are those that signtool adds: what the program is called and
// where to find more (SpcSpOpusInfo, empty when neither is given), and that the
// certificate is an individual's (all are, since Windows stopped to tell).
func signedAttributes(description, url string) ([]cms.Attribute, error) {
	var opus, statement cryptobyte.Builder
	opus.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if description != "" {
			b.AddASN1(context0.Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(utf16be(description)) })
			})
		}
		if url != "" {
			b.AddASN1(context1.Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
			})
		}
	})
	statement.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidIndividual) })
	o, err := opus.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pe: SpcSpOpusInfo: %w", err)
	}
	s, err := statement.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pe: statement type: %w", err)
	}
	return []cms.Attribute{cms.NewAttribute(oidStatementType, s), cms.NewAttribute(oidOpusInfo, o)}, nil
}

// opusFacts reads SpcSpOpusInfo; what is broken in it gives no fact.
func opusFacts(s *cms.ParsedSigner) []format.Fact {
	a, ok := s.Attribute(oidOpusInfo)
	if !ok || len(a.Values) != 1 {
		return nil
	}
	v := cryptobyte.String(a.Values[0].FullBytes)
	var seq, name, link cryptobyte.String
	var hasName, hasLink bool
	if !v.ReadASN1(&seq, cbasn1.SEQUENCE) ||
		!seq.ReadOptionalASN1(&name, &hasName, context0.Constructed()) ||
		!seq.ReadOptionalASN1(&link, &hasLink, context1.Constructed()) || !seq.Empty() {
		return nil
	}
	var out []format.Fact
	add := func(n, text string) {
		if text = plainText(text); text != "" && len(text) <= format.MaxText {
			out = append(out, format.Fact{Name: n, Value: text})
		}
	}
	if hasName {
		if text, err := readSpcString(&name); err == nil {
			add("description", text)
		}
	}
	var url cryptobyte.String
	if hasLink && link.ReadASN1(&url, context0) && link.Empty() {
		add("url", string(url))
	}
	return out
}
