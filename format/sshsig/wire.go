package sshsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	magic      = "SSHSIG"
	begin      = "-----BEGIN SSH SIGNATURE-----"
	end        = "-----END SSH SIGNATURE-----"
	maxSidecar = 16 << 10
)

// ErrMalformed is wrapped by errors about bytes that are not an SSH signature in the
// one encoding that is accepted.
var ErrMalformed = errors.New("sshsig: malformed signature")

// ErrSignature is wrapped when a signature is not over the content, or by no key that
// is trusted.
var ErrSignature = errors.New("sshsig: signature does not verify")

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// appendMpint writes a non-negative integer (RFC 4251 section 5).
func appendMpint(b []byte, n *big.Int) []byte {
	v := n.Bytes()
	if len(v) > 0 && v[0]&0x80 != 0 {
		v = append([]byte{0}, v...)
	}
	return appendString(b, v)
}

// MarshalKey is a public key in SSH's encoding (RFC 4253 section 6.6, RFC 5656 section
// 3.1, RFC 8709 section 4), as authorized_keys has it in base64.
func MarshalKey(pub crypto.PublicKey) ([]byte, error) {
	switch p := pub.(type) {
	case ed25519.PublicKey:
		if len(p) == ed25519.PublicKeySize {
			return appendString(appendString(nil, "ssh-ed25519"), p), nil
		}
	case *rsa.PublicKey:
		if p.N != nil && p.N.BitLen() >= 2048 {
			return appendMpint(appendMpint(appendString(nil, "ssh-rsa"), big.NewInt(int64(p.E))), p.N), nil
		}
	case *ecdsa.PublicKey:
		name := map[elliptic.Curve]string{elliptic.P256(): "nistp256", elliptic.P384(): "nistp384"}[p.Curve]
		if name == "" {
			break
		}
		point, err := p.Bytes()
		if err != nil {
			return nil, fmt.Errorf("sshsig: %w", err)
		}
		return appendString(appendString(appendString(nil, "ecdsa-sha2-"+name), name), point), nil
	}
	return nil, fmt.Errorf("sshsig: key of type %T is none of SSH's", pub)
}

// Fingerprint is what ssh-keygen -l prints of a marshalled key.
func Fingerprint(key []byte) string {
	s := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(s[:])
}

// algorithm is the name of a scheme in a signature. RSA with SHA-1 ("ssh-rsa") has none,
// nor has ECDSA under another hash than its curve's.
func algorithm(s sigalg.Scheme, pub crypto.PublicKey) (string, error) {
	switch p := pub.(type) {
	case ed25519.PublicKey:
		if s == sigalg.PureEd25519 {
			return "ssh-ed25519", nil
		}
	case *rsa.PublicKey:
		switch s {
		case sigalg.RSAPKCS1SHA256:
			return "rsa-sha2-256", nil
		case sigalg.RSAPKCS1SHA512:
			return "rsa-sha2-512", nil
		}
	case *ecdsa.PublicKey:
		switch {
		case s == sigalg.ECDSASHA256 && p.Curve == elliptic.P256():
			return "ecdsa-sha2-nistp256", nil
		case s == sigalg.ECDSASHA384 && p.Curve == elliptic.P384():
			return "ecdsa-sha2-nistp384", nil
		}
	}
	return "", fmt.Errorf("sshsig: scheme %s is none of SSH's for a %T", s, pub)
}

// schemeOf is the inverse of algorithm.
func schemeOf(name string) (sigalg.Scheme, bool) {
	s, ok := map[string]sigalg.Scheme{"ssh-ed25519": sigalg.PureEd25519, "rsa-sha2-256": sigalg.RSAPKCS1SHA256, "rsa-sha2-512": sigalg.RSAPKCS1SHA512,
		"ecdsa-sha2-nistp256": sigalg.ECDSASHA256, "ecdsa-sha2-nistp384": sigalg.ECDSASHA384}[name]
	return s, ok
}

// Signature is an SSH signature (PROTOCOL.sshsig of OpenSSH).
type Signature struct {
	Key       []byte // marshalled
	Namespace string
	Hash      string // "sha256" or "sha512"
	Scheme    sigalg.Scheme
	Value     []byte // as package sigalg has it
}

// CheckNamespace refuses what is no short printable word.
func CheckNamespace(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("sshsig: namespace %.40q: want 1 to 255 printable ASCII characters without spaces", s)
	}
	return nil
}

