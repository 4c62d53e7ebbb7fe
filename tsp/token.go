package tsp

import (
	"bytes"
	"crypto"
	"crypto/sha1" // ESSCertID of RFC 2634 is SHA-1 by definition; never alone what trust rests on
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
)

// Token is a parsed time-stamp token, verified or not.
type Token struct {
	CMS  *cms.SignedData
	Info Info
}

// ParseToken reads a token: a SignedData with one signer over a TSTInfo. It
// verifies nothing.
func ParseToken(der []byte) (*Token, error) {
	if len(der) > MaxSize {
		return nil, syntax("token too long")
	}
	d, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("tsp: token: %w", err)
	}
	if !d.Type.Equal(cms.OIDTSTInfo) || d.PKCS7 || d.Content == nil {
		return nil, syntax("token does not carry a TSTInfo")
	}
	if len(d.Signers) != 1 {
		return nil, syntax(fmt.Sprintf("token with %d signers, want one", len(d.Signers)))
	}
	info, err := ParseInfo(d.Content)
	if err != nil {
		return nil, err
	}
	return &Token{CMS: d, Info: info}, nil
}

// Verify checks the token and gives its time. The imprint function gives the
// digest of the stamped data under the hash that the token names. The chain of
// the authority's certificate must lead to one of roots at the time of the token;
// certificates that the token does not carry are taken from extra.
func (t *Token) Verify(imprint func(crypto.Hash) ([]byte, error), roots *x509.CertPool, extra ...*x509.Certificate) (time.Time, error) {
	cert, err := t.VerifySignature(imprint, extra...)
	if err != nil {
		return time.Time{}, err
	}
	_, err = cms.VerifyChain(cert, slices.Concat(t.CMS.Certificates, extra), cms.ChainOptions{
		Roots: roots, Usage: x509.ExtKeyUsageTimeStamping, At: t.Info.Time,
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("tsp: token: %w", err)
	}
	return t.Info.Time, nil
}

// VerifySignature checks all that Verify checks but the chain, and gives the
// signer's certificate, which nobody vouches for.
func (t *Token) VerifySignature(imprint func(crypto.Hash) ([]byte, error), extra ...*x509.Certificate) (*x509.Certificate, error) {
	want, err := imprint(t.Info.Imprint.Hash)
	if err != nil {
		return nil, fmt.Errorf("tsp: imprint: %w", err)
	}
	if !bytes.Equal(want, t.Info.Imprint.Digest) {
		return nil, ErrImprint
	}
	s := t.CMS.Signers[0]
	// Certificates that carry the same name and number may be in the token:
	// the one that the signature is tied to is the signer's.
	var why error = fmt.Errorf("%w: it is not in the token", ErrSigner)
	for _, c := range slices.Concat(t.CMS.Certificates, extra) {
		if !s.Names(c) {
			continue
		}
		if why = bound(s, c); why != nil {
			continue
		}
		if why = authority(c); why != nil {
			continue
		}
		if err := s.Verify(c, t.CMS.ContentDigest); err != nil {
			return nil, fmt.Errorf("tsp: token: %w", err)
		}
		return c, nil
	}
	return nil, why
}

// Answers checks that the token answers a request: imprint, nonce, policy, and
// the certificate if it was asked for (RFC 3161 section 2.4.2).
func (t *Token) Answers(r Request) error {
	switch {
	case t.Info.Imprint.Hash != r.Imprint.Hash || !bytes.Equal(t.Info.Imprint.Digest, r.Imprint.Digest):
		return fmt.Errorf("%w: %w", ErrAnswer, ErrImprint)
	case r.Nonce != nil && (t.Info.Nonce == nil || t.Info.Nonce.Cmp(r.Nonce) != 0):
		return fmt.Errorf("%w: nonce", ErrAnswer)
	case r.Nonce == nil && t.Info.Nonce != nil:
		return fmt.Errorf("%w: nonce without being asked", ErrAnswer)
	case r.Policy != nil && !r.Policy.Equal(t.Info.Policy):
		return fmt.Errorf("%w: policy", ErrAnswer)
	case r.CertReq && t.CMS.Signers[0].Certificate() == nil:
		return fmt.Errorf("%w: no certificate", ErrAnswer)
	case !r.CertReq && len(t.CMS.RawCertificates) != 0:
		return fmt.Errorf("%w: certificates without being asked", ErrAnswer)
	}
	return nil
}

var (
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)

// authority checks that a certificate's usage is time-stamping, only that, and
// critical (RFC 3161 section 2.3).
func authority(c *x509.Certificate) error {
	found := false
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		s := cryptobyte.String(e.Value)
		var seq cryptobyte.String
		var oid asn1.ObjectIdentifier
		if found || !e.Critical || !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
			!cms.ReadOID(&seq, &oid) || !seq.Empty() || !oid.Equal(oidTimeStamping) {
			return fmt.Errorf("%w: usage must be time-stamping, alone and critical", ErrSigner)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("%w: usage must be time-stamping, alone and critical", ErrSigner)
	}
	return nil
}

// bound checks that the signed attributes tie the signature to this certificate:
// signingCertificateV2 (RFC 5816, RFC 5035), or signingCertificate (RFC 2634),
// both when both are there. The first identifier is the signer's.
func bound(s *cms.ParsedSigner, c *x509.Certificate) error {
	n := 0
	for _, v := range []struct {
		oid asn1.ObjectIdentifier
		two bool
	}{{cms.OIDSigningCertificateV2, true}, {cms.OIDSigningCertificate, false}} {
		a, ok := s.Attribute(v.oid)
		if !ok {
			continue
		}
		if len(a.Values) != 1 {
			return fmt.Errorf("%w: signing certificate attribute with %d values", ErrSigner, len(a.Values))
		}
		if err := checkCertID(a.Values[0].FullBytes, v.two, c); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%w: no signing certificate attribute", ErrSigner)
	}
	return nil
}

func checkCertID(der []byte, two bool, c *x509.Certificate) error {
	bad := fmt.Errorf("%w: signing certificate attribute", ErrSigner)
	s := cryptobyte.String(der)
	var seq, ids, id, hash cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1(&ids, cbasn1.SEQUENCE) ||
		!ids.ReadASN1(&id, cbasn1.SEQUENCE) {
		return bad
	}
	var want []byte
	if two {
		h := crypto.SHA256
		if id.PeekASN1Tag(cbasn1.SEQUENCE) {
			var alg cryptobyte.String
			var err error
			if !id.ReadASN1Element(&alg, cbasn1.SEQUENCE) {
				return bad
			}
			if h, err = cms.ParseDigestAlgorithm(alg); err != nil {
				return fmt.Errorf("%w: %w", bad, err)
			}
		}
		x := h.New()
		x.Write(c.Raw)
		want = x.Sum(nil)
	} else {
		x := sha1.Sum(c.Raw)
		want = x[:]
	}
	if !id.ReadASN1(&hash, cbasn1.OCTET_STRING) {
		return bad
	}
	if !bytes.Equal(hash, want) {
		return fmt.Errorf("%w: the signature is tied to another one", ErrSigner)
	}
	if id.Empty() {
		return nil
	}
	return checkIssuerSerial(id, c, bad)
}

// checkIssuerSerial reads IssuerSerial ::= SEQUENCE { GeneralNames, serial }.
func checkIssuerSerial(id cryptobyte.String, c *x509.Certificate, bad error) error {
	var is, names, name cryptobyte.String
	serial := new(big.Int)
	if !id.ReadASN1(&is, cbasn1.SEQUENCE) || !id.Empty() ||
		!is.ReadASN1(&names, cbasn1.SEQUENCE) ||
		!names.ReadASN1(&name, cbasn1.Tag(4).ContextSpecific().Constructed()) || !names.Empty() ||
		!is.ReadASN1Integer(serial) || !is.Empty() {
		return bad
	}
	if !bytes.Equal(name, c.RawIssuer) || serial.Cmp(c.SerialNumber) != 0 {
		return fmt.Errorf("%w: the signature is tied to another one", ErrSigner)
	}
	return nil
}

// certIDs makes SigningCertificateV2 for the signer: SHA-256, with issuer and serial.
func certIDs(c *x509.Certificate) ([]byte, error) {
	h := crypto.SHA256.New()
	h.Write(c.Raw)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(h.Sum(nil))
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
							b.AddBytes(c.RawIssuer)
						})
					})
					b.AddASN1BigInt(c.SerialNumber)
				})
			})
		})
	})
	return b.Bytes()
}
