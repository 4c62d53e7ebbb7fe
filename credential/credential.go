package credential

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of credential one is.
type Kind string

// The kinds.
const (
	KindSSH     Kind = "ssh"
	KindX509    Kind = "x509"
	KindPasskey Kind = "passkey"
	KindOIDC    Kind = "oidc"
)

// Valid reports whether k is a kind that this package knows.
func (k Kind) Valid() bool { return k == KindSSH || k == KindX509 || k == KindPasskey || k == KindOIDC }

// Purpose says what a signature is made for. It is part of what is signed.
type Purpose string

// The purposes.
const (
	Statement Purpose = "statement" // the message is a statement's pre-authentication encoding (DSSE)
	Login     Purpose = "login"     // the message is a server's challenge
)

// Valid reports whether p is a purpose that this package knows.
func (p Purpose) Valid() bool { return p == Statement || p == Login }

// What callers branch on. Every error of Parse, ParseID and NewPasskey wraps
// ErrCredential, every error of Verify wraps ErrSignature.
var (
	ErrCredential = errors.New("credential: not acceptable")
	ErrSignature  = errors.New("credential: signature refused")
)

// MaxText and MaxSignature are the longest text form and the longest signature,
// in bytes, that are looked at.
const (
	MaxText      = 16 << 10
	MaxSignature = 32 << 10
)

// Credential is a public key, or several, and the rules under which its signatures count. The
// implementations are [SSH], [X509], [Passkey] and [OIDC]; they are immutable and safe
// for concurrent use.
type Credential interface {
	// ID is the fingerprint.
	ID() ID
	// Kind is the kind.
	Kind() Kind
	// Text is the canonical text form: Parse(c.Kind(), c.Text()) gives c again.
	Text() string
	// Describe is a line for people: printable ASCII, without line breaks.
	Describe() string
	// Hardware reports whether the private key is of a kind that stays inside
	// one piece of hardware and wants a person's touch.
	Hardware() bool
	// Verify checks that sig was made with this credential over message for p.
	// Its error wraps [ErrSignature]. A nil error is the only good answer.
	Verify(p Purpose, message, sig []byte) error
}

// Signer makes signatures that its credential verifies. Implementations say
// whether they may be used concurrently.
type Signer interface {
	// Credential is the public half.
	Credential() Credential
	// Sign signs message for p. It may wait for a person; it ends early when
	// ctx does.
	Sign(ctx context.Context, p Purpose, message []byte) ([]byte, error)
}

// Pin names exactly c: its ID, and the SHA-256 of its text. An ID alone may be that of
// another one too: a passkey's is made from the credential id, which another key can
// have. The pin of an OIDC credential changes with the keys of its issuer.
func Pin(c Credential) string {
	sum := sha256.Sum256([]byte(c.Text()))
	return string(c.ID()) + " " + hex.EncodeToString(sum[:])
}

// Parse reads the text form of a credential. The error wraps [ErrCredential].
func Parse(kind Kind, text string) (Credential, error) {
	if len(text) > MaxText {
		return nil, refuse("text of %d bytes: want at most %d", len(text), MaxText)
	}
	switch kind {
	case KindSSH:
		return credentialOrNil(parseSSH(text))
	case KindX509:
		return credentialOrNil(parseX509(text))
	case KindPasskey:
		return credentialOrNil(parsePasskey(text))
	case KindOIDC:
		return credentialOrNil(parseOIDC(text))
	}
	return nil, refuse("unknown kind %.20q: want ssh, x509, passkey or oidc", string(kind))
}

// credentialOrNil keeps a nil pointer from becoming an interface that is not nil.
func credentialOrNil[C interface {
	comparable
	Credential
}](c C, err error) (Credential, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ID is the fingerprint of a credential: "ssh:SHA256:…", "x509:…", "passkey:…",
// "oidc:…".
type ID string

// ParseID checks that s is a well-formed ID. The error wraps [ErrCredential].
func ParseID(s string) (ID, error) {
	ok := false
	if v, found := strings.CutPrefix(s, "ssh:SHA256:"); found {
		b, err := decodeBase64(base64.RawStdEncoding, v)
		ok = err == nil && len(b) == 32
	} else if v, found := cutEither(s, "x509:", "oidc:"); found {
		b, err := hex.DecodeString(v)
		ok = err == nil && len(b) == 32 && strings.ToLower(v) == v
	} else if v, found := strings.CutPrefix(s, "passkey:"); found {
		b, err := decodeBase64(base64.RawURLEncoding, v)
		ok = err == nil && len(b) == 32
	}
	if !ok {
		return "", refuse("%.100q is not a credential id", s)
	}
	return ID(s), nil
}

func cutEither(s, a, b string) (string, bool) {
	if v, ok := strings.CutPrefix(s, a); ok {
		return v, true
	}
	return strings.CutPrefix(s, b)
}

// Kind is the kind of the credential that id names, or "" when id is malformed.
func (id ID) Kind() Kind {
	if _, err := ParseID(string(id)); err != nil {
		return ""
	}
	k, _, _ := strings.Cut(string(id), ":")
	return Kind(k)
}

// decodeBase64 decodes the one form in which enc would encode: encoding/base64
// alone skips line breaks.
func decodeBase64(enc *base64.Encoding, s string) ([]byte, error) {
	b, err := enc.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("bad base64")
	}
	if enc.EncodeToString(b) != s {
		return nil, errors.New("base64 is not in its canonical form")
	}
	return b, nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCredential, fmt.Errorf(format, args...))
}

func refuseSig(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrSignature, fmt.Errorf(format, args...))
}
