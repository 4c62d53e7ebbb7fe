package keeper

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

func marshalSPKI(pub crypto.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(pub) }

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// checkChain refuses certificates that are not a key's own: another key's leaf, a
// chain that is not linked, a leaf that may not do what the key is for.
func checkChain(chain []*x509.Certificate, spki []byte, at time.Time, timestamping bool) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	leaf := chain[0]
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, spki) {
		return errors.New("the leaf certifies another key")
	}
	if leaf.IsCA {
		return errors.New("the leaf is an authority's certificate")
	}
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		return fmt.Errorf("the leaf is valid from %s to %s", leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the leaf's key usage is not digital signature")
	}
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("the leaf has unknown critical extensions %v", leaf.UnhandledCriticalExtensions)
	}
	if err := checkUsage(leaf, timestamping); err != nil {
		return err
	}
	for i, c := range chain {
		root := bytes.Equal(c.RawIssuer, c.RawSubject)
		if p, ok := c.PublicKey.(*rsa.PublicKey); ok {
			if least := 3072; p.N.BitLen() < least && !(root && i > 0 && p.N.BitLen() >= 2048) {
				return fmt.Errorf("certificate %d has an RSA key of %d bits: want %d or more", i, p.N.BitLen(), least)
			}
		}
		if i+1 == len(chain) {
			break
		}
		if root {
			return fmt.Errorf("certificate %d is self-issued and is not the last", i)
		}
		up := chain[i+1]
		if !bytes.Equal(c.RawIssuer, up.RawSubject) {
			return fmt.Errorf("certificate %d was not issued by certificate %d", i, i+1)
		}
		if err := c.CheckSignatureFrom(up); err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
		if at.Before(up.NotBefore) || at.After(up.NotAfter) {
			return fmt.Errorf("certificate %d is not valid now", i+1)
		}
	}
	if len(chain) == 1 && bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
			return fmt.Errorf("self-signed leaf: %w", err)
		}
	}
	return nil
}

// checkUsage wants the extended key usage code signing; of a timestamping key
// time stamping alone, and critical (RFC 3161 section 2.3).
func checkUsage(leaf *x509.Certificate, timestamping bool) error {
	if !timestamping {
		if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return errors.New("the leaf's extended key usage is not code signing")
		}
		return nil
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(leaf.UnknownExtKeyUsage) > 0 {
		return errors.New("the leaf's extended key usage is not time stamping alone")
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && e.Critical {
			return nil
		}
	}
	return errors.New("the leaf's extended key usage is not critical")
}

// certSigner lets crypto/x509 use a key, and checks each signature itself.
type certSigner struct {
	ctx    context.Context
	key    key.Key
	scheme sigalg.Scheme
	faulty bool
	err    error
}

func (s *certSigner) Public() crypto.PublicKey { return s.key.Public() }

// SignMessage implements crypto.MessageSigner: what is signed is known whole, so
// that the signature can be checked.
func (s *certSigner) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	sig, err := s.key.Sign(s.ctx, s.scheme, s.scheme.Input(message))
	if err != nil {
		s.err = err
		return nil, err
	}
	if err := sigalg.Verify(s.key.Public(), s.scheme, message, sig); err != nil {
		s.faulty = true
		return nil, err
	}
	return sig, nil
}

// Sign implements crypto.Signer for the hash of the scheme. crypto/x509 checks the
// result itself before it returns it.
func (s *certSigner) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != s.scheme.Hash() {
		return nil, fmt.Errorf("keeper: hash %v: want %v", o.HashFunc(), s.scheme.Hash())
	}
	sig, err := s.key.Sign(s.ctx, s.scheme, digest)
	s.err = err
	return sig, err
}

// fault says whether err is the key's own.
func (s *certSigner) fault(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case s.faulty || strings.Contains(err.Error(), "signature"):
		return refuse(KeyFaulty, "own signature does not verify")
	}
	return err
}

func algorithmOf(s sigalg.Scheme) x509.SignatureAlgorithm {
	switch s {
	case sigalg.RSAPKCS1SHA256:
		return x509.SHA256WithRSA
	case sigalg.RSAPKCS1SHA384:
		return x509.SHA384WithRSA
	case sigalg.RSAPKCS1SHA512:
		return x509.SHA512WithRSA
	case sigalg.RSAPSSSHA256:
		return x509.SHA256WithRSAPSS
	case sigalg.RSAPSSSHA384:
		return x509.SHA384WithRSAPSS
	case sigalg.RSAPSSSHA512:
		return x509.SHA512WithRSAPSS
	case sigalg.ECDSASHA256:
		return x509.ECDSAWithSHA256
	case sigalg.ECDSASHA384:
		return x509.ECDSAWithSHA384
	case sigalg.ECDSASHA512:
		return x509.ECDSAWithSHA512
	case sigalg.PureEd25519:
		return x509.PureEd25519
	case sigalg.PureMLDSA65:
		return x509.MLDSA65
	case sigalg.PureMLDSA87:
		return x509.MLDSA87
	}
	return x509.UnknownSignatureAlgorithm
}

