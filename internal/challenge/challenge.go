// Package challenge gives out nonces for people to sign, without keeping them.
//
// Invariants:
//
//  1. A nonce is taken once, within [Life] and [Skew], at whichever replica.
//  2. Asking for nonces takes up nothing that others need: a nonce says when it ends
//     and is authenticated, with a secret that all replicas have from the database.
//     Those that were used are noted there until they end.
//
// What a caller may not conclude: who asked for a nonce. Whoever can read the database
// can make nonces, and gains nothing by it: what a login takes is the signature. What a
// nonce is for says the message that is signed with it.
package challenge

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// Life is how long a nonce is good for, Skew how far the clocks of replicas may be
// apart.
const (
	Life = time.Minute
	Skew = 10 * time.Second
)

const (
	secretName = "login-challenges"
	headSize   = 8 + 16 // when it ends, in Unix milliseconds, and what tells it from others
	size       = headSize + sha256.Size
)

// ErrNonce is that of a nonce which was not given out here, or whose time is over.
var ErrNonce = errors.New("challenge: none of this server's, or no longer")

// Store keeps the secret and what was used. Package store's do.
type Store interface {
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	// Once's error is store.ErrExists for what was used before.
	Once(ctx context.Context, hash [32]byte, expires, now time.Time) error
}

// Book gives out nonces. It is safe for concurrent use; the zero value is of no use.
type Book struct {
	store Store

	mu     sync.Mutex
	secret []byte
}

// New gives out nonces with what is in s.
func New(s Store) *Book { return &Book{store: s} }

func (b *Book) key(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.secret != nil {
		return b.secret, nil
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	k, err := b.store.Secret(ctx, secretName, fresh)
	if err != nil {
		return nil, err
	}
	if len(k) != len(fresh) {
		return nil, errors.New("challenge: the database's secret for logins is damaged")
	}
	b.secret = k
	return k, nil
}

func mac(key, head []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("greatseal challenge v1\x00"))
	m.Write(head)
	return m.Sum(nil)
}

// Make gives out a nonce.
func (b *Book) Make(ctx context.Context, now time.Time) (string, error) {
	key, err := b.key(ctx)
	if err != nil {
		return "", err
	}
	n := make([]byte, headSize, size)
	binary.BigEndian.PutUint64(n, uint64(now.Add(Life).UnixMilli()))
	rand.Read(n[8:])
	return base64.RawURLEncoding.EncodeToString(append(n, mac(key, n)...)), nil
}

// Check says when a nonce ends that was given out, or [ErrNonce].
func (b *Book) Check(ctx context.Context, nonce string, now time.Time) (time.Time, error) {
	n, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(n) != size || base64.RawURLEncoding.EncodeToString(n) != nonce {
		return time.Time{}, ErrNonce
	}
	key, err := b.key(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !hmac.Equal(n[headSize:], mac(key, n[:headSize])) {
		return time.Time{}, ErrNonce
	}
	ends := time.UnixMilli(int64(binary.BigEndian.Uint64(n)))
	if !now.Before(ends) || ends.Sub(now) > Life+Skew {
		return time.Time{}, ErrNonce
	}
	return ends, nil
}

// Use takes a nonce that Check knows. It is called after the signature was checked, so
// that nobody but those of the charter fills the table. The error of one that was used
// before is the store's ErrExists.
func (b *Book) Use(ctx context.Context, nonce string, ends, now time.Time) error {
	return b.store.Once(ctx, sha256.Sum256([]byte("greatseal challenge used v1\x00"+nonce)), ends.Add(Skew), now)
}
