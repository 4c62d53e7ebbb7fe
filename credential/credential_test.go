package credential_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

func signers() map[string]credential.Signer {
	return map[string]credential.Signer{
		"ssh":     credentialtest.SSH("alice"),
		"fido":    credentialtest.FIDO("alice"),
		"x509":    credentialtest.X509("alice"),
		"passkey": credentialtest.Passkey("alice", "example.com", "https://seal.example.com"),
	}
}

// Invariant 1, over every kind and pair of purposes, also unknown ones.
func TestPurposes(t *testing.T) {
	for name, s := range signers() {
		for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
			// A message that begins as the other purpose's framing does.
			for _, m := range [][]byte{message, []byte("statement\n" + string(message)), []byte("logi"), nil} {
				sig, err := s.Sign(t.Context(), p, m)
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range []credential.Purpose{credential.Statement, credential.Login, "", "Login", "login@greatseal.io"} {
					err := s.Credential().Verify(q, m, sig)
					if (err == nil) != (p == q) {
						t.Errorf("%s: signed for %q, verified for %q: %v", name, p, q, err)
					}
					// The framing of one purpose moved into the message.
					for _, frame := range []string{"login\n", "statement\n", "greatseal x509 login\n"} {
						if s.Credential().Verify(q, append([]byte(frame), m...), sig) == nil {
							t.Errorf("%s: signed for %q, verified for %q with %q in the message", name, p, q, frame)
						}
					}
				}
			}
		}
	}
}

// Text and Describe are one printable line, and Parse(Text) is the same credential.
func TestTextForms(t *testing.T) {
	for name, s := range signers() {
		c := s.Credential()
		again, err := credential.Parse(c.Kind(), c.Text())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again.Text() != c.Text() || again.ID() != c.ID() || again.Describe() != c.Describe() || again.Hardware() != c.Hardware() {
			t.Errorf("%s: Parse(Text) is another credential", name)
		}
		for _, s := range []string{c.Text(), c.Describe()} {
			if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) || s == "" {
				t.Errorf("%s: %q is not a printable line", name, s)
			}
		}
		if id, err := credential.ParseID(string(c.ID())); err != nil || id != c.ID() || id.Kind() != c.Kind() {
			t.Errorf("%s: id %s: %v", name, c.ID(), err)
		}
		if want := name == "fido" || name == "passkey"; c.Hardware() != want {
			t.Errorf("%s: hardware is %v", name, c.Hardware())
		}
		for _, k := range []credential.Kind{"", "gpg", credential.KindSSH, credential.KindX509, credential.KindPasskey} {
			if k == c.Kind() {
				continue
			}
			if _, err := credential.Parse(k, c.Text()); !errors.Is(err, credential.ErrCredential) {
				t.Errorf("%s parsed as %q: %v", name, k, err)
			}
		}
	}
}

// A zero credential has no id, describes itself and verifies nothing.
func TestZero(t *testing.T) {
	for _, c := range []credential.Credential{new(credential.SSH), new(credential.X509), new(credential.Passkey)} {
		if c.ID() != "" || c.Text() != "" || c.Describe() == "" || c.Hardware() || !c.Kind().Valid() {
			t.Errorf("zero %T: %q %q %q", c, c.ID(), c.Text(), c.Describe())
		}
		for name, s := range signers() {
			sig, err := s.Sign(t.Context(), credential.Login, message)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(credential.Login, message, sig); !errors.Is(err, credential.ErrSignature) {
				t.Errorf("zero %T verifies %s: %v", c, name, err)
			}
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	ssh := string(credentialtest.SSH("a").Credential().ID())
	x := string(credentialtest.X509("a").Credential().ID())
	pk := string(credentialtest.Passkey("a", "example.com", "https://example.com").Credential().ID())
	for _, s := range []string{
		"", "ssh", "ssh:", "ssh:SHA256:", strings.TrimPrefix(ssh, "ssh:"), ssh + "=", ssh[:len(ssh)-1], ssh + "\n",
		ssh[:len("ssh:SHA256:")] + "\n" + ssh[len("ssh:SHA256:"):], "SSH" + ssh[3:], "ssh:MD5:" + ssh[11:],
		ssh[:len(ssh)-1] + "B", // bits after the end
		strings.ToUpper(x), "x509:" + strings.ToUpper(x[5:]), x + "00", x[:len(x)-1], x[:len(x)-2], "x509:" + ssh[11:],
		pk + "=", pk[:len(pk)-1], "passkey:" + strings.Repeat("+", 43), "passkey:", "gpg:" + x[5:], " " + ssh,
	} {
		id, err := credential.ParseID(s)
		if !errors.Is(err, credential.ErrCredential) || id != "" {
			t.Errorf("%q: %q, %v", s, id, err)
		}
		if k := credential.ID(s).Kind(); k != "" {
			t.Errorf("%q is of kind %q", s, k)
		}
	}
}
