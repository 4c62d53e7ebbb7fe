package credential_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorsFile = "testdata/vectors.json"

// vectors is testdata/vectors.json: enough to write another verifier. Byte
// strings are in standard base64.
type vectors struct {
	Warning string   `json:"warning"`
	Vectors []vector `json:"vectors"`
}

type vector struct {
	Name      string             `json:"name"`
	Kind      credential.Kind    `json:"kind"`
	Text      string             `json:"text"`
	ID        credential.ID      `json:"id"`
	Hardware  bool               `json:"hardware"`
	Purpose   credential.Purpose `json:"purpose"`
	Message   []byte             `json:"message"`
	Signature []byte             `json:"signature"`
	Valid     bool               `json:"valid"`
	Why       string             `json:"why,omitempty"` // of those that are not valid
	TestKey   []byte             `json:"test_private_key_pkcs8"`
}

func p256() elliptic.Curve { return elliptic.P256() }

// seedKey is a test key that depends on its name alone.
func seedKey(t testing.TB, curve elliptic.Curve, name string) crypto.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte("greatseal test vector " + name))
	if curve == nil {
		return ed25519.NewKeyFromSeed(seed[:])
	}
	scalar := make([]byte, (curve.Params().BitSize+7)/8)
	copy(scalar[len(scalar)-32:], seed[:])
	k, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signDet signs deterministically: RFC 6979, RFC 8032, PKCS #1 v1.5.
