package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math/big"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Limits of the keys of issuers.
const (
	maxJWK     = 8 << 10
	maxKeyName = 256
	// minIssuerRSA is lower than minRSA: 2048 bits are what the issuers that everybody
	// uses sign with, and nobody but they could change it. Their signatures are asked
	// for at the time of a request, for an hour; docs/decisions/0026 says more.
	minIssuerRSA = 2048
)

// IssuerKey is a public key by which an issuer signs ID tokens, as a charter pins
// it: a JSON Web Key (RFC 7517) of which only these members are kept, in this
// order: kty, kid, alg, crv, x, y, n, e. The zero value verifies nothing.
type IssuerKey struct {
	id     string
	alg    string
	scheme sigalg.Scheme
	pub    crypto.PublicKey
	text   string
}

// jwk is a key in its canonical form.
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Alg string `json:"alg,omitzero"`
	Crv string `json:"crv,omitzero"`
	X   string `json:"x,omitzero"`
	Y   string `json:"y,omitzero"`
	N   string `json:"n,omitzero"`
	E   string `json:"e,omitzero"`
}

// private are the members of private and of symmetric keys (RFC 7518 section 6).
var private = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// ParseIssuerKey reads a JSON Web Key as issuers publish it: RS256 of 2048 to 8192
// bits, ES256, ES384 or EdDSA (Ed25519), with a key ID. Other members are dropped;
// a key that says that it is for something else than signatures, or that is
// private, is refused. The error wraps [ErrCredential].
func ParseIssuerKey(text string) (*IssuerKey, error) {
	if len(text) > maxJWK {
		return nil, refuse("issuer key: %d bytes: want at most %d", len(text), maxJWK)
	}
	k, err := parseJWK(text)
	if err != nil {
		return nil, refuse("issuer key: %w", err)
	}
	return k, nil
}

func parseJWK(text string) (*IssuerKey, error) {
	var all map[string]jsontext.Value
	var w jwk
	var use struct {
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
	}
	if err := errors.Join(json.Unmarshal([]byte(text), &all), json.Unmarshal([]byte(text), &w), json.Unmarshal([]byte(text), &use)); err != nil {
		return nil, err
	}
	for _, m := range private {
		if _, ok := all[m]; ok {
			return nil, fmt.Errorf("it has the member %s: this is a private or symmetric key", m)
		}
	}
	if use.Use != "" && use.Use != "sig" {
		return nil, fmt.Errorf("it is for %.20q: want a key for signatures", use.Use)
	}
	for _, o := range use.Ops {
		if o != "verify" {
			return nil, fmt.Errorf("it is for %.20q: want a key that verifies", o)
		}
	}
	if !visible(w.Kid) || len(w.Kid) > maxKeyName {
		return nil, fmt.Errorf("key ID %.80q: want 1 to %d printable characters", w.Kid, maxKeyName)
	}
	k := &IssuerKey{id: w.Kid}
	var err error
	switch w.Kty {
	case "RSA":
		k.alg, k.scheme = "RS256", sigalg.RSAPKCS1SHA256
		k.pub, err = rsaJWK(w)
		w.Crv, w.X, w.Y = "", "", ""
	case "EC":
		k.alg, k.scheme, k.pub, err = ecJWK(w)
		w.N, w.E = "", ""
	case "OKP":
		k.alg, k.scheme = "EdDSA", sigalg.PureEd25519
		k.pub, err = okpJWK(w)
		w.Y, w.N, w.E = "", "", ""
	default:
		err = fmt.Errorf("type %.20q: want RSA, EC or OKP", w.Kty)
	}
	if err != nil {
		return nil, err
	}
	if w.Alg != "" && w.Alg != k.alg {
		return nil, fmt.Errorf("algorithm %.20q: this key is for %s", w.Alg, k.alg)
	}
	w.Alg = k.alg
	b, err := json.Marshal(w, jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	k.text = string(b)
	return k, err
}

// visible reports whether s is printable ASCII without spaces, and not empty.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

func rsaJWK(w jwk) (crypto.PublicKey, error) {
	n, err1 := decodeBase64(base64.RawURLEncoding, w.N)
	e, err2 := decodeBase64(base64.RawURLEncoding, w.E)
	if err1 != nil || err2 != nil || len(n) == 0 || n[0] == 0 || len(e) == 0 || e[0] == 0 || len(e) > 3 {
		return nil, errors.New("RSA numbers: want base64url without leading zeros, the exponent of at most 24 bits")
	}
	p := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := p.N.BitLen(); bits < minIssuerRSA || bits > maxRSA {
		return nil, fmt.Errorf("RSA key of %d bits: want %d to %d", bits, minIssuerRSA, maxRSA)
	}
	if p.N.Bit(0) == 0 || p.E < 65537 || p.E%2 == 0 {
		return nil, errors.New("RSA key with an even modulus or an exponent that is even or below 65537")
	}
	return p, nil
}

func ecJWK(w jwk) (string, sigalg.Scheme, crypto.PublicKey, error) {
	var curve elliptic.Curve
	alg, scheme, size := "", sigalg.Scheme(""), 0
	switch w.Crv {
	case "P-256":
		curve, alg, scheme, size = elliptic.P256(), "ES256", sigalg.ECDSASHA256, 32
	case "P-384":
		curve, alg, scheme, size = elliptic.P384(), "ES384", sigalg.ECDSASHA384, 48
	default:
		return "", "", nil, fmt.Errorf("curve %.20q: want P-256 or P-384", w.Crv)
	}
	x, err1 := decodeBase64(base64.RawURLEncoding, w.X)
	y, err2 := decodeBase64(base64.RawURLEncoding, w.Y)
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size {
		return "", "", nil, fmt.Errorf("coordinates: want %d bytes each in base64url", size)
	}
	p, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return "", "", nil, fmt.Errorf("not a point of %s", w.Crv)
	}
	return alg, scheme, p, nil
}

func okpJWK(w jwk) (crypto.PublicKey, error) {
	x, err := decodeBase64(base64.RawURLEncoding, w.X)
	if w.Crv != "Ed25519" || err != nil {
		return nil, errors.New("want a key of Ed25519 in base64url")
	}
	if err := checkEd25519(x); err != nil {
		return nil, err
	}
	return ed25519.PublicKey(x), nil
}

// ID is the key's ID at its issuer.
func (k *IssuerKey) ID() string { return k.id }

// Algorithm is the JWS algorithm of the key's signatures: "RS256", "ES256", …
func (k *IssuerKey) Algorithm() string { return k.alg }

// Public is the public key.
func (k *IssuerKey) Public() crypto.PublicKey { return k.pub }

// Text is the canonical form: ParseIssuerKey(k.Text()) gives k again.
func (k *IssuerKey) Text() string { return k.text }
