package codesign

import (
	"fmt"

	"github.com/greatseal-io/greatseal/cms"
)

// ParseCMS reads a CMS message as Apple's tools write it, with lengths that are not in
// DER: provisioning profiles are such messages.
func ParseCMS(b []byte) (*cms.SignedData, error) {
	der, rest, err := normalize(b, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, malformed("%d bytes after the CMS message", len(rest))
	}
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("codesign: %w", err)
	}
	return sd, nil
}

// normalize rewrites a BER element with definite lengths in their shortest form,
// and texts of octets that were cut into pieces as one, as DER has them: Apple's
// tools write the outer structures of CMS signatures with indefinite lengths.
// What is signed (attributes) and certificates are DER within, and do not change.
// It returns what follows the element.
func normalize(b []byte, depth int) (der, rest []byte, err error) {
	if depth > maxBER {
		return nil, nil, malformed("CMS nested deeper than %d levels", maxBER)
	}
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return nil, nil, malformed("CMS is cut off")
	}
	tag, constructed := b[0], b[0]&0x20 != 0
	content, rest, indefinite, err := berContent(b)
	if err != nil {
		return nil, nil, err
	}
	if !constructed {
		return element(tag, content), rest, nil
	}
	var inner []byte
	for {
		if indefinite && len(content) >= 2 && content[0] == 0 && content[1] == 0 {
			rest = content[2:]
			break
		}
		if !indefinite && len(content) == 0 {
			break
		}
		var one []byte
		if one, content, err = normalize(content, depth+1); err != nil {
			return nil, nil, err
		}
		if tag == 0x24 { // a constructed OCTET STRING is the sum of its pieces
			if one[0] != 0x04 {
				return nil, nil, malformed("CMS has octets of another kind in pieces")
			}
			piece, _, _, err := berContent(one)
			if err != nil {
				return nil, nil, err
			}
			one = piece
		}
		inner = append(inner, one...)
	}
	if tag == 0x24 {
		tag = 0x04
	}
	return element(tag, inner), rest, nil
}

const maxBER = 48

// berContent splits an element; of an indefinite one the content is all that
// follows its header.
func berContent(b []byte) (content, rest []byte, indefinite bool, err error) {
	n := int(b[1])
	b, header := b[2:], b[0]
	switch {
	case n == 0x80:
		if header&0x20 == 0 {
			return nil, nil, false, malformed("CMS has a primitive element without a length")
		}
		return b, nil, true, nil
	case n > 0x80:
		size := n & 0x7f
		if size > 4 || size > len(b) {
			return nil, nil, false, malformed("CMS has a length of %d bytes", size)
		}
		n = 0
		for _, c := range b[:size] {
			n = n<<8 | int(c)
		}
		b = b[size:]
	}
	if n > len(b) {
		return nil, nil, false, malformed("CMS is cut off")
	}
	return b[:n], b[n:], false, nil
}

func element(tag byte, content []byte) []byte {
	n := len(content)
	b := []byte{tag}
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 1<<8:
		b = append(b, 0x81, byte(n))
	case n < 1<<16:
		b = append(b, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		b = append(b, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		b = append(b, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, content...)
}
