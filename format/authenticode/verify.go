package authenticode

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/tsp"
)

// Info is what a signature says, unjudged. The format adds which content it states
// and what it covers.
func (s *Signature) Info(i int) format.SignatureInfo {
	return format.SignatureInfo{
		Index: i, Label: s.Label, Scheme: s.Signer.Scheme, Value: s.Signer.Signature,
		Covers: []string{}, Facts: opusFacts(s.Signer),
	}
}

// Claim fills in who claims to have signed and when, unjudged, and what is open.
func (s *Signature) Claim(info *format.SignatureInfo) {
	if c := s.Signer.Certificate(); c != nil {
		setSigner(info, c)
	}
	if tok, err := s.Timestamp(); err == nil && tok != nil {
		info.Timestamp = tok
		if t, err := tsp.ParseToken(tok); err == nil {
			info.Facts = append(info.Facts, claimedTime(t))
		}
	}
	info.Open = append(info.Open, s.OpenAttributes()...)
}

func claimedTime(t *tsp.Token) format.Fact {
	return format.Fact{Name: "timestamp (not checked)", Value: t.Info.Time.UTC().Format(time.RFC3339)}
}

func setSigner(info *format.SignatureInfo, c *x509.Certificate) {
	info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
	info.Key, _ = cms.PublicKey(c)
}

// Verify judges the signature over its own content: attributes, signature,
// timestamp, chain and usage. It completes info.
func (s *Signature) Verify(info *format.SignatureInfo, t format.Trust) error {
	if open := s.OpenAttributes(); len(open) > 0 {
		return fmt.Errorf("authenticode: %s is not covered by anything", open[0])
	}
	leaf := s.Signer.Certificate(t.Intermediates...)
	if leaf == nil {
		return errors.New("authenticode: the signer's certificate is not there")
	}
	setSigner(info, leaf)
	if err := s.Signer.Verify(leaf, s.SD.ContentDigest); err != nil {
		return fmt.Errorf("authenticode: %w", err)
	}
	at, err := s.verifyTimestamp(info, t)
	if err != nil {
		return err
	}
	if at.IsZero() || slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidLifetime.Equal) {
		at = t.Now // a certificate for lifetime signing ends what it signed when it ends
	}
	helpers := append(slices.Clone(s.SD.Certificates), t.Intermediates...)
	chains, err := cms.VerifyChain(leaf, helpers, cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return fmt.Errorf("authenticode: %w", err)
	}
	info.Open = append(info.Open, unused(s.SD, chains)...)
	return nil
}

// verifyTimestamp returns the time that a timestamp proves, zero when there is
// none or nobody is trusted to stamp.
func (s *Signature) verifyTimestamp(info *format.SignatureInfo, t format.Trust) (time.Time, error) {
	der, err := s.Timestamp()
	if err != nil || der == nil {
		return time.Time{}, err
	}
	tok, err := tsp.ParseToken(der)
	if err != nil {
		return time.Time{}, fmt.Errorf("authenticode: timestamp: %w", err)
	}
	info.Timestamp = der
	if t.TimestampRoots == nil {
		info.Facts = append(info.Facts, claimedTime(tok))
		info.Open = append(info.Open, "timestamp: nobody is trusted to make timestamps, so it was not checked")
		return time.Time{}, nil
	}
	imprint := imprintOf(s.Signer.Signature)
	at, err := tok.Verify(imprint, t.TimestampRoots, t.Intermediates...)
	if err != nil {
		return time.Time{}, fmt.Errorf("authenticode: timestamp: %w", err)
	}
	authority, err := tok.VerifySignature(imprint, t.Intermediates...)
	if err != nil {
		return time.Time{}, fmt.Errorf("authenticode: timestamp: %w", err)
	}
	chains, err := cms.VerifyChain(authority, append(slices.Clone(tok.CMS.Certificates), t.Intermediates...),
		cms.ChainOptions{Roots: t.TimestampRoots, Usage: x509.ExtKeyUsageTimeStamping, At: at})
	if err != nil {
		return time.Time{}, fmt.Errorf("authenticode: timestamp: %w", err)
	}
	info.Time, info.TimeFrom = at, authority.Subject.String()
	for _, u := range unused(tok.CMS, chains) {
		info.Open = append(info.Open, "timestamp: "+u)
	}
	for _, a := range tok.CMS.Signers[0].Unsigned {
		info.Open = append(info.Open, fmt.Sprintf("timestamp: unsigned attribute %v", a.Type))
	}
	return at, nil
}

// unused names what is carried in a SignedData and was not needed to verify it:
// anybody could change that.
func unused(sd *cms.SignedData, chains [][]*x509.Certificate) []string {
	var out []string
	n := 0
	for _, raw := range sd.RawCertificates {
		if !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
			return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, raw) })
		}) {
			n++
		}
	}
	if n > 0 {
		out = append(out, fmt.Sprintf("%d certificates in the signature that no chain needs", n))
	}
	if n := len(sd.RawCRLs); n > 0 {
		out = append(out, fmt.Sprintf("%d revocation lists in the signature", n))
	}
	return out
}
