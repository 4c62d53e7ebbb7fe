package pe

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format/authenticode"
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
	authenticode.Signature
	entry int
}

// signatures parses every entry and what is nested in it. Entries of other kinds
// are refused, unless they are to be skipped.
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
		sigs, err := authenticode.ParseNested(entries[i].der, cms.OIDSpcIndirectData, label, nested)
		if err != nil {
			return nil, err
		}
		nested += len(sigs) - 1
		for _, s := range sigs {
			out = append(out, signature{s, i})
		}
	}
	return out, nil
}

// plain are signatures without their places.
func plain(sigs []signature) (out []authenticode.Signature) {
	for _, s := range sigs {
		out = append(out, s.Signature)
	}
	return out
}
