package credential

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"strings"

	"golang.org/x/crypto/ssh"
)

// SSH is an SSH public key. The zero value verifies nothing.
type SSH struct {
	key         ssh.PublicKey
	blob        []byte
	application string // FIDO keys: what the authenticator scopes the key to
	rsaSize     int    // RSA keys: length of the modulus, bytes
}

func isFIDO(algorithm string) bool {
	return algorithm == ssh.KeyAlgoSKED25519 || algorithm == ssh.KeyAlgoSKECDSA256
}

func parseSSH(text string) (*SSH, error) {
	line := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if strings.ContainsAny(line, "\r\n\x00") {
		return nil, refuse("ssh: want one line")
	}
	algorithm, rest, ok := strings.Cut(line, " ")
	encoded, _, _ := strings.Cut(rest, " ")
	if !ok || encoded == "" {
		return nil, refuse("ssh: want a key type, a space and the key in base64, without options")
	}
	switch algorithm {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSA, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	default:
		if strings.Contains(algorithm, "-cert-v0") {
			return nil, refuse("ssh: certificates are not accepted: give the plain public key")
		}
		return nil, refuse("ssh: key type %.60q is not accepted", algorithm)
	}
	blob, err := decodeBase64(base64.StdEncoding, encoded)
	if err != nil {
		return nil, refuse("ssh: %w", err)
	}
	r := reader{b: blob}
	if inner := r.bytes(); r.err != nil || string(inner) != algorithm {
		return nil, refuse("ssh: key is of another type than the line says")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, refuse("ssh: %w", err)
	}
	if key.Type() != algorithm || !bytes.Equal(key.Marshal(), blob) {
		return nil, refuse("ssh: key is not in its canonical encoding")
	}
	crypt, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, refuse("ssh: key type %q is not accepted", algorithm)
	}
	pub := crypt.CryptoPublicKey()
	if err := checkKey(pub); err != nil {
		return nil, refuse("ssh: %w", err)
	}
	c := &SSH{key: key, blob: blob}
	if p, ok := pub.(interface{ Size() int }); ok && algorithm == ssh.KeyAlgoRSA {
		c.rsaSize = p.Size()
	}
	if isFIDO(algorithm) {
		if algorithm == ssh.KeyAlgoSKECDSA256 {
			r.bytes() // curve
		}
		r.bytes() // key
		c.application = string(r.bytes())
		if r.end() != nil || !strings.HasPrefix(c.application, "ssh:") || !printable(c.application, 255) {
			return nil, refuse("ssh: application %.60q of a FIDO key: want one that begins with ssh:", c.application)
		}
	}
	return c, nil
}

func printable(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Kind implements [Credential].
func (c *SSH) Kind() Kind { return KindSSH }

// ID implements [Credential].
func (c *SSH) ID() ID {
	if c.key == nil {
		return ""
	}
	return ID("ssh:" + ssh.FingerprintSHA256(c.key))
}

// Text implements [Credential].
func (c *SSH) Text() string {
	if c.key == nil {
		return ""
	}
	return c.key.Type() + " " + base64.StdEncoding.EncodeToString(c.blob)
}

// Describe implements [Credential].
func (c *SSH) Describe() string {
	if c.key == nil {
		return "ssh (no key)"
	}
	s := c.key.Type() + " " + ssh.FingerprintSHA256(c.key)
	if c.Hardware() {
		s += " (hardware, touch)"
	}
	return s
}

// Hardware implements [Credential]: FIDO keys are, others are not known to be.
func (c *SSH) Hardware() bool { return c.application != "" }

// Blob is the key in the wire format of RFC 4253 section 6.6, a copy.
func (c *SSH) Blob() []byte { return bytes.Clone(c.blob) }

// Algorithm is the key's type as OpenSSH names it: "ssh-ed25519".
func (c *SSH) Algorithm() string {
	if c.key == nil {
		return ""
	}
	return c.key.Type()
}

// Public is the public key.
func (c *SSH) Public() crypto.PublicKey {
	if k, ok := c.key.(ssh.CryptoPublicKey); ok {
		return k.CryptoPublicKey()
	}
	return nil
}
