package credential

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/credential/internal/cborform"
	"github.com/greatseal-io/greatseal/sigalg"
)

// The limits of a passkey's parts. A credential id has at most 1023 bytes
// (WebAuthn section 4, "credential ID").
const (
	maxCredentialID = 1023
	maxCOSEKey      = 2048
	maxOrigins      = 16
)

// passkeyText is the text form before base64url. A new member takes the next
// number; none is ever reused.
type passkeyText struct {
	CredentialID   []byte   `cbor:"1,keyasint"`
	COSEKey        []byte   `cbor:"2,keyasint"`
	RPID           string   `cbor:"3,keyasint"`
	Origins        []string `cbor:"4,keyasint"`
	BackupEligible bool     `cbor:"5,keyasint"`
}

// Passkey is a WebAuthn credential, bound to a relying party and to the origins
// from which it may be used. The zero value verifies nothing.
type Passkey struct {
	t      passkeyText
	text   string
	pub    crypto.PublicKey
	scheme sigalg.Scheme
}

// NewPasskey is the credential of a registered passkey: the credential id and
// the COSE_Key of its attested credential data, the relying party's id
// ("example.com"), the exact origins that may ask for signatures
// ("https://seal.example.com"; http only for localhost) in any order, and the
// backup-eligible flag of the registration. The error wraps [ErrCredential].
func NewPasskey(id, cosePublicKey []byte, rpID string, origins []string, backupEligible bool) (*Passkey, error) {
	t := passkeyText{
		CredentialID:   bytes.Clone(id),
		COSEKey:        bytes.Clone(cosePublicKey),
		RPID:           rpID,
		Origins:        slices.Sorted(slices.Values(origins)),
		BackupEligible: backupEligible,
	}
	return newPasskey(t)
}

func parsePasskey(text string) (*Passkey, error) {
	b, err := decodeBase64(base64.RawURLEncoding, text)
	if err != nil {
		return nil, refuse("passkey: %w", err)
	}
	var t passkeyText
	if err := cborform.Decode(b, &t); err != nil {
		return nil, refuse("passkey: %w", err)
	}
	return newPasskey(t)
}

func newPasskey(t passkeyText) (*Passkey, error) {
	if n := len(t.CredentialID); n == 0 || n > maxCredentialID {
		return nil, refuse("passkey: credential id of %d bytes: want 1 to %d", n, maxCredentialID)
	}
	if n := len(t.COSEKey); n == 0 || n > maxCOSEKey {
		return nil, refuse("passkey: public key of %d bytes: want 1 to %d", n, maxCOSEKey)
	}
	if n := len(t.Origins); n == 0 || n > maxOrigins {
		return nil, refuse("passkey: %d origins: want 1 to %d", n, maxOrigins)
	}
	for i, o := range t.Origins {
		if err := CheckOrigin(t.RPID, o); err != nil {
			return nil, err
		}
		if i > 0 && t.Origins[i-1] >= o {
			return nil, refuse("passkey: origins must be sorted and distinct")
		}
	}
	pub, scheme, err := parseCOSE(t.COSEKey)
	if err != nil {
		return nil, refuse("passkey: %w", err)
	}
	b, err := cborform.Encode(t)
	if err != nil {
		return nil, refuse("passkey: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(b)
	if len(text) > MaxText {
		return nil, refuse("passkey: text of %d bytes: want at most %d", len(text), MaxText)
	}
	return &Passkey{t: t, text: text, pub: pub, scheme: scheme}, nil
}

// CheckOrigin says why an origin is not one from which credentials of the relying
// party rpID may be used; nil: it is. The error wraps [ErrCredential].
func CheckOrigin(rpID, origin string) error {
	if !isDomain(rpID) {
		return refuse("passkey: relying party id %.80q: want a domain in lower case", rpID)
	}
	if !isOrigin(origin, rpID) {
		return refuse("passkey: origin %.120q: want https://host[:port] below %s, or http://localhost[:port]", origin, rpID)
	}
	return nil
}

// isDomain reports whether s is a host name in the form in which browsers print
// it: lower case, ASCII (punycode), no trailing dot, no IP address.
func isDomain(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
		last = label
	}
	// "The ends-in-a-number checker" of the URL standard: such hosts are IPv4.
	if _, hex := strings.CutPrefix(last, "0x"); hex {
		return false
	}
	return strings.Trim(last, "0123456789") != ""
}

// isOrigin reports whether s is the serialisation of an origin (RFC 6454 section
// 6.2) that may use credentials of rpID (WebAuthn section 5.1.4.1).
func isOrigin(s, rpID string) bool {
	rest, secure := strings.CutPrefix(s, "https://")
	if !secure {
		var plain bool
		if rest, plain = strings.CutPrefix(s, "http://"); !plain {
			return false
		}
	}
	host, port, hasPort := strings.Cut(rest, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return false
		}
		if secure && n == 443 || !secure && n == 80 {
			return false // browsers leave it out: it would never match
		}
	}
	if !isDomain(host) || !secure && host != "localhost" {
		return false
	}
	return host == rpID || strings.HasSuffix(host, "."+rpID)
}

// Kind implements [Credential].
func (c *Passkey) Kind() Kind { return KindPasskey }

// ID implements [Credential]. It is made from the credential id alone; see the
// package comment.
func (c *Passkey) ID() ID {
	if c.pub == nil {
		return ""
	}
	h := sha256.Sum256(c.t.CredentialID)
	return ID("passkey:" + base64.RawURLEncoding.EncodeToString(h[:]))
}

// Text implements [Credential].
func (c *Passkey) Text() string { return c.text }

// Describe implements [Credential].
func (c *Passkey) Describe() string {
	if c.pub == nil {
		return "passkey (no key)"
	}
	s := "passkey " + describeKey(c.pub) + " for " + c.t.RPID + " " + strings.TrimPrefix(string(c.ID()), "passkey:")
	if c.Hardware() {
		return s + " (hardware, touch, user verification)"
	}
	return s + " (may be synchronised, user verification)"
}

// Hardware implements [Credential]: a passkey that may be backed up lives on more
// than one device, any other is bound to its authenticator.
func (c *Passkey) Hardware() bool { return c.pub != nil && !c.t.BackupEligible }

// CredentialID is the WebAuthn credential id, a copy.
func (c *Passkey) CredentialID() []byte { return bytes.Clone(c.t.CredentialID) }

// COSEKey is the public key as a COSE_Key, a copy.
func (c *Passkey) COSEKey() []byte { return bytes.Clone(c.t.COSEKey) }

// Public is the public key.
func (c *Passkey) Public() crypto.PublicKey { return c.pub }

// RPID is the relying party's id.
func (c *Passkey) RPID() string { return c.t.RPID }

// Origins are the origins from which the passkey may be used, sorted, a copy.
func (c *Passkey) Origins() []string { return slices.Clone(c.t.Origins) }

// BackupEligible is the flag of the registration.
func (c *Passkey) BackupEligible() bool { return c.t.BackupEligible }
