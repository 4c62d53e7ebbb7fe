package envelope

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/format"
)

// ErrHeader is wrapped for what is no header of a COSE message.
var ErrHeader = errors.New("envelope: malformed header")

var (
	headerMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode())
	valueMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode())
)

func must(m cbor.DecMode, err error) cbor.DecMode {
	if err != nil {
		panic(err)
	}
	return m
}

const majorMap = 5 // RFC 8949 section 3.1

// Header reads the map of a COSE header (RFC 9052 section 3): its values, as they are
// encoded, by their labels, int64 or string. It takes the map apart itself: a general
// decoder looks through tags, so that c4a0 were an empty map too, and a label could
// be written in many ways. Values may have tags (that of x5u has one).
func Header(b []byte) (map[any][]byte, error) {
	if err := headerMode.Wellformed(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	n, b, ok := mapHead(b)
	if !ok {
		return nil, fmt.Errorf("%w: it is no map in its shortest form", ErrHeader)
	}
	m := make(map[any][]byte, n)
	for range n {
		label, rest, err := first(b)
		if err != nil {
			return nil, err
		}
		k, err := headerLabel(label)
		if err != nil {
			return nil, err
		}
		if _, twice := m[k]; twice {
			return nil, fmt.Errorf("%w: label %.40v twice", ErrHeader, k)
		}
		value, rest, err := first(rest)
		if err != nil {
			return nil, err
		}
		m[k], b = value, rest
	}
	return m, nil
}

// mapHead reads the head of a well-formed map of less than 256 pairs.
func mapHead(b []byte) (n int, rest []byte, ok bool) {
	switch x := b[0] & 31; {
	case b[0]>>5 != majorMap:
		return 0, nil, false
	case x < 24:
		return int(x), b[1:], true
	case x == 24 && b[1] >= 24:
		return int(b[1]), b[2:], true
	}
	return 0, nil, false
}

// first splits off the first item, with its tags.
func first(b []byte) (item, rest []byte, err error) {
	var raw cbor.RawMessage
	if rest, err = headerMode.UnmarshalFirst(b, &raw); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return b[:len(b)-len(rest)], rest, nil
}

func headerLabel(b []byte) (any, error) {
	v, err := HeaderValue(b)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string, int64:
		return v, nil
	}
	return nil, fmt.Errorf("%w: label of type %T", ErrHeader, v)
}

// HeaderValue decodes a value of [Header] that is an int64, a string, a []byte, a
// bool or a []any of such: in its only encoding, without tags and null.
func HeaderValue(b []byte) (any, error) {
	var v any
	if err := valueMode.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	v, err := plain(v)
	if err != nil {
		return nil, err
	}
	if again, err := format.Encode(v); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %w", ErrHeader, format.ErrEncoding)
	}
	return v, nil
}

func plain(v any) (any, error) {
	switch x := v.(type) {
	case uint64:
		if x < 1<<62 {
			return int64(x), nil
		}
	case int64, string, []byte, bool:
		return x, nil
	case []any:
		for i := range x {
			var err error
			if x[i], err = plain(x[i]); err != nil {
				return nil, err
			}
		}
		return x, nil
	}
	return nil, fmt.Errorf("%w: value of type %T", ErrHeader, v)
}
