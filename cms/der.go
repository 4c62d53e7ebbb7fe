package cms

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	tagExplicit0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	tagExplicit1 = cbasn1.Tag(1).ContextSpecific().Constructed()
	tagSKI       = cbasn1.Tag(0).ContextSpecific()
)

func syntax(what string) error { return fmt.Errorf("%w: %s", ErrSyntax, what) }

// Split cuts the first DER element off b: signatures in files are often padded.
func Split(b []byte) (der, rest []byte, err error) {
	if len(b) > 1 && b[1] == 0x80 {
		return nil, nil, ErrIndefinite
	}
	s := cryptobyte.String(b)
	var e cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1Element(&e, &tag) {
		return nil, nil, syntax("no DER element")
	}
	return e, s, nil
}

// single reports whether b is exactly one DER element, nested no deeper than
// MaxDepth, with definite lengths everywhere.
func single(b []byte) error {
	der, rest, err := Split(b)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return syntax("bytes after element")
	}
	return walk(der, 0)
}

// walk checks tags, lengths and nesting of a row of elements.
func walk(b []byte, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: nested deeper than %d", ErrLimit, MaxDepth)
	}
	s := cryptobyte.String(b)
	for !s.Empty() {
		if len(s) > 1 && s[1] == 0x80 {
			return ErrIndefinite
		}
		var v cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1(&v, &tag) {
			return syntax("element")
		}
		if tag&0x20 == 0 {
			continue
		}
		if err := walk(v, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// inOrder reports whether elements are in DER SET OF order (X.690 section 11.6).
func inOrder(elements [][]byte) bool {
	return slices.IsSortedFunc(elements, bytes.Compare)
}

// insert adds an element where SET OF order wants it, or at the end when the
// others are not in order: their bytes stay as they are either way.
func insert(elements [][]byte, e []byte) [][]byte {
	if !inOrder(elements) {
		return append(slices.Clone(elements), e)
	}
	i, _ := slices.BinarySearchFunc(elements, e, bytes.Compare)
	return slices.Insert(slices.Clone(elements), i, e)
}

// elements splits the contents of a SET OF.
func elements(s cryptobyte.String, max int, what string) ([][]byte, error) {
	var out [][]byte
	for !s.Empty() {
		if len(out) == max {
			return nil, fmt.Errorf("%w: more than %d %s", ErrLimit, max, what)
		}
		if len(s) > 1 && s[1] == 0x80 {
			return nil, ErrIndefinite
		}
		var e cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1Element(&e, &tag) {
			return nil, syntax(what)
		}
		out = append(out, e)
	}
	return out, nil
}

// maxOID is the length of the longest object identifier in DER that is read: a
// number takes eight bytes of memory, and several of text, for each of its own.
const maxOID = 64

// ReadOID reads an OBJECT IDENTIFIER of at most 64 bytes, and advances s.
func ReadOID(s *cryptobyte.String, out *asn1.ObjectIdentifier) bool {
	ahead := *s
	var v cryptobyte.String
	return ahead.ReadASN1(&v, cbasn1.OBJECT_IDENTIFIER) && len(v) <= maxOID && s.ReadASN1ObjectIdentifier(out)
}

func tlv(tag cbasn1.Tag, contents ...[]byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, c := range contents {
			b.AddBytes(c)
		}
	})
	return b.Bytes()
}

func oidDER(oid asn1.ObjectIdentifier) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.Bytes()
}
