package credential_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"
	"github.com/fxamacker/cbor/v2"
	"github.com/go-webauthn/webauthn/protocol"

	"github.com/greatseal-io/greatseal/credential"
)

func det(t testing.TB, v any) []byte {
	t.Helper()
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func coseOf(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		b, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return det(t, map[int]any{1: 2, 3: -7, -1: 1, -2: b[1:33], -3: b[33:]})
	case ed25519.PublicKey:
		return det(t, map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(p)})
	case *rsa.PublicKey:
		return det(t, map[int]any{1: 3, 3: -257, -1: p.N.Bytes(), -2: big.NewInt(int64(p.E)).Bytes()})
	}
	t.Fatalf("key %T", pub)
	return nil
}

const (
	testRP     = "example.com"
	testOrigin = "https://seal.example.com"
)

// forgery is an assertion in parts; sign makes the signature good whatever the
// parts say, so that a refusal is one of the parts.
type forgery struct {
	client string // clientDataJSON
	rp     string
	flags  byte
	ext    []byte
}

func clientJSON(typ string, challenge []byte, origin, more string) string {
	return `{"type":"` + typ + `","challenge":"` + base64.RawURLEncoding.EncodeToString(challenge) + `","origin":"` + origin + `"` + more + `}`
}

func (f forgery) sign(t testing.TB, key crypto.Signer) credential.Assertion {
	t.Helper()
	rp, ch := sha256.Sum256([]byte(f.rp)), sha256.Sum256([]byte(f.client))
	auth := append(rp[:], f.flags, 0, 0, 0, 7)
	auth = append(auth, f.ext...)
	signed := append(bytes.Clone(auth), ch[:]...)
	opts := crypto.SignerOpts(crypto.SHA256)
	if _, ok := key.(ed25519.PrivateKey); ok {
		opts = crypto.Hash(0)
	} else {
		d := sha256.Sum256(signed)
		signed = d[:]
	}
	sig, err := key.Sign(rand.Reader, signed, opts)
	if err != nil {
		t.Fatal(err)
	}
	return credential.Assertion{AuthenticatorData: auth, ClientDataJSON: []byte(f.client), Signature: sig}
}

