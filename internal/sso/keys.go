package sso

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	maxKeys  = 200
	minRSA   = 2048
	maxRSA   = 8192
	maxToken = 64 << 10
)

// keySet has the public keys of one issuer. It implements oidc.KeySet.
//
// A token that names a key which is not there has the keys fetched again, at most
// every ten seconds: tokens come from strangers, and the provider is not to be
// asked as often as they like.
type keySet struct {
	client *http.Client
	now    func() time.Time

	flight singleflight.Group
	mu     sync.Mutex
	url    string
	keys   []jose.JSONWebKey
	good   time.Time // of the last fetch that worked
	tried  time.Time
	err    error // of the last fetch
}

// at says where the keys are. Keys of elsewhere are forgotten.
func (k *keySet) at(url string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url != url {
		k.url, k.keys, k.good, k.tried, k.err = url, nil, time.Time{}, time.Time{}, nil
	}
}

// VerifySignature returns the payload of a token in the compact serialization whose
// signature is by a key of the issuer's.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	sig, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return nil, errors.New("no signed token")
	}
	if len(sig.Signatures) != 1 {
		return nil, errors.New("not one signature")
	}
	h := sig.Signatures[0].Protected
	try := func(keys []jose.JSONWebKey) ([]byte, bool) {
		for i := range keys {
			key := &keys[i]
			if h.KeyID != "" && key.KeyID != h.KeyID || key.Algorithm != "" && key.Algorithm != h.Algorithm || !fits(key.Key, h.Algorithm) {
				continue
			}
			if b, err := sig.Verify(key.Key); err == nil {
				return b, true
			}
		}
		return nil, false
	}
	k.mu.Lock()
	keys, fresh := k.keys, k.now().Sub(k.good) < keysLife
	k.mu.Unlock()
	if fresh {
		if b, ok := try(keys); ok {
			return b, nil
		}
	}
	keys, err = k.refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("the issuer's keys: %w", err)
	}
	if b, ok := try(keys); ok {
		return b, nil
	}
	return nil, errors.New("no key of the issuer's made the signature")
}

// refresh fetches the keys, or returns those of a moment ago.
func (k *keySet) refresh(ctx context.Context) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	now := k.now()
	if now.Sub(k.tried) < keysInterval {
		defer k.mu.Unlock()
		if now.Sub(k.good) < keysLife {
			return k.keys, nil
		}
		return nil, k.err
	}
	k.mu.Unlock()
	ch := k.flight.DoChan("", func() (any, error) {
		k.mu.Lock()
		url := k.url
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
		defer cancel()
		keys, err := fetchKeys(ctx, k.client, url)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.url != url {
			return nil, errors.New("they have moved")
		}
		k.tried, k.err = k.now(), err
		if err == nil {
			k.keys, k.good = keys, k.tried
		}
		return keys, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]jose.JSONWebKey), nil
	}
}

func fetchKeys(ctx context.Context, client *http.Client, url string) ([]jose.JSONWebKey, error) {
	if url == "" {
		return nil, errors.New("nobody has said where they are")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return parseKeys(b)
}

// parseKeys reads a key set (RFC 7517). Keys that sign no tokens of ours are left
// out: those of other kinds, for encryption, secret ones, and those too weak.
func parseKeys(b []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New("no key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil || key.Use != "" && key.Use != "sig" || key.Algorithm != "" && !slices.Contains(algorithms, key.Algorithm) {
			continue
		}
		if slices.ContainsFunc(algorithms, func(a string) bool { return fits(key.Key, a) }) {
			out = append(out, key)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no key that signs tokens")
	}
	return out, nil
}

// fits reports whether an algorithm is one of a public key's.
func fits(key any, alg string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return (alg == "RS256" || alg == "PS256") && k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == "EdDSA" && len(k) == ed25519.PublicKeySize
	}
	return false
}
