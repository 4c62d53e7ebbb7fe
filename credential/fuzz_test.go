package credential_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

// seedVectors gives the frozen vectors of one kind; none is a failure.
func seedVectors(f *testing.F, kind credential.Kind) []vector {
	f.Helper()
	b, err := os.ReadFile(vectorsFile)
	if err != nil {
		f.Fatal(err)
	}
	var all vectors
	if err := json.Unmarshal(b, &all); err != nil {
		f.Fatal(err)
	}
	var of []vector
	for _, v := range all.Vectors {
		if kind == "" || v.Kind == kind {
			of = append(of, v)
		}
	}
	if len(of) < 3 {
		f.Fatalf("%d seeds of kind %q: the corpus is gone", len(of), kind)
	}
	return of
}

// Whatever is accepted has one canonical form, which is accepted as itself.
func FuzzParse(f *testing.F) {
	for _, v := range seedVectors(f, "") {
		f.Add(string(v.Kind), v.Text)
	}
	f.Add("oidc", ciCredential(f, credentialtest.NewIssuer(ciURL, "key-1", nil), nil).Text())
	f.Add("x509", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, kind, text string) {
		c, err := credential.Parse(credential.Kind(kind), text)
		if err != nil {
			if !errors.Is(err, credential.ErrCredential) || c != nil {
				t.Fatalf("%v, %v", c, err)
			}
			return
		}
		again, err := credential.Parse(c.Kind(), c.Text())
		if err != nil || again.Text() != c.Text() || again.ID() != c.ID() || string(c.Kind()) != kind {
			t.Fatalf("%q: canonical form %q: %v", text, c.Text(), err)
		}
		if id, err := credential.ParseID(string(c.ID())); err != nil || id.Kind() != c.Kind() {
			t.Fatalf("id %q: %v", c.ID(), err)
		}
		if c.Verify(credential.Statement, message, []byte(text)) == nil {
			t.Fatal("a text form is a signature")
		}
	})
}

// fuzzSignature: nothing but the seeds' own bytes verifies. The keys sign
// deterministically by Ed25519 or are frozen, so another signature is a forgery
// or a second encoding; (r, n-s) is out of a fuzzer's reach.
func fuzzSignature(f *testing.F, kind credential.Kind) {
	sum := func(message, sig []byte) [32]byte {
		m, s := sha256.Sum256(message), sha256.Sum256(sig)
		return sha256.Sum256(append(m[:], s[:]...))
	}
	known := map[[32]byte]bool{}
	var creds []credential.Credential
	for _, v := range seedVectors(f, kind) {
		f.Add(v.Message, v.Signature)
		creds = append(creds, mustParse(f, v.Kind, v.Text))
		known[sum(v.Message, v.Signature)] = true
	}
	f.Fuzz(func(t *testing.T, message, sig []byte) {
		for _, c := range creds {
			for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
				err := c.Verify(p, message, sig)
				if err == nil && !known[sum(message, sig)] {
					t.Fatalf("%s accepts %x", c.ID(), sig)
				}
				if err != nil && !errors.Is(err, credential.ErrSignature) {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzSSHSig(f *testing.F) { fuzzSignature(f, credential.KindSSH) }

func FuzzX509Signature(f *testing.F) { fuzzSignature(f, credential.KindX509) }

func FuzzPasskeyAssertion(f *testing.F) {
	for _, v := range seedVectors(f, credential.KindPasskey) {
		if a, err := credential.DecodeAssertion(v.Signature); err == nil {
			b, err := a.Encode()
			if err != nil || string(b) != string(v.Signature) {
				f.Fatalf("%s re-encodes to something else (%v)", v.Name, err)
			}
		}
	}
	fuzzSignature(f, credential.KindPasskey)
}

// FuzzAssertionForm signs whatever client data and authenticator data the fuzzer
// makes up, so that the rules behind the signature are reached: what is accepted
// must say what it is accepted for.
func FuzzAssertionForm(f *testing.F) {
	s := credentialtest.Passkey("fuzz", testRP, testOrigin)
	sig, err := s.Sign(f.Context(), credential.Statement, message)
	if err != nil {
		f.Fatal(err)
	}
	a, err := credential.DecodeAssertion(sig)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(a.ClientDataJSON), a.AuthenticatorData[32], []byte{})
	f.Add(string(a.ClientDataJSON), byte(0x85), []byte{0xa0})
	key := seedKey(f, p256(), "fuzz")
	c, err := credential.NewPasskey([]byte{1}, coseOf(f, key.Public()), testRP, []string{testOrigin}, false)
	if err != nil {
		f.Fatal(err)
	}
	challenge := sha256.Sum256(message)
	f.Fuzz(func(t *testing.T, client string, flags byte, ext []byte) {
		a := forgery{client: client, rp: testRP, flags: flags, ext: ext}.sign(t, key)
		b, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c.Verify(credential.Statement, message, b) != nil {
			return
		}
		if err := goWebauthn(t, c, challenge[:], a); err != nil {
			t.Fatalf("accepted, go-webauthn refuses: %q %x %x: %v", client, flags, ext, err)
		}
	})
}