func encode(t testing.TB, a credential.Assertion) []byte {
	t.Helper()
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goWebauthn asks the server-side library about the same bytes.
func goWebauthn(t testing.TB, c *credential.Passkey, challenge []byte, a credential.Assertion) error {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	body, err := json.Marshal(map[string]any{
		"id": b64(c.CredentialID()), "rawId": b64(c.CredentialID()), "type": "public-key",
		"response": map[string]string{
			"authenticatorData": b64(a.AuthenticatorData), "clientDataJSON": b64(a.ClientDataJSON), "signature": b64(a.Signature),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	par, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return err
	}
	return par.Verify(b64(challenge), c.RPID(), "", c.Origins(), nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, true, true, c.COSEKey(), protocol.SignaturePolicy{})
}

// Invariants 4 and 5. For every row a second implementation gives its verdict on
// the same bytes; where it accepts and we refuse, the row says so.
func TestPasskeyAgainstGoWebauthn(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	newKey := func(eligible bool) *credential.Passkey {
		c, err := credential.NewPasskey([]byte("credential id"), coseOf(t, key.Public()), testRP, []string{testOrigin, "https://example.com:8443"}, eligible)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	bound, synced := newKey(false), newKey(true)
	challenge := sha256.Sum256(message)
	ch := challenge[:]
	login := sha256.Sum256(append([]byte("login\n"), message...))
	good := clientJSON("webauthn.get", ch, testOrigin, "")
	b64 := base64.RawURLEncoding.EncodeToString(ch)
	dup := strings.Replace(good, `{`, `{"type":"webauthn.get",`, 1)
	ext := det(t, map[string]any{"uvm": []any{}})

	type row struct {
		f      forgery
		c      *credential.Passkey
		ok     bool // we accept
		theirs bool // go-webauthn accepts
	}
	client := func(s string) forgery { return forgery{client: s, rp: testRP, flags: 0x05} }
	flags := func(b byte, ext ...byte) forgery { return forgery{client: good, rp: testRP, flags: b, ext: ext} }
	for name, r := range map[string]row{
		"good":                {client(good), bound, true, true},
		"good, second origin": {client(clientJSON("webauthn.get", ch, "https://example.com:8443", "")), bound, true, true},
		"crossOrigin false":   {client(clientJSON("webauthn.get", ch, testOrigin, `,"crossOrigin":false`)), bound, true, true},
		"further member":      {client(clientJSON("webauthn.get", ch, testOrigin, `,"other_keys_can_be_added_here":"do not compare"`)), bound, true, true},
		"extension":           {flags(0x85, ext...), bound, true, true},
		"synchronised":        {flags(0x1d), synced, true, true},
		"eligible":            {flags(0x0d), synced, true, true},

		"no user presence":      {flags(0x04), bound, false, false},
		"no user verification":  {flags(0x01), bound, false, false},
		"no flags":              {flags(0x00), bound, false, false},
		"another relying party": {forgery{client: good, rp: "example.org", flags: 5}, bound, false, false},
		"sub domain as party":   {forgery{client: good, rp: "seal.example.com", flags: 5}, bound, false, false},
		"create":                {client(clientJSON("webauthn.create", ch, testOrigin, "")), bound, false, false},
		"payment":               {client(clientJSON("payment.get", ch, testOrigin, "")), bound, false, false},
		"no type":               {client(strings.Replace(good, "type", "tipe", 1)), bound, false, false},
		"another message":       {client(clientJSON("webauthn.get", make([]byte, 32), testOrigin, "")), bound, false, false},
		"login's challenge":     {client(clientJSON("webauthn.get", login[:], testOrigin, "")), bound, false, false},
		"padded challenge":      {client(strings.Replace(good, b64, b64+"=", 1)), bound, false, false},
		"cut challenge":         {client(strings.Replace(good, b64, b64[:42], 1)), bound, false, false},
		"no challenge":          {client(strings.Replace(good, "challenge", "challenges", 1)), bound, false, false},
		"another origin":        {client(clientJSON("webauthn.get", ch, "https://evil.example.com", "")), bound, false, false},
		"http":                  {client(clientJSON("webauthn.get", ch, "http://seal.example.com", "")), bound, false, false},
		"another port":          {client(clientJSON("webauthn.get", ch, testOrigin+":8443", "")), bound, false, false},
		"prefix of origin":      {client(clientJSON("webauthn.get", ch, testOrigin+".evil.org", "")), bound, false, false},
		"empty origin":          {client(clientJSON("webauthn.get", ch, "", "")), bound, false, false},
		"null origin":           {client(strings.Replace(good, `"`+testOrigin+`"`, "null", 1)), bound, false, false},
		"crossOrigin":           {client(clientJSON("webauthn.get", ch, testOrigin, `,"crossOrigin":true`)), bound, false, false},
		"crossOrigin, top":      {client(clientJSON("webauthn.get", ch, testOrigin, `,"crossOrigin":true,"topOrigin":"https://evil.org"`)), bound, false, false},
		"topOrigin alone":       {client(clientJSON("webauthn.get", ch, testOrigin, `,"topOrigin":"https://evil.org"`)), bound, false, false},
		"bytes after":           {flags(0x05, 0), bound, false, false},
		"extension flag alone":  {flags(0x85), bound, false, false},
		"extension and bytes":   {flags(0x85, append(bytes.Clone(ext), 0)...), bound, false, false},
		"extension not a map":   {flags(0x85, 0x80), bound, false, false},
		"extension null":        {flags(0x85, 0xf6), bound, false, true},
		"extension twice":       {flags(0x85, 0xa2, 0x61, 'a', 1, 0x61, 'a', 2), bound, false, false},
		"attested data flag":    {flags(0x45), bound, false, false},
		"not an object":         {client(`[]`), bound, false, false},
		"empty object":          {client(`{}`), bound, false, false},
		"not JSON":              {client(good[:len(good)-1]), bound, false, false},
		"JSON and bytes":        {client(good + "{}"), bound, false, false},

		// Where we are the stricter one.
		"default port":            {client(clientJSON("webauthn.get", ch, testOrigin+":443", "")), bound, false, true},
		"origin in upper case":    {client(clientJSON("webauthn.get", ch, "https://SEAL.example.com", "")), bound, false, true},
		"origin with a path":      {client(clientJSON("webauthn.get", ch, testOrigin+"/", "")), bound, false, true},
		"member twice":            {client(dup), bound, false, true},
		"member twice, escaped":   {client(strings.Replace(dup, `"type"`, `"\u0074ype"`, 1)), bound, false, true},
		"nested member twice":     {client(clientJSON("webauthn.get", ch, testOrigin, `,"x":{"a":1,"a":2}`)), bound, false, true},
		"member in another case":  {client(strings.Replace(good, `"type"`, `"Type"`, 1)), bound, false, true},
		"both cases":              {client(clientJSON("webauthn.get", ch, testOrigin, `,"CrossOrigin":false`)), bound, false, true},
		"not UTF-8":               {client(clientJSON("webauthn.get", ch, testOrigin, ",\"x\":\"\xff\"")), bound, false, true},
		"crossOrigin null":        {client(clientJSON("webauthn.get", ch, testOrigin, `,"crossOrigin":null`)), bound, false, true},
		"topOrigin empty":         {client(clientJSON("webauthn.get", ch, testOrigin, `,"topOrigin":""`)), bound, false, true},
		"token binding":           {client(clientJSON("webauthn.get", ch, testOrigin, `,"tokenBinding":{"status":"present","id":"AA"}`)), bound, false, true},
		"token binding, fold":     {client(clientJSON("webauthn.get", ch, testOrigin, `,"TOKENBINDING":{"status":"supported"}`)), bound, false, true},
		"reserved flag":           {flags(0x07), bound, false, true},
		"other reserved flag":     {flags(0x25), bound, false, true},
		"backed up, not eligible": {flags(0x15), bound, false, true},
		"eligible all at once":    {flags(0x0d), bound, false, true},
		"no longer eligible":      {flags(0x05), synced, false, true},
		"too long":                {client(clientJSON("webauthn.get", ch, testOrigin, `,"x":"`+strings.Repeat("a", 9000)+`"`)), bound, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.f.sign(t, key)
			err := r.c.Verify(credential.Statement, message, encode(t, a))
			if r.ok && err != nil {
				t.Error(err)
			} else if !r.ok {
				wantRefused(t, err)
			}
			if err := goWebauthn(t, r.c, ch, a); (err == nil) != r.theirs {
				t.Errorf("go-webauthn: %v", err)
			}
		})
	}
	// The challenge of a login.
	a := client(clientJSON("webauthn.get", login[:], testOrigin, "")).sign(t, key)
	if err := bound.Verify(credential.Login, message, encode(t, a)); err != nil {
		t.Error(err)
	}
	// Statement whose bytes are a login's preimage.
	wantRefused(t, bound.Verify(credential.Statement, append([]byte("login\n"), message...), encode(t, a)))
	// The key of another passkey.
	wantRefused(t, bound.Verify(credential.Statement, message, encode(t, client(good).sign(t, ecdsaKey(t, elliptic.P256())))))
}

// Assertions of an independent authenticator are accepted, with the flags that
// it was told to set; Ed25519, which it lacks, is signed here.
func TestPasskeyVirtualAuthenticator(t *testing.T) {
	rsaPriv := rsaKey(t)
	for name, tc := range map[string]struct {
		typ virtualwebauthn.KeyType
		key crypto.Signer
	}{
		"ES256": {virtualwebauthn.KeyTypeEC2, ecdsaKey(t, elliptic.P256())},
		"RS256": {virtualwebauthn.KeyTypeRSA, rsaPriv},
	} {
		t.Run(name, func(t *testing.T) {
			pkcs8, err := x509.MarshalPKCS8PrivateKey(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			cred := virtualwebauthn.NewCredentialWithImportedKey(tc.typ, pkcs8)
			for _, o := range []virtualwebauthn.AuthenticatorOptions{
				{}, {BackupEligible: true}, {BackupEligible: true, BackupState: true},
				{UserNotPresent: true}, {UserNotVerified: true}, {BackupState: true},
			} {
				c, err := credential.NewPasskey(cred.ID, coseOf(t, tc.key.Public()), testRP, []string{testOrigin}, o.BackupEligible)
				if err != nil {
					t.Fatal(err)
				}
				if c.Hardware() == o.BackupEligible {
					t.Errorf("%+v: hardware is %v", o, c.Hardware())
				}
				challenge, err := credential.Challenge(credential.Statement, message)
				if err != nil {
					t.Fatal(err)
				}
				auth := virtualwebauthn.NewAuthenticatorWithOptions(o)
				body := virtualwebauthn.CreateAssertionResponse(virtualwebauthn.RelyingParty{ID: testRP, Origin: testOrigin}, auth, cred,
					virtualwebauthn.AssertionOptions{Challenge: challenge})
				var res protocol.CredentialAssertionResponse
				if err := json.Unmarshal([]byte(body), &res); err != nil {
					t.Fatal(err)
				}
				a := credential.Assertion{
					AuthenticatorData: res.AssertionResponse.AuthenticatorData,
					ClientDataJSON:    res.AssertionResponse.ClientDataJSON, Signature: res.AssertionResponse.Signature,
				}
				ours, theirs := c.Verify(credential.Statement, message, encode(t, a)), goWebauthn(t, c, challenge, a)
				want := !o.UserNotPresent && !o.UserNotVerified && (o.BackupEligible || !o.BackupState)
				if (ours == nil) != want {
					t.Errorf("%+v: %v", o, ours)
				}
				if (theirs == nil) != (!o.UserNotPresent && !o.UserNotVerified) {
					t.Errorf("%+v: go-webauthn: %v", o, theirs)
				}
			}
		})
	}
	t.Run("EdDSA", func(t *testing.T) {
		key := ed25519.NewKeyFromSeed(make([]byte, 32))
		c, err := credential.NewPasskey([]byte{1}, coseOf(t, key.Public()), testRP, []string{testOrigin}, false)
		if err != nil {
			t.Fatal(err)
		}
		challenge := sha256.Sum256(message)
		a := forgery{client: clientJSON("webauthn.get", challenge[:], testOrigin, ""), rp: testRP, flags: 5}.sign(t, key)
		if err := goWebauthn(t, c, challenge[:], a); err != nil {
			t.Error(err)
		}
		flips(t, c, credential.Statement, encode(t, a))
	})
}

// Invariant 2 for assertions: every bit counts, and there is one encoding.
func TestPasskeyAssertionForm(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	c, err := credential.NewPasskey([]byte{1}, coseOf(t, key.Public()), testRP, []string{testOrigin}, false)
	if err != nil {
		t.Fatal(err)
	}
	challenge := sha256.Sum256(message)
	a := forgery{client: clientJSON("webauthn.get", challenge[:], testOrigin, ""), rp: testRP, flags: 5}.sign(t, key)
	flips(t, c, credential.Statement, encode(t, a))

	type pair struct {
		K int
		V any
	}
	build := func(head byte, pairs ...pair) []byte {
		b := []byte{head}
		for _, p := range pairs {
			b = append(append(b, det(t, p.K)...), det(t, p.V)...)
		}
		return b
	}
	one, two, three := pair{1, a.AuthenticatorData}, pair{2, a.ClientDataJSON}, pair{3, a.Signature}
	if err := c.Verify(credential.Statement, message, build(0xa3, one, two, three)); err != nil {
		t.Fatalf("the table's own form: %v", err)
	}
	for name, sig := range map[string][]byte{
		"order":            build(0xa3, two, one, three),
		"missing":          build(0xa2, one, two),
		"additional":       build(0xa4, one, two, three, pair{4, 0}),
		"twice":            build(0xa4, one, two, three, three),
		"text for bytes":   build(0xa3, one, pair{2, string(a.ClientDataJSON)}, three),
		"null":             build(0xa3, one, two, pair{3, nil}),
		"empty":            build(0xa3, one, two, pair{3, []byte{}}),
		"indefinite":       append(append([]byte{0xbf}, build(0xa3, one, two, three)[1:]...), 0xff),
		"long head":        append([]byte{0xb8, 3}, build(0xa3, one, two, three)[1:]...),
		"tag":              append([]byte{0xd9, 0xd9, 0xf7}, build(0xa3, one, two, three)...),
		"array":            build(0x83),
		"nothing":          nil,
		"huge map":         {0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"huge bytes":       {0xa1, 0x01, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"deep":             bytes.Repeat([]byte{0x81}, 10000),
		"long sig":         build(0xa3, one, two, pair{3, make([]byte, 2049)}),
		"short auth":       build(0xa3, pair{1, a.AuthenticatorData[:36]}, two, three),
		"too long for all": make([]byte, credential.MaxSignature+1),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, c.Verify(credential.Statement, message, sig)) })
	}
}

func TestPasskeyRefuses(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	cose := coseOf(t, key.Public())
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	rsa3072 := rsaKey(t).PublicKey
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed := []byte(ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey))
	id, origins := []byte{1, 2, 3}, []string{testOrigin}
	for name, f := range map[string]func() (*credential.Passkey, error){
		"no id": func() (*credential.Passkey, error) { return credential.NewPasskey(nil, cose, testRP, origins, false) },
		"long id": func() (*credential.Passkey, error) {
			return credential.NewPasskey(make([]byte, 1024), cose, testRP, origins, false)
		},
		"no key": func() (*credential.Passkey, error) { return credential.NewPasskey(id, nil, testRP, origins, false) },
		"no origins": func() (*credential.Passkey, error) {
			return credential.NewPasskey(id, cose, testRP, nil, false)
		},
		"origin twice": func() (*credential.Passkey, error) {
			return credential.NewPasskey(id, cose, testRP, []string{testOrigin, testOrigin}, false)
		},
		"17 origins": func() (*credential.Passkey, error) {
			var o []string
			for i := range 17 {
				o = append(o, testOrigin+":"+big.NewInt(int64(i+1000)).String())
			}
			return credential.NewPasskey(id, cose, testRP, o, false)
		},
	} {
		if c, err := f(); !errors.Is(err, credential.ErrCredential) || c != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	for _, o := range []string{
		"", "https://", "http://example.com", "https://example.com/", "https://Example.com", "https://example.com:443", "https://example.com:0",
		"https://example.com:65536", "https://example.com:08443", "https://example.com:", "https://u@example.com", "https://evilexample.com",
		"https://example.com.evil.org", "https://example.org", "ftp://example.com", "HTTPS://example.com", "https://.example.com", "https://-a.example.com",
		"https://example.com?", "https://example.com#", "https://exämple.com", "android:apk-key-hash:abc", "null", "https://example.com:+80", "http://localhost",
	} {
		if _, err := credential.NewPasskey(id, cose, testRP, []string{o}, false); err == nil {
			t.Errorf("origin %q accepted", o)
		}
	}
	for _, rp := range []string{"", "Example.com", "example.com.", ".com", "a..b", "127.0.0.1", "[::1]", "1.2", "0x7f", "example.com:443", "https://example.com", "a b", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "com"} {
		if _, err := credential.NewPasskey(id, cose, rp, []string{"https://" + rp}, false); err == nil {
			t.Errorf("relying party %q accepted", rp)
		}
	}
	for _, o := range []string{"http://localhost", "http://localhost:8080", "https://localhost", "https://a.localhost:8443"} {
		if _, err := credential.NewPasskey(id, cose, "localhost", []string{o}, false); err != nil {
			t.Errorf("origin %q: %v", o, err)
		}
	}
	if _, err := credential.NewPasskey(id, cose, "localhost", []string{"http://localhost:80"}, false); err == nil {
		t.Error("http default port accepted")
	}
	for name, m := range map[string]map[int]any{
		"no algorithm":       {1: 2, -1: 1, -2: x, -3: y},
		"ES384":              {1: 2, 3: -35, -1: 1, -2: x, -3: y},
		"ES256 on P-384":     {1: 2, 3: -7, -1: 2, -2: x, -3: y},
		"another member":     {1: 2, 3: -7, -1: 1, -2: x, -3: y, 4: []int{2}},
		"private key":        {1: 2, 3: -7, -1: 1, -2: x, -3: y, -4: x},
		"off the curve":      {1: 2, 3: -7, -1: 1, -2: x, -3: x},
		"zero point":         {1: 2, 3: -7, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)},
		"short coordinate":   {1: 2, 3: -7, -1: 1, -2: x[1:], -3: y},
		"compressed":         {1: 2, 3: -7, -1: 1, -2: x, -3: true},
		"types mixed":        {1: 3, 3: -7, -1: 1, -2: x, -3: y},
		"Ed448":              {1: 1, 3: -8, -1: 7, -2: ed},
		"short Ed25519":      {1: 1, 3: -8, -1: 6, -2: ed[1:]},
		"neutral Ed25519":    {1: 1, 3: -8, -1: 6, -2: append([]byte{1}, make([]byte, 31)...)},
		"RSA 2048":           {1: 3, 3: -257, -1: rsa2048.N.Bytes(), -2: []byte{1, 0, 1}},
		"RSA SHA-1":          {1: 3, 3: -65535, -1: rsa3072.N.Bytes(), -2: []byte{1, 0, 1}},
		"RSA exponent 3":     {1: 3, 3: -257, -1: rsa3072.N.Bytes(), -2: []byte{3}},
		"RSA padded":         {1: 3, 3: -257, -1: append([]byte{0}, rsa3072.N.Bytes()...), -2: []byte{1, 0, 1}},
		"RSA padded e":       {1: 3, 3: -257, -1: rsa3072.N.Bytes(), -2: []byte{0, 1, 0, 1}},
		"RSA large exponent": {1: 3, 3: -257, -1: rsa3072.N.Bytes(), -2: []byte{1, 0, 0, 1, 1}},
		"RSA no modulus":     {1: 3, 3: -257, -1: []byte{}, -2: []byte{1, 0, 1}},
		"nothing":            {},
	} {
		if c, err := credential.NewPasskey(id, det(t, m), testRP, origins, false); !errors.Is(err, credential.ErrCredential) {
			t.Errorf("cose %s: %v, %v", name, c, err)
		}
	}
	// Text forms that say the same in another way.
	good, err := credential.NewPasskey(id, cose, testRP, []string{testOrigin, "https://example.com"}, false)
	if err != nil {
		t.Fatal(err)
	}
	text := good.Text()
	b64 := base64.RawURLEncoding.EncodeToString
	m := func(m map[int]any) string { return b64(det(t, m)) }
	sorted := []string{"https://example.com", testOrigin}
	if own := m(map[int]any{1: id, 2: cose, 3: testRP, 4: sorted, 5: false}); own != text {
		t.Fatalf("the table's own form: %s: want %s", own, text)
	}
	for name, s := range map[string]string{
		"padding":         text + "=",
		"line break":      text[:8] + "\n" + text[8:],
		"cut":             text[:len(text)-4],
		"order":           m(map[int]any{1: id, 2: cose, 3: testRP, 4: []string{sorted[1], sorted[0]}, 5: false}),
		"origin twice":    m(map[int]any{1: id, 2: cose, 3: testRP, 4: []string{testOrigin, testOrigin}, 5: false}),
		"no flag":         m(map[int]any{1: id, 2: cose, 3: testRP, 4: sorted}),
		"null flag":       m(map[int]any{1: id, 2: cose, 3: testRP, 4: sorted, 5: nil}),
		"number flag":     m(map[int]any{1: id, 2: cose, 3: testRP, 4: sorted, 5: 0}),
		"null origins":    m(map[int]any{1: id, 2: cose, 3: testRP, 4: nil, 5: false}),
		"further member":  m(map[int]any{1: id, 2: cose, 3: testRP, 4: sorted, 5: false, 6: 1}),
		"key as a map":    m(map[int]any{1: id, 2: cbor.RawMessage(cose), 3: testRP, 4: sorted, 5: false}),
		"text id":         m(map[int]any{1: "abc", 2: cose, 3: testRP, 4: sorted, 5: false}),
		"cose not sorted": m(map[int]any{1: id, 2: append(append([]byte{0xa5, 3, 0x26, 1, 2}, cose[5:]...), 0)[:len(cose)], 3: testRP, 4: sorted, 5: false}),
		"cose tail":       m(map[int]any{1: id, 2: append(bytes.Clone(cose), 0), 3: testRP, 4: sorted, 5: false}),
		"tail":            b64(append(det(t, map[int]any{1: id, 2: cose, 3: testRP, 4: sorted, 5: false}), 0)),
	} {
		if c, err := credential.Parse(credential.KindPasskey, s); !errors.Is(err, credential.ErrCredential) || c != nil {
			t.Errorf("text %s: %v, %v", name, c, err)
		}
	}
}

// A passkey keeps no reference to what its caller may change, and gives none.
func TestPasskeyCopies(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	id, cose, origins := []byte{1}, coseOf(t, key.Public()), []string{testOrigin}
	c, err := credential.NewPasskey(id, cose, testRP, origins, true)
	if err != nil {
		t.Fatal(err)
	}
	text := c.Text()
	id[0], cose[0], origins[0] = 2, 2, "x"
	c.CredentialID()[0], c.COSEKey()[0], c.Origins()[0] = 3, 3, "y"
	again := mustParse(t, credential.KindPasskey, text).(*credential.Passkey)
	if !bytes.Equal(c.CredentialID(), again.CredentialID()) || !bytes.Equal(c.COSEKey(), again.COSEKey()) ||
		c.Origins()[0] != testOrigin || c.RPID() != testRP || !c.BackupEligible() || c.Public() == nil {
		t.Error("a caller changed the passkey")
	}
}
