package kmod

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	openName = "issuer and serial number, or key identifier, by which the signature names its certificate"
	openCert = "certificates in the signature"
)

// Verify checks the module's signature. A certificate that the signature names
// may stand among t.Intermediates, and then must lead to a root; otherwise a key
// of t.Keys must have made it.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	m, err := open(a)
	if err != nil {
		return nil, err
	}
	if m.tail == nil {
		return nil, fmt.Errorf("kmod: %w", format.ErrUnsigned)
	}
	s, err := m.signature()
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, prefix{a, m.end}, s.signer.Digest)
	if err != nil {
		return nil, fmt.Errorf("kmod: %w", err)
	}
	info := s.describe()
	info.Content = sums[0]
	info.Covers = []string{"every byte of the module"}
	tbs := format.ToBeSigned{Scheme: s.signer.Scheme, Digest: sums[0]}
	if err := s.judge(tbs, t, &info); err != nil {
		return nil, err
	}
	facts, err := m.facts(a)
	if err != nil {
		return nil, err
	}
	facts = facts[:len(facts)-1]
	details, err := m.details(a, len(facts))
	if err != nil {
		return nil, err
	}
	return &format.Report{Format: Name, Size: a.Size(), Facts: append(facts, details...), Signatures: []format.SignatureInfo{info}}, nil
}

// judge finds who made the signature. A certificate that is known must be right.
func (s *signature) judge(tbs format.ToBeSigned, t format.Trust, info *format.SignatureInfo) error {
	if cert := s.signer.Certificate(t.Intermediates...); cert != nil && t.Roots != nil {
		pub, err := cms.PublicKey(cert)
		if err != nil {
			return fmt.Errorf("kmod: %w", err)
		}
		if err := tbs.Verify(pub, s.signer.Signature); err != nil {
			return fmt.Errorf("kmod: %w", err)
		}
		if _, err := cms.VerifyChain(cert, append(slices.Clone(s.data.Certificates), t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: t.Now}); err == nil {
			info.Signer, info.Subject, info.Issuer, info.Key = cert, cert.Subject.String(), cert.Issuer.String(), pub
			return nil
		} else if len(t.Keys) == 0 {
			return fmt.Errorf("kmod: %w", err)
		}
	}
	pub, _, err := single.Key(Name, t.Keys, func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
		if !tbs.Scheme.Fits(k) {
			return tbs, nil, errors.New("another kind of key")
		}
		return tbs, s.signer.Signature, nil
	})
	if err != nil {
		return err
	}
	info.Key = pub
	info.Open = append(info.Open, openName)
	return nil
}

// Inspect says what the module is and what its signature says of itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	m, err := open(a)
	if err != nil {
		return nil, err
	}
	if r.Facts, err = m.facts(a); err != nil {
		return nil, err
	}
	if m.tail != nil {
		r.Facts = r.Facts[:len(r.Facts)-1]
	}
	details, err := m.details(a, len(r.Facts)+1)
	if err != nil {
		return nil, err
	}
	r.Facts = append(r.Facts, details...)
	if m.tail == nil {
		return r, nil
	}
	s, err := m.signature()
	if err != nil {
		r.Facts = append(r.Facts, format.Fact{Name: "signature", Value: single.Text([]byte(err.Error()), maxFact)})
		return r, nil
	}
	r.Signatures = append(r.Signatures, s.describe())
	return r, nil
}

// signature is a parsed one that the kernel would look at.
type signature struct {
	data   *cms.SignedData
	signer *cms.ParsedSigner
}

// signature parses the CMS structure and refuses any encoding of its fields but
// one: nothing of it is signed, and nothing may hide in it.
func (m *module) signature() (*signature, error) {
	d, err := single.ParseCMS(Name, m.cms)
	if err != nil {
		return nil, err
	}
	s := d.Signers[0]
	switch {
	case len(d.Signers) != 1:
		return nil, fmt.Errorf("%w: %d signers: want one", ErrMalformed, len(d.Signers))
	case d.Content != nil:
		return nil, fmt.Errorf("%w: it carries content", ErrMalformed)
	case s.RawSignedAttrs != nil || len(s.Unsigned) > 0:
		return nil, fmt.Errorf("%w: it has attributes", ErrMalformed)
	case len(d.RawCRLs) > 0 || len(d.Certificates) != len(d.RawCertificates):
		return nil, fmt.Errorf("%w: it has revocation lists or unreadable certificates", ErrMalformed)
	case format.HashName(s.Digest) == "" || s.Scheme.Hash() != s.Digest:
		return nil, fmt.Errorf("kmod: %w: digest %v", cms.ErrAlgorithm, s.Digest)
	}
	if err := acceptable(s.Scheme); err != nil {
		return nil, err
	}
	for _, null := range []bool{false, true} {
		again, err := encode(d, s, null)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(again, m.cms) {
			return &signature{d, s}, nil
		}
	}
	return nil, fmt.Errorf("%w: not in the one encoding of its fields", ErrMalformed)
}

func (s *signature) describe() format.SignatureInfo {
	info := single.DescribeCMS(s.signer, s.signer.Certificate())
	info.Facts = append(info.Facts, format.Fact{Name: "certificate", Value: s.name()})
	if len(s.data.RawCertificates) > 0 {
		info.Open = append(info.Open, openCert)
	}
	return info
}

// name is how the signature calls its certificate.
func (s *signature) name() string {
	if id := s.signer.SubjectKeyID; len(id) > 0 {
		return fmt.Sprintf("key identifier %x", id)
	}
	var issuer pkix.RDNSequence
	if rest, err := asn1.Unmarshal(s.signer.Issuer, &issuer); err != nil || len(rest) > 0 {
		return fmt.Sprintf("serial number %x of an issuer whose name is not readable", s.signer.Serial)
	}
	return single.Text(fmt.Appendf(nil, "serial number %x of %s", s.signer.Serial, issuer), maxFact)
}

// signer is name for a plan's fact, whatever the signature is.
func (m *module) signer() string {
	s, err := m.signature()
	if err != nil {
		return "not readable"
	}
	return s.name()
}
