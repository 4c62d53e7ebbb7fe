package pkcs11

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/pkcs11/internal/wire"
)

// ErrURI is returned for what is no URI of this package.
var ErrURI = errors.New("pkcs11: malformed URI")

// Limits, in bytes, after decoding.
const (
	maxURI   = 2048
	maxToken = 32  // CK_TOKEN_INFO's fixed fields
	maxLabel = 255 // CKA_LABEL
	maxID    = 255 // CKA_ID
)

// URI is a PKCS #11 URI (RFC 7512), of which this package knows the attributes
// below. Empty members are absent; at least one of Token, Serial and SlotID, and
// for keys one of Object and ID, must be there. The zero value is no URI.
type URI struct {
	Token        string // CK_TOKEN_INFO label
	Manufacturer string
	Serial       string
	Model        string
	SlotID       *uint64
	Object       string // CKA_LABEL
	ID           string // CKA_ID, bytes
	Type         string // "private" or absent
}

// ParseURI parses the URI of a key. It is strict: attributes that are not in
// URI, repeated or empty ones, query attributes, bytes that RFC 7512 wants
// percent-encoded and control characters are refused. PINs have no place in
// URIs: pin-value is refused everywhere.
func ParseURI(s string) (URI, error) {
	u, query, err := parseURI(s)
	if err != nil {
		return URI{}, err
	}
	if query != "" {
		return URI{}, fmt.Errorf("%w: a key's URI has no query", ErrURI)
	}
	if u.Object == "" && u.ID == "" {
		return URI{}, fmt.Errorf("%w: names no key: object or id is missing", ErrURI)
	}
	return u, nil
}

// ParseTokenURI parses the URI of a token in a configuration, where a
// pin-source may follow: "pkcs11:token=hsm1?pin-source=file:/run/keys/pin".
func ParseTokenURI(s string) (u URI, pinSource string, err error) {
	u, query, err := parseURI(s)
	if err != nil {
		return URI{}, "", err
	}
	if u.Object != "" || u.ID != "" || u.Type != "" {
		return URI{}, "", fmt.Errorf("%w: a token's URI names no object", ErrURI)
	}
	if query == "" {
		return u, "", nil
	}
	raw, ok := strings.CutPrefix(query, "pin-source=")
	if !ok {
		return URI{}, "", fmt.Errorf("%w: the only query attribute is pin-source", ErrURI)
	}
	pinSource, err = unescape(raw, queryBytes)
	if err != nil || text(pinSource, maxURI) != nil {
		return URI{}, "", fmt.Errorf("%w: pin-source", ErrURI)
	}
	return u, pinSource, nil
}

