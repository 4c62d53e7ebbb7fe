package sqlplatform

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/record"
)

// Records are found by locators: eight bytes of the table's digest, then the key, or
// the key's digest where it is long. Neighbouring keys stay neighbours, so that rows
// that are written in key order lie in order in the index. A locator only finds: what a
// signature is of stands in its statement.
const (
	locatorTable = 8
	locatorPlain = 64
)

func locator(ref record.Ref) []byte {
	b := prefix(ref.Table)
	key := encodeKey(ref.Key)
	if len(key) <= locatorPlain {
		return append(append(b, 0), key...)
	}
	d := sha256.Sum256(key)
	return append(append(b, 1), d[:]...)
}

func prefix(table string) []byte {
	d := sha256.Sum256([]byte(table))
	return append(make([]byte, 0, locatorTable+1+locatorPlain), d[:locatorTable]...)
}

// encodeKey joins the parts of a key: a NUL is written as 00 FF, a part ends with
// 00 00. The end of a key of one part is left out.
func encodeKey(key []string) []byte {
	if len(key) == 1 {
		return append([]byte{}, key[0]...)
	}
	var b []byte
	for _, part := range key {
		for i := range len(part) {
			if b = append(b, part[i]); part[i] == 0 {
				b = append(b, 0xff)
			}
		}
		b = append(b, 0, 0)
	}
	return b
}

// decodeKey undoes encodeKey for a key of n parts.
func decodeKey(b []byte, n int) ([]string, error) {
	if n == 1 {
		return []string{string(b)}, nil
	}
	var key []string
	var part []byte
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != 0:
			part = append(part, b[i])
		case i+1 == len(b):
			return nil, errors.New("platform: a stored key is cut")
		case b[i+1] == 0xff:
			part = append(part, 0)
			i++
		case b[i+1] == 0:
			key, part = append(key, string(part)), nil
			i++
		default:
			return nil, errors.New("platform: a stored key is damaged")
		}
	}
	if len(part) > 0 || len(key) != n {
		return nil, fmt.Errorf("platform: a stored key has not %d parts", n)
	}
	return key, nil
}
