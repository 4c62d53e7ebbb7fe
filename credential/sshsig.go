package credential

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// SSHNamespace is the SSHSIG namespace of a purpose: "statement@greatseal.io".
func SSHNamespace(p Purpose) string { return string(p) + "@greatseal.io" }

const (
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	userPresent   = 0x01 // flags of an authenticator, CTAP2 and WebAuthn section 6.1
)

// SSHSignedData is what an SSH key signs so that its signature, wrapped by
// [EncodeSSHSig], verifies over message for p: the inner blob of
// PROTOCOL.sshsig, with hash sha512.
func SSHSignedData(p Purpose, message []byte) ([]byte, error) {
	if !p.Valid() {
		return nil, fmt.Errorf("credential: unknown purpose %.20q", string(p))
	}
	return sshSignedData(SSHNamespace(p), "sha512", message)
}

func sshSignedData(namespace, hash string, message []byte) ([]byte, error) {
	var digest []byte
	switch hash {
	case "sha256":
		h := sha256.Sum256(message)
		digest = h[:]
	case "sha512":
		h := sha512.Sum512(message)
		digest = h[:]
	default:
		return nil, fmt.Errorf("hash %.20q: want sha256 or sha512", hash)
	}
	b := []byte(sshsigMagic)
	b = appendString(b, namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, hash)
	return appendString(b, digest), nil
}

// EncodeSSHSig wraps sig, which the key of c made over [SSHSignedData] for p,
// into the form that c verifies. It checks nothing.
func EncodeSSHSig(c *SSH, p Purpose, sig *ssh.Signature) []byte {
	inner := appendString(nil, sig.Format)
	inner = appendString(inner, sig.Blob)
	inner = append(inner, sig.Rest...)
	return sshsig{key: c.blob, namespace: SSHNamespace(p), hash: "sha512", signature: inner}.encode()
}

// sshsig is the outer blob of PROTOCOL.sshsig.
type sshsig struct {
	key       []byte
	namespace string
	hash      string
	signature []byte
}

func (s sshsig) encode() []byte {
	b := appendUint32([]byte(sshsigMagic), sshsigVersion)
	b = appendString(b, s.key)
	b = appendString(b, s.namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, s.hash)
	return appendString(b, s.signature)
}

func decodeSSHSig(b []byte) (sshsig, error) {
	r := reader{b: b}
	if string(r.take(uint32(len(sshsigMagic)))) != sshsigMagic {
		return sshsig{}, errors.New("not a binary SSHSIG blob")
	}
	if v := r.uint32(); r.err == nil && v != sshsigVersion {
		return sshsig{}, fmt.Errorf("version %d: want %d", v, sshsigVersion)
	}
	var s sshsig
	s.key = r.bytes()
	s.namespace = string(r.bytes())
	if reserved := r.bytes(); len(reserved) != 0 {
		return sshsig{}, errors.New("reserved field is not empty")
	}
	s.hash = string(r.bytes())
	s.signature = r.bytes()
	if err := r.end(); err != nil {
		return sshsig{}, err
	}
	if !bytes.Equal(s.encode(), b) {
		return sshsig{}, errors.New("not in its canonical encoding")
	}
	return s, nil
}

// Verify implements [Credential].
func (c *SSH) Verify(p Purpose, message, sig []byte) error {
	switch {
	case c.key == nil:
		return refuseSig("ssh: no key")
	case !p.Valid():
		return refuseSig("ssh: unknown purpose %.20q", string(p))
	case len(sig) > MaxSignature:
		return refuseSig("ssh: %d bytes: want at most %d", len(sig), MaxSignature)
	}
	s, err := decodeSSHSig(sig)
	if err != nil {
		return refuseSig("ssh: %w", err)
	}
	if !bytes.Equal(s.key, c.blob) {
		return refuseSig("ssh: made by another key")
	}
	if want := SSHNamespace(p); s.namespace != want {
		return refuseSig("ssh: namespace %.60q: want %q", s.namespace, want)
	}
	data, err := sshSignedData(s.namespace, s.hash, message)
	if err != nil {
		return refuseSig("ssh: %w", err)
	}
	inner, err := c.decodeInner(s.signature)
	if err != nil {
		return refuseSig("ssh: %w", err)
	}
	if err := c.key.Verify(data, inner); err != nil {
		return refuseSig("ssh: does not verify")
	}
	return nil
}

// decodeInner takes apart the signature proper, whose shape the key's type
// fixes. The library that checks the mathematics is laxer than this: it pads RSA
// signatures and takes integers that are not minimal.
func (c *SSH) decodeInner(b []byte) (*ssh.Signature, error) {
	r := reader{b: b}
	s := &ssh.Signature{Format: string(r.bytes()), Blob: r.bytes()}
	algorithm := c.key.Type()
	if isFIDO(algorithm) {
		s.Rest = r.take(5) // flags, counter
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	switch algorithm {
	case ssh.KeyAlgoRSA:
		if s.Format != ssh.KeyAlgoRSASHA256 && s.Format != ssh.KeyAlgoRSASHA512 {
			return nil, fmt.Errorf("algorithm %.60q: want rsa-sha2-256 or rsa-sha2-512", s.Format)
		}
		if len(s.Blob) != c.rsaSize {
			return nil, fmt.Errorf("RSA signature of %d bytes: want %d", len(s.Blob), c.rsaSize)
		}
		return s, nil
	}
	if s.Format != algorithm {
		return nil, fmt.Errorf("algorithm %.60q: want %q", s.Format, algorithm)
	}
	switch algorithm {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519:
		if len(s.Blob) != ed25519.SignatureSize {
			return nil, fmt.Errorf("Ed25519 signature of %d bytes: want %d", len(s.Blob), ed25519.SignatureSize)
		}
	default:
		rs := reader{b: s.Blob}
		rs.positive()
		rs.positive()
		if err := rs.end(); err != nil {
			return nil, fmt.Errorf("ECDSA signature: %w", err)
		}
	}
	if isFIDO(algorithm) && s.Rest[0]&userPresent == 0 {
		return nil, errors.New("FIDO key signed without user presence")
	}
	return s, nil
}
