// Package pgptest is OpenPGP for tests: transferable public keys of test signers,
// GnuPG in a folder of its own, and the verifiers of the ecosystem.
package pgptest

import (
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

// UserID is that of every test key.
const UserID = "Test Releases <releases@example.com>"

// Created is the creation of keys where a plan has the default.
var Created = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// Packages says what to install when a program is missing.
const Packages = "apt-get install gnupg gpgv sqv sqop sq"

// Certificate is the signer's transferable public key, binary, made at Created.
func Certificate(tb testing.TB, s *formattest.Signer, version int) []byte {
	tb.Helper()
	k, err := openpgp.NewKey(version, Created, s.Public)
	if err != nil {
		tb.Fatal(err)
	}
	h := s.Scheme.Hash()
	if h == 0 {
		h = crypto.SHA512
	}
	sign := func(t openpgp.Type, message []byte) []byte {
		var salt []byte
		if version == 6 {
			salt = pgpsig.Salt(h)
		}
		spec := openpgp.SelfSpec(k, t, h, Created, salt)
		trailer, err := spec.Trailer()
		if err != nil {
			tb.Fatal(err)
		}
		x := h.New()
		x.Write(salt)
		x.Write(message)
		x.Write(trailer)
		digest := x.Sum(nil)
		b, err := spec.Body(digest, s.SignInput(tb, digest))
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	var direct [][]byte
	if version == 6 {
		direct = [][]byte{sign(openpgp.DirectKey, k.DirectMessage())}
	}
	return openpgp.NewCertificate(k, direct, UserID, sign(openpgp.CertifyPositive, k.CertifyMessage(UserID)))
}

// File writes b into the test's folder.
func File(tb testing.TB, dir, name string, b []byte) string {
	tb.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}

// Signer makes a signer for a kind of key. RSA keys sign under PKCS #1 v1.5.
func Signer(tb testing.TB, k sigalg.Key) *formattest.Signer {
	tb.Helper()
	return formattest.Identity(tb, k)
}

// GPG is GnuPG with a folder of its own.
type GPG struct {
	tb   testing.TB
	Home string
}

// NewGPG makes the folder, with a path that is short enough for sockets. Its agent
// ends with the test.
func NewGPG(tb testing.TB) *GPG {
	tb.Helper()
	home, err := os.MkdirTemp("", "gs")
	if err != nil {
		tb.Fatal(err)
	}
	g := &GPG{tb, home}
	tb.Cleanup(func() {
		c := exec.Command("gpgconf", "--homedir", home, "--kill", "all")
		if b, err := c.CombinedOutput(); err != nil {
			tb.Errorf("gpgconf --kill: %v: %s", err, b)
		}
		os.RemoveAll(home)
	})
	return g
}

// Run runs gpg and returns what it printed; a non-zero exit is an error.
func (g *GPG) Run(args ...string) (string, error) {
	g.tb.Helper()
	gpg := formattest.Program(g.tb, "gpg", Packages)
	return formattest.RunJudge(g.tb, gpg, append([]string{"--homedir", g.Home, "--batch", "--quiet", "--no-tty", "--yes", "--trust-model", "always", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
}

// Must is Run for what cannot go wrong.
func (g *GPG) Must(args ...string) string {
	g.tb.Helper()
	out, err := g.Run(args...)
	if err != nil {
		g.tb.Fatal(err)
	}
	return out
}

// Generate makes a key that signs, of gpg's algorithm ("rsa3072", "nistp256",
// "ed25519"), and returns its public part and the bare keys that sign.
func (g *GPG) Generate(algo string) ([]byte, []crypto.PublicKey) {
	g.tb.Helper()
	id := algo + "@example.com"
	g.Must("--quick-generate-key", id, algo, "sign", "never")
	out := filepath.Join(g.tb.TempDir(), "key.pgp")
	g.Must("--output", out, "--export", id)
	b, err := os.ReadFile(out)
	if err != nil {
		g.tb.Fatal(err)
	}
	return b, Keys(g.tb, b)
}

// Keys are the bare signing keys of a transferable public key.
func Keys(tb testing.TB, b []byte) (out []crypto.PublicKey) {
	tb.Helper()
	cs, err := openpgp.ReadCertificates(b, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range cs {
		for _, k := range c.Signing {
			out = append(out, k.Public)
		}
	}
	return out
}
