package x509key_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/internal/keyfile"
	"github.com/greatseal-io/greatseal/credential/x509key"
)

var message = []byte("DSSEv1 28 application/vnd.in-toto+json 2 {}")

func openssl(t testing.TB, args ...string) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("%v: install openssl", err)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
}

func pair(t testing.TB, genpkey ...string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	openssl(t, append([]string{"genpkey", "-out", key}, genpkey...)...)
	openssl(t, "req", "-x509", "-new", "-key", key, "-subj", "/CN=ci.example.com", "-out", cert)
	return cert, key
}

// openssl verifies what the signer signs over the documented bytes.
func judge(t *testing.T, s credential.Signer, cert string) {
	t.Helper()
	sig, err := s.Sign(t.Context(), credential.Statement, message)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Credential().Verify(credential.Statement, message, sig); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, raw := filepath.Join(dir, "in"), filepath.Join(dir, "sig")
	n := 1 + int(sig[0])
	for path, b := range map[string][]byte{in: []byte("greatseal x509 statement\n" + string(message)), raw: sig[n:]} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := map[string][]string{
		"ed25519":        nil,
		"ecdsa-sha256":   {"-digest", "sha256"},
		"ecdsa-sha384":   {"-digest", "sha384"},
		"ecdsa-sha512":   {"-digest", "sha512"},
		"rsa-pss-sha256": {"-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"},
	}
	scheme := string(sig[1:n])
	more, ok := args[scheme]
	if !ok {
		t.Fatalf("scheme %q", scheme)
	}
	openssl(t, append([]string{"pkeyutl", "-verify", "-rawin", "-certin", "-inkey", cert, "-in", in, "-sigfile", raw}, more...)...)
}

func TestFile(t *testing.T) {
	for name, genpkey := range map[string][]string{
		"p256":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"p521":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
		"ed25519": {"-algorithm", "ED25519"},
		"rsa":     {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, key := pair(t, genpkey...)
			s, err := x509key.File(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, s, cert)
			if _, err := s.Sign(t.Context(), "other", message); err == nil {
				t.Error("signed for an unknown purpose")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.Sign(ctx, credential.Login, message); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if name == "ed25519" {
				return // it has no older form
			}
			// The older forms: PKCS #1, SEC 1 (with its parameters before it).
			old := filepath.Join(t.TempDir(), "old.pem")
			openssl(t, "pkey", "-in", key, "-traditional", "-out", old)
			again, err := x509key.File(cert, old)
			if err != nil || again.Credential().Text() != s.Credential().Text() {
				t.Errorf("older form: %v", err)
			}
			// Certificate and key in one file, and an encrypted key.
			both := filepath.Join(t.TempDir(), "both.pem")
			c, err1 := os.ReadFile(cert)
			k, err2 := os.ReadFile(key)
			if err := errors.Join(err1, err2, os.WriteFile(both, append(c, k...), 0o600)); err != nil {
				t.Fatal(err)
			}
			if again, err := x509key.File(both, both); err != nil || again.Credential().ID() != s.Credential().ID() {
				t.Errorf("one file: %v", err)
			}
			for _, args := range [][]string{{}, {"-traditional"}} {
				enc := filepath.Join(t.TempDir(), "enc.pem")
				openssl(t, append([]string{"pkey", "-in", key, "-aes-128-cbc", "-passout", "pass:secret", "-out", enc}, args...)...)
				if _, err := x509key.File(cert, enc); !errors.Is(err, x509key.ErrEncrypted) {
					t.Errorf("encrypted %v: %v", args, err)
				}
			}
		})
	}
}

func TestFileRefuses(t *testing.T) {
	ed := []string{"-algorithm", "ED25519"}
	cert, key := pair(t, ed...)
	_, other := pair(t, ed...)
	weakCert, weakKey := pair(t, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	k, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	broken := file("broken", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	for name, tc := range map[string]struct {
		cert, key string
		want      error
	}{
		"another key":      {cert, other, x509key.ErrMismatch},
		"weak":             {weakCert, weakKey, credential.ErrCredential},
		"no key":           {cert, cert, nil},
		"no certificate":   {key, key, nil},
		"missing":          {cert, filepath.Join(dir, "none"), os.ErrNotExist},
		"two keys":         {cert, file("two", append(k, k...)), nil},
		"broken":           {cert, broken, nil},
		"ssh":              {cert, file("ssh", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")), nil},
		"another key type": {cert, file("dsa", []byte("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n")), nil},
	} {
		s, err := x509key.File(tc.cert, tc.key)
		if err == nil || s != nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := x509key.File(cert, key); !errors.Is(err, keyfile.ErrPermissions) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to the group: %v", err)
	}
}

// lying is a key whose signatures are another key's.
type lying struct{ crypto.Signer }

func (l lying) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), r)
	if err != nil {
		return nil, err
	}
	return k.Sign(r, digest, o)
}

// Invariant 3.
func TestLyingKey(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := x509key.New(lying{k})
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Sign(t.Context(), credential.Statement, message); !errors.Is(err, credential.ErrSignature) || sig != nil {
		t.Errorf("%x, %v", sig, err)
	}
	if _, err := x509key.New(nil); err == nil {
		t.Error("no key accepted")
	}
}
