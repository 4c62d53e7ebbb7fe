// Package tsp is the time-stamp protocol (RFC 3161, RFC 5816): requests,
// responses and tokens, for those who ask, those who verify and those who issue.
// It reads no clock, holds no key and does no I/O; package tsp/client asks over
// HTTP.
//
// A token is a CMS SignedData over a TSTInfo:
//
//	TSTInfo { version 1, policy, messageImprint, serialNumber, genTime,
//	          accuracy?, ordering?, nonce?, tsa?, extensions? }
//
// with the signed attribute signingCertificateV2, which ties the signature to one
// certificate, whose only and critical usage is time-stamping.
//
// Invariants:
//
//  1. Whatever [ParseRequest] and [ParseInfo] accept re-encodes to itself.
//  2. [Token.Verify] gives a time only when content type, imprint, signature,
//     signer's certificate, its usage and its chain at that time are all right.
//  3. [Issue] signs for no imprint other than SHA-256, SHA-384 and SHA-512 of the
//     right length, and what [Pending.Finish] gives out has been verified.
//  4. A response with a refusal carries no token, one without carries a token.
//
// A caller may not conclude from a token that the time is right, only that the
// authority said so; nor that a token answers his request ([Token.Answers]). The
// name in Info.TSA is a claim. Revocation is not looked at.
package tsp

import (
	"crypto"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384, crypto.SHA512
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
)

// MaxSize limits requests, tokens and responses, in bytes.
const MaxSize = 1 << 20

// maxIntegerBits limits serial numbers and nonces (RFC 3161 section 2.4.2 asks for 160).
const maxIntegerBits = 512

// What callers branch on.
var (
	// ErrSyntax is returned for what is malformed.
	ErrSyntax = errors.New("tsp: malformed")
	// ErrImprint is returned when a token is for other data.
	ErrImprint = errors.New("tsp: imprint differs")
	// ErrAnswer is returned when a token does not answer the request.
	ErrAnswer = errors.New("tsp: token does not answer the request")
	// ErrSigner is returned when the signer's certificate is missing, not tied to
	// the signature or not one of a time-stamping authority.
	ErrSigner = errors.New("tsp: signer's certificate not acceptable")
)

func syntax(what string) error { return fmt.Errorf("%w: %s", ErrSyntax, what) }

// Imprint is the digest of what is stamped.
type Imprint struct {
	Hash   crypto.Hash
	Digest []byte
	null   bool // parameters of the algorithm were NULL, not absent
}

func (m Imprint) build(b *cryptobyte.Builder) {
	alg, err := cms.DigestAlgorithm(m.Hash)
	if err == nil && len(m.Digest) != m.Hash.Size() {
		err = fmt.Errorf("tsp: imprint of %d bytes, %v has %d", len(m.Digest), m.Hash, m.Hash.Size())
	}
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if m.null {
			s := cryptobyte.String(alg)
			var oid cryptobyte.String
			s.ReadASN1(&oid, cbasn1.SEQUENCE)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(oid)
				b.AddASN1NULL()
			})
		} else {
			b.AddBytes(alg)
		}
		b.AddASN1OctetString(m.Digest)
	})
}

func readImprint(s *cryptobyte.String) (m Imprint, err error) {
	var seq, alg, digest cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&alg, cbasn1.SEQUENCE) ||
		!seq.ReadASN1(&digest, cbasn1.OCTET_STRING) || !seq.Empty() {
		return m, syntax("message imprint")
	}
	if m.Hash, err = cms.ParseDigestAlgorithm(alg); err != nil {
		return m, fmt.Errorf("tsp: message imprint: %w", err)
	}
	bare, err := cms.DigestAlgorithm(m.Hash)
	if err != nil {
		return m, err
	}
	m.null = len(alg) != len(bare)
	if len(digest) != m.Hash.Size() {
		return m, syntax(fmt.Sprintf("imprint of %d bytes, %v has %d", len(digest), m.Hash, m.Hash.Size()))
	}
	m.Digest = digest
	return m, nil
}

// Request asks for a token (RFC 3161 section 2.4.1).
type Request struct {
	Imprint Imprint
	// Policy is the policy that is asked for, nil for any.
	Policy asn1.ObjectIdentifier
	// Nonce comes back in the token; nil for none.
	Nonce *big.Int
	// CertReq asks for the authority's certificate in the token.
	CertReq bool
}

// NewRequest asks for a token over a digest. The nonce is the caller's random
// number of 64 bits or more, the policy and it may be nil.
func NewRequest(hash crypto.Hash, digest []byte, nonce *big.Int, policy asn1.ObjectIdentifier, certReq bool) Request {
	return Request{Imprint: Imprint{Hash: hash, Digest: digest}, Policy: policy, Nonce: nonce, CertReq: certReq}
}

// Marshal gives the TimeStampReq in DER. It fails for a digest of the wrong length
// or an algorithm other than SHA-256, SHA-384 and SHA-512.
func (r Request) Marshal() ([]byte, error) {
	if r.Nonce != nil && (r.Nonce.Sign() < 0 || r.Nonce.BitLen() > maxIntegerBits) {
		return nil, errors.New("tsp: nonce out of range")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		r.Imprint.build(b)
		if r.Policy != nil {
			b.AddASN1ObjectIdentifier(r.Policy)
		}
		if r.Nonce != nil {
			b.AddASN1BigInt(r.Nonce)
		}
		if r.CertReq {
			b.AddASN1Boolean(true)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("tsp: request: %w", err)
	}
	return der, nil
}

// ParseRequest reads a TimeStampReq, strictly. A request that an authority must
// refuse in words is a *Rejection: hand it to Refuse.
func ParseRequest(der []byte) (Request, error) {
	bad := func(f FailInfo, err error) (Request, error) {
		return Request{}, &Rejection{Fail: f, Err: err}
	}
	if len(der) > MaxSize {
		return bad(FailBadDataFormat, syntax("request too long"))
	}
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	var version int
	var r Request
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1Integer(&version) {
		return bad(FailBadDataFormat, syntax("request"))
	}
	if version != 1 {
		return bad(FailBadRequest, syntax("version of request"))
	}
	var err error
	if r.Imprint, err = readImprint(&seq); err != nil {
		if errors.Is(err, cms.ErrAlgorithm) {
			return bad(FailBadAlg, err)
		}
		return bad(FailBadDataFormat, err)
	}
	if seq.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) && !cms.ReadOID(&seq, &r.Policy) {
		return bad(FailBadDataFormat, syntax("policy"))
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		if r.Nonce, err = readNatural(&seq, "nonce"); err != nil {
			return bad(FailBadDataFormat, err)
		}
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && (!seq.ReadASN1Boolean(&r.CertReq) || !r.CertReq) {
		return bad(FailBadDataFormat, syntax("certReq")) // FALSE is the default and has no DER
	}
	if seq.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return bad(FailUnacceptedExtension, errors.New("tsp: extensions in requests are not accepted"))
	}
	if !seq.Empty() {
		return bad(FailBadDataFormat, syntax("bytes after request"))
	}
	return r, nil
}

func readNatural(s *cryptobyte.String, what string) (*big.Int, error) {
	n := new(big.Int)
	if !s.ReadASN1Integer(n) || n.Sign() < 0 || n.BitLen() > maxIntegerBits {
		return nil, syntax(what)
	}
	return n, nil
}