// request makes a PKCS #10 certificate request (RFC 2986).
func (s *certSigner) request(rand io.Reader, subject []byte) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand, &x509.CertificateRequest{RawSubject: subject, SignatureAlgorithm: algorithmOf(s.scheme)}, s)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		s.faulty = true
		return nil, err
	}
	return der, nil
}

// selfSigned makes a certificate for trying out.
func (s *certSigner) selfSigned(rand io.Reader, subject []byte, at time.Time, days int, timestamping bool) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(rand, serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of the full length
	t := &x509.Certificate{
		RawSubject: subject, SerialNumber: new(big.Int).SetBytes(serial), SignatureAlgorithm: algorithmOf(s.scheme),
		NotBefore: at, NotAfter: at.AddDate(0, 0, days), KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if timestamping {
		usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}}
	} else {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	der, err := x509.CreateCertificate(rand, t, t, s.key.Public(), s)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	spki, err := marshalSPKI(s.key.Public())
	if err != nil {
		return nil, err
	}
	if err := checkChain([]*x509.Certificate{c}, spki, at, timestamping); err != nil {
		s.faulty = true
		return nil, err
	}
	return der, nil
}

// attributeTypes are those of RFC 4514 section 3 that certificates of code
// signing carry, and serialNumber.
func attributeTypes(name string) asn1.ObjectIdentifier {
	switch strings.ToUpper(name) {
	case "CN":
		return asn1.ObjectIdentifier{2, 5, 4, 3}
	case "SERIALNUMBER":
		return asn1.ObjectIdentifier{2, 5, 4, 5}
	case "C":
		return asn1.ObjectIdentifier{2, 5, 4, 6}
	case "L":
		return asn1.ObjectIdentifier{2, 5, 4, 7}
	case "ST":
		return asn1.ObjectIdentifier{2, 5, 4, 8}
	case "STREET":
		return asn1.ObjectIdentifier{2, 5, 4, 9}
	case "O":
		return asn1.ObjectIdentifier{2, 5, 4, 10}
	case "OU":
		return asn1.ObjectIdentifier{2, 5, 4, 11}
	}
	return nil
}

// parseName reads a distinguished name in the string form of RFC 4514, one
// attribute a part, with backslashes before special characters, and returns its
// DER.
func parseName(s string) ([]byte, error) {
	var seq pkix.RDNSequence
	for rest := s; ; {
		eq := strings.IndexByte(rest, '=')
		if eq < 0 {
			return nil, fmt.Errorf("subject %.80q: want TYPE=value parts with commas between", s)
		}
		name := strings.TrimSpace(rest[:eq])
		oid := attributeTypes(name)
		if oid == nil {
			return nil, fmt.Errorf("subject: unknown attribute %.40q", name)
		}
		value, tail, more, err := parseValue(rest[eq+1:])
		if err != nil {
			return nil, err
		}
		if strings.EqualFold(name, "C") && (len(value) != 2 || strings.ToUpper(value) != value) {
			return nil, fmt.Errorf("subject: country %.40q: want two capitals", value)
		}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
		if len(seq) > 32 {
			return nil, errors.New("subject: too many parts")
		}
		if !more {
			break
		}
		rest = tail
	}
	slices.Reverse(seq) // RFC 4514 section 2.1 writes the last part first
	return asn1.Marshal(seq)
}

// parseValue reads one attribute's value up to a comma that is not escaped.
func parseValue(s string) (value, rest string, more bool, err error) {
	s = strings.TrimLeft(s, " ")
	var b strings.Builder
	keep := 0 // length up to the last character that is not a plain space
	i := 0
	for i < len(s) && s[i] != ',' {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(` "#+,;<=>\`, s[i+1]) >= 0:
			b.WriteByte(s[i+1])
			keep = b.Len()
			i += 2
			continue
		case strings.IndexByte(`"+;<>\`, c) >= 0 || c == '#' && b.Len() == 0 || c < 0x20 || c == 0x7f:
			return "", "", false, fmt.Errorf("subject: character %q wants a backslash, or is not allowed", c)
		default:
			b.WriteByte(c)
			if c != ' ' {
				keep = b.Len()
			}
			i++
		}
	}
	value = b.String()[:keep]
	if value == "" || len(value) > 256 || !utf8.ValidString(value) {
		return "", "", false, errors.New("subject: a value has 1 to 256 bytes of UTF-8")
	}
	if i < len(s) {
		return value, s[i+1:], true, nil
	}
	return value, "", false, nil
}
