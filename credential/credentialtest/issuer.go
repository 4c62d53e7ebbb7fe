package credentialtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/greatseal-io/greatseal/credential"
)

// Issuer is an OpenID Connect issuer: what it signs are real ID tokens.
type Issuer struct {
	URL string
	Kid string
	key crypto.Signer
}

// NewIssuer is the issuer at url that signs with key: of RSA, P-256, P-384 or
// Ed25519. A nil key is an Ed25519 key made from url and kid.
func NewIssuer(url, kid string, key crypto.Signer) *Issuer {
	if key == nil {
		key = ed25519.NewKeyFromSeed(seed("issuer", url+" "+kid))
	}
	return &Issuer{url, kid, key}
}

// Algorithm is the JWS algorithm of its tokens.
func (i *Issuer) Algorithm() string {
	switch k := i.key.Public().(type) {
	case *rsa.PublicKey:
		return "RS256"
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ES%d", k.Curve.Params().BitSize)
	}
	return "EdDSA"
}

// JWK is its public key as it publishes it, with members that charters do not keep.
func (i *Issuer) JWK() string {
	b64 := base64.RawURLEncoding.EncodeToString
	m := map[string]any{"use": "sig", "kid": i.Kid, "alg": i.Algorithm()}
	switch k := i.key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		p := must(k.Bytes())
		n := (len(p) - 1) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Curve.Params().Name, b64(p[1:1+n]), b64(p[1+n:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	return string(must(json.Marshal(m)))
}

// Header is the header of its tokens.
func (i *Issuer) Header() map[string]any {
	return map[string]any{"typ": "JWT", "alg": i.Algorithm(), "kid": i.Kid}
}

// Token signs claims.
func (i *Issuer) Token(claims map[string]any) []byte {
	return i.Raw(must(json.Marshal(i.Header())), must(json.Marshal(claims)))
}

// Raw signs a header and a payload as they are.
func (i *Issuer) Raw(header, payload []byte) []byte {
	in := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return []byte(in + "." + base64.RawURLEncoding.EncodeToString(i.sign([]byte(in))))
}

func (i *Issuer) sign(in []byte) []byte {
	switch k := i.key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(k, in)
	case *ecdsa.PrivateKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		var h []byte
		if size == 32 {
			s := sha256.Sum256(in)
			h = s[:]
		} else {
			s := sha512.Sum384(in)
			h = s[:]
		}
		r, s, err := ecdsa.Sign(rand.Reader, k, h)
		if err != nil {
			panic(err)
		}
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	}
	h := sha256.Sum256(in)
	return must(i.key.Sign(rand.Reader, h[:], crypto.SHA256))
}

// Claims are those of a token of now for an audience, with more over them.
func (i *Issuer) Claims(aud string, now time.Time, more map[string]any) map[string]any {
	var id [8]byte
	rand.Read(id[:])
	m := map[string]any{"iss": i.URL, "aud": aud, "sub": "workload", "jti": fmt.Sprintf("%x", id), "iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Unix() + 600}
	maps.Copy(m, more)
	return m
}

// Workload is a job that gets its tokens from i: what its tokens say is what its
// credential asks for, with more over it.
func (i *Issuer) Workload(c *credential.OIDC, now func() time.Time, more map[string]any) credential.Signer {
	return workload{i, c, now, more}
}

type workload struct {
	i    *Issuer
	c    *credential.OIDC
	now  func() time.Time
	more map[string]any
}

func (w workload) Credential() credential.Credential { return w.c }

func (w workload) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	aud, err := w.c.Audience(p, message)
	if err != nil {
		return nil, err
	}
	m := map[string]any{}
	for n, v := range w.c.Workload().Claims {
		m[n] = v
	}
	maps.Copy(m, w.more)
	return w.i.Token(w.i.Claims(aud, w.now(), m)), ctx.Err()
}
