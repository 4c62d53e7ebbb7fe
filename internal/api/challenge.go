package api

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

	"github.com/greatseal-io/greatseal/internal/store"
)

const (
	challengeLife = time.Minute
	// challengeSkew is how far the clocks of replicas may be apart.
	challengeSkew   = 10 * time.Second
	challengeSecret = "login-challenges"

	challengeHead = 8 + 16 // when it ends, in Unix milliseconds, and what tells it from others
	challengeSize = challengeHead + sha256.Size
)

// errChallenge is that of a nonce which was not given out here, or whose time is
// over.
var errChallenge = errors.New("api: no challenge of this server's, or no longer")

// challenges gives out nonces without keeping them, so that nobody can use up
// the room for them: a nonce says when it ends and is authenticated, with a
// secret that all replicas have from the database. Those that were used are noted
// there until they end. What a nonce is for, host and name, says the message that is
// signed with it. Whoever can read the database can make nonces, and gains
// nothing by it: what a login takes is the signature.
type challenges struct {
	mu     sync.Mutex
	secret []byte
}

func (c *challenges) key(ctx context.Context, s store.Store) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret != nil {
		return c.secret, nil
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	b, err := s.Secret(ctx, challengeSecret, fresh)
	if err != nil {
		return nil, err
	}
	if len(b) != len(fresh) {
		return nil, errors.New("api: the database's secret for logins is damaged")
	}
	c.secret = b
	return b, nil
}

func challengeMAC(key, head []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("greatseal challenge v1\x00"))
	m.Write(head)
	return m.Sum(nil)
}

// make gives out a nonce.
func (c *challenges) make(ctx context.Context, s store.Store, now time.Time) (string, error) {
	key, err := c.key(ctx, s)
	if err != nil {
		return "", err
	}
	b := make([]byte, challengeHead, challengeSize)
	binary.BigEndian.PutUint64(b, uint64(now.Add(challengeLife).UnixMilli()))
	rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(append(b, challengeMAC(key, b)...)), nil
}

// check says when a nonce ends that was given out, or errChallenge.
func (c *challenges) check(ctx context.Context, s store.Store, nonce string, now time.Time) (time.Time, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != challengeSize || base64.RawURLEncoding.EncodeToString(b) != nonce {
		return time.Time{}, errChallenge
	}
	key, err := c.key(ctx, s)
	if err != nil {
		return time.Time{}, err
	}
	if !hmac.Equal(b[challengeHead:], challengeMAC(key, b[:challengeHead])) {
		return time.Time{}, errChallenge
	}
	ends := time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	if !now.Before(ends) || ends.Sub(now) > challengeLife+challengeSkew {
		return time.Time{}, errChallenge
	}
	return ends, nil
}

// challengeHash is what is noted of a nonce that was used.
func challengeHash(nonce string) [32]byte {
	return sha256.Sum256([]byte("greatseal challenge used v1\x00" + nonce))
}
