package authenticode

import (
	"encoding/asn1"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/greatseal-io/greatseal/cms"
)

// Contents is an element without its tag and length: what PKCS #7 digests.
func Contents(der []byte) ([]byte, error) {
	if len(der) < 2 || der[0]&0x1f == 0x1f || der[1] == 0x80 {
		return nil, malformed("not DER")
	}
	n := 2
	if der[1] > 0x80 {
		n += int(der[1] & 0x7f)
	}
	if n > len(der) {
		return nil, malformed("not DER")
	}
	return der[n:], nil
}

// children cuts the contents of one element into elements.
func children(der []byte) ([][]byte, error) {
	rest, err := Contents(der)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for len(rest) > 0 {
		var e []byte
		if e, rest, err = cms.Split(rest); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// join makes an element of others.
func join(tag byte, parts [][]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := []byte{tag, byte(n)}
	if n >= 0x80 {
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		for b[0] == 0 {
			b = b[1:]
		}
		out = append([]byte{tag, 0x80 | byte(len(b))}, b...)
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// edit replaces the child of der that stands at the end of path; a negative number
// counts from the last child. An edit that gives nothing takes the child away, and
// every element on the path that it leaves without children.
func edit(der []byte, path []int, change func([]byte) ([]byte, error)) ([]byte, error) {
	if len(path) == 0 {
		return change(der)
	}
	parts, err := children(der)
	if err != nil {
		return nil, err
	}
	i := path[0]
	if i < 0 {
		i += len(parts)
	}
	if i < 0 || i >= len(parts) {
		return nil, malformed("element is missing")
	}
	if parts[i], err = edit(parts[i], path[1:], change); err != nil {
		return nil, err
	}
	if len(parts[i]) == 0 {
		if parts = slices.Delete(parts, i, i+1); len(parts) == 0 {
			return nil, nil
		}
	}
	return join(der[0], parts), nil
}

// editNested hands every signature nested in outer to change, with its number, and
// puts in its place what comes back; nothing takes it away. All other bytes but
// lengths stay.
func editNested(outer []byte, change func(n int, der []byte) []byte) ([]byte, error) {
	n := 0
	// ContentInfo, [0], SignedData, signerInfos, the one SignerInfo, [1] at its end.
	return edit(outer, []int{1, 0, -1, 0, -1}, func(attrs []byte) ([]byte, error) {
		list, err := children(attrs)
		if err != nil {
			return nil, err
		}
		var kept [][]byte
		for _, a := range list {
			parts, err := children(a)
			if err != nil {
				return nil, err
			}
			s := cryptobyte.String(a)
			var inner cryptobyte.String
			var oid asn1.ObjectIdentifier
			if !s.ReadASN1(&inner, 0x30) || !cms.ReadOID(&inner, &oid) || len(parts) != 2 {
				return nil, malformed("unsigned attribute")
			}
			if !oid.Equal(cms.OIDNestedSignature) {
				kept = append(kept, a)
				continue
			}
			values, err := children(parts[1])
			if err != nil {
				return nil, err
			}
			var left [][]byte
			for _, v := range values {
				n++
				if v = change(n, v); len(v) > 0 {
					left = append(left, v)
				}
			}
			if len(left) > 0 {
				kept = append(kept, join(a[0], [][]byte{parts[0], join(parts[1][0], left)}))
			}
		}
		if len(kept) == 0 {
			return nil, nil
		}
		return join(attrs[0], kept), nil
	})
}
