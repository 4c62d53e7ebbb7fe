package cmsfile

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/tsp"
)

// Verify checks t.Detached over a: every signer must be right. Without t.Detached,
// a may be a signature that holds its content itself.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	size := a.Size()
	d, err := parse(t.Detached)
	if len(t.Detached) == 0 {
		alone, bad := readSidecar(a)
		if bad != nil || alone.Content == nil {
			return nil, err
		}
		d, a = alone, format.BytesArtifact(a.Name(), alone.Content)
	} else if err != nil {
		return nil, err
	} else if d.Content != nil {
		if err := same(ctx, a, d.Content); err != nil {
			return nil, err
		}
	}
	if t.Roots == nil {
		return nil, errors.New("cmsfile: no root certificates are trusted")
	}
	var hashes []crypto.Hash
	for i, s := range d.Signers {
		if format.HashName(s.Digest) == "" || s.Scheme == "" {
			return nil, fmt.Errorf("cmsfile: signature %d: %w", i, cms.ErrAlgorithm)
		}
		if !slices.Contains(hashes, s.Digest) {
			hashes = append(hashes, s.Digest)
		}
	}
	sums, err := format.Sum(ctx, a, hashes...)
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	digest := func(h crypto.Hash) ([]byte, error) {
		if i := slices.Index(hashes, h); i >= 0 {
			return sums[i], nil
		}
		return nil, fmt.Errorf("%w: digest %v", cms.ErrAlgorithm, h)
	}
	r := &format.Report{Format: Name, Size: size}
	used := map[string]bool{}
	for i, s := range d.Signers {
		info, err := verifySigner(d, s, t, digest, used)
		if err != nil {
			return nil, fmt.Errorf("cmsfile: signature %d: %w", i, err)
		}
		info.Index = i
		r.Signatures = append(r.Signatures, *info)
	}
	for i, raw := range d.RawCertificates {
		if !used[string(raw)] {
			r.Signatures[0].Open = append(r.Signatures[0].Open, fmt.Sprintf("certificate %d in the signature file, which no chain uses", i))
		}
	}
	if len(d.RawCRLs) > 0 {
		r.Signatures[0].Open = append(r.Signatures[0].Open, "revocation lists in the signature file")
	}
	return r, nil
}

// same compares a file with what a signature holds.
func same(ctx context.Context, a format.Artifact, content []byte) error {
	other := errors.New("cmsfile: the signature holds another file")
	if a.Size() != int64(len(content)) {
		return other
	}
	buf := make([]byte, 256<<10)
	for off := int64(0); off < a.Size(); off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), a.Size()-off)]
		if err := format.ReadFull(a, b, off); err != nil {
			return fmt.Errorf("cmsfile: %w", err)
		}
		if !bytes.Equal(b, content[off:off+int64(len(b))]) {
			return other
		}
	}
	return nil
}

// verifySigner judges one signer and notes the certificates that it rests on.
func verifySigner(d *cms.SignedData, s *cms.ParsedSigner, t format.Trust, digest func(crypto.Hash) ([]byte, error), used map[string]bool) (*format.SignatureInfo, error) {
	cert := s.Certificate(t.Intermediates...)
	if cert == nil {
		return nil, fmt.Errorf("%w: it is not there", cms.ErrCertificate)
	}
	if err := s.Verify(cert, digest); err != nil {
		return nil, err
	}
	info, err := describe(s, cert)
	if err != nil {
		return nil, err
	}
	if info.Content, err = digest(s.Digest); err != nil {
		return nil, err
	}
	at := t.Now
	for _, u := range s.Unsigned {
		if !u.Type.Equal(cms.OIDTimeStampToken) || t.TimestampRoots == nil {
			info.Open = append(info.Open, "unsigned attribute "+attributeName(u.Type))
			continue
		}
		if !info.Time.IsZero() || len(u.Values) != 1 {
			return nil, errors.New("more than one timestamp")
		}
		token, err := tsp.ParseToken(u.Values[0].FullBytes)
		if err != nil {
			return nil, err
		}
		if info.Time, err = token.Verify(digestOf(s.Signature), t.TimestampRoots, t.Intermediates...); err != nil {
			return nil, err
		}
		info.Timestamp = u.Values[0].FullBytes
		if c := token.CMS.Signers[0].Certificate(t.Intermediates...); c != nil {
			info.TimeFrom = c.Subject.String()
		}
		info.Open = append(info.Open, "unsigned attributes and unused certificates inside the timestamp")
		at = info.Time
	}
	chains, err := cms.VerifyChain(cert, append(slices.Clone(d.Certificates), t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return nil, err
	}
	for _, chain := range chains {
		for _, c := range chain {
			used[string(c.Raw)] = true
		}
	}
	return info, nil
}

// describe fills in what the signer says of himself.
func describe(s *cms.ParsedSigner, cert *x509.Certificate) (*format.SignatureInfo, error) {
	info := &format.SignatureInfo{Scheme: s.Scheme, Digest: format.HashName(s.Digest), Value: s.Signature, Covers: []string{"every byte of the file"}}
	if cert != nil {
		info.Signer, info.Subject, info.Issuer = cert, cert.Subject.String(), cert.Issuer.String()
		if pub, err := cms.PublicKey(cert); err == nil {
			info.Key = pub
		}
	}
	at, ok, err := signedTime(s)
	if err != nil {
		return nil, err
	}
	if ok {
		info.Facts = append(info.Facts, format.Fact{Name: "signing time", Value: at.Format(time.RFC3339)})
	}
	return info, nil
}

// Inspect says what a .p7s contains; a file of another kind has no signature of
// this format in itself.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	d, err := readSidecar(a)
	if err != nil {
		return r, nil
	}
	kind := "detached CMS signature"
	if d.Content != nil {
		kind = "CMS signature with its content"
	}
	r.Facts = append(r.Facts, format.Fact{Name: "kind", Value: kind})
	for i, s := range d.Signers {
		info, err := describe(s, s.Certificate())
		if err != nil {
			return nil, err
		}
		info.Index = i
		if info.Content, err = s.MessageDigest(); err != nil {
			info.Content = nil // a signature without attributes states no digest
		}
		for _, u := range s.Unsigned {
			info.Open = append(info.Open, "unsigned attribute "+attributeName(u.Type))
			if u.Type.Equal(cms.OIDTimeStampToken) && len(u.Values) == 1 {
				if token, err := tsp.ParseToken(u.Values[0].FullBytes); err == nil {
					info.Timestamp = u.Values[0].FullBytes
					info.Facts = append(info.Facts, format.Fact{Name: "timestamp, as stated", Value: token.Info.Time.UTC().Format(time.RFC3339)})
				}
			}
		}
		r.Signatures = append(r.Signatures, *info)
	}
	return r, nil
}
