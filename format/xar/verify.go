package xar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/sigalg"
)

func (x *archive) report() *format.Report {
	return &format.Report{Format: name, Size: x.size, Signatures: []format.SignatureInfo{}, Facts: []format.Fact{
		{Name: "files", Value: strconv.Itoa(len(x.files))}, {Name: "digest of the table", Value: x.style},
	}}
}

// info is what a signature says, unjudged.
func (x *archive) info(label string) format.SignatureInfo {
	i := format.SignatureInfo{Label: label, Digest: x.style, Covers: []string{"the table, and the data of " + strconv.Itoa(len(x.files)) + " files by their digests in it"}}
	if x.hash != 0 {
		i.Content = digest(x.hash, []byte(x.bare(nil)))
	}
	if n := x.weak(); n > 0 {
		i.Open = append(i.Open, strconv.Itoa(n)+" files are bound by SHA-1, with which two files of one digest can be made together")
	}
	if len(x.ticket) > 0 {
		i.Open = append(i.Open, "notary ticket behind the data")
	}
	return i
}

// Inspect reads the table and the signatures.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	x, err := parse(a)
	if err != nil {
		return nil, err
	}
	r := x.report()
	k, err := x.look(a)
	if err != nil {
		return nil, err
	}
	r.Facts = append(r.Facts, x.details(k, len(r.Facts))...)
	if x.cms != nil {
		b, err := x.read(a, *x.cms)
		if err != nil {
			return nil, err
		}
		sd, err := parseCMS(b)
		if err != nil {
			return nil, err
		}
		s := x.info("CMS")
		s.Scheme, s.Value = sd.Signers[0].Scheme, sd.Signers[0].Signature
		setSigner(&s, sd.Signers[0].Certificate())
		if tok, err := codesign.Timestamp(sd.Signers[0]); err == nil {
			s.Timestamp = tok
		}
		r.Signatures = append(r.Signatures, s)
	}
	if x.rsa != nil {
		s := x.info("RSA")
		if s.Value, err = x.read(a, *x.rsa); err != nil {
			return nil, err
		}
		if c, err := x509.ParseCertificate(x.certs[0]); err == nil {
			setSigner(&s, c)
		}
		s.Scheme, s.Index = x.scheme(), len(r.Signatures)
		r.Signatures = append(r.Signatures, s)
	}
	return r, nil
}

func setSigner(info *format.SignatureInfo, c *x509.Certificate) {
	if c != nil {
		info.Signer, info.Subject, info.Issuer = c, c.Subject.String(), c.Issuer.String()
		info.Key, _ = cms.PublicKey(c)
	}
}

// scheme is that of an RSA signature over the table.
func (x *archive) scheme() sigalg.Scheme {
	switch x.hash {
	case crypto.SHA256:
		return sigalg.RSAPKCS1SHA256
	case crypto.SHA512:
		return sigalg.RSAPKCS1SHA512
	}
	return ""
}

// Verify reads a once and accepts it when its CMS signature verifies, the RSA
// signature too where there is one or the key is of RSA, and all data is as the
// table says.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("xar: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	x, err := parse(a)
	if err != nil {
		return nil, err
	}
	if x.rsa == nil && x.cms == nil {
		return nil, ErrUnsigned
	}
	if x.hash == 0 {
		return nil, fmt.Errorf("%w: the table's digest is %.20q", ErrWeak, x.style)
	}
	if x.cms == nil {
		return nil, malformed("no CMS signature: the RSA signature alone is the form before macOS 10.7")
	}
	heap, err := x.read(a, extent{0, x.signatures})
	if err != nil {
		return nil, err
	}
	sum := digest(x.hash, x.packed)
	if !bytes.Equal(heap[:x.checksum.size], sum) {
		return nil, fmt.Errorf("%w: table", ErrDigest)
	}
	x.kept = &keep{maxKept, map[string][]byte{}}
	if _, err := x.scan(ctx, a, false); err != nil {
		return nil, err
	}
	sd, err := parseCMS(heap[x.cms.off:x.cms.end()])
	if err != nil {
		return nil, err
	}
	r := x.report()
	r.Facts = append(r.Facts, x.details(x.kept, len(r.Facts))...)
	info := x.info("CMS")
	info.Scheme, info.Value = sd.Signers[0].Scheme, sd.Signers[0].Signature
	err = codesign.Judge(sd, sum, &info, t, oidInstaller)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(info.Signer.Raw, x.certs[0]) {
		return nil, malformed("the table names another certificate than the CMS signature")
	}
	r.Signatures = append(r.Signatures, info)
	_, isRSA := info.Key.(*rsa.PublicKey)
	if x.rsa == nil {
		if isRSA {
			return nil, malformed("the RSA signature, which installers look at, is missing")
		}
		return r, nil
	}
	second := x.info("RSA")
	second.Index, second.Scheme, second.Value = 1, x.scheme(), heap[x.rsa.off:x.rsa.end()]
	if err := sigalg.Verify(info.Key, second.Scheme, x.packed, second.Value); err != nil {
		return nil, fmt.Errorf("xar: RSA signature: %w", err)
	}
	setSigner(&second, info.Signer)
	second.Time, second.TimeFrom = info.Time, info.TimeFrom
	r.Signatures = append(r.Signatures, second)
	return r, nil
}
