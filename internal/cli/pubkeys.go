package cli

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format/minisign"
	"github.com/greatseal-io/greatseal/format/signify"
	"github.com/greatseal-io/greatseal/openpgp"
)

// readPublic reads public keys in the forms in which ecosystems hand them round:
// PEM (a public key or a certificate), OpenPGP, SSH (a line of authorized_keys),
// minisign and signify.
func readPublic(path string, now time.Time) ([]crypto.PublicKey, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	one := func(pub crypto.PublicKey, err error) ([]crypto.PublicKey, error) { return []crypto.PublicKey{pub}, err }
	p, _ := pem.Decode(b)
	switch {
	case p != nil && p.Type == "PUBLIC KEY":
		return one(x509.ParsePKIXPublicKey(p.Bytes))
	case p != nil && p.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, err
		}
		return one(cms.PublicKey(c))
	case bytes.Contains(b, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")), len(b) > 0 && b[0]&0x80 != 0:
		certs, err := openpgp.ReadCertificates(b, now)
		var out []crypto.PublicKey
		for _, c := range certs {
			for _, k := range c.Signing {
				out = append(out, k.Public)
			}
		}
		return out, err
	case bytes.HasPrefix(b, []byte("untrusted comment:")):
		return one(readSmallKey(string(b)))
	case p != nil:
		return nil, fmt.Errorf("PEM block %q", p.Type)
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, errors.New("it is none of PEM, OpenPGP, SSH, minisign and signify")
	}
	if c, ok := k.(ssh.CryptoPublicKey); ok {
		return one(c.CryptoPublicKey(), nil)
	}
	return nil, fmt.Errorf("SSH key of type %s", k.Type())
}

// readSmallKey reads the public key of minisign or signify: a comment, then "Ed",
// eight bytes of an ID and the key, in base64.
func readSmallKey(s string) (crypto.PublicKey, error) {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) != 2 {
		return nil, errors.New("want a comment and one line")
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(lines[1]))
	if err != nil || len(b) != 2+8+ed25519.PublicKeySize || string(b[:2]) != "Ed" {
		return nil, errors.New("not an Ed25519 key of minisign or signify")
	}
	return ed25519.PublicKey(b[10:]), nil
}

// keyForms are the forms in which a key of the charter is printed.
var keyForms = []string{"pem", "ssh", "minisign", "signify"}

// writeKey prints the public half of a key for other programs.
func writeKey(w io.Writer, k *shownKey, form string) error {
	if form == "pem" {
		return writeKeyPEM(w, k)
	}
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return err
	}
	if form == "ssh" {
		s, err := ssh.NewPublicKey(pub)
		if err != nil {
			return fail(exitFailed, "--form pem", "SSH has no keys such as %s (%s)", k.Name, k.Algorithm)
		}
		_, err = fmt.Fprintf(w, "%s %s\n", bytes.TrimSpace(ssh.MarshalAuthorizedKey(s)), k.Name)
		return err
	}
	ed, ok := pub.(ed25519.PublicKey)
	if !ok {
		return fail(exitFailed, "--form pem, or --form ssh", "%s has Ed25519 keys alone: %s is %s", form, k.Name, k.Algorithm)
	}
	text := minisign.PublicKey(ed, minisign.KeyID(ed))
	if form == "signify" {
		text = signify.PublicKey(ed, signify.KeyID(ed))
	}
	_, err = w.Write(text)
	return err
}
