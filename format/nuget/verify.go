package nuget

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// signature is .signature.p7s, read and not judged.
type signature struct {
	sd       *cms.SignedData
	signer   *cms.ParsedSigner
	leaf     *x509.Certificate
	claims   *claims
	hash     crypto.Hash
	digest   []byte // of the package
	counters []*counter
}

// parse reads the signature; format.ErrUnsigned where there is none.
func (p *pkg) parse() (*signature, error) {
	if p.p7s == nil {
		return nil, fmt.Errorf("nuget: %w", format.ErrUnsigned)
	}
	return parseSignature(p.p7s)
}

func parseSignature(p7s []byte) (*signature, error) {
	sd, err := cms.Parse(p7s)
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	if !sd.Type.Equal(cms.OIDData) || sd.PKCS7 || sd.Content == nil || len(sd.Signers) != 1 {
		return nil, bad("want one signer, over data that is inside")
	}
	s := &signature{sd: sd, signer: sd.Signers[0]}
	if s.hash, s.digest, err = parseText(sd.Content); err != nil {
		return nil, err
	}
	if s.leaf = s.signer.Certificate(); s.leaf == nil {
		return nil, bad("the signer's certificate is not there")
	}
	if s.claims, err = readClaims(s.signer.Signed, s.leaf); err != nil {
		return nil, err
	}
	for _, a := range s.signer.Unsigned {
		if !a.Type.Equal(oidCountersignature) {
			continue
		}
		for _, v := range a.Values {
			c, err := parseCounter(v.FullBytes)
			if err != nil {
				return nil, err
			}
			s.counters = append(s.counters, c)
		}
	}
	if len(s.counters) > 1 || len(s.counters) == 1 && s.claims.kind != author {
		return nil, bad("countersignatures are one at most, and of an author's signature")
	}
	return s, nil
}

// info says what one signature states.
func (s *signature) info(i int, c *claims, scheme sigalg.Scheme, value []byte, leaf *x509.Certificate) format.SignatureInfo {
	info := format.SignatureInfo{
		Index: i, Label: c.kind, Scheme: scheme, Digest: format.HashName(s.hash), Content: s.digest, Value: value, Facts: c.facts,
		Covers: []string{"all files with their headers, and the directory"},
	}
	if i > 0 {
		info.Label, info.Covers = c.kind+" (countersignature)", []string{"the author's signature, and by it the package"}
	}
	info.Facts = append(info.Facts, format.Fact{Name: "signing time, as stated", Value: c.time.UTC().Format(time.RFC3339)})
	if leaf != nil {
		info.Signer, info.Subject, info.Issuer = leaf, leaf.Subject.String(), leaf.Issuer.String()
		info.Key, _ = cms.PublicKey(leaf)
	}
	return info
}

// Inspect lists signatures without judging them.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: p.facts, Signatures: []format.SignatureInfo{}}
	s, err := p.parse()
	if errors.Is(err, format.ErrUnsigned) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	note := func(info *format.SignatureInfo, unsigned []cms.Attribute) {
		for _, u := range unsigned {
			switch {
			case u.Type.Equal(cms.OIDTimeStampToken) && len(u.Values) == 1:
				if tok, err := tsp.ParseToken(u.Values[0].FullBytes); err == nil {
					info.Timestamp = u.Values[0].FullBytes
					info.Facts = append(info.Facts, format.Fact{Name: "timestamp, as stated", Value: tok.Info.Time.UTC().Format(time.RFC3339)})
				}
			case !u.Type.Equal(oidCountersignature):
				info.Open = append(info.Open, fmt.Sprintf("unsigned attribute %v", u.Type))
			}
		}
	}
	info := s.info(0, s.claims, s.signer.Scheme, s.signer.Signature, s.leaf)
	note(&info, s.signer.Unsigned)
	r.Signatures = append(r.Signatures, info)
	for _, c := range s.counters {
		leaf := c.certificate(s.sd.Certificates)
		said, err := readClaims(c.signed, leaf)
		if err != nil {
			return nil, err
		}
		info := s.info(1, said, c.scheme, c.value, leaf)
		note(&info, c.unsigned)
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}

