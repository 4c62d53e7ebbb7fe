package credential

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Limits of an ID token.
const (
	MaxToken    = 16 << 10 // bytes of the compact form
	maxClaims   = 256      // members of its payload
	tokenLife   = 3600     // seconds from iat to exp, at the most
	tokenSkew   = 300      // seconds by which the clocks of issuer and requester may differ
	maxTokenSig = 1 << 10  // bytes of the signature
)

// IDToken is what an ID token (OpenID Connect Core 1.0 section 2) says, in the
// compact form of a JWS (RFC 7515 section 7.1). It is a claim until [OIDC] has
// verified it.
type IDToken struct {
	Issuer    string
	Subject   string
	Audience  string // the one that there is: a token for several is refused
	ID        string // jti; "" where the issuer gives none
	Issued    int64  // seconds since 1970
	Expires   int64
	NotBefore int64 // 0: it does not say

	alg, key string
	claims   map[string]string
	signed   []byte // what is signed: header "." payload
	sig      []byte
}

// tokenHeader is what counts of a token's header. Nothing in it chooses a key or an
// algorithm: both are the pinned key's.
type tokenHeader struct {
	Typ string         `json:"typ"`
	Alg string         `json:"alg"`
	Kid string         `json:"kid"`
	JWK jsontext.Value `json:"jwk"`
	JKU jsontext.Value `json:"jku"`
	X5U jsontext.Value `json:"x5u"`
	Crt jsontext.Value `json:"crit"`
	B64 jsontext.Value `json:"b64"`
	Zip jsontext.Value `json:"zip"`
	Enc jsontext.Value `json:"enc"`
}

// ParseIDToken takes a token apart, strictly: three parts in canonical base64url,
// JSON without repeated members, one audience, whole seconds. It verifies nothing.
// The error wraps [ErrSignature] and quotes nothing of the token.
func ParseIDToken(b []byte) (*IDToken, error) {
	t, err := parseIDToken(b)
	if err != nil {
		return nil, refuseSig("token: %w", err)
	}
	return t, nil
}

func parseIDToken(b []byte) (*IDToken, error) {
	if len(b) > MaxToken {
		return nil, fmt.Errorf("%d bytes: want at most %d", len(b), MaxToken)
	}
	parts := strings.Split(string(b), ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%d parts: want the three of a compact JWS", len(parts))
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = decodeBase64(base64.RawURLEncoding, p); err != nil {
			return nil, errors.New("a part is not in canonical base64url")
		}
	}
	if n := len(raw[2]); n == 0 || n > maxTokenSig {
		return nil, fmt.Errorf("signature of %d bytes: want 1 to %d", n, maxTokenSig)
	}
	t := &IDToken{signed: bytes.Clone(b[:strings.LastIndexByte(string(b), '.')]), sig: raw[2]}
	if err := t.header(raw[0]); err != nil {
		return nil, err
	}
	if err := t.payload(raw[1]); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *IDToken) header(b []byte) error {
	var h tokenHeader
	if json.Unmarshal(b, &h) != nil {
		return errors.New("the header is not a JSON object of distinct members")
	}
	for _, m := range []struct {
		name  string
		value jsontext.Value
	}{{"jwk", h.JWK}, {"jku", h.JKU}, {"x5u", h.X5U}, {"crit", h.Crt}, {"b64", h.B64}, {"zip", h.Zip}, {"enc", h.Enc}} {
		if m.value != nil {
			return fmt.Errorf("the header has the member %s", m.name)
		}
	}
	if h.Typ != "" && !strings.EqualFold(h.Typ, "JWT") {
		return errors.New("the header's type is not JWT: this is another kind of token")
	}
	if h.Alg == "" || h.Kid == "" {
		return errors.New("the header lacks alg or kid")
	}
	t.alg, t.key = h.Alg, h.Kid
	return nil
}

