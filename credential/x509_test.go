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
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func newX509(t testing.TB, pub crypto.PublicKey) *credential.X509 {
	t.Helper()
	c, err := credential.NewX509(pub)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What openssl signs over the documented bytes is accepted, and the id is the
// digest that openssl computes of the public key.
func TestX509OpenSSL(t *testing.T) {
	for name, tc := range map[string]struct {
		genpkey []string // nil: the frozen RSA key, for making one takes seconds
		scheme  sigalg.Scheme
		sign    []string
	}{
		"p256":      {[]string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, sigalg.ECDSASHA256, []string{"-digest", "sha256"}},
		"p384":      {[]string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, sigalg.ECDSASHA384, []string{"-digest", "sha384"}},
		"p521":      {[]string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}, sigalg.ECDSASHA512, []string{"-digest", "sha512"}},
		"ed25519":   {[]string{"-algorithm", "ED25519"}, sigalg.PureEd25519, nil},
		"rsa pkcs1": {nil, sigalg.RSAPKCS1SHA256, []string{"-digest", "sha256"}},
		"rsa pss": {nil, sigalg.RSAPSSSHA512,
			[]string{"-digest", "sha512", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			key, cert, in := filepath.Join(dir, "key"), filepath.Join(dir, "cert"), filepath.Join(dir, "in")
			if tc.genpkey == nil {
				key = "testdata/rsa3072-test-key.pem"
			} else {
				mustTool(t, nil, "openssl", append([]string{"genpkey", "-out", key}, tc.genpkey...)...)
			}
			mustTool(t, nil, "openssl", "req", "-x509", "-new", "-key", key, "-subj", "/CN=ci.example.com", "-out", cert)
			text, err := os.ReadFile(cert)
			if err != nil {
				t.Fatal(err)
			}
			c := mustParse(t, credential.KindX509, string(text))
			spki := mustTool(t, nil, "openssl", "pkey", "-in", key, "-pubout", "-outform", "DER")
			if want := base64.StdEncoding.EncodeToString(spki); c.Text() != want {
				t.Errorf("text %s: want %s", c.Text(), want)
			}
			if d := sha256.Sum256(spki); string(c.ID()) != "x509:"+hex.EncodeToString(d[:]) {
				t.Errorf("id %s", c.ID())
			}
			if again := mustParse(t, credential.KindX509, c.Text()); again.ID() != c.ID() || again.Text() != c.Text() {
				t.Error("Parse(Text) is another credential")
			}
			for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
				write(t, in, []byte("greatseal x509 "+string(p)+"\n"+string(message)))
				raw := mustTool(t, nil, "openssl", append([]string{"pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", in}, tc.sign...)...)
				sig, err := credential.EncodeX509Signature(tc.scheme, raw)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Verify(p, message, sig); err != nil {
					t.Errorf("%s: %v", p, err)
				}
				wantRefused(t, c.Verify(p, message[1:], sig))
				for _, q := range []credential.Purpose{credential.Statement, credential.Login, "", "other"} {
					if q != p {
						wantRefused(t, c.Verify(q, message, sig))
					}
				}
				wantRefused(t, credentialtest.X509("other").Credential().Verify(p, message, sig))
			}
		})
	}
}

func TestX509ParseRefuses(t *testing.T) {
	good := credentialtest.X509("alice").Credential().Text()
	der, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	b64 := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	spki := func(pub any) string {
		b, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return b64(b)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072 := rsaKey(t)
	weak := rsa3072.PublicKey
	weak.E = 3
	pkcs8, err := x509.MarshalPKCS8PrivateKey(rsa3072)
	if err != nil {
		t.Fatal(err)
	}
	block := func(typ string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}))
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, rsa3072.Public(), rsa3072)
	if err != nil {
		t.Fatal(err)
	}
	mustParse(t, credential.KindX509, block("CERTIFICATE", cert))
	small, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, rsa2048.Public(), rsa2048)
	if err != nil {
		t.Fatal(err)
	}
	// The same RSA key with its NULL parameters left out.
	type algorithm struct{ OID asn1.ObjectIdentifier }
	noNull, err := asn1.Marshal(struct {
		A algorithm
		K asn1.BitString
	}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}}, asn1.BitString{Bytes: x509.MarshalPKCS1PublicKey(&rsa3072.PublicKey), BitLength: 8 * len(x509.MarshalPKCS1PublicKey(&rsa3072.PublicKey))}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":              "",
		"line break":         good[:20] + "\n" + good[20:],
		"final line break":   good + "\n",
		"no padding":         strings.TrimRight(good, "="),
		"url alphabet":       strings.NewReplacer("+", "-", "/", "_").Replace(spki(rsa3072.Public())),
		"cut":                b64(der[:len(der)-1]),
		"tail":               b64(append(bytes.Clone(der), 0)),
		"rsa 2048":           spki(rsa2048.Public()),
		"rsa exponent 3":     spki(&weak),
		"rsa without NULL":   b64(noNull),
		"p224":               spki(ecdsaKey(t, elliptic.P224()).Public()),
		"ed25519 neutral":    spki(ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...))),
		"private key":        block("PRIVATE KEY", pkcs8),
		"public key PEM":     block("PUBLIC KEY", der),
		"certificate, weak":  block("CERTIFICATE", small),
		"two certificates":   block("CERTIFICATE", cert) + block("CERTIFICATE", cert),
		"text before":        "hello\n" + block("CERTIFICATE", cert),
		"text after":         block("CERTIFICATE", cert) + "hello",
		"certificate tail":   block("CERTIFICATE", append(bytes.Clone(cert), 0)),
		"headers":            string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: cert})),
		"not a certificate":  block("CERTIFICATE", der),
		"broken certificate": "-----BEGIN CERTIFICATE-----\n",
		"too long":           strings.Repeat("A", credential.MaxText+4),
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := credential.Parse(credential.KindX509, text); err == nil {
				t.Errorf("accepted as %s", c.Describe())
			} else if !errors.Is(err, credential.ErrCredential) || c != nil {
				t.Errorf("got %v, %v", c, err)
			} else if strings.Contains(err.Error(), b64(pkcs8)[40:60]) {
				t.Error("the error quotes the private key")
			}
		})
	}
	if _, err := credential.NewX509(nil); err == nil {
		t.Error("no key accepted")
	}
	if _, err := credential.NewX509(rsa2048.Public()); err == nil {
		t.Error("RSA-2048 accepted")
	}
}

