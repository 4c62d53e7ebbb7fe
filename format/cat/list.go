package cat

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cab"
	"github.com/greatseal-io/greatseal/format/pe"
)

var (
	oidList       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 12, 1, 1}
	oidMembersV1  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 12, 1, 2}
	oidMembersV2  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 12, 1, 3}
	oidNameValue  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 12, 2, 1}
	oidMemberInfo = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 12, 2, 3}
)

// Limits of a list.
const (
	MaxMembers    = 1 << 16
	MaxAttributes = 64 // of the list, or of one member
	maxText       = 4096
)

// Kind is how the digest of a member is made.
type Kind int

// File digests are over all bytes (of cabinets: see cab.CatalogDigest), Image digests
// are those of Authenticode for PE images.
const (
	File Kind = iota
	Image
)

// Attribute is a name with a value, as makecat and inf2cat write them: "File",
// "OSAttr" = "2:6.1,2:10.0", "HWID1" …
type Attribute struct{ Name, Value string }

// attributeFlags say that an attribute is text that is signed and may be replaced.
const attributeFlags = 0x10010001

// Member is one entry of a list. Hash and Digest are zero for entries that have a tag
// alone, as Windows writes them for other hashes of the same file.
type Member struct {
	Tag        []byte // what the entry is looked up by: the digest, or its hexadecimal digits in UTF-16LE
	Kind       Kind
	Hash       crypto.Hash
	Digest     []byte
	Attributes []Attribute
}

// List is a certificate trust list of members.
type List struct {
	ID         []byte
	Made       time.Time
	Version    int // 1: tags are digits, 2: tags are digests
	Attributes []Attribute
	Members    []Member
}

// NewMember digests a file for a catalogue and names it.
func NewMember(ctx context.Context, a format.Artifact, h crypto.Hash, attributes ...Attribute) (*Member, error) {
	m := &Member{Hash: h, Attributes: append([]Attribute{{"File", a.Name()}}, attributes...)}
	name := format.HashName(h)
	if name == "" {
		return nil, fmt.Errorf("cat: %w", authenticode.ErrWeak)
	}
	switch {
	case (pe.Format{}).Detect(a):
		p, err := (pe.Format{}).Plan(ctx, a, format.Params{"digest": name, "existing": "replace"})
		if err != nil {
			return nil, fmt.Errorf("cat: %w", err)
		}
		m.Kind, m.Digest = Image, p.Content
	case (cab.Format{}).Detect(a):
		d, err := cab.CatalogDigest(ctx, a, h)
		if err != nil {
			return nil, fmt.Errorf("cat: %w", err)
		}
		m.Digest = d
	default:
		d, err := format.Sum(ctx, a, h)
		if err != nil {
			return nil, fmt.Errorf("cat: %w", err)
		}
		m.Digest = d[0]
	}
	m.Tag = m.Digest
	return m, nil
}

// Create makes a catalogue of version 2 without a signature. The members come out in
// the order of their digests; the list identifier follows from members, attributes
// and time. Two members of one digest are refused.
func Create(members []*Member, attributes []Attribute, made time.Time) ([]byte, error) {
	if len(members) == 0 || len(members) > MaxMembers || len(attributes) > MaxAttributes {
		return nil, fmt.Errorf("cat: %d members and %d attributes: want 1 to %d and at most %d", len(members), len(attributes), MaxMembers, MaxAttributes)
	}
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b *Member) int { return bytes.Compare(a.Digest, b.Digest) })
	var subjects [][]byte
	for i, m := range members {
		if i > 0 && bytes.Equal(members[i-1].Digest, m.Digest) {
			return nil, fmt.Errorf("cat: %q and %q have one digest: name one of them", members[i-1].label(), m.label())
		}
		b, err := m.encode()
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, b)
	}
	list, err := encodeList(subjects, attributes, made)
	if err != nil {
		return nil, err
	}
	return wrap(list)
}

// encodeList makes the CTL of members in their encoding.
func encodeList(subjects [][]byte, attributes []Attribute, made time.Time) ([]byte, error) {
	if made = made.UTC().Truncate(time.Second); made.Year() < 2000 || made.Year() > 2049 {
		return nil, fmt.Errorf("cat: time %s: want the years 2000 to 2049", made.Format(time.RFC3339))
	}
	var extensions []byte
	if len(attributes) > 0 {
		var b cryptobyte.Builder
		for _, a := range attributes {
			v, err := a.encode()
			if err != nil {
				return nil, err
			}
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidNameValue)
				b.AddASN1OctetString(v)
			})
		}
		extensions = b.BytesOrPanic()
	}
	x := sha256.New()
	fmt.Fprintf(x, "greatseal catalogue %d %d:%s", made.Unix(), len(extensions), extensions)
	for _, s := range subjects {
		x.Write(s)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidList) })
		b.AddASN1OctetString(x.Sum(nil)[:16])
		b.AddASN1UTCTime(made)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidMembersV2)
			b.AddBytes([]byte{5, 0})
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range subjects {
				b.AddBytes(s)
			}
		})
		if extensions != nil {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
			})
		}
	})
	list, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cat: %w", err)
	}
	if len(list) > maxList {
		return nil, fmt.Errorf("cat: list of %d bytes: at most %d", len(list), maxList)
	}
	return list, nil
}

// encode is the member as [Create] writes it.
func (m *Member) encode() ([]byte, error) {
	d := authenticode.Indirect{Type: authenticode.OIDCabData, Value: authenticode.ObsoleteLink(), Hash: m.Hash, Digest: m.Digest}
	if m.Kind == Image {
		var v cryptobyte.Builder
		v.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1BitString(nil)
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(authenticode.ObsoleteLink()) })
		})
		d.Type, d.Value = authenticode.OIDPEImageData, v.BytesOrPanic()
	}
	if len(m.Attributes) > MaxAttributes {
		return nil, fmt.Errorf("cat: member %q has %d attributes: at most %d", m.label(), len(m.Attributes), MaxAttributes)
	}
	return encodeSubject(m.Digest, []byte{0x82, 0}, d, m.Attributes)
}

