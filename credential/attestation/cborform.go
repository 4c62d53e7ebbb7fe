package attestation

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// object is an attestation object, section 6.5.4.
type object struct {
	Format    string          `cbor:"fmt"`
	Statement cbor.RawMessage `cbor:"attStmt"`
	AuthData  []byte          `cbor:"authData"`
}

func parseObject(b []byte) (*object, error) {
	if n := len(b); n == 0 || n > MaxObject {
		return nil, fmt.Errorf("attestation object of %d bytes: want 1 to %d", n, MaxObject)
	}
	var o object
	if err := unmarshalCBOR(b, &o, true); err != nil {
		return nil, fmt.Errorf("attestation object: %w", err)
	}
	// Formats are named as section 8.1 has it, and shown to people.
	if len(o.Format) == 0 || len(o.Format) > 32 || bytes.ContainsFunc([]byte(o.Format), func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == '"' || r == '\\' }) {
		return nil, errors.New("attestation object: want a format of 1 to 32 printable characters")
	}
	if len(o.Statement) == 0 || o.Statement[0]>>5 != 5 {
		return nil, errors.New("attestation object: the statement is no map")
	}
	return &o, nil
}

func decMode(closed bool) (cbor.DecMode, error) {
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

// unmarshalCBOR decodes b strictly but for unknown members of a map, which are an
// error only when closed is true.
func unmarshalCBOR(b []byte, v any, closed bool) error {
	m, err := decMode(closed)
	if err != nil {
		return err
	}
	if err := m.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cbor: %w", err)
	}
	return nil
}

func encodeCBOR(v any) ([]byte, error) {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return m.Marshal(v)
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

// firstCBOR is what follows the first item of b.
func firstCBOR(b []byte) (rest []byte, err error) {
	m, err := decMode(false)
	if err != nil {
		return nil, err
	}
	var first cbor.RawMessage
	if rest, err = m.UnmarshalFirst(b, &first); err != nil {
		return nil, fmt.Errorf("cbor: %w", err)
	}
	return rest, nil
}

// checkExtensions wants a map by name, whatever is in it, and nothing after it.
func checkExtensions(b []byte) error {
	var ext map[string]cbor.RawMessage
	if err := unmarshalCBOR(b, &ext, false); err != nil {
		return err
	}
	if ext == nil {
		return errors.New("want a map")
	}
	return nil
}