func signDet(t testing.TB, key crypto.Signer, hash crypto.Hash, data []byte) []byte {
	t.Helper()
	if hash != 0 {
		h := hash.New()
		h.Write(data)
		data = h.Sum(nil)
	}
	sig, err := key.Sign(nil, data, hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// sshBlob turns a signature of Go's into the blob of an SSH signature.
func sshBlob(t testing.TB, key crypto.Signer, sig []byte) []byte {
	t.Helper()
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		return sig
	}
	r, s := parseDER(t, sig)
	return ssh.Marshal(struct{ R, S *big.Int }{r, s})
}

func makeVectors(t testing.TB) vectors {
	t.Helper()
	out := vectors{Warning: "TEST KEYS: the private keys in this file are public. Never use them or the credentials made of them."}
	add := func(name string, c credential.Credential, key crypto.Signer, p credential.Purpose, sig []byte, why string) {
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out.Vectors = append(out.Vectors, vector{
			Name: name, Kind: c.Kind(), Text: c.Text(), ID: c.ID(), Hardware: c.Hardware(), Purpose: p,
			Message: message, Signature: sig, Valid: why == "", Why: why, TestKey: pkcs8,
		})
	}
	purposes := []credential.Purpose{credential.Statement, credential.Login}

	// SSH: plain keys.
	for _, k := range []struct {
		name, format string
		key          crypto.Signer
		hash         crypto.Hash
	}{
		{"ssh ed25519", ssh.KeyAlgoED25519, seedKey(t, nil, "ed25519"), 0},
		{"ssh ecdsa p256", ssh.KeyAlgoECDSA256, seedKey(t, elliptic.P256(), "p256"), crypto.SHA256},
		{"ssh ecdsa p384", ssh.KeyAlgoECDSA384, seedKey(t, elliptic.P384(), "p384"), crypto.SHA384},
		{"ssh ecdsa p521", ssh.KeyAlgoECDSA521, seedKey(t, elliptic.P521(), "p521"), crypto.SHA512},
		{"ssh rsa-sha2-512", ssh.KeyAlgoRSASHA512, rsaKey(t), crypto.SHA512},
		{"ssh rsa-sha2-256", ssh.KeyAlgoRSASHA256, rsaKey(t), crypto.SHA256},
	} {
		c := mustParse(t, credential.KindSSH, sshText(t, k.key.Public())).(*credential.SSH)
		var sigs [][]byte
		for _, p := range purposes {
			data, err := credential.SSHSignedData(p, message)
			if err != nil {
				t.Fatal(err)
			}
			blob := sshBlob(t, k.key, signDet(t, k.key, k.hash, data))
			sig := credential.EncodeSSHSig(c, p, &ssh.Signature{Format: k.format, Blob: blob})
			sigs = append(sigs, sig)
			add(k.name+" "+string(p), c, k.key, p, sig, "")
		}
		add(k.name+" of the other purpose", c, k.key, credential.Statement, sigs[1], "namespace is login@greatseal.io")
		add(k.name+" with a byte after it", c, k.key, credential.Statement, append(bytes.Clone(sigs[0]), 0), "bytes after the end")
	}
	// SSH: FIDO keys.
	for _, k := range []struct {
		name, format string
		key          crypto.Signer
		hash         crypto.Hash
	}{
		{"ssh sk ed25519", ssh.KeyAlgoSKED25519, seedKey(t, nil, "sk ed25519"), 0},
		{"ssh sk ecdsa", ssh.KeyAlgoSKECDSA256, seedKey(t, elliptic.P256(), "sk p256"), crypto.SHA256},
	} {
		var blob []byte
		switch pub := k.key.Public().(type) {
		case ed25519.PublicKey:
			blob = ssh.Marshal(struct{ T, K, A string }{k.format, string(pub), "ssh:"})
		case *ecdsa.PublicKey:
			point, err := pub.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			blob = ssh.Marshal(struct{ T, C, K, A string }{k.format, "nistp256", string(point), "ssh:"})
		}
		c := mustParse(t, credential.KindSSH, k.format+" "+base64.StdEncoding.EncodeToString(blob)).(*credential.SSH)
		for _, f := range []struct {
			name  string
			flags byte
			why   string
		}{{"touched", 1, ""}, {"touched, PIN", 5, ""}, {"not touched", 0, "no user presence"}} {
			data, err := credential.SSHSignedData(credential.Statement, message)
			if err != nil {
				t.Fatal(err)
			}
			app, d := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
			rest := []byte{f.flags, 0, 0, 1, 2}
			raw := signDet(t, k.key, k.hash, append(append(app[:], rest...), d[:]...))
			sig := credential.EncodeSSHSig(c, credential.Statement, &ssh.Signature{Format: k.format, Blob: sshBlob(t, k.key, raw), Rest: rest})
			add(k.name+" "+f.name, c, k.key, credential.Statement, sig, f.why)
		}
	}
	// X.509.
	for _, k := range []struct {
		name   string
		key    crypto.Signer
		scheme sigalg.Scheme
	}{
		{"x509 ed25519", seedKey(t, nil, "x509 ed25519"), sigalg.PureEd25519},
		{"x509 p256", seedKey(t, elliptic.P256(), "x509 p256"), sigalg.ECDSASHA256},
		{"x509 p384", seedKey(t, elliptic.P384(), "x509 p384"), sigalg.ECDSASHA384},
		{"x509 p521", seedKey(t, elliptic.P521(), "x509 p521"), sigalg.ECDSASHA512},
		{"x509 rsa", rsaKey(t), sigalg.RSAPKCS1SHA256},
	} {
		c := newX509(t, k.key.Public())
		for _, p := range purposes {
			data, err := credential.X509SignedData(p, message)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := credential.EncodeX509Signature(k.scheme, signDet(t, k.key, k.scheme.Hash(), data))
			if err != nil {
				t.Fatal(err)
			}
			add(k.name+" "+string(p), c, k.key, p, sig, "")
		}
		bare, err := credential.EncodeX509Signature(k.scheme, signDet(t, k.key, k.scheme.Hash(), message))
		if err != nil {
			t.Fatal(err)
		}
		add(k.name+" of the bare message", c, k.key, credential.Statement, bare, "no domain separation")
	}
	// Passkeys.
	for _, k := range []struct {
		name string
		key  crypto.Signer
		hash crypto.Hash
	}{
		{"passkey ES256", seedKey(t, elliptic.P256(), "passkey p256"), crypto.SHA256},
		{"passkey EdDSA", seedKey(t, nil, "passkey ed25519"), 0},
		{"passkey RS256", rsaKey(t), crypto.SHA256},
	} {
		c, err := credential.NewPasskey([]byte(k.name), coseOf(t, k.key.Public()), testRP, []string{testOrigin}, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []struct {
			name    string
			purpose credential.Purpose
			origin  string
			flags   byte
			why     string
		}{
			{"statement", credential.Statement, testOrigin, 0x05, ""},
			{"login", credential.Login, testOrigin, 0x05, ""},
			{"not verified", credential.Statement, testOrigin, 0x01, "no user verification"},
			{"not present", credential.Statement, testOrigin, 0x04, "no user presence"},
			{"eligible", credential.Statement, testOrigin, 0x0d, "registered as not backup eligible"},
			{"another origin", credential.Statement, "https://evil.example.com", 0x05, "origin is not one of the passkey's"},
		} {
			challenge, err := credential.Challenge(f.purpose, message)
			if err != nil {
				t.Fatal(err)
			}
			client := []byte(clientJSON("webauthn.get", challenge, f.origin, `,"crossOrigin":false`))
			rp, ch := sha256.Sum256([]byte(testRP)), sha256.Sum256(client)
			auth := append(rp[:], f.flags, 0, 0, 0, 3)
			raw := signDet(t, k.key, k.hash, append(bytes.Clone(auth), ch[:]...))
			add(k.name+" "+f.name, c, k.key, f.purpose, encode(t, credential.Assertion{AuthenticatorData: auth, ClientDataJSON: client, Signature: raw}), f.why)
		}
	}
	return out
}

// The frozen vectors verify as they say, for ever; what is made today from the
// same keys is byte-equal.
func TestVectors(t *testing.T) {
	fresh, err := json.MarshalIndent(makeVectors(t), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	fresh = append(fresh, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	frozen, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(frozen, fresh) {
		t.Error("the vectors made today differ from the frozen ones")
	}
	var all vectors
	if err := json.Unmarshal(frozen, &all); err != nil {
		t.Fatal(err)
	}
	valid := map[credential.Kind]int{}
	for _, v := range all.Vectors {
		c := mustParse(t, v.Kind, v.Text)
		if c.Text() != v.Text || c.ID() != v.ID || c.Hardware() != v.Hardware {
			t.Errorf("%s: text, id or hardware differ", v.Name)
		}
		if err := c.Verify(v.Purpose, v.Message, v.Signature); (err == nil) != v.Valid {
			t.Errorf("%s: %v", v.Name, err)
		}
		if v.Valid {
			valid[v.Kind]++
		} else if v.Why == "" {
			t.Errorf("%s: does not say why it is refused", v.Name)
		}
	}
	if valid[credential.KindSSH] < 16 || valid[credential.KindX509] < 10 || valid[credential.KindPasskey] < 6 {
		t.Errorf("valid vectors: %v: some are gone", valid)
	}
}