// parseURI never quotes its input in an error: it may hold a PIN.
func parseURI(s string) (u URI, query string, err error) {
	if len(s) > maxURI {
		return URI{}, "", fmt.Errorf("%w: longer than %d bytes", ErrURI, maxURI)
	}
	rest, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok {
		return URI{}, "", fmt.Errorf("%w: does not begin with \"pkcs11:\"", ErrURI)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	if hasQuery && query == "" {
		return URI{}, "", fmt.Errorf("%w: empty query", ErrURI)
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(path, ";") {
		name, raw, ok := strings.Cut(part, "=")
		if !ok || raw == "" {
			return URI{}, "", fmt.Errorf("%w: an attribute is not name=value", ErrURI)
		}
		if seen[name] {
			return URI{}, "", fmt.Errorf("%w: %s occurs twice", ErrURI, known(name))
		}
		seen[name] = true
		value, err := unescape(raw, pathBytes)
		if err != nil {
			return URI{}, "", fmt.Errorf("%w: value of %s", err, known(name))
		}
		if err := u.set(name, value); err != nil {
			return URI{}, "", err
		}
	}
	if u.Token == "" && u.Serial == "" && u.SlotID == nil {
		return URI{}, "", fmt.Errorf("%w: names no token: token, serial or slot-id is missing", ErrURI)
	}
	return u, query, nil
}

func (u *URI) set(name, value string) error {
	limit := maxToken
	var to *string
	switch name {
	case "token":
		to = &u.Token
	case "manufacturer":
		to = &u.Manufacturer
	case "serial":
		to = &u.Serial
	case "model":
		to = &u.Model
	case "object":
		to, limit = &u.Object, maxLabel
	case "id":
		if len(value) > maxID {
			return fmt.Errorf("%w: id is longer than %d bytes", ErrURI, maxID)
		}
		u.ID = value
		return nil
	case "type":
		if value != "private" {
			return fmt.Errorf("%w: the only type is private", ErrURI)
		}
		u.Type = value
		return nil
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != value {
			return fmt.Errorf("%w: slot-id is no number", ErrURI)
		}
		u.SlotID = &n
		return nil
	case "pin-value":
		return fmt.Errorf("%w: a PIN must not be in a URI", ErrURI)
	default:
		return fmt.Errorf("%w: unknown attribute", ErrURI)
	}
	if err := text(value, limit); err != nil {
		return fmt.Errorf("%w: value of %s", err, name)
	}
	if limit == maxToken && strings.HasSuffix(value, " ") {
		return fmt.Errorf("%w: value of %s ends in a space, which tokens cannot tell from padding", ErrURI, name)
	}
	*to = value
	return nil
}

// known keeps what may be a secret out of errors.
func known(name string) string {
	switch name {
	case "token", "manufacturer", "serial", "model", "object", "id", "type", "slot-id":
		return name
	}
	return "an unknown attribute"
}

// text checks a value that people read.
func text(s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%w: empty or longer than %d bytes", ErrURI, limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: not UTF-8", ErrURI)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: character that does not print", ErrURI)
		}
	}
	return nil
}

// The bytes that stand for themselves, besides letters and digits (RFC 7512
// section 2.3: unreserved, pk11-res-avail and "&" or "/" and "|").
const (
	pathBytes  = "-._~:[]@!$'()*+,=&"
	queryBytes = "-._~:[]@!$'()*+,=/?|"
)

func itself(c byte, more string) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(more, c) >= 0
}

func unescape(s, more string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !itself(c, more) {
				return "", fmt.Errorf("%w: a byte must be percent-encoded", ErrURI)
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: percent sign", ErrURI)
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%w: percent sign", ErrURI)
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}

func escape(b *strings.Builder, s, more string) {
	const hexa = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; itself(c, more) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexa[c>>4], hexa[c&15]})
		}
	}
}

// String is the URI in one form: attributes in a fixed order, encoded only where
// they must be, but for id, of which every byte is. What String returns parses
// to the same URI.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString("pkcs11:")
	put := func(name, value, more string) {
		if value == "" {
			return
		}
		if b.Len() > len("pkcs11:") {
			b.WriteByte(';')
		}
		b.WriteString(name + "=")
		if name == "id" {
			for i := range len(value) {
				fmt.Fprintf(&b, "%%%02X", value[i])
			}
			return
		}
		escape(&b, value, more)
	}
	put("token", u.Token, pathBytes)
	put("manufacturer", u.Manufacturer, pathBytes)
	put("serial", u.Serial, pathBytes)
	put("model", u.Model, pathBytes)
	if u.SlotID != nil {
		put("slot-id", strconv.FormatUint(*u.SlotID, 10), pathBytes)
	}
	put("object", u.Object, pathBytes)
	put("id", u.ID, pathBytes)
	put("type", u.Type, pathBytes)
	return b.String()
}

// Key is the URI as package key names it.
func (u URI) Key() key.URI { return key.URI(u.String()) }

func (u URI) selector() wire.Selector {
	s := wire.Selector{Label: u.Token, Serial: u.Serial, Manufacturer: u.Manufacturer, Model: u.Model}
	if u.SlotID != nil {
		s.HasSlot, s.Slot = true, *u.SlotID
	}
	return s
}
