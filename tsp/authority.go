package tsp

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/sigalg"
)

// AuthorityConfig is what an authority issues with.
type AuthorityConfig struct {
	// Chain is the authority's certificate, then what it was issued by; the root
	// may be left out.
	Chain    []*x509.Certificate
	Policy   asn1.ObjectIdentifier
	Accuracy Accuracy
	Ordering bool
	Scheme   sigalg.Scheme
}

// Pending is a response that waits for its signature.
type Pending struct {
	certs   []*x509.Certificate
	signer  *x509.Certificate
	spec    cms.SignerSpec
	info    []byte
	message []byte
}

// Issue makes the response to a request, all but the signature. The serial number
// must never be used twice by this authority; it is positive and has at most 160
// bits. The error is a *Rejection when the fault is the request's.
func Issue(req Request, cfg AuthorityConfig, serial *big.Int, now time.Time) (Pending, error) {
	var p Pending
	if req.Policy != nil && !req.Policy.Equal(cfg.Policy) {
		return p, &Rejection{Fail: FailUnacceptedPolicy, Err: fmt.Errorf("tsp: policy %v is not served", req.Policy)}
	}
	if _, err := req.Marshal(); err != nil {
		return p, &Rejection{Fail: FailBadAlg, Err: err}
	}
	if serial == nil || serial.Sign() <= 0 || serial.BitLen() > 160 {
		return p, errors.New("tsp: issue: serial number out of range")
	}
	if len(cfg.Chain) == 0 {
		return p, errors.New("tsp: issue: no certificate")
	}
	p.signer = cfg.Chain[0]
	if err := authority(p.signer); err != nil {
		return p, fmt.Errorf("tsp: issue: %w", err)
	}
	if now.Before(p.signer.NotBefore) || now.After(p.signer.NotAfter) {
		return p, fmt.Errorf("tsp: issue: %w: not valid now", ErrSigner)
	}
	info := Info{
		Policy: cfg.Policy, Imprint: req.Imprint, Serial: serial, Time: now.UTC(),
		Accuracy: cfg.Accuracy, Ordering: cfg.Ordering, Nonce: req.Nonce,
	}
	var err error
	if p.info, err = info.Encode(); err != nil {
		return p, fmt.Errorf("tsp: issue: %w", err)
	}
	ids, err := certIDs(p.signer)
	if err != nil {
		return p, fmt.Errorf("tsp: issue: %w", err)
	}
	h := cms.DigestFor(cfg.Scheme)
	p.spec = cms.SignerSpec{
		ContentType: cms.OIDTSTInfo, ContentDigest: digest(h, p.info), Digest: h, Scheme: cfg.Scheme,
		Attributes: []cms.Attribute{cms.NewAttribute(cms.OIDSigningCertificateV2, ids)},
	}
	if p.message, err = p.spec.SignedAttributes(); err != nil {
		return p, fmt.Errorf("tsp: issue: %w", err)
	}
	if req.CertReq {
		p.certs = cfg.Chain
	}
	return p, nil
}

func digest(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// ToBeSigned is the message that the authority's key signs under the scheme.
func (p Pending) ToBeSigned() []byte { return append([]byte(nil), p.message...) }

// Finish gives the response in DER. A signature that does not verify with the
// authority's certificate is refused.
func (p Pending) Finish(sig []byte) ([]byte, error) {
	if p.signer == nil {
		return nil, errors.New("tsp: finish: nothing pending")
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDTSTInfo, Bytes: p.info}, p.certs,
		cms.SignerInfo{Spec: p.spec, Signature: sig, Certificate: p.signer})
	if err != nil {
		return nil, fmt.Errorf("tsp: finish: %w", err)
	}
	t, err := ParseToken(der)
	if err != nil {
		return nil, fmt.Errorf("tsp: finish: %w", err)
	}
	own := func(crypto.Hash) ([]byte, error) { return t.Info.Imprint.Digest, nil }
	if _, err := t.VerifySignature(own, p.signer); err != nil {
		return nil, fmt.Errorf("tsp: finish: own signature: %w", err)
	}
	return encodeResponse(Granted, nil, 0, der)
}
