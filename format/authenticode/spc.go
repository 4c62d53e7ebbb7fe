package authenticode

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

var (
	context0 = cbasn1.Tag(0).ContextSpecific()
	context1 = cbasn1.Tag(1).ContextSpecific()
	context2 = cbasn1.Tag(2).ContextSpecific()
	derNull  = []byte{5, 0}
)

// Indirect is SpcIndirectDataContent: which kind of file has which digest.
//
//	SpcIndirectDataContent ::= SEQUENCE { data SpcAttributeTypeAndOptionalValue, messageDigest DigestInfo }
//	SpcAttributeTypeAndOptionalValue ::= SEQUENCE { type OBJECT IDENTIFIER, value ANY OPTIONAL }
type Indirect struct {
	Type   asn1.ObjectIdentifier
	Value  []byte // DER of one element, what the type calls for; empty when there is none
	Hash   crypto.Hash
	Digest []byte
	// Composed says that Digest is made of several, as in AppX packages: its length
	// is the format's to check.
	Composed bool
}

// Encode gives the DER.
func (d Indirect) Encode() ([]byte, error) {
	oid, err := DigestOID(d.Hash)
	if err != nil {
		return nil, err
	}
	if !d.Composed && len(d.Digest) != d.Hash.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes", ErrContent, len(d.Digest))
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(d.Type)
			b.AddBytes(d.Value)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid)
				b.AddBytes(derNull)
			})
			b.AddASN1OctetString(d.Digest)
		})
	})
	return b.Bytes()
}

// ParseIndirect reads SpcIndirectDataContent strictly. SHA-1 is read, so that it can
// be named; [Verify] refuses it.
func ParseIndirect(der []byte) (*Indirect, error) {
	d, err := ParseComposed(der)
	if err != nil {
		return nil, err
	}
	if d.Composed = false; len(d.Digest) != d.Hash.Size() {
		return nil, fmt.Errorf("%w: digest of %d bytes", ErrContent, len(d.Digest))
	}
	return d, nil
}

// ParseComposed is ParseIndirect for a digest that is made of several.
func ParseComposed(der []byte) (*Indirect, error) {
	s := cryptobyte.String(der)
	var all, data, info, alg, value cryptobyte.String
	var oid asn1.ObjectIdentifier
	var tag cbasn1.Tag
	var d Indirect
	if !s.ReadASN1(&all, cbasn1.SEQUENCE) || !s.Empty() ||
		!all.ReadASN1(&data, cbasn1.SEQUENCE) || !all.ReadASN1(&info, cbasn1.SEQUENCE) || !all.Empty() ||
		!cms.ReadOID(&data, &d.Type) || !data.Empty() && (!data.ReadAnyASN1Element(&value, &tag) || !data.Empty()) ||
		!info.ReadASN1(&alg, cbasn1.SEQUENCE) || !info.ReadASN1Bytes(&d.Digest, cbasn1.OCTET_STRING) || !info.Empty() ||
		!cms.ReadOID(&alg, &oid) || !(alg.Empty() || bytes.Equal(alg, derNull)) {
		return nil, ErrContent
	}
	d.Value = value
	switch {
	case oid.Equal(oidSHA1):
		d.Hash = crypto.SHA1
	case oid.Equal(oidSHA256):
		d.Hash = crypto.SHA256
	case oid.Equal(oidSHA384):
		d.Hash = crypto.SHA384
	case oid.Equal(oidSHA512):
		d.Hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("%w: digest algorithm %v", ErrWeak, oid)
	}
	d.Composed = true
	return &d, nil
}

// SipInfo is SpcSipInfo: the class of the subject interface package of Windows that
// digests a kind of file.
//
//	SpcSipInfo ::= SEQUENCE { version INTEGER, class OCTET STRING, reserved INTEGER (5 times) }
func SipInfo(version int, class string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(version))
		b.AddASN1OctetString([]byte(class))
		for range 5 {
			b.AddASN1Int64(0)
		}
	})
	return b.BytesOrPanic()
}

// ParseSipInfo reads the class out of SpcSipInfo.
func ParseSipInfo(der []byte) (class string, err error) {
	s := cryptobyte.String(der)
	var seq, guid cryptobyte.String
	var n int64
	ok := s.ReadASN1(&seq, cbasn1.SEQUENCE) && s.Empty() && seq.ReadASN1Integer(&n) && seq.ReadASN1(&guid, cbasn1.OCTET_STRING)
	for range 5 {
		ok = ok && seq.ReadASN1Integer(&n)
	}
	if !ok || !seq.Empty() || len(guid) != 16 {
		return "", fmt.Errorf("%w: SpcSipInfo", ErrContent)
	}
	return string(guid), nil
}

// ObsoleteLink is the SpcLink that everybody writes where a file was to be named:
//
//	SpcLink ::= CHOICE { url [0] IA5String, moniker [1] SpcSerializedObject, file [2] EXPLICIT SpcString }
func ObsoleteLink() []byte {
	var b cryptobyte.Builder
	b.AddASN1(context2.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(utf16be("<<<Obsolete>>>")) })
	})
	return b.BytesOrPanic()
}

// ParseFileLink accepts an SpcLink that names a file, whatever the name.
func ParseFileLink(der []byte) error {
	link := cryptobyte.String(der)
	var v cryptobyte.String
	if !link.ReadASN1(&v, context2.Constructed()) || !link.Empty() {
		return fmt.Errorf("%w: link does not name a file", ErrContent)
	}
	_, err := readSpcString(&v)
	return err
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
			return "", ErrContent
		}
		var w []uint16
		for ; len(v) > 0; v = v[2:] {
			w = append(w, uint16(v[0])<<8|uint16(v[1]))
		}
		return string(utf16.Decode(w)), nil
	case s.PeekASN1Tag(context1):
		if !s.ReadASN1(&v, context1) || !s.Empty() {
			return "", ErrContent
		}
		return string(v), nil
	}
	return "", ErrContent
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
		return nil, fmt.Errorf("authenticode: SpcSpOpusInfo: %w", err)
	}
	s, err := statement.Bytes()
	if err != nil {
		return nil, fmt.Errorf("authenticode: statement type: %w", err)
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
		if text = PlainText(text); text != "" && len(text) <= format.MaxText {
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
