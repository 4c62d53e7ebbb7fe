package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// peer is a signer of a format's ecosystem.
type peer struct {
	program string
	// args are the arguments; what they write goes to out or anywhere below the
	// folder of the input. A peer that signs in place gets a copy at out.
	args    func(id *peerIdentity, src, out string) []string
	inPlace bool
	env     []string
}

func (p *peer) command(ctx context.Context, path string, id *peerIdentity, work, src, out string) (*exec.Cmd, error) {
	if p.inPlace {
		if err := copyFile(src, out); err != nil {
			return nil, err
		}
	}
	c := exec.CommandContext(ctx, path, p.args(id, src, out)...)
	c.Dir = work
	c.Env = append(append(os.Environ(), "GNUPGHOME="+id.gpgHome), p.env...)
	return c, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// peerIdentity is one RSA-3072 key with a code-signing certificate, in the forms
// that peers take; and what peers made that take no others' keys.
type peerIdentity struct {
	key, chain string                // PEM: PKCS #8; leaf and root
	leaf       string                // PEM
	p12        string                // PKCS #12, password peerPassword
	relic      string                // configuration of relic, with keys "bench" and "pgp"
	uboot      string                // folder with the key "dev" as mkimage takes it
	others     map[sigalg.Key]string // PEM: keys of other kinds, without certificates
	gpgHome    string                // with one RSA-3072 key of its own: gpg imports no other's
	minisign   string                // secret keys of theirs
	signify    string
	cosign     string
}

// files are the key of a contest and its certificates, as FormatChild takes them.
func (id *peerIdentity) files(kind sigalg.Key) []string {
	if kind == "" {
		return []string{id.key, id.chain}
	}
	return []string{id.others[kind], os.DevNull}
}

const peerPassword = "bench-pass"

func newPeerIdentity(ctx context.Context, dir, judges string) (*peerIdentity, error) {
	root, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	leaf, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench Root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	cert := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Bench Signer"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, root.Public(), root)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, leaf.Public(), root)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leaf)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	id := &peerIdentity{key: in("key.pem"), chain: in("chain.pem"), leaf: in("leaf.pem"), p12: in("key.p12"), relic: in("relic.yml"), uboot: in("uboot"), others: map[sigalg.Key]string{},
		gpgHome: in("gpg"), minisign: in("minisign.sec"), signify: in("signify.sec"), cosign: in("cosign.key")}
	block := func(typ string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}) }
	config := fmt.Appendf(nil, "tokens:\n  file:\n    type: file\nkeys:\n  bench:\n    token: file\n    keyfile: %s\n    x509certificate: %s\n  pgp:\n    token: file\n    keyfile: %s\n    pgpcertificate: %s\n",
		id.key, id.chain, in("pgp.key"), in("pgp.asc"))
	err = errors.Join(
		os.WriteFile(id.key, block("PRIVATE KEY", pkcs8), 0o600),
		os.WriteFile(id.leaf, block("CERTIFICATE", der), 0o600),
		os.WriteFile(id.chain, append(block("CERTIFICATE", der), block("CERTIFICATE", caDER)...), 0o600),
		os.WriteFile(id.relic, config, 0o600),
		os.Mkdir(id.uboot, 0o700),
		os.WriteFile(filepath.Join(id.uboot, "dev.key"), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(leaf)), 0o600),
		os.WriteFile(filepath.Join(id.uboot, "dev.crt"), block("CERTIFICATE", der), 0o600),
		os.Mkdir(id.gpgHome, 0o700))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	public, err := ssh.NewPublicKey(leaf.Public())
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := os.WriteFile(id.key+".pub", ssh.MarshalAuthorizedKey(public), 0o600); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for _, kind := range []sigalg.Key{sigalg.P256, sigalg.Ed25519, sigalg.RSA4096} {
		other, err := newKey(kind)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(other)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		id.others[kind] = in(string(kind) + ".pem")
		if err := os.WriteFile(id.others[kind], block("PRIVATE KEY", der), 0o600); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	for _, args := range [][]string{
		{"openssl", "pkcs12", "-export", "-inkey", id.key, "-in", id.chain, "-name", "bench", "-passout", "pass:" + peerPassword, "-out", id.p12},
		{"gpg", "--homedir", id.gpgHome, "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Bench <bench@example.com>", "rsa3072", "sign", "never"},
		{"gpg", "--homedir", id.gpgHome, "--batch", "--quiet", "--armor", "--output", in("pgp.key"), "--export-secret-keys"},
		{"gpg", "--homedir", id.gpgHome, "--batch", "--quiet", "--armor", "--output", in("pgp.asc"), "--export"},
		{"minisign", "-G", "-W", "-p", in("minisign.pub"), "-s", id.minisign},
		{"signify-openbsd", "-G", "-n", "-p", in("signify.pub"), "-s", id.signify},
		{"cosign", "generate-key-pair", "--output-key-prefix", in("cosign")},
	} {
		program := findProgram(judges, args[0])
		if program == "" {
			continue // its peers are named as missing
		}
		c := exec.CommandContext(ctx, program, args[1:]...)
		c.Env = append(os.Environ(), "COSIGN_PASSWORD=")
		if b, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("bench: %s: %w: %s", args[0], err, b)
		}
	}
	return id, nil
}

func newKey(kind sigalg.Key) (crypto.Signer, error) {
	switch kind {
	case sigalg.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case sigalg.RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return k, err
}

// readIdentity reads what newPeerIdentity wrote.
func readIdentity(keyFile, chainFile string) (crypto.Signer, format.Identity, error) {
	var none format.Identity
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, none, fmt.Errorf("bench: %w", err)
	}
	p, _ := pem.Decode(b)
	if p == nil {
		return nil, none, fmt.Errorf("bench: %s holds no key", keyFile)
	}
	k, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return nil, none, fmt.Errorf("bench: %w", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, none, fmt.Errorf("bench: %s holds no key that signs", keyFile)
	}
	kind, err := sigalg.KeyOf(signer.Public())
	if err != nil {
		return nil, none, err
	}
	id := format.Identity{Scheme: kind.Default(), Public: signer.Public()}
	rest, err := os.ReadFile(chainFile)
	if err != nil {
		return nil, none, fmt.Errorf("bench: %w", err)
	}
	for {
		if p, rest = pem.Decode(rest); p == nil {
			break
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, none, fmt.Errorf("bench: %w", err)
		}
		id.Chain = append(id.Chain, c)
	}
	return signer, id, nil
}
