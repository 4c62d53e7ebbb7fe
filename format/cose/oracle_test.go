package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	gocose "github.com/veraison/go-cose"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// mlDSA lets go-cose, which knows no ML-DSA, judge all but the signature itself.
type mlDSA struct{ pub crypto.PublicKey }

func (mlDSA) Algorithm() gocose.Algorithm { return -49 }
func (v mlDSA) Verify(content, sig []byte) error {
	return sigalg.Verify(v.pub, sigalg.PureMLDSA65, content, sig)
}

func theirVerifier(t *testing.T, s *formattest.Signer) gocose.Verifier {
	t.Helper()
	if s.Scheme == sigalg.PureMLDSA65 {
		return mlDSA{s.Public}
	}
	n, err := algorithm(s.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	v, err := gocose.NewVerifier(gocose.Algorithm(n), s.Public)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// judge has go-cose verify a message about a file, in the way of RFC 9052: the
// payload that a hash envelope carries is compared here.
func judge(file, b []byte, v ...gocose.Verifier) error {
	sum := sha256.Sum256(file)
	fit := func(protected gocose.ProtectedHeader, payload *[]byte) error {
		want := file
		if h, ok := protected[int64(258)]; ok {
			if h != int64(-16) || !bytes.Equal(*payload, sum[:]) {
				return fmt.Errorf("hash %v of another file", h)
			}
			return nil
		}
		if *payload == nil {
			*payload = file
		}
		if !bytes.Equal(*payload, want) {
			return fmt.Errorf("another payload")
		}
		return nil
	}
	if len(v) > 1 {
		var m gocose.SignMessage
		if err := m.UnmarshalCBOR(b); err != nil {
			return err
		}
		if err := fit(m.Headers.Protected, &m.Payload); err != nil {
			return err
		}
		return m.Verify(nil, v...)
	}
	var m gocose.Sign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return err
	}
	if err := fit(m.Headers.Protected, &m.Payload); err != nil {
		return err
	}
	return m.Verify(nil, v[0])
}

// go-cose judges ours, and is the peer.
func TestOracleCOSE(t *testing.T) {
	v := formattest.Judge(t, Name, "go-cose 1.3.0")
	v.Note = "knows no ML-DSA: for these it judges the structure, and our own implementation the value"
	file, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(file)
	other[len(other)/2] ^= 1
	ed, ml, p256 := formattest.Identity(t, sigalg.Ed25519), formattest.Identity(t, sigalg.MLDSA65), formattest.Identity(t, sigalg.P256)
	rsa3072 := formattest.Identity(t, sigalg.RSA3072)
	for _, s := range []*formattest.Signer{rsa3072.With(sigalg.RSAPSSSHA256), rsa3072.With(sigalg.RSAPSSSHA512), p256, formattest.Identity(t, sigalg.P384), ed, ml} {
		key, err := sigalg.KeyOf(s.Public)
		if err != nil {
			t.Fatal(err)
		}
		for _, payload := range []string{"hash", "embedded", "detached"} {
			what := string(s.Scheme) + " " + payload
			b := sign(t, file, s, format.Params{"payload": payload})
			v.Accepts(what, string(key), judge(file, b, theirVerifier(t, s)))
			_, ours := verify(t, other, b, s.Trust())
			v.Rejects(what+", another file", ours, judge(other, b, theirVerifier(t, s)))
			bad := bytes.Clone(b)
			bad[len(bad)-7] ^= 1
			_, ours = verify(t, file, bad, s.Trust())
			v.Rejects(what+", another signature", ours, judge(file, bad, theirVerifier(t, s)))
		}
	}
	for _, second := range []*formattest.Signer{ed, ml} {
		s := p256.And(second)
		verifiers := []gocose.Verifier{theirVerifier(t, p256), theirVerifier(t, second)}
		for _, payload := range []string{"hash", "embedded", "detached"} {
			what := "P-256 and " + string(second.Scheme) + " " + payload
			b := sign(t, file, s, format.Params{"payload": payload})
			v.Accepts(what, string(sigalg.P256), judge(file, b, verifiers...))
			_, ours := verify(t, other, b, s.Trust())
			v.Rejects(what, ours, judge(other, b, verifiers...))
		}
	}
	theirs(t, v, file)
}

// theirs are messages that go-cose makes, with headers of other habits.
func theirs(t *testing.T, v *formattest.Verdicts, file []byte) {
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, err2 := ed25519.GenerateKey(rand.Reader)
	r, err3 := rsa.GenerateKey(rand.Reader, 3072)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(file)
	var signers []gocose.Signer
	trust := format.Trust{Now: formattest.At}
	for _, k := range []struct {
		alg gocose.Algorithm
		key crypto.Signer
	}{{gocose.AlgorithmES256, ec}, {gocose.AlgorithmEdDSA, ed}, {gocose.AlgorithmPS384, r}} {
		s, err := gocose.NewSigner(k.alg, k.key)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
		trust.Keys = append(trust.Keys, k.key.Public())
		h := gocose.Headers{Protected: gocose.ProtectedHeader{int64(1): k.alg, int64(3): "application/octet-stream"}, Unprotected: gocose.UnprotectedHeader{int64(4): []byte("key 1")}}
		b, err := gocose.Sign1(rand.Reader, s, h, file, nil)
		if err != nil {
			t.Fatal(err)
		}
		report, err := verify(t, file, b, format.Trust{Keys: []crypto.PublicKey{k.key.Public()}, Now: formattest.At})
		v.Takes(fmt.Sprintf("%v embedded", k.alg), err)
		if err == nil && len(report.Signatures[0].Open) != 1 {
			t.Errorf("the key's name is not reported as open: %q", report.Signatures[0].Open)
		}
		h = gocose.Headers{Protected: gocose.ProtectedHeader{int64(1): k.alg, int64(258): int64(-16), int64(259): "application/octet-stream"}}
		if b, err = gocose.Sign1(rand.Reader, s, h, sum[:], nil); err != nil {
			t.Fatal(err)
		}
		_, err = verify(t, file, b, trust)
		v.Takes(fmt.Sprintf("%v hash", k.alg), err)
		if _, err := verify(t, []byte(text), b, trust); err == nil {
			t.Errorf("%v: theirs is good for another file", k.alg)
		}
	}
	m := gocose.NewSignMessage()
	m.Payload = file
	for _, s := range signers {
		sig := gocose.NewSignature()
		sig.Headers.Protected.SetAlgorithm(s.Algorithm())
		m.Signatures = append(m.Signatures, sig)
	}
	if err := m.Sign(rand.Reader, nil, signers...); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	_, err = verify(t, file, b, trust)
	v.Takes("several signers", err)
}
