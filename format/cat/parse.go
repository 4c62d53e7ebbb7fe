package cat

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

var explicit0 = cbasn1.Tag(0).ContextSpecific().Constructed()

// ParseList reads a CTL of catalogue members, of version 1 or 2. Attributes of other
// kinds are passed over: they are signed with the rest.
func ParseList(der []byte) (*List, error) {
	s := cryptobyte.String(der)
	var seq, usage, id, alg, subjects cryptobyte.String
	var oid asn1.ObjectIdentifier
	l := &List{}
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadASN1(&usage, cbasn1.SEQUENCE) || !cms.ReadOID(&usage, &oid) || !usage.Empty() {
		return nil, malformed("no certificate trust list")
	}
	if !oid.Equal(oidList) {
		return nil, malformed("list for %v: no catalogue's", oid)
	}
	if !seq.ReadASN1(&id, cbasn1.OCTET_STRING) || len(id) > 64 || !seq.ReadASN1UTCTime(&l.Made) ||
		!seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !cms.ReadOID(&alg, &oid) || !(alg.Empty() || bytes.Equal(alg, []byte{5, 0})) {
		return nil, malformed("list identifier, date or kind of members")
	}
	l.ID = id
	switch {
	case oid.Equal(oidMembersV1):
		l.Version = 1
	case oid.Equal(oidMembersV2):
		l.Version = 2
	default:
		return nil, malformed("members of kind %v", oid)
	}
	if !seq.ReadASN1(&subjects, cbasn1.SEQUENCE) {
		return nil, malformed("members")
	}
	for !subjects.Empty() {
		if len(l.Members) == MaxMembers {
			return nil, malformed("more than %d members", MaxMembers)
		}
		m, err := parseMember(&subjects)
		if err != nil {
			return nil, err
		}
		l.Members = append(l.Members, *m)
	}
	if seq.Empty() {
		return l, nil
	}
	var wrapped, extensions cryptobyte.String
	if !seq.ReadASN1(&wrapped, explicit0) || !seq.Empty() || !wrapped.ReadASN1(&extensions, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, malformed("attributes of the list")
	}
	for !extensions.Empty() {
		var e, value cryptobyte.String
		if !extensions.ReadASN1(&e, cbasn1.SEQUENCE) || !cms.ReadOID(&e, &oid) || !e.SkipOptionalASN1(cbasn1.BOOLEAN) ||
			!e.ReadASN1(&value, cbasn1.OCTET_STRING) || !e.Empty() || len(l.Attributes) == MaxAttributes {
			return nil, malformed("attribute of the list")
		}
		if oid.Equal(oidNameValue) {
			a, err := parseAttribute(value)
			if err != nil {
				return nil, err
			}
			l.Attributes = append(l.Attributes, *a)
		}
	}
	return l, nil
}

func parseMember(s *cryptobyte.String) (*Member, error) {
	var seq, tag, set cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&tag, cbasn1.OCTET_STRING) || len(tag) == 0 || len(tag) > 1024 ||
		!seq.ReadASN1(&set, cbasn1.SET) || !seq.Empty() {
		return nil, malformed("member")
	}
	m := &Member{Tag: tag}
	for n := 0; !set.Empty(); n++ {
		var attr, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if n == MaxAttributes || !set.ReadASN1(&attr, cbasn1.SEQUENCE) || !cms.ReadOID(&attr, &oid) || !attr.ReadASN1(&values, cbasn1.SET) || !attr.Empty() {
			return nil, malformed("attribute of a member")
		}
		switch {
		case oid.Equal(cms.OIDSpcIndirectData):
			d, err := authenticode.ParseIndirect(values)
			if err != nil {
				return nil, malformed("digest of a member: %v", err)
			}
			if m.Digest != nil {
				return nil, malformed("member with two digests")
			}
			m.Hash, m.Digest = d.Hash, d.Digest
			if d.Type.Equal(authenticode.OIDPEImageData) {
				m.Kind = Image
			}
		case oid.Equal(oidNameValue):
			a, err := parseAttribute(values)
			if err != nil {
				return nil, err
			}
			m.Attributes = append(m.Attributes, *a)
		}
	}
	return m, nil
}

// parseAttribute reads CatNameValue. Values that are not text are shown as they are
// in base64 (flag 0x20000) or with replacements.
func parseAttribute(der []byte) (*Attribute, error) {
	s := cryptobyte.String(der)
	var seq, name, value cryptobyte.String
	var flags int64
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1(&name, cbasn1.Tag(30)) || !seq.ReadASN1Integer(&flags) ||
		!seq.ReadASN1(&value, cbasn1.OCTET_STRING) || !seq.Empty() || len(name)%2 != 0 || len(name) == 0 || len(name) > 512 {
		return nil, malformed("name and value of an attribute")
	}
	var n []uint16
	for i := 0; i < len(name); i += 2 {
		n = append(n, uint16(name[i])<<8|uint16(name[i+1]))
	}
	a := &Attribute{Name: authenticode.PlainText(string(utf16.Decode(n)))}
	if a.Name == "" {
		return nil, malformed("attribute without a name")
	}
	if flags&0x20000 != 0 || len(value)%2 != 0 {
		a.Value = authenticode.PlainText(strings.ToValidUTF8(strings.TrimRight(string(value), "\x00"), "\ufffd"))
	} else {
		var v []uint16
		for i := 0; i < len(value); i += 2 {
			v = append(v, uint16(value[i])|uint16(value[i+1])<<8)
		}
		for len(v) > 0 && v[len(v)-1] == 0 {
			v = v[:len(v)-1]
		}
		a.Value = authenticode.PlainText(string(utf16.Decode(v)))
	}
	if len(a.Value) > maxText {
		a.Value = strings.ToValidUTF8(a.Value[:maxText], "")
	}
	return a, nil
}
