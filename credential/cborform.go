package credential

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// encodeCBOR is deterministic CBOR, RFC 8949 section 4.2.1.
func encodeCBOR(v any) ([]byte, error) {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return m.Marshal(v)
}

// unmarshalCBOR decodes b strictly but for unknown members of a map, which are
// an error only when closed is true.
func unmarshalCBOR(b []byte, v any, closed bool) error {
	o := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  8,
		MaxArrayElements: 64,
		MaxMapPairs:      64,
	}
	if closed {
		o.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	}
	m, err := o.DecMode()
	if err != nil {
		return err
	}
	if err := m.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	return nil
}

// decodeCBOR decodes into v what encodeCBOR would make of v, and nothing else.
func decodeCBOR(b []byte, v any) error {
	if err := unmarshalCBOR(b, v, true); err != nil {
		return err
	}
	again, err := encodeCBOR(v)
	if err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	if !bytes.Equal(again, b) {
		return errors.New("cbor: not in its deterministic encoding")
	}
	return nil
}