// encodeSubject gives TrustedSubject ::= SEQUENCE { subjectIdentifier OCTET STRING, SET
// OF SEQUENCE { type, SET OF value } }; info is the DER of the member's kind.
func encodeSubject(tag, info []byte, d authenticode.Indirect, attributes []Attribute) ([]byte, error) {
	indirect, err := d.Encode()
	if err != nil {
		return nil, fmt.Errorf("cat: %w", err)
	}
	attribute := func(oid asn1.ObjectIdentifier, value []byte) []byte {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(value) })
		})
		return b.BytesOrPanic()
	}
	set := [][]byte{attribute(oidMemberInfo, info), attribute(cms.OIDSpcIndirectData, indirect)}
	for _, a := range attributes {
		v, err := a.encode()
		if err != nil {
			return nil, err
		}
		set = append(set, attribute(oidNameValue, v))
	}
	slices.SortFunc(set, bytes.Compare) // DER's SET OF
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1OctetString(tag)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, s := range set {
				b.AddBytes(s)
			}
		})
	})
	return b.Bytes()
}

// encode gives CatNameValue ::= SEQUENCE { tag BMPString, flags INTEGER, value OCTET
// STRING }; the value is text in UTF-16LE with a zero at its end.
func (a Attribute) encode() ([]byte, error) {
	if a.Name == "" || len(a.Name) > 255 || len(a.Value) > maxText || authenticode.PlainText(a.Name) != a.Name || authenticode.PlainText(a.Value) != a.Value {
		return nil, fmt.Errorf("cat: attribute %.40q: want a name and printable text of at most %d bytes", a.Name, maxText)
	}
	var name, value []byte
	for _, w := range utf16.Encode([]rune(a.Name)) {
		name = append(name, byte(w>>8), byte(w))
	}
	for _, w := range append(utf16.Encode([]rune(a.Value)), 0) {
		value = append(value, byte(w), byte(w>>8))
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(30), func(b *cryptobyte.Builder) { b.AddBytes(name) })
		b.AddASN1Int64(attributeFlags)
		b.AddASN1OctetString(value)
	})
	return b.Bytes()
}

// Find looks a digest up.
func (l *List) Find(h crypto.Hash, digest []byte) (*Member, bool) {
	for i := range l.Members {
		if l.Members[i].Hash == h && bytes.Equal(l.Members[i].Digest, digest) {
			return &l.Members[i], true
		}
	}
	return nil, false
}

// Read gives the list of a catalogue, signed or not. Nothing is verified.
func Read(a format.Artifact) (*List, error) {
	c, err := open(a)
	if err != nil {
		return nil, err
	}
	return c.list, nil
}

// label names a member for people.
func (m *Member) label() string {
	for _, a := range m.Attributes {
		if strings.EqualFold(a.Name, "File") {
			return a.Value
		}
	}
	return "tag " + hex.EncodeToString(m.Tag)
}

func (m *Member) facts() []format.Fact {
	var out []format.Fact
	if m.Digest != nil {
		out = append(out, format.Fact{Name: authenticode.HashName(m.Hash), Value: hex.EncodeToString(m.Digest)})
	}
	for _, a := range m.Attributes {
		out = append(out, format.Fact{Name: a.Name, Value: a.Value})
	}
	return out
}

// tagged says that the tag is the digest, or its digits as lists of version 1 have
// them. Windows looks members up by their tags.
func (m *Member) tagged() bool {
	if bytes.Equal(m.Tag, m.Digest) {
		return true
	}
	var digits []byte
	for _, w := range utf16.Encode([]rune(strings.ToUpper(hex.EncodeToString(m.Digest)))) {
		digits = append(digits, byte(w), byte(w>>8))
	}
	return bytes.Equal(bytes.TrimSuffix(bytes.ToUpper(m.Tag), []byte{0, 0}), digits)
}

// text is what people are told of a member: the digest, and the tag where it says
// something else. A member may have a tag alone.
func (m *Member) text() string {
	s := m.label()
	if m.Digest != nil {
		s += fmt.Sprintf(" %s:%x", authenticode.HashName(m.Hash), m.Digest)
	}
	if tag := fmt.Sprintf("tag %x", m.Tag); !m.tagged() && !strings.HasPrefix(s, tag) {
		s = tag + " " + s // before what may be cut off
	}
	return s
}

// maxListed is how many members become facts; "members" tells how many there are.
const maxListed = 150

// facts are those of a plan, but for signatures.
func (l *List) facts() []format.Fact {
	out := []format.Fact{
		{Name: "kind", Value: "catalogue, version " + strconv.Itoa(l.Version)},
		{Name: "list", Value: hex.EncodeToString(l.ID)},
		{Name: "made", Value: l.Made.UTC().Format(time.RFC3339)},
		{Name: "members", Value: strconv.Itoa(len(l.Members))},
	}
	for _, a := range l.Attributes[:min(len(l.Attributes), MaxAttributes)] {
		out = append(out, format.Fact{Name: "attribute", Value: clip(a.Name + " = " + a.Value)})
	}
	for i := range l.Members[:min(len(l.Members), maxListed)] {
		out = append(out, format.Fact{Name: "member", Value: clip(l.Members[i].text())})
	}
	return out
}

func clip(s string) string {
	s = authenticode.PlainText(s)
	if len(s) > 1024 {
		s = strings.ToValidUTF8(s[:1024], "")
	}
	return s
}
