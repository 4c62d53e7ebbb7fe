package credential_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/credential"
)

// message looks as a statement's pre-authentication encoding does.
var message = []byte("DSSEv1 28 application/vnd.in-toto+json 2 {}")

func mustParse(t testing.TB, k credential.Kind, text string) credential.Credential {
	t.Helper()
	c, err := credential.Parse(k, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

// sshText is the text form of a public key.
func sshText(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return p.Type() + " " + base64.StdEncoding.EncodeToString(p.Marshal())
}

// wantRefused fails unless err is a refusal of the signature.
func wantRefused(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Error("accepted")
	} else if !errors.Is(err, credential.ErrSignature) {
		t.Errorf("error is not ErrSignature: %v", err)
	}
}

// flips refuses every change of one bit, every prefix and one byte more.
func flips(t *testing.T, c credential.Credential, p credential.Purpose, sig []byte) {
	t.Helper()
	if err := c.Verify(p, message, sig); err != nil {
		t.Fatalf("the signature itself: %v", err)
	}
	for i := range sig {
		for bit := range 8 {
			bad := bytes.Clone(sig)
			bad[i] ^= 1 << bit
			if err := c.Verify(p, message, bad); !errors.Is(err, credential.ErrSignature) {
				t.Errorf("bit %d of byte %d of %d flipped: %v", bit, i, len(sig), err)
			}
		}
		if err := c.Verify(p, message, sig[:i]); !errors.Is(err, credential.ErrSignature) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	for b := range 256 {
		if err := c.Verify(p, message, append(bytes.Clone(sig), byte(b))); !errors.Is(err, credential.ErrSignature) {
			t.Errorf("byte %#02x added: %v", b, err)
		}
	}
	for i := range message {
		bad := bytes.Clone(message)
		bad[i] ^= 1
		if err := c.Verify(p, bad, sig); !errors.Is(err, credential.ErrSignature) {
			t.Errorf("message byte %d flipped: %v", i, err)
		}
	}
}

// tool runs a program of the machine and returns its output.
func tool(t testing.TB, stdin []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install openssh-client and openssl", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(name + ": " + err.Error() + ": " + stderr.String())
	}
	return out, nil
}

func mustTool(t testing.TB, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := tool(t, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keygenVerify asks ssh-keygen -Y verify about a binary SSHSIG.
func keygenVerify(t testing.TB, c credential.Credential, namespace string, message, sig []byte) error {
	t.Helper()
	dir := t.TempDir()
	allowed, armored := filepath.Join(dir, "allowed"), filepath.Join(dir, "sig")
	write(t, allowed, []byte("alice "+c.Text()+"\n"))
	write(t, armored, pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: sig}))
	_, err := tool(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", armored)
	return err
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rsaKey is the frozen test key of 3072 bits: making one takes seconds.
func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	b, err := os.ReadFile("testdata/rsa3072-test-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatal("testdata/rsa3072-test-key.pem: no PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*rsa.PrivateKey)
}

// parseDER takes an ECDSA signature apart.
func parseDER(t testing.TB, sig []byte) (r, s *big.Int) {
	t.Helper()
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) != 0 {
		t.Fatalf("bad ECDSA signature: %v", err)
	}
	return rs.R, rs.S
}
