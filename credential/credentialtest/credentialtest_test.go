package credentialtest_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

// The helpers' signatures are accepted by the real verifiers, for their purpose
// and message alone, and a name is one key.
func TestSigners(t *testing.T) {
	for what, f := range map[string]func(string) credential.Signer{
		"ssh": credentialtest.SSH, "fido": credentialtest.FIDO, "x509": credentialtest.X509,
		"passkey": func(n string) credential.Signer {
			return credentialtest.Passkey(n, "example.com", "https://seal.example.com")
		},
	} {
		t.Run(what, func(t *testing.T) {
			alice, again, bob := f("alice"), f("alice"), f("bob")
			if alice.Credential().Text() != again.Credential().Text() {
				t.Error("one name is two keys")
			}
			if alice.Credential().ID() == bob.Credential().ID() {
				t.Error("two names are one key")
			}
			message := []byte("DSSEv1 4 test 5 hello")
			sig, err := alice.Sign(t.Context(), credential.Statement, message)
			if err != nil {
				t.Fatal(err)
			}
			if err := alice.Credential().Verify(credential.Statement, message, sig); err != nil {
				t.Error(err)
			}
			sig2, err := again.Sign(t.Context(), credential.Statement, message)
			if err != nil || !bytes.Equal(sig, sig2) {
				t.Errorf("signatures are not deterministic (%v)", err)
			}
			if bob.Credential().Verify(credential.Statement, message, sig) == nil ||
				alice.Credential().Verify(credential.Login, message, sig) == nil ||
				alice.Credential().Verify(credential.Statement, message[1:], sig) == nil {
				t.Error("accepted for another key, purpose or message")
			}
			login, err := alice.Sign(t.Context(), credential.Login, message)
			if err != nil || alice.Credential().Verify(credential.Login, message, login) != nil {
				t.Errorf("login: %v", err)
			}
			if _, err := alice.Sign(t.Context(), "other", message); err == nil || !strings.Contains(err.Error(), "purpose") {
				t.Errorf("unknown purpose: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := alice.Sign(ctx, credential.Statement, message); err == nil {
				t.Error("signed under a cancelled context")
			}
		})
	}
}
