package attestation

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
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
	if err := cborform.Read(b, &o, true); err != nil {
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

// checkExtensions wants a map by name, whatever is in it, and nothing after it.
func checkExtensions(b []byte) error {
	var ext map[string]cbor.RawMessage
	if err := cborform.Read(b, &ext, false); err != nil {
		return err
	}
	if ext == nil {
		return errors.New("want a map")
	}
	return nil
}