// Message is what is signed for a content with this digest.
func Message(namespace, hash string, digest []byte) []byte {
	b := appendString([]byte(magic), namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, hash)
	return appendString(b, digest)
}

// NewSignature makes a signature of its parts and checks that it is good.
func NewSignature(pub crypto.PublicKey, scheme sigalg.Scheme, namespace, hash string, digest, value []byte) (*Signature, error) {
	if _, err := algorithm(scheme, pub); err != nil {
		return nil, err
	}
	key, err := MarshalKey(pub)
	if err != nil {
		return nil, err
	}
	s := &Signature{key, namespace, hash, scheme, value}
	return s, s.Verify(pub, digest)
}

// Verify checks a signature by a key over content with this digest under s.Hash.
func (s *Signature) Verify(pub crypto.PublicKey, digest []byte) error {
	key, err := MarshalKey(pub)
	if err != nil {
		return err
	}
	if !bytes.Equal(key, s.Key) {
		return fmt.Errorf("%w: it is by another key", ErrSignature)
	}
	if _, err := algorithm(s.Scheme, pub); err != nil {
		return err
	}
	if err := sigalg.Verify(pub, s.Scheme, Message(s.Namespace, s.Hash, digest), s.Value); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// Armor writes the signature as ssh-keygen does.
func (s *Signature) Armor() ([]byte, error) {
	raw, err := s.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(begin + "\n")
	for text := base64.StdEncoding.EncodeToString(raw); text != ""; {
		n := min(70, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString(end + "\n")
	return b.Bytes(), nil
}

func (s *Signature) encode() ([]byte, error) {
	name := ""
	for _, n := range []string{"ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"} {
		if sc, _ := schemeOf(n); sc == s.Scheme {
			name = n
		}
	}
	value := s.Value
	if strings.HasPrefix(name, "ecdsa") {
		var v struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(value, &v); err != nil || len(rest) > 0 || v.R.Sign() < 0 || v.S.Sign() < 0 {
			return nil, ErrMalformed
		}
		value = appendMpint(appendMpint(nil, v.R), v.S)
	}
	b := binary.BigEndian.AppendUint32([]byte(magic), 1)
	b = appendString(b, s.Key)
	b = appendString(b, s.Namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, s.Hash)
	return appendString(b, appendString(appendString(nil, name), value)), nil
}

// take reads a string off the front of b.
func take(b *[]byte) []byte {
	if len(*b) < 4 || uint64(binary.BigEndian.Uint32(*b)) > uint64(len(*b)-4) {
		*b = nil
		return nil
	}
	n := 4 + int(binary.BigEndian.Uint32(*b))
	v := (*b)[4:n:n]
	*b = (*b)[n:]
	return v
}

// Parse reads an armoured signature: what it accepts, Armor writes again. Lines end in LF.
func Parse(b []byte) (*Signature, error) {
	if len(b) > maxSidecar {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	text, ok := strings.CutPrefix(string(b), begin+"\n")
	text, ok2 := strings.CutSuffix(text, "\n"+end+"\n")
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: armour", ErrMalformed)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil || len(raw) < len(magic)+4 || string(raw[:len(magic)+4]) != magic+"\x00\x00\x00\x01" {
		return nil, fmt.Errorf("%w: base64 or version", ErrMalformed)
	}
	raw = raw[len(magic)+4:]
	s := &Signature{Key: take(&raw), Namespace: string(take(&raw))}
	take(&raw) // reserved: ignored by the protocol, empty by the comparison below
	s.Hash = string(take(&raw))
	sig := take(&raw)
	name := string(take(&sig))
	s.Value = take(&sig)
	known := false
	if s.Scheme, known = schemeOf(name); !known {
		return nil, fmt.Errorf("sshsig: signature algorithm %.40q is not accepted", name)
	}
	if s.Hash != "sha256" && s.Hash != "sha512" {
		return nil, fmt.Errorf("sshsig: hash %.40q is not accepted", s.Hash)
	}
	if err := CheckNamespace(s.Namespace); err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "ecdsa") {
		v := s.Value
		r, t := new(big.Int).SetBytes(take(&v)), new(big.Int).SetBytes(take(&v))
		if s.Value, err = asn1.Marshal(struct{ R, S *big.Int }{r, t}); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	again, err := s.Armor()
	if err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not as it would be written", ErrMalformed)
	}
	return s, nil
}

// CheckKey refuses keys and schemes that SSH signatures do not know.
func CheckKey(pub crypto.PublicKey, s sigalg.Scheme) error {
	_, err := algorithm(s, pub)
	return err
}
