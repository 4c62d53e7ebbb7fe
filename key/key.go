// Package key is the interface to private keys. Keys are named by URI and live
// in providers (an encrypted file, a PKCS #11 token); only the keeper holds a
// [Provider].
//
// Invariants:
//
//  1. No method returns private key material, and no error or String contains it.
//  2. A [Key] signs under a named scheme only, and refuses one that does not fit it.
//  3. Generate never replaces a key: a URI that is taken is [ErrExists].
//
// Optional abilities of a provider are interfaces of their own ([Generator],
// [Destroyer]), found by type assertion.
package key

import (
	"context"
	"crypto"
	"errors"
	"strings"

	"github.com/greatseal-io/greatseal/sigalg"
)

// URI names a key: "soft:release", "pkcs11:token=hsm1;object=release" (RFC 7512).
type URI string

// Provider is the part of the URI before the colon: "soft", "pkcs11".
func (u URI) Provider() string { p, _, _ := strings.Cut(string(u), ":"); return p }

// What callers branch on. Providers wrap them.
var (
	ErrNotFound    = errors.New("key: no such key")
	ErrExists      = errors.New("key: already exists")
	ErrUnavailable = errors.New("key: provider unavailable") // worth a retry: token gone, child restarted, session lost
	ErrScheme      = errors.New("key: scheme does not fit the key")
)

// Key is one private key. It is safe for concurrent use.
type Key interface {
	// Public is the public half, as the provider stores it.
	Public() crypto.PublicKey
	// Algorithm is the kind of key.
	Algorithm() sigalg.Key
	// Sign signs input, which must be scheme.Input(message): a digest of the
	// scheme's length, or the message for pure schemes. The signature has the
	// form that sigalg.Verify takes (ECDSA in ASN.1).
	Sign(ctx context.Context, scheme sigalg.Scheme, input []byte) ([]byte, error)
}

// Provider opens keys.
type Provider interface {
	// Name is the URI scheme that it serves: "soft", "pkcs11".
	Name() string
	// Open finds a key; ErrNotFound when there is none.
	Open(ctx context.Context, uri URI) (Key, error)
	// Health says whether keys can be used now: nil, or why not.
	Health(ctx context.Context) error
	// Close releases what the provider holds. Keys opened from it fail afterwards.
	Close() error
}

// Generator is a Provider that creates keys, non-extractable where it can.
type Generator interface {
	Generate(ctx context.Context, uri URI, k sigalg.Key) (Key, error)
}

// Destroyer is a Provider that destroys keys for good. Destroying a key that is
// not there is ErrNotFound.
type Destroyer interface {
	Destroy(ctx context.Context, uri URI) error
}
