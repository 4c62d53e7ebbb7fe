package sigalg

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
)

func signers(t *testing.T) map[Key]crypto.Signer {
	t.Helper()
	out := map[Key]crypto.Signer{}
	var err error
	for k, bits := range map[Key]int{RSA3072: 3072, RSA4096: 4096} {
		if out[k], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			t.Fatal(err)
		}
	}
	for k, c := range map[Key]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384()} {
		if out[k], err = ecdsa.GenerateKey(c, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, out[Ed25519], err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	for k, p := range map[Key]mldsa.Parameters{MLDSA65: mldsa.MLDSA65(), MLDSA87: mldsa.MLDSA87()} {
		if out[k], err = mldsa.GenerateKey(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var schemes = []Scheme{RSAPKCS1SHA256, RSAPKCS1SHA384, RSAPKCS1SHA512, RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512,
	ECDSASHA256, ECDSASHA384, ECDSASHA512, PureEd25519, PureMLDSA65, PureMLDSA87}

// Invariants 1 and 2: a scheme verifies with the keys it fits, over the message
// only, and refuses every other key.
func TestVerify(t *testing.T) {
	message := []byte("message")
	keys := signers(t)
	for k, priv := range keys {
		if got, err := KeyOf(priv.Public()); err != nil || got != k {
			t.Errorf("KeyOf is %q, %v: want %q", got, err, k)
		}
		if !k.Default().Fits(k) {
			t.Errorf("%s does not fit its own default %s", k, k.Default())
		}
		for _, s := range schemes {
			if !s.Fits(k) {
				if err := Verify(priv.Public(), s, message, make([]byte, 64)); err == nil || errors.Is(err, ErrSignature) {
					t.Errorf("%s with %s: %v: want a refusal of the scheme", s, k, err)
				}
				continue
			}
			sig, err := priv.Sign(rand.Reader, s.Input(message), s.SignerOpts())
			if err != nil {
				t.Fatalf("%s with %s: %v", s, k, err)
			}
			if err := Verify(priv.Public(), s, message, sig); err != nil {
				t.Errorf("%s with %s: %v", s, k, err)
			}
			for what, err := range map[string]error{
				"another message":    Verify(priv.Public(), s, []byte("messagf"), sig),
				"a flipped byte":     Verify(priv.Public(), s, message, append([]byte{sig[0] ^ 1}, sig[1:]...)),
				"one byte more":      Verify(priv.Public(), s, message, append(sig[:len(sig):len(sig)], 0)),
				"one byte less":      Verify(priv.Public(), s, message, sig[:len(sig)-1]),
				"nothing":            Verify(priv.Public(), s, message, nil),
				"the message hashed": Verify(priv.Public(), s, s.Input([]byte("x")), sig),
			} {
				if !errors.Is(err, ErrSignature) {
					t.Errorf("%s with %s accepts %s: %v", s, k, what, err)
				}
			}
		}
	}
}

// Invariant 1: weak keys are refused whatever the signature.
func TestWeakKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(&small.PublicKey, RSAPKCS1SHA256, []byte("m"), make([]byte, 128)); err == nil || errors.Is(err, ErrSignature) {
		t.Errorf("RSA-1024: %v", err)
	}
	if _, err := KeyOf(&small.PublicKey); err == nil {
		t.Error("RSA-1024 is a kind of key")
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(&p224.PublicKey, ECDSASHA256, []byte("m"), nil); err == nil || errors.Is(err, ErrSignature) {
		t.Errorf("P-224: %v", err)
	}
	m44, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := KeyOf(m44.Public()); err == nil {
		t.Error("ML-DSA-44 is a kind of key")
	}
	if err := Verify(ed25519.PublicKey{1}, PureEd25519, nil, make([]byte, 64)); !errors.Is(err, ErrSignature) {
		t.Errorf("a short Ed25519 key: %v", err)
	}
	if err := Verify(nil, PureEd25519, nil, nil); err == nil {
		t.Error("no key is accepted")
	}
}

// Invariant 3: one DER encoding.
func TestECDSAHasOneEncoding(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("m")
	sig, err := k.Sign(rand.Reader, ECDSASHA256.Input(message), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0x30, 0x81, sig[1]}, sig[2:]...) // length in two bytes
	if err := Verify(&k.PublicKey, ECDSASHA256, message, long); !errors.Is(err, ErrSignature) {
		t.Errorf("a longer length is accepted: %v", err)
	}
}

func TestSchemesAndKeysAreKnown(t *testing.T) {
	for _, k := range Keys() {
		if !k.Valid() {
			t.Errorf("%s is not valid", k)
		}
	}
	for _, s := range schemes {
		if !s.Valid() {
			t.Errorf("%s is not valid", s)
		}
	}
	if Key("rsa-2048").Valid() || Scheme("rsa-pkcs1-sha1").Valid() {
		t.Error("an unknown name is valid")
	}
}
