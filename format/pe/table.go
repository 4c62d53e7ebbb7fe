package pe

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/greatseal-io/greatseal/cms"
)

const (
	certRevision2  = 0x0200
	certPKCS7      = 0x0002
	certHeaderSize = 8
)

// entry is one WIN_CERTIFICATE of a certificate table.
type entry struct {
	revision, kind uint16
	raw            []byte // with header and padding
	der            []byte // of the PKCS #7, without padding; nil for other kinds
}

func (e *entry) understood() bool { return e.revision == certRevision2 && e.kind == certPKCS7 }

// unknown says for people, and as an error, what an entry is.
func (e *entry) unknown(i int) error {
	return fmt.Errorf("pe: entry %d of the certificate table has revision %#x and type %#x: only PKCS #7 signatures (0x200, 0x2) are understood", i+1, e.revision, e.kind)
}

// parseTable cuts a certificate table into its entries. Between a PKCS #7 and
// the next entry there may be up to seven zeros and nothing else: what stands
// there no signature covers (the padding check of WinVerifyTrust, MS13-098).
func parseTable(b []byte) ([]entry, error) {
	var out []entry
	for n := 1; len(b) > 0; n++ {
		if n > maxEntries {
			return nil, malformed("more than %d entries in the certificate table", maxEntries)
		}
		if len(b) < certHeaderSize {
			return nil, malformed("certificate table ends within entry %d", n)
		}
		length := int64(le32(b))
		if length <= certHeaderSize || length > int64(len(b)) {
			return nil, malformed("entry %d of the certificate table has %d bytes of %d", n, length, len(b))
		}
		next := length + padding(length)
		if next > int64(len(b)) {
			return nil, malformed("certificate table ends within the padding of entry %d", n)
		}
		e := entry{revision: le16(b[4:]), kind: le16(b[6:]), raw: b[:next]}
		if e.understood() {
			// The DER may end up to seven bytes before the entry does.
			rest := cryptobyte.String(b[certHeaderSize:next])
			der, pad, err := cms.Split(rest)
			if err != nil {
				return nil, malformed("entry %d of the certificate table is no PKCS #7 signature: %v", n, err)
			}
			if len(pad) >= 8 || slices.ContainsFunc(pad, func(c byte) bool { return c != 0 }) {
				return nil, malformed("%d bytes after the signature in entry %d of the certificate table: only padding may stand there", len(pad), n)
			}
			if exact := int64(len(der)) + certHeaderSize; length != exact && length != next {
				return nil, malformed("entry %d of the certificate table has %d bytes: want %d, or %d with padding", n, length, exact, exact+padding(exact))
			}
			e.der = der
		} else if slices.ContainsFunc(b[length:next], func(c byte) bool { return c != 0 }) {
			return nil, malformed("padding of entry %d of the certificate table is not zero", n)
		}
		out = append(out, e)
		b = b[next:]
	}
	return out, nil
}

// newEntry wraps a PKCS #7: its length counts the padding, as signtool's does.
func newEntry(der []byte) []byte {
	n := certHeaderSize + int64(len(der))
	n += padding(n)
	out := make([]byte, 0, n)
	out = binary.LittleEndian.AppendUint32(out, uint32(n))
	out = binary.LittleEndian.AppendUint16(out, certRevision2)
	out = binary.LittleEndian.AppendUint16(out, certPKCS7)
	out = append(out, der...)
	return append(out, make([]byte, n-int64(len(out)))...)
}

// signature is one SignedData in a certificate table: of an entry, or nested in
// that of an entry.
type signature struct {
	label  string
	entry  int
	nested bool
	sd     *cms.SignedData
	signer *cms.ParsedSigner
}

// signatures parses every entry and what is nested in it. A signature nested in
// a nested one is refused: Windows does not look there. So are entries of other
// kinds, unless they are to be skipped.
func signatures(entries []entry, skip bool) ([]signature, error) {
	var out []signature
	nested := 0
	for i := range entries {
		if !entries[i].understood() {
			if skip {
				continue
			}
			return nil, entries[i].unknown(i)
		}
		label := "primary"
		if i > 0 {
			label = fmt.Sprintf("entry %d", i+1)
		}
		s, err := parseSignature(entries[i].der, label, i)
		if err != nil {
			return nil, err
		}
		out = append(out, *s)
		for _, a := range s.signer.Unsigned {
			if !a.Type.Equal(cms.OIDNestedSignature) {
				continue
			}
			for _, v := range a.Values {
				if nested++; nested > maxNested {
					return nil, malformed("more than %d nested signatures", maxNested)
				}
				n, err := parseSignature(v.FullBytes, fmt.Sprintf("nested %d", nested), i)
				if err != nil {
					return nil, err
				}
				if _, deeper := n.signer.UnsignedAttribute(cms.OIDNestedSignature); deeper {
					return nil, malformed("%s signature has signatures nested in it", n.label)
				}
				n.nested = true
				out = append(out, *n)
			}
		}
	}
	return out, nil
}

func parseSignature(der []byte, label string, entry int) (*signature, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("pe: %s signature: %w", label, err)
	}
	switch {
	case !sd.Type.Equal(cms.OIDSpcIndirectData):
		return nil, fmt.Errorf("pe: %s signature: content is of type %v, not Authenticode's", label, sd.Type)
	case !sd.PKCS7 || sd.ContentRaw == nil:
		return nil, fmt.Errorf("pe: %s signature: content is not in the form of PKCS #7", label)
	case len(sd.Signers) != 1:
		return nil, fmt.Errorf("pe: %s signature: %d signers: want one", label, len(sd.Signers))
	}
	return &signature{label: label, entry: entry, sd: sd, signer: sd.Signers[0]}, nil
}

// replaceDER returns der with the element of n bytes at offset at, at any depth,
// replaced by with, and the lengths around it adapted. Elements that hold nothing
// of it keep every byte.
func replaceDER(der []byte, at, n int, with []byte) ([]byte, error) {
	if at == 0 && len(der) == n {
		return with, nil
	}
	s := cryptobyte.String(der)
	head, err := derHeader(der)
	if err != nil || !s.Skip(head) || at < head || at+n > len(der) {
		return nil, malformed("element to replace is not where it was found")
	}
	var contents []byte
	for pos := head; pos < len(der); {
		child, _, err := cms.Split(der[pos:])
		if err != nil {
			return nil, err
		}
		if at >= pos && at < pos+len(child) {
			r, err := replaceDER(child, at-pos, n, with)
			if err != nil {
				return nil, err
			}
			contents = append(contents, r...)
		} else {
			contents = append(contents, child...)
		}
		pos += len(child)
	}
	return append(derLength(der[0], len(contents)), contents...), nil
}

// derHeader is the length of tag and length of the element at the start of b.
func derHeader(b []byte) (int, error) {
	if len(b) < 2 || b[0]&0x1f == 0x1f || b[1] == 0x80 {
		return 0, malformed("not DER")
	}
	if b[1] < 0x80 {
		return 2, nil
	}
	return 2 + int(b[1]&0x7f), nil
}

func derLength(tag byte, n int) []byte {
	if n < 0x80 {
		return []byte{tag, byte(n)}
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	for b[0] == 0 {
		b = b[1:]
	}
	return append([]byte{tag, 0x80 | byte(len(b))}, b...)
}
