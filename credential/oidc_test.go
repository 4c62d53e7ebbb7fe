package credential_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/statement"
)

const (
	ciURL    = "https://token.ci.example.com"
	ciFor    = "https://seal.example.com"
	ciSecond = 1_763_800_000
)

var ciNow = time.Unix(ciSecond, 0).UTC()

func ciClaims() map[string]string {
	return map[string]string{"repository": "acme/app", "ref": "refs/heads/main"}
}

func ciCredential(t testing.TB, i *credentialtest.Issuer, edit func(*credential.Workload)) *credential.OIDC {
	t.Helper()
	w := credential.Workload{Issuer: i.URL, Keys: []string{i.JWK()}, Audience: ciFor, Claims: ciClaims()}
	if edit != nil {
		edit(&w)
	}
	c, err := credential.NewOIDC(w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ciRequest is the pre-authentication encoding of a request made at a time.
func ciRequest(t testing.TB, nonce byte, at time.Time) []byte {
	t.Helper()
	var root merkle.Hash
	b, err := statement.Encode(statement.Request{
		Deployment: "acme", Charter: statement.CharterRef{Version: 1}, Requester: "ci", Created: at, Expires: at.Add(time.Hour),
		Nonce: strings.Repeat(hex.EncodeToString([]byte{nonce}), 16),
		Command: statement.Command{Name: statement.Sign, Sign: &statement.SignArgs{
			Policy: "windows", Key: "k", Formats: []string{"pe"}, Count: 1, Items: root.String(),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return statement.PAE(b)
}

func TestOIDCVerifies(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"EdDSA": nil, "RS256": rsaKey}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()} {
		if keys[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for alg, key := range keys {
		i := credentialtest.NewIssuer(ciURL, "key-1", key)
		if i.Algorithm() != alg {
			t.Fatalf("%s signs by %s", alg, i.Algorithm())
		}
		for _, unbound := range []bool{false, true} {
			c := ciCredential(t, i, func(w *credential.Workload) { w.Unbound = unbound })
			s := i.Workload(c, func() time.Time { return ciNow }, nil)
			m := ciRequest(t, 1, ciNow)
			sig, err := s.Sign(t.Context(), credential.Statement, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(credential.Statement, m, sig); err != nil {
				t.Errorf("%s unbound=%v: %v", alg, unbound, err)
			}
			again, err := credential.Parse(credential.KindOIDC, c.Text())
			if err != nil || again.Text() != c.Text() || again.ID() != c.ID() || again.Describe() != c.Describe() {
				t.Fatalf("%s: %v", alg, err)
			}
			if err := again.Verify(credential.Statement, m, sig); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
			// A signature of a bit less, or of another request.
			other := ciRequest(t, 2, ciNow)
			if err := c.Verify(credential.Statement, other, sig); (err == nil) != unbound {
				t.Errorf("%s unbound=%v: another request with the same token: %v", alg, unbound, err)
			}
			bad := bytes.Clone(sig)
			at := bytes.LastIndexByte(bad, '.') + 3
			bad[at] = map[bool]byte{true: 'B', false: 'A'}[bad[at] == 'A']
			if err := c.Verify(credential.Statement, m, bad); !errors.Is(err, credential.ErrSignature) {
				t.Errorf("%s: a signature with another letter: %v", alg, err)
			}
		}
	}
}

// A workload signs requests and answers challenges: nothing else is a statement of its.
func TestOIDCSignsRequestsOnly(t *testing.T) {
	i := credentialtest.NewIssuer(ciURL, "key-1", nil)
	c := ciCredential(t, i, nil)
	s := i.Workload(c, func() time.Time { return ciNow }, nil)
	e, err := statement.Encode(statement.Endorsement{Deployment: "acme", Request: statement.ID{1}, Endorser: "ci", Verdict: statement.Endorse, Created: ciNow, Expires: ciNow.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	req := ciRequest(t, 1, ciNow)
	for name, m := range map[string][]byte{
		"endorsement": statement.PAE(e), "text": []byte("hello"), "nothing": nil, "request cut": req[:len(req)-1], "request longer": append(bytes.Clone(req), ' '),
		"request without its frame": req[bytes.IndexByte(req, '{'):], "login": []byte("login\nx"),
	} {
		sig, err := s.Sign(t.Context(), credential.Statement, m)
		if err != nil {
			continue // not even an audience
		}
		if err := c.Verify(credential.Statement, m, sig); !errors.Is(err, credential.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Purposes do not stand for one another.
	login, err := s.Sign(t.Context(), credential.Login, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(credential.Login, req, login); err != nil {
		t.Error(err)
	}
	if err := c.Verify(credential.Login, append(bytes.Clone(req), 'x'), login); err == nil {
		t.Error("a login's token is good for another challenge")
	}
	if err := c.Verify(credential.Statement, req, login); err == nil {
		t.Error("a login's token signs a request")
	}
	sig, err := s.Sign(t.Context(), credential.Statement, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(credential.Login, req, sig); err == nil {
		t.Error("a request's token logs in")
	}
	if _, err := c.Token(sig, ciSecond); err == nil {
		t.Error("a request's token is taken for one of the API")
	}
	api := i.Token(i.Claims(c.APIAudience(), ciNow, map[string]any{"repository": "acme/app", "ref": "refs/heads/main"}))
	if _, err := c.Token(api, ciSecond); err != nil {
		t.Error(err)
	}
	for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
		if err := c.Verify(p, req, api); err == nil {
			t.Errorf("a token of the API is a signature for %s", p)
		}
	}
	unbound := ciCredential(t, i, func(w *credential.Workload) { w.Unbound = true })
	own, err := i.Workload(unbound, func() time.Time { return ciNow }, nil).Sign(t.Context(), credential.Statement, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := unbound.Verify(credential.Login, req, own); err == nil {
		t.Error("an unbound token logs in")
	}
	if _, err := unbound.Token(own, ciSecond); err == nil {
		t.Error("an unbound token that signed calls the API")
	}
}

// Every token that a thief, another job or another issuer could have.
func TestOIDCAttacks(t *testing.T) {
	i := credentialtest.NewIssuer(ciURL, "key-1", nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	strong := credentialtest.NewIssuer(ciURL, "key-2", rsaKey)
	c := ciCredential(t, i, func(w *credential.Workload) {
		w.Keys = append(w.Keys, strong.JWK())
		w.Patterns = map[string]string{"workflow": "release-*"}
	})
	m := ciRequest(t, 1, ciNow)
	aud, err := c.Audience(credential.Statement, m)
	if err != nil {
		t.Fatal(err)
	}
	good := func(more map[string]any) map[string]any {
		all := map[string]any{"repository": "acme/app", "ref": "refs/heads/main", "workflow": "release-1"}
		maps.Copy(all, more)
		return i.Claims(aud, ciNow, all)
	}
	if err := c.Verify(credential.Statement, m, i.Token(good(nil))); err != nil {
		t.Fatal(err)
	}
	js := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	with := func(header map[string]any) []byte {
		h := i.Header()
		maps.Copy(h, header)
		return i.Raw(js(h), js(good(nil)))
	}
	// A token "signed" by HMAC with what everybody knows: the public key, in each form.
	hs := func(kid string, secret []byte) []byte {
		in := base64.RawURLEncoding.EncodeToString(js(map[string]any{"typ": "JWT", "alg": "HS256", "kid": kid})) + "." + base64.RawURLEncoding.EncodeToString(js(good(nil)))
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(in))
		return []byte(in + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil)))
	}
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	foreign := credentialtest.NewIssuer("https://evil.example.com", "key-1", nil)
	twin := credentialtest.NewIssuer(ciURL, "key-1", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	tok := i.Token(good(nil))
	parts := strings.Split(string(tok), ".")
	head := string(js(i.Header()))
	body := string(js(good(nil)))
	attacks := map[string][]byte{
		"another audience":       i.Token(good(map[string]any{"aud": "https://other.example.com/" + aud[strings.LastIndexByte(aud, '/')+1:]})),
		"audience alone":         i.Token(good(map[string]any{"aud": ciFor})),
		"audience of the API":    i.Token(good(map[string]any{"aud": c.APIAudience()})),
		"another request":        i.Token(good(map[string]any{"aud": ciFor + "/" + strings.Repeat("00", 32)})),
		"two audiences":          i.Token(good(map[string]any{"aud": []string{aud, "https://other.example.com"}})),
		"no audience":            i.Token(good(map[string]any{"aud": []string{}})),
		"audience upper case":    i.Token(good(map[string]any{"aud": strings.ToUpper(aud)})),
		"another repository":     i.Token(good(map[string]any{"repository": "acme/app2"})),
		"fork":                   i.Token(good(map[string]any{"repository": "mallory/app"})),
		"repository upper case":  i.Token(good(map[string]any{"repository": "Acme/App"})),
		"repository as a list":   i.Token(good(map[string]any{"repository": []string{"acme/app"}})),
		"repository with a zero": i.Token(good(map[string]any{"repository": "acme/app\x00"})),
		"pull request":           i.Token(good(map[string]any{"ref": "refs/pull/7/merge"})),
		"no ref":                 i.Token(good(map[string]any{"ref": nil})),
		"workflow":               i.Token(good(map[string]any{"workflow": "test"})),
		"workflow over a slash":  i.Token(good(map[string]any{"workflow": "release-1/x"})),
		"workflow missing":       i.Token(good(map[string]any{"workflow": 7})),
		"expired":                i.Token(good(map[string]any{"iat": ciSecond - 3000, "nbf": ciSecond - 3000, "exp": ciSecond - 1})),
		"future":                 i.Token(good(map[string]any{"iat": ciSecond + 301, "exp": ciSecond + 600})),
		"not yet":                i.Token(good(map[string]any{"nbf": ciSecond + 301})),
		"longer than an hour":    i.Token(good(map[string]any{"exp": ciSecond + 3601})),
		"ends before it begins":  i.Token(good(map[string]any{"iat": ciSecond + 100, "exp": ciSecond + 100})),
		"no exp":                 i.Token(good(map[string]any{"exp": nil})),
		"no iat":                 i.Token(good(map[string]any{"iat": nil})),
		"exp as text":            i.Token(good(map[string]any{"exp": "1763800600"})),
		"exp in parts":           i.Token(good(map[string]any{"exp": ciSecond + 0.5})),
		"negative iat":           i.Token(good(map[string]any{"iat": -1})),
		"another issuer":         i.Token(good(map[string]any{"iss": "https://evil.example.com"})),
		"issuer with a slash":    i.Token(good(map[string]any{"iss": ciURL + "/"})),
		"issuer missing":         i.Token(good(map[string]any{"iss": nil})),
		"key of another issuer":  foreign.Raw(js(i.Header()), js(good(nil))),
		"its own issuer":         foreign.Token(good(map[string]any{"iss": foreign.URL})),
		"unpinned key":           credentialtest.NewIssuer(ciURL, "key-3", nil).Token(good(nil)),
		"same kid, another key":  twin.Token(good(nil)),
		"alg none":               []byte(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"key-1"}`)) + "." + parts[1] + "."),
		"alg none, signature":    i.Raw([]byte(`{"alg":"none","kid":"key-1"}`), []byte(body)),
		"alg None":               with(map[string]any{"alg": "None"}),
		"HS256 with the JWK":     hs("key-1", []byte(i.JWK())),
		"HS256 with PEM":         hs("key-2", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 with DER":         hs("key-2", der),
		"HS256 with the modulus": hs("key-2", rsaKey.N.Bytes()),
		"kid of the other key":   with(map[string]any{"kid": "key-2"}),
		"alg of the other key":   with(map[string]any{"alg": "RS256", "kid": "key-2"}),
		"RS512":                  with(map[string]any{"alg": "RS512", "kid": "key-2"}),
		"no kid":                 i.Raw([]byte(`{"alg":"EdDSA"}`), []byte(body)),
		"crit":                   with(map[string]any{"crit": []string{"exp"}}),
		"b64":                    with(map[string]any{"b64": false}),
		"own key in the header":  with(map[string]any{"jwk": map[string]string{"kty": "OKP"}}),
		"jku":                    with(map[string]any{"jku": "https://evil.example.com/keys"}),
		"access token":           with(map[string]any{"typ": "at+jwt"}),
		"member twice":           i.Raw([]byte(head), []byte(strings.Replace(body, `"repository":"acme/app"`, `"repository":"mallory/x","repository":"acme/app"`, 1))),
		"aud twice":              i.Raw([]byte(head), []byte(`{"aud":"x",`+body[1:])),
		"alg twice":              i.Raw([]byte(`{"alg":"none",`+head[1:]), []byte(body)),
		"escaped twin":           i.Raw([]byte(head), []byte(strings.Replace(body, `"ref":`, `"r\u0065f":"refs/heads/x","ref":`, 1))),
		"not UTF-8":              i.Raw([]byte(head), []byte(strings.Replace(body, "acme/app", "acme/app\xff", 1))),
		"an array":               i.Raw([]byte(head), []byte("[]")),
		"null":                   i.Raw([]byte(head), []byte("null")),
		"something after":        i.Raw([]byte(head), []byte(body+"{}")),
		"padding":                []byte(parts[0] + "=." + parts[1] + "." + parts[2]),
		"line break":             append(bytes.Clone(tok), '\n'),
		"four parts":             []byte(string(tok) + ".x"),
		"two parts":              []byte(parts[0] + "." + parts[1]),
		"JSON serialization":     js(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]}),
		"too large":              i.Token(good(map[string]any{"x": strings.Repeat("x", credential.MaxToken)})),
		"nothing":                {},
	}
	for name, sig := range attacks {
		err := c.Verify(credential.Statement, m, sig)
		if !errors.Is(err, credential.ErrSignature) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(parts[1]) > 0 && strings.Contains(err.Error(), parts[1][:40]) {
			t.Errorf("%s: the error quotes the token", name)
		}
	}
	// Made before the token was: a request of yesterday, signed today.
	for _, d := range []time.Duration{-301 * time.Second, -24 * time.Hour, 601 * time.Second, 24 * time.Hour} {
		late := ciRequest(t, 1, ciNow.Add(d))
		a, err := c.Audience(credential.Statement, late)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(credential.Statement, late, i.Token(good(map[string]any{"aud": a}))); !errors.Is(err, credential.ErrSignature) {
			t.Errorf("a request made %s after its token: %v", d, err)
		}
	}
}

func TestOIDCRefuses(t *testing.T) {
	i := credentialtest.NewIssuer(ciURL, "key-1", nil)
	for name, edit := range map[string]func(*credential.Workload){
		"http":                  func(w *credential.Workload) { w.Issuer = "http://token.ci.example.com" },
		"user":                  func(w *credential.Workload) { w.Issuer = "https://a@token.ci.example.com" },
		"query":                 func(w *credential.Workload) { w.Issuer += "?x" },
		"no issuer":             func(w *credential.Workload) { w.Issuer = "" },
		"no audience":           func(w *credential.Workload) { w.Audience = "" },
		"audience with a slash": func(w *credential.Workload) { w.Audience += "/" },
		"audience like a request's": func(w *credential.Workload) {
			w.Audience += "/" + strings.Repeat("0a", 32)
		},
		"audience like the API's": func(w *credential.Workload) { w.Audience += "/api" },
		"audience with a space":   func(w *credential.Workload) { w.Audience = "my seal" },
		"no claims":               func(w *credential.Workload) { w.Claims = nil },
		"patterns alone": func(w *credential.Workload) {
			w.Claims, w.Patterns = nil, map[string]string{"repository": "acme/*"}
		},
		"iss as a claim":     func(w *credential.Workload) { w.Claims["iss"] = "x" },
		"aud as a pattern":   func(w *credential.Workload) { w.Patterns = map[string]string{"aud": "*"} },
		"empty value":        func(w *credential.Workload) { w.Claims["ref"] = "" },
		"bad pattern":        func(w *credential.Workload) { w.Patterns = map[string]string{"workflow": "[a"} },
		"value and pattern":  func(w *credential.Workload) { w.Patterns = map[string]string{"ref": "x*"} },
		"no keys":            func(w *credential.Workload) { w.Keys = nil },
		"key twice":          func(w *credential.Workload) { w.Keys = append(w.Keys, w.Keys[0]) },
		"symmetric key":      func(w *credential.Workload) { w.Keys = []string{`{"kty":"oct","kid":"a","k":"AAAA"}`} },
		"key for encryption": func(w *credential.Workload) { w.Keys[0] = strings.Replace(w.Keys[0], `"sig"`, `"enc"`, 1) },
		"private key":        func(w *credential.Workload) { w.Keys[0] = `{"d":"AAAA",` + w.Keys[0][1:] },
		"key without a name": func(w *credential.Workload) { w.Keys[0] = strings.Replace(w.Keys[0], `"kid":"key-1"`, `"kid":""`, 1) },
		"another algorithm":  func(w *credential.Workload) { w.Keys[0] = strings.Replace(w.Keys[0], "EdDSA", "ES256", 1) },
		"small order": func(w *credential.Workload) {
			w.Keys[0] = `{"kty":"OKP","kid":"a","crv":"Ed25519","x":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
		},
		"not on the curve": func(w *credential.Workload) {
			x := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
			w.Keys[0] = `{"kty":"EC","kid":"a","crv":"P-256","x":"` + x + `","y":"` + x + `"}`
		},
		"RSA of 1024 bits": func(w *credential.Workload) {
			w.Keys[0] = `{"kty":"RSA","kid":"a","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 128)) + `"}`
		},
		"exponent 3": func(w *credential.Workload) {
			w.Keys[0] = `{"kty":"RSA","kid":"a","e":"Aw","n":"` + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256)) + `"}`
		},
	} {
		w := credential.Workload{Issuer: i.URL, Keys: []string{i.JWK()}, Audience: ciFor, Claims: ciClaims()}
		edit(&w)
		if _, err := credential.NewOIDC(w); !errors.Is(err, credential.ErrCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The ID names the workload, not its issuer's keys; the text commits to them.
func TestOIDCIdentity(t *testing.T) {
	a, b := credentialtest.NewIssuer(ciURL, "key-1", nil), credentialtest.NewIssuer(ciURL, "key-2", nil)
	old, now := ciCredential(t, a, nil), ciCredential(t, b, nil)
	if old.ID() != now.ID() || old.Text() == now.Text() {
		t.Error("an issuer's new key makes another workload, or the same text")
	}
	seen := map[credential.ID]bool{old.ID(): true}
	for _, edit := range []func(*credential.Workload){
		func(w *credential.Workload) { w.Unbound = true },
		func(w *credential.Workload) { w.Audience += "x" },
		func(w *credential.Workload) { w.Claims["ref"] += "x" },
		func(w *credential.Workload) { w.Patterns = map[string]string{"workflow": "x*"} },
		func(w *credential.Workload) {
			w.Claims = map[string]string{"repository": "acme/app"}
			w.Patterns = map[string]string{"ref": "refs/heads/main"}
		},
	} {
		c := ciCredential(t, a, edit)
		if seen[c.ID()] {
			t.Errorf("%s has the ID of another", c.Describe())
		}
		seen[c.ID()] = true
		if id, err := credential.ParseID(string(c.ID())); err != nil || id.Kind() != credential.KindOIDC {
			t.Error(err)
		}
	}
	for _, text := range []string{" " + old.Text(), old.Text() + "\n", strings.Replace(old.Text(), `,"claims"`, `,"x":1,"claims"`, 1), strings.Replace(old.Text(), `{"issuer"`, `{"unbound":false,"issuer"`, 1)} {
		if _, err := credential.Parse(credential.KindOIDC, text); !errors.Is(err, credential.ErrCredential) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var zero credential.OIDC
	if zero.ID() != "" || zero.Describe() == "" || zero.Verify(credential.Login, nil, nil) == nil {
		t.Error("the zero workload is somebody")
	}
	if _, err := zero.Token(nil, 0); err == nil {
		t.Error("the zero workload has tokens")
	}
}

// Whatever is taken apart is in the one form, says one audience, and lasts.
func FuzzIDToken(f *testing.F) {
	i := credentialtest.NewIssuer(ciURL, "key-1", nil)
	seeds := [][]byte{
		i.Token(i.Claims(ciFor, ciNow, map[string]any{"repository": "acme/app", "ref_protected": true})),
		i.Token(i.Claims(ciFor, ciNow, map[string]any{"aud": []string{ciFor}})),
		i.Raw([]byte(`{"alg":"none","kid":"x"}`), []byte(`{"iss":"x","aud":"y","iat":1,"exp":2}`)),
		[]byte("a.b.c"),
	}
	for _, s := range seeds {
		f.Add(s)
	}
	c := ciCredential(f, i, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := credential.ParseIDToken(b)
		if err != nil {
			if !errors.Is(err, credential.ErrSignature) || tok != nil {
				t.Fatal(err)
			}
			return
		}
		for _, p := range strings.Split(string(b), ".") {
			raw, err := base64.RawURLEncoding.Strict().DecodeString(p)
			if err != nil || base64.RawURLEncoding.EncodeToString(raw) != p {
				t.Fatalf("part %q has another form", p)
			}
		}
		if tok.Issuer == "" || tok.Audience == "" || tok.Issued <= 0 || tok.Expires <= 0 {
			t.Fatalf("%+v", tok)
		}
		if !slices.ContainsFunc(seeds, func(s []byte) bool { return bytes.Equal(s, b) }) {
			if _, err := c.Token(b, ciSecond); err == nil {
				t.Fatal("forged")
			}
		}
	})
}

// Whatever key is accepted has one form, which is accepted as itself.
func FuzzIssuerKey(f *testing.F) {
	f.Add(credentialtest.NewIssuer(ciURL, "key-1", nil).JWK())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(credentialtest.NewIssuer(ciURL, "key-1", key).JWK())
	f.Add(`{"kty":"oct","k":"AA","kid":"a"}`)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := credential.ParseIssuerKey(text)
		if err != nil {
			return
		}
		again, err := credential.ParseIssuerKey(k.Text())
		if err != nil || again.Text() != k.Text() || again.ID() != k.ID() || again.Algorithm() != k.Algorithm() {
			t.Fatalf("%q: %q: %v", text, k.Text(), err)
		}
	})
}