func TestX509SignatureRefuses(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	c := newX509(t, key.Public())
	data := []byte("greatseal x509 statement\n" + string(message))
	d := sha256.Sum256(data)
	r, s, err := ecdsa.Sign(rand.Reader, key, d[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	der := func(r, s *big.Int) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := der(r, s)
	wrap := func(scheme string, raw []byte) []byte {
		return append(append([]byte{byte(len(scheme))}, scheme...), raw...)
	}
	plain, err := ecdsa.SignASN1(rand.Reader, key, func() []byte { d := sha256.Sum256(message); return d[:] }())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		sig []byte
		ok  bool
	}{
		"good":                   {wrap("ecdsa-sha256", good), true},
		"r, n-s":                 {wrap("ecdsa-sha256", der(r, new(big.Int).Sub(n, s))), true},
		"r, s+n":                 {wrap("ecdsa-sha256", der(r, new(big.Int).Add(n, s))), false},
		"0, 0":                   {wrap("ecdsa-sha256", der(new(big.Int), new(big.Int))), false},
		"empty":                  {nil, false},
		"length alone":           {[]byte{12}, false},
		"scheme alone":           {wrap("ecdsa-sha256", nil), false},
		"no scheme":              {wrap("", good), false},
		"bare":                   {good, false},
		"another hash":           {wrap("ecdsa-sha384", good), false},
		"another family":         {wrap("ed25519", good), false},
		"rsa":                    {wrap("rsa-pss-sha256", good), false},
		"ml-dsa":                 {wrap("ml-dsa-65", good), false},
		"unknown":                {wrap("ecdsa-sha1", good), false},
		"upper case":             {wrap("ECDSA-SHA256", good), false},
		"length too long":        {append([]byte{255}, wrap("ecdsa-sha256", good)[1:]...), false},
		"tail":                   {wrap("ecdsa-sha256", append(bytes.Clone(good), 0)), false},
		"without domain":         {wrap("ecdsa-sha256", plain), false},
		"too long":               {wrap("ecdsa-sha256", make([]byte, credential.MaxSignature)), false},
		"integers not minimal":   {wrap("ecdsa-sha256", append([]byte{0x30, good[1] + 1, 2, good[3] + 1, 0}, good[4:]...)), false},
		"length not minimal":     {wrap("ecdsa-sha256", append([]byte{0x30, 0x81}, good[1:]...)), false},
		"signature of a message": {wrap("ecdsa-sha256", message), false},
	} {
		err := c.Verify(credential.Statement, message, tc.sig)
		if tc.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !tc.ok {
			if err == nil || !errors.Is(err, credential.ErrSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	wantRefused(t, new(credential.X509).Verify(credential.Statement, message, wrap("ecdsa-sha256", good)))
	if _, err := credential.EncodeX509Signature("none", nil); err == nil {
		t.Error("unknown scheme encoded")
	}
	t.Run("flips ecdsa", func(t *testing.T) { flips(t, c, credential.Statement, wrap("ecdsa-sha256", good)) })
	t.Run("flips ed25519", func(t *testing.T) {
		s := credentialtest.X509("alice")
		sig, err := s.Sign(t.Context(), credential.Login, message)
		if err != nil {
			t.Fatal(err)
		}
		flips(t, s.Credential(), credential.Login, sig)
	})
}