// Verify accepts a when its signature and the countersignature, where there is one,
// are right.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("nuget: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errors.New("nuget: the signature stands in the package, not beside it")
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	s, err := p.parse()
	if err != nil {
		return nil, err
	}
	digests, err := p.digests(ctx, s.hash)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(digests[s.hash], s.digest) {
		return nil, fmt.Errorf("%w: computed %x, signed %x", ErrDigest, digests[s.hash], s.digest)
	}
	if err := s.signer.Verify(s.leaf, s.sd.ContentDigest); err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	if scheme, _ := rsaScheme(s.signer.Digest); scheme == "" || scheme != s.signer.Scheme {
		return nil, bad("scheme %s: NuGet knows RSA with PKCS #1 v1.5 alone", s.signer.Scheme)
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: p.facts}
	used := map[string]bool{}
	info := s.info(0, s.claims, s.signer.Scheme, s.signer.Signature, s.leaf)
	if err := s.judge(&info, s.leaf, s.signer.Unsigned, t, used); err != nil {
		return nil, err
	}
	info.Open = append(info.Open, "time of the entry of the signature")
	r.Signatures = append(r.Signatures, info)
	for _, c := range s.counters {
		leaf := c.certificate(append(slices.Clone(s.sd.Certificates), t.Intermediates...))
		if leaf == nil {
			return nil, bad("the countersigner's certificate is not there")
		}
		if err := c.verify(leaf, s.signer.Signature); err != nil {
			return nil, err
		}
		said, err := readClaims(c.signed, leaf)
		if err != nil {
			return nil, err
		}
		if said.kind != repository {
			return nil, bad("a countersignature that is no repository's")
		}
		info := s.info(1, said, c.scheme, c.value, leaf)
		if err := s.judge(&info, leaf, c.unsigned, t, used); err != nil {
			return nil, fmt.Errorf("countersignature: %w", err)
		}
		r.Signatures = append(r.Signatures, info)
	}
	first := &r.Signatures[0]
	n := 0
	for _, raw := range s.sd.RawCertificates {
		if !used[string(raw)] {
			n++
		}
	}
	if n > 0 {
		first.Open = append(first.Open, fmt.Sprintf("%d certificates in the signature that no chain needs", n))
	}
	if n := len(s.sd.RawCRLs); n > 0 {
		first.Open = append(first.Open, fmt.Sprintf("%d revocation lists in the signature", n))
	}
	return r, nil
}

// judge checks a signer's timestamp, chain and usage, and that nothing else is unsigned.
func (s *signature) judge(info *format.SignatureInfo, leaf *x509.Certificate, unsigned []cms.Attribute, t format.Trust, used map[string]bool) error {
	at := t.Now
	stamped := false
	for _, u := range unsigned {
		switch {
		case u.Type.Equal(oidCountersignature) && info.Index == 0: // judged by itself
		case !u.Type.Equal(cms.OIDTimeStampToken):
			return bad("unsigned attribute %v is not covered by anything", u.Type)
		case stamped || len(u.Values) != 1:
			return bad("more than one timestamp")
		default:
			stamped = true
			var err error
			if at, err = judgeTimestamp(info, u.Values[0].FullBytes, t); err != nil {
				return err
			}
			if slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidLifetime.Equal) {
				at = t.Now // a certificate for lifetime signing ends what it signed when it ends
			}
		}
	}
	if !stamped {
		info.Facts = append(info.Facts, format.Fact{Name: "timestamp", Value: "none: the signature ends with its certificate"})
	}
	chains, err := cms.VerifyChain(leaf, append(slices.Clone(s.sd.Certificates), t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	for _, chain := range chains {
		for _, c := range chain {
			used[string(c.Raw)] = true
		}
	}
	return nil
}

// oidLifetime is Microsoft's usage "lifetime signing", with which NuGet signs nothing.
var oidLifetime = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 13}

// judgeTimestamp returns the time at which to judge certificates.
func judgeTimestamp(info *format.SignatureInfo, der []byte, t format.Trust) (time.Time, error) {
	tok, err := tsp.ParseToken(der)
	if err != nil {
		return time.Time{}, fmt.Errorf("nuget: timestamp: %w", err)
	}
	info.Timestamp = der
	if t.TimestampRoots == nil {
		info.Open = append(info.Open, "timestamp: nobody is trusted to make timestamps, so it was not checked")
		return t.Now, nil
	}
	imprint := func(h crypto.Hash) ([]byte, error) {
		if _, err := authenticode.DigestOID(h); err != nil {
			return nil, err
		}
		return sum(h, info.Value), nil
	}
	if info.Time, err = tok.Verify(imprint, t.TimestampRoots, t.Intermediates...); err != nil {
		return time.Time{}, fmt.Errorf("nuget: timestamp: %w", err)
	}
	if c := tok.CMS.Signers[0].Certificate(t.Intermediates...); c != nil {
		info.TimeFrom = c.Subject.String()
	}
	info.Open = append(info.Open, "unsigned attributes and unused certificates inside the timestamp")
	return info.Time, nil
}

// Unstamped lists the signature if it has no timestamp. A countersignature gets its
// timestamp when it is made.
func (Format) Unstamped(_ context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errors.New("nuget: the signature stands in the package, not beside it")
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	s, err := p.parse()
	if err != nil {
		return nil, err
	}
	if _, stamped := s.signer.UnsignedAttribute(cms.OIDTimeStampToken); stamped {
		return nil, nil
	}
	return []format.StampTarget{{Message: s.signer.Signature}}, nil
}

// Stamp adds a timestamp to the signature.
func (f Format) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	targets, err := f.Unstamped(ctx, a, detached)
	if err != nil {
		return nil, err
	}
	if len(targets) == 0 || target.Index != 0 || !bytes.Equal(targets[0].Message, target.Message) {
		return nil, errors.New("nuget: no signature without a timestamp has the value that was stamped")
	}
	if err := authenticode.CheckToken(token, target.Message); err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(p.p7s, 0, cms.NewAttribute(cms.OIDTimeStampToken, token))
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	return p.put(der)
}
