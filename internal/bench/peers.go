package bench

import (
	"context"
	"crypto"
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
}

func (p *peer) command(ctx context.Context, path string, id *peerIdentity, work, src, out string) (*exec.Cmd, error) {
	if p.inPlace {
		if err := copyFile(src, out); err != nil {
			return nil, err
		}
	}
	c := exec.CommandContext(ctx, path, p.args(id, src, out)...)
	c.Dir = work
	c.Env = append(os.Environ(), "GNUPGHOME="+id.gpgHome)
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
// that peers take.
type peerIdentity struct {
	key, chain string // PEM: PKCS #8; leaf and root
	leaf       string // PEM
	der        string // leaf
	p12        string // PKCS #12, password "bench-pass"
	relic      string // configuration of relic
	gpgHome    string // with one RSA-3072 key of its own: gpg imports no other's
}

const peerPassword = "bench-pass"

func newPeerIdentity(ctx context.Context, dir string) (*peerIdentity, error) {
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
	id := &peerIdentity{key: filepath.Join(dir, "key.pem"), chain: filepath.Join(dir, "chain.pem"), leaf: filepath.Join(dir, "leaf.pem"),
		der: filepath.Join(dir, "leaf.der"), p12: filepath.Join(dir, "key.p12"), relic: filepath.Join(dir, "relic.yml"), gpgHome: filepath.Join(dir, "gpg")}
	block := func(typ string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}) }
	err = errors.Join(
		os.WriteFile(id.key, block("PRIVATE KEY", pkcs8), 0o600),
		os.WriteFile(id.leaf, block("CERTIFICATE", der), 0o600),
		os.WriteFile(id.der, der, 0o600),
		os.WriteFile(id.chain, append(block("CERTIFICATE", der), block("CERTIFICATE", caDER)...), 0o600),
		os.WriteFile(id.relic, fmt.Appendf(nil, "tokens:\n  file:\n    type: file\nkeys:\n  bench:\n    token: file\n    keyfile: %s\n    x509certificate: %s\n", id.key, id.chain), 0o600),
		os.Mkdir(id.gpgHome, 0o700))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for _, args := range [][]string{
		{"openssl", "pkcs12", "-export", "-inkey", id.key, "-in", id.chain, "-name", "bench", "-passout", "pass:" + peerPassword, "-out", id.p12},
		{"gpg", "--homedir", id.gpgHome, "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Bench <bench@example.com>", "rsa3072", "sign", "never"},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			continue // its peers are named as missing
		}
		if b, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("bench: %s: %w: %s", args[0], err, b)
		}
	}
	return id, nil
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
