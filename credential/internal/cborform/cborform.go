// Package cborform is the CBOR of credentials: deterministic out, strict in. Members of
// maps stand once and are told by their exact names; nothing is of indefinite length,
// tagged, or nested deeper or longer than credentials and attestations are.
package cborform

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

func mode(closed bool) (cbor.DecMode, error) {
	o := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
		MaxArrayElements:  64,
		MaxMapPairs:       64,
	}
	if closed {
		o.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	}
	return o.DecMode()
}

// Encode is deterministic CBOR, RFC 8949 section 4.2.1.
func Encode(v any) ([]byte, error) {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return m.Marshal(v)
}

// Read decodes b strictly but for unknown members of a map, which are an error only
// when closed is true.
func Read(b []byte, v any, closed bool) error {
	m, err := mode(closed)
	if err != nil {
		return err
	}
	if err := m.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	return nil
}

// Decode decodes into v what Encode would make of v, and nothing else.
func Decode(b []byte, v any) error {
	if err := Read(b, v, true); err != nil {
		return err
	}
	again, err := Encode(v)
	if err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	if !bytes.Equal(again, b) {
		return errors.New("cbor: not in its deterministic encoding")
	}
	return nil
}

// AfterFirst is what follows the first item of b.
func AfterFirst(b []byte) (rest []byte, err error) {
	m, err := mode(false)
	if err != nil {
		return nil, err
	}
	var first cbor.RawMessage
	if rest, err = m.UnmarshalFirst(b, &first); err != nil {
		return nil, fmt.Errorf("cbor: %w", err)
	}
	return rest, nil
}
