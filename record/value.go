package record

import (
	"crypto/sha256"
	"encoding/binary"
)

const fieldDomain = "greatseal field v1"

// FieldDigestOf is the digest of a field's canonical value:
//
//	SHA-256(domain || len(name) as 2 bytes || name || 0x00)           absent
//	SHA-256(domain || len(name) as 2 bytes || name || 0x01 || value)  else
//
// with the domain "greatseal field v1". An empty value is absent.
func FieldDigestOf(name, value string) [sha256.Size]byte {
	var room [512]byte
	b := append(room[:0], fieldDomain...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	if value == "" {
		return sha256.Sum256(append(b, 0))
	}
	b = append(b, 1)
	if len(b)+len(value) <= len(room) {
		return sha256.Sum256(append(b, value...))
	}
	h := sha256.New()
	h.Write(b)
	for len(value) > 0 { // in pieces: a conversion of the whole would copy it
		n := copy(room[:], value)
		h.Write(room[:n])
		value = value[n:]
	}
	return [sha256.Size]byte(h.Sum(nil))
}
