package sso

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	attemptLife   = 10 * time.Minute
	attemptSkew   = 10 * time.Second // between the clocks of replicas
	attemptSecret = "sso-attempts"
	maxAttempts   = 4 // of one browser; more would only make its requests too long
	maxCookie     = 3800
	cookieStem    = "greatseal-sso-"
)

// attempt is what a browser keeps of a login that it began. Whoever can read the
// database can seal one; to use it he would have to put it into the browser of somebody
// else, which the cookie's name forbids to all but this host.
type attempt struct {
	Provider string `json:"p"`
	Issuer   string `json:"i"` // as it was configured then
	Client   string `json:"c"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Return   string `json:"r"`
	Began    int64  `json:"b"` // Unix milliseconds
}

func (a *attempt) began() time.Time { return time.UnixMilli(a.Began) }

// random is 32 fresh bytes as text.
func (p *Providers) random() (string, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(p.rand, b); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// aead seals attempts, with a key of the secret that the replicas share.
func (p *Providers) aead(ctx context.Context) (cipher.AEAD, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == nil {
		fresh := make([]byte, 32)
		if _, err := io.ReadFull(p.rand, fresh); err != nil {
			return nil, err
		}
		secret, err := p.store.Secret(ctx, attemptSecret, fresh)
		if err != nil {
			return nil, err
		}
		if len(secret) != len(fresh) {
			return nil, errors.New("sso: the database's secret for login attempts is damaged")
		}
		key, err := hkdf.Key(sha256.New, secret, nil, "greatseal sso attempt v1", 32)
		if err != nil {
			return nil, err
		}
		p.key = key
	}
	block, err := aes.NewCipher(p.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// prefix has browsers refuse a cookie that another host, or a page in the clear,
// would set: nobody gives a browser an attempt that is not its own.
func (p *Providers) prefix() string {
	if p.secure {
		return "__Host-" + cookieStem
	}
	return cookieStem
}

// cookieName is that of the attempt with a state. Attempts beside each other, in two
// windows, have two.
func (p *Providers) cookieName(state string) string {
	h := sha256.Sum256([]byte("greatseal sso state v1\x00" + state))
	return p.prefix() + hex.EncodeToString(h[:8])
}

func (p *Providers) cookie(name, value string, age int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, Secure: p.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func (p *Providers) forget(name string) *http.Cookie { return p.cookie(name, "", -1) }

func (p *Providers) seal(ctx context.Context, a *attempt) (*http.Cookie, error) {
	box, err := p.aead(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	name := p.cookieName(a.State)
	value := base64.RawURLEncoding.EncodeToString(box.Seal(nil, nil, b, []byte(name)))
	if len(value) > maxCookie {
		return nil, errors.New("sso: a login attempt too long for a cookie")
	}
	return p.cookie(name, value, int(attemptLife/time.Second)), nil
}

// open returns an attempt that was sealed under a cookie's name, and has not ended.
func (p *Providers) open(ctx context.Context, c *http.Cookie) (*attempt, error) {
	if len(c.Value) > maxCookie {
		return nil, ErrAttempt
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(c.Value)
	if err != nil {
		return nil, ErrAttempt
	}
	box, err := p.aead(ctx)
	if err != nil {
		return nil, err
	}
	b, err = box.Open(nil, nil, b, []byte(c.Name))
	if err != nil {
		return nil, ErrAttempt
	}
	var a attempt
	if err := json.Unmarshal(b, &a, json.RejectUnknownMembers(true)); err != nil {
		return nil, ErrAttempt
	}
	now := p.now()
	if began := a.began(); !now.Before(began.Add(attemptLife)) || began.After(now.Add(attemptSkew)) {
		return nil, ErrAttempt
	}
	return &a, nil
}

// find returns the browser's attempt with a state, and the cookie's end.
func (p *Providers) attempt(ctx context.Context, state string, cookies []*http.Cookie) (*attempt, *http.Cookie, error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(state); err != nil || len(raw) != 32 {
		return nil, nil, ErrAttempt
	}
	name := p.cookieName(state)
	var found *http.Cookie
	for _, c := range cookies {
		if c.Name != name {
			continue
		}
		if found != nil {
			return nil, nil, ErrAttempt // a browser sends one
		}
		found = c
	}
	if found == nil {
		return nil, nil, ErrAttempt
	}
	a, err := p.open(ctx, found)
	if err != nil {
		return nil, p.forget(name), err
	}
	if subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) != 1 {
		return nil, p.forget(name), ErrAttempt
	}
	return a, p.forget(name), nil
}

// surplus ends the oldest attempts of a browser that begins one more.
func (p *Providers) surplus(ctx context.Context, cookies []*http.Cookie) []*http.Cookie {
	type old struct {
		name  string
		began int64
	}
	var list []old
	for _, c := range cookies {
		if !strings.HasPrefix(c.Name, p.prefix()) {
			continue
		}
		o := old{name: c.Name}
		if a, err := p.open(ctx, c); err == nil {
			o.began = a.Began
		}
		list = append(list, o)
	}
	if len(list) < maxAttempts {
		return nil
	}
	slices.SortFunc(list, func(a, b old) int { return int(a.began - b.began) })
	var out []*http.Cookie
	for _, o := range list[:len(list)-maxAttempts+1] {
		out = append(out, p.forget(o.name))
	}
	return out
}
