package cms

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attribute is one signed or unsigned attribute: its type and the DER of each
// value (RawValue.FullBytes; the other fields are used when it is empty).
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue
}

// NewAttribute makes an attribute of values that are DER already.
func NewAttribute(oid asn1.ObjectIdentifier, values ...[]byte) Attribute {
	a := Attribute{Type: oid}
	for _, v := range values {
		a.Values = append(a.Values, asn1.RawValue{FullBytes: v})
	}
	return a
}

// encode gives Attribute ::= SEQUENCE { type, SET OF value } (RFC 5652 section 5.3).
func (a Attribute) encode() ([]byte, error) {
	if len(a.Values) == 0 {
		return nil, fmt.Errorf("cms: attribute %v without value", a.Type)
	}
	if len(a.Values) > MaxAttributes {
		return nil, fmt.Errorf("%w: more than %d values in attribute %v", ErrLimit, MaxAttributes, a.Type)
	}
	values := make([][]byte, len(a.Values))
	for i, v := range a.Values {
		der := v.FullBytes
		if len(der) == 0 {
			var err error
			if der, err = asn1.Marshal(v); err != nil {
				return nil, fmt.Errorf("cms: attribute %v: %w", a.Type, err)
			}
		}
		if err := single(der); err != nil {
			return nil, fmt.Errorf("cms: attribute %v: value: %w", a.Type, err)
		}
		values[i] = der
	}
	slices.SortFunc(values, bytes.Compare)
	return encodeAttribute(a.Type, values)
}

func encodeAttribute(oid asn1.ObjectIdentifier, values [][]byte) ([]byte, error) {
	typ, err := oidDER(oid)
	if err != nil {
		return nil, fmt.Errorf("cms: attribute type %v: %w", oid, err)
	}
	set, err := tlv(cbasn1.SET, values...)
	if err != nil {
		return nil, fmt.Errorf("cms: attribute %v: %w", oid, err)
	}
	return tlv(cbasn1.SEQUENCE, typ, set)
}

func parseAttribute(der []byte) (Attribute, error) {
	s := cryptobyte.String(der)
	var seq, set cryptobyte.String
	var a Attribute
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
		!ReadOID(&seq, &a.Type) ||
		!seq.ReadASN1(&set, cbasn1.SET) || !seq.Empty() {
		return a, syntax("attribute")
	}
	values, err := elements(set, MaxAttributes, "values of an attribute")
	if err != nil {
		return a, err
	}
	if len(values) == 0 {
		return a, syntax("attribute without value")
	}
	for _, v := range values {
		if err := walk(v, 0); err != nil {
			return a, err
		}
		t := cbasn1.Tag(v[0])
		inner := cryptobyte.String(v)
		var contents cryptobyte.String
		inner.ReadAnyASN1(&contents, &t)
		a.Values = append(a.Values, asn1.RawValue{
			Class: int(v[0] >> 6), Tag: int(v[0] & 0x1f), IsCompound: v[0]&0x20 != 0,
			Bytes: contents, FullBytes: v,
		})
	}
	return a, nil
}

func parseAttributes(elements [][]byte) ([]Attribute, error) {
	out := make([]Attribute, len(elements))
	for i, e := range elements {
		var err error
		if out[i], err = parseAttribute(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find gives the attributes of one type.
func find(attributes []Attribute, oid asn1.ObjectIdentifier) []Attribute {
	var out []Attribute
	for _, a := range attributes {
		if a.Type.Equal(oid) {
			out = append(out, a)
		}
	}
	return out
}

// looksSigned reports whether content is itself a SET OF Attribute with a
// messageDigest. A signature over such content could as well be one over signed
// attributes, so none is accepted without signed attributes of its own.
func looksSigned(content []byte) bool {
	s := cryptobyte.String(content)
	var set cryptobyte.String
	if !s.ReadASN1(&set, cbasn1.SET) || !s.Empty() {
		return false
	}
	for !set.Empty() {
		var attr cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !set.ReadASN1(&attr, cbasn1.SEQUENCE) || !ReadOID(&attr, &oid) {
			return false
		}
		if oid.Equal(OIDMessageDigest) || oid.Equal(OIDContentType) {
			return true
		}
	}
	return false
}
