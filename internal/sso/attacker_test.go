package sso

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json/v2"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/greatseal-io/greatseal/internal/config"
)

var keys = sync.OnceValue(func() map[string]crypto.Signer {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	p, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"RS256": r, "PS256": r, "ES256": p, "EdDSA": e}
})

// issuer is an attacker's: it keeps to the protocol as far as a test lets it, and
// hands out what a test likes.
type issuer struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	id       string         // "iss", and what discovery says
	document map[string]any // of discovery; changes what there is
	public   []jose.JSONWebKey
	keyCalls int
	calls    map[string]int
	tokens   map[string]any                   // the token endpoint's answer
	handle   map[string]http.HandlerFunc      // instead of what there is
	userinfo map[string]any                   // nil: there is no such endpoint
	form     url.Values                       // of the last call of the token endpoint
	auth     string                           // its Authorization
	client   func(provider string) config.SSO // how it is configured
}

func newIssuer(t *testing.T) *issuer {
	x := &issuer{t: t, calls: map[string]int{}, handle: map[string]http.HandlerFunc{}, document: map[string]any{}}
	x.Server = httptest.NewTLSServer(http.HandlerFunc(x.serve))
	t.Cleanup(x.Close)
	x.id = x.URL
	x.key("1", "ES256")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the-clients-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.client = func(name string) config.SSO {
		return config.SSO{Name: name, Issuer: x.URL, ClientID: "greatseal", ClientSecretFile: secret, CA: ca, Claim: config.ClaimEmail, Groups: "groups"}
	}
	return x
}

// key publishes the public half of a key, alone.
func (x *issuer) key(kid, alg string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.public = []jose.JSONWebKey{{Key: keys()[alg].Public(), KeyID: kid, Use: "sig"}}
}

func (x *issuer) serve(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls[r.URL.Path]++
	if h := x.handle[r.URL.Path]; h != nil {
		h(w, r)
		return
	}
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.MarshalWrite(w, v)
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := map[string]any{"issuer": x.id, "authorization_endpoint": x.URL + "/authorize", "token_endpoint": x.URL + "/token", "jwks_uri": x.URL + "/keys"}
		if x.userinfo != nil {
			doc["userinfo_endpoint"] = x.URL + "/userinfo"
		}
		for k, v := range x.document {
			doc[k] = v
		}
		answer(doc)
	case "/keys":
		x.keyCalls++
		raw, err := marshalKeys(jose.JSONWebKeySet{Keys: x.public})
		if err != nil {
			x.t.Error(err)
		}
		w.Write(raw)
	case "/token":
		x.auth = r.Header.Get("Authorization")
		if err := r.ParseForm(); err != nil {
			x.t.Error(err)
		}
		x.form = r.PostForm
		answer(x.tokens)
	case "/userinfo":
		answer(x.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func marshalKeys(set jose.JSONWebKeySet) ([]byte, error) {
	var list []any
	for _, k := range set.Keys {
		b, err := k.MarshalJSON()
		if err != nil {
			return nil, err
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return json.Marshal(map[string]any{"keys": list})
}

// token is what an attacker can choose of one.
type token struct {
	alg     string
	key     crypto.Signer // nil: that of alg
	header  map[string]any
	claims  map[string]any
	payload []byte // instead of claims
	access  string
	raw     string // instead of everything
}

// good is a token that answers an attempt.
func (x *issuer) good(nonce string, now time.Time) *token {
	return &token{alg: "ES256", access: "the-access-token", header: map[string]any{"kid": "1"}, claims: map[string]any{
		"iss": x.URL, "sub": "subject-1", "aud": "greatseal", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nonce": nonce,
		"email": "alice@example.com", "email_verified": true, "groups": []string{"developers"},
	}}
}

// sign makes the token by hand: libraries refuse to make most of what is wanted here.
func (k *token) sign(t *testing.T) string {
	t.Helper()
	if k.raw != "" {
		return k.raw
	}
	h := map[string]any{"alg": k.alg, "typ": "JWT"}
	for n, v := range k.header {
		h[n] = v
	}
	hb, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	pb := k.payload
	if pb == nil {
		if pb, err = json.Marshal(k.claims); err != nil {
			t.Fatal(err)
		}
	}
	e := base64.RawURLEncoding.EncodeToString
	input := e(hb) + "." + e(pb)
	key := k.key
	if key == nil {
		key = keys()[k.alg]
	}
	return input + "." + e(signature(t, k.alg, key, []byte(input)))
}

func signature(t *testing.T, alg string, key crypto.Signer, input []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(input)
	var b []byte
	var err error
	switch alg {
	case "RS256":
		b, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
	case "RS512":
		long := sha512.Sum512(input)
		b, err = keys()["RS256"].Sign(rand.Reader, long[:], crypto.SHA512)
	case "PS256":
		b, err = key.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		b = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		b, err = key.Sign(rand.Reader, input, crypto.Hash(0))
	case "HS256": // the published key as the secret, in the form that people keep it
		der, err2 := x509.MarshalPKIXPublicKey(key.Public())
		if err2 != nil {
			t.Fatal(err2)
		}
		m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		m.Write(input)
		b = m.Sum(nil)
	case "none", "None", "nOnE":
	default:
		t.Fatalf("no algorithm %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// login is the way of a browser whose attempt is answered with a token that change has
// changed.
func (x *issuer) login(w *world, name string, change func(k *token)) (*Login, error) {
	x.t.Helper()
	b := newBrowser(x.t)
	q := b.start(w.Providers, name, "").Query()
	k := x.good(q.Get("nonce"), w.now())
	if change != nil {
		change(k)
	}
	x.mu.Lock()
	x.tokens = map[string]any{"access_token": k.access, "token_type": "Bearer", "expires_in": 60, "id_token": k.sign(x.t)}
	x.mu.Unlock()
	l, err := b.finish(w.Providers, name, url.Values{"state": q["state"], "code": {"the-code"}})
	if said := fmt.Sprint(err, w.log); strings.Contains(said, "the-c") || strings.Contains(said, k.access) {
		x.t.Errorf("a secret, code or token in what is said: %s", said)
	}
	return l, err
}