func (t *IDToken) payload(b []byte) error {
	var all map[string]jsontext.Value
	if json.Unmarshal(b, &all) != nil || all == nil {
		return errors.New("the payload is not a JSON object of distinct members")
	}
	if len(all) > maxClaims {
		return fmt.Errorf("%d claims: want at most %d", len(all), maxClaims)
	}
	t.claims = make(map[string]string, len(all))
	for name, v := range all {
		if s, ok := textOf(v); ok {
			t.claims[name] = s
		}
	}
	var err error
	if t.Issuer, err = member(all, "iss", true); err != nil {
		return err
	}
	if t.Subject, err = member(all, "sub", false); err != nil {
		return err
	}
	if t.ID, err = member(all, "jti", false); err != nil {
		return err
	}
	if t.Audience, err = audience(all["aud"]); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		to   *int64
		must bool
	}{{"iat", &t.Issued, true}, {"exp", &t.Expires, true}, {"nbf", &t.NotBefore, false}} {
		v, ok := all[c.name]
		if !ok && !c.must {
			continue
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || n <= 0 || n > 1<<40 || strconv.FormatInt(n, 10) != string(v) {
			return fmt.Errorf("%s: want whole seconds since 1970", c.name)
		}
		*c.to = n
	}
	return nil
}

// textOf is a claim that charters can ask for: a string, or true or false.
func textOf(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case '"':
		var s string
		return s, json.Unmarshal(v, &s) == nil
	case 't', 'f':
		return string(v), true
	}
	return "", false
}

func member(all map[string]jsontext.Value, name string, must bool) (string, error) {
	v, ok := all[name]
	if !ok && !must {
		return "", nil
	}
	var s string
	if !ok || v.Kind() != '"' || json.Unmarshal(v, &s) != nil || s == "" {
		return "", fmt.Errorf("%s: want a string", name)
	}
	return s, nil
}

// audience is the one audience of a token: a string, or a list of one.
func audience(v jsontext.Value) (string, error) {
	var s string
	if v.Kind() == '"' && json.Unmarshal(v, &s) == nil && s != "" {
		return s, nil
	}
	var list []string
	if v.Kind() == '[' && json.Unmarshal(v, &list) == nil && len(list) == 1 && list[0] != "" {
		return list[0], nil
	}
	return "", errors.New("aud: want exactly one audience")
}

// Claim is a claim that is a string, or true or false.
func (t *IDToken) Claim(name string) (string, bool) {
	s, ok := t.claims[name]
	return s, ok
}

// Mark tells tokens of one issuer apart, for those who take a token once: its ID,
// or what is signed where the issuer gives none. A signature made anew over the
// same is the same token.
func (t *IDToken) Mark() []byte {
	if t.ID != "" {
		return []byte("jti\x00" + t.Issuer + "\x00" + t.ID)
	}
	return append([]byte("token\x00"), t.signed...)
}

// At refuses a token that is not valid at a time, in seconds since 1970, or that is
// valid for longer than an hour. The error wraps [ErrSignature].
func (t *IDToken) At(now int64) error {
	switch {
	case t.Expires <= t.Issued || t.Expires-t.Issued > tokenLife:
		return refuseSig("token: valid for %d seconds: want 1 to %d", t.Expires-t.Issued, tokenLife)
	case t.Issued > now+tokenSkew || t.NotBefore > now+tokenSkew:
		return refuseSig("token: of the future")
	case now > t.Expires:
		return refuseSig("token: expired")
	}
	return nil
}

// verify checks the signature with k. The token's own alg and kid choose nothing:
// they must be k's.
func (t *IDToken) verify(k *IssuerKey) error {
	if t.key != k.id || t.alg != k.alg {
		return errors.New("key ID or algorithm is not the pinned key's")
	}
	sig := t.sig
	if p, ok := k.pub.(*ecdsa.PublicKey); ok {
		// RFC 7518 section 3.4: r and s side by side, where the scheme takes ASN.1.
		size := (p.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return errors.New("signature of the wrong length")
		}
		var err error
		sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])})
		if err != nil {
			return err
		}
	}
	return sigalg.Verify(k.pub, k.scheme, t.signed, sig)
}
