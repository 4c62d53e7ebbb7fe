// Package cmsfile is the format "cms": a CMS signature (RFC 5652) over any file, in
// a file of its own as `openssl cms -verify -binary` takes it: detached (".p7s"), or
// with the file inside (".p7m").
//
// A plan is the digest of the file. Signed are the attributes contentType
// (id-data), messageDigest, algorithm protection (RFC 6211) and, if asked for,
// signingTime: the keeper's clock, never the requester's.
//
// Invariants:
//
//  1. The file is read once, in constant memory, for a plan and for verifying.
//  2. Assemble signs signed attributes only, never content and never a digest
//     alone; the plan has no body that could say anything else.
//  3. Verify wants every signer of the .p7s to be right: certificate for code
//     signing under a root, content, algorithms. One without signers is refused,
//     and one whose content is not, byte for byte, the file that it stands beside.
//  4. Timestamps count only under Trust.TimestampRoots; then one that is wrong
//     makes the signature wrong.
//
// A caller may not conclude that the file is of any kind: "cms" signs anything,
// which is why Detect never proposes it for a file that is not a .p7s itself.
// The name and size of the file are not signed.
package cmsfile

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

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/tsp"
)

// Name is the format's word in charters and plans.
const Name = "cms"

// Suffix is that of the detached signature; SuffixAttached that of one with the file.
const (
	Suffix         = ".p7s"
	SuffixAttached = ".p7m"
)

// MaxAttached limits, in bytes, a file inside its signature: it is held in memory.
const MaxAttached = 16 << 20

// Limits of what is read as a signature without, and with, the file.
const (
	maxSidecar  = 4 << 20
	maxEnvelope = MaxAttached + maxSidecar
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Stamper too.
func New() format.Format { return Format{} }

var _ format.Stamper = Format{}

// Name is "cms".
func (Format) Name() string { return Name }

// Suffixes of signature files: format.Detached.
func (Format) Suffixes() []string { return []string{Suffix} }

// Options are the digest, whether the time of signing is signed, and where the
// file is.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the file; it must be the signing scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "signing-time", Help: "sign the keeper's time along", Values: []string{"false", "true"}, Default: "false"},
		{Name: "content", Help: "sign beside the file, or with the file inside the signature", Values: []string{detached, attached}, Default: detached},
	}
}

// The values of the option "content".
const (
	detached = "detached"
	attached = "attached"
)

// Detect is true for a .p7s or .p7m, which can be inspected, and for nothing
// else: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	var head [1]byte
	if format.ReadFull(a, head[:], 0) != nil || head[0] != 0x30 {
		return false
	}
	_, err := readSidecar(a)
	return err == nil
}

// Plan digests a.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	sums, err := format.Sum(ctx, a, h)
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	plan := &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sums[0],
		Params: []format.Fact{{Name: "digest", Value: p["digest"]}, {Name: "signing-time", Value: p["signing-time"]}},
		Body:   []byte{},
	}
	if p["content"] == attached {
		if a.Size() > MaxAttached {
			return nil, fmt.Errorf("cmsfile: %d bytes are too many to stand inside the signature: at most %d", a.Size(), MaxAttached)
		}
		// Version 2 has the option; plans without it stay as they were.
		plan.Version, plan.Params = 2, append([]format.Fact{{Name: "content", Value: attached}}, plan.Params...)
	}
	return plan, nil
}

// spec derives what is signed, and refuses a plan that Plan does not make.
func (f Format) spec(p *format.Plan, id format.Identity, at time.Time) (cms.SignerSpec, error) {
	var none cms.SignerSpec
	if err := p.Check(); err != nil {
		return none, err
	}
	params := p.Params
	if p.Version == 2 && len(params) == 3 && params[0] == (format.Fact{Name: "content", Value: attached}) && p.Size <= MaxAttached {
		params = params[1:]
	} else if p.Version == 2 {
		return none, errors.New("cmsfile: plan's options are not this format's")
	}
	switch {
	case p.Format != Name || p.Version != 1 && p.Version != 2:
		return none, fmt.Errorf("cmsfile: plan of format %.40q, version %d", p.Format, p.Version)
	case len(p.Body) != 0 || len(p.Facts) != 0:
		return none, errors.New("cmsfile: plan with a body or facts: there are none")
	case len(params) != 2 || params[0].Name != "digest" || params[1].Name != "signing-time":
		return none, errors.New("cmsfile: plan's options are not this format's")
	case params[0].Value != p.Digest:
		return none, errors.New("cmsfile: plan's digest is not the one of its options")
	case len(id.Chain) == 0 || slices.Contains(id.Chain, nil):
		return none, errors.New("cmsfile: the key has no certificate")
	}
	if _, err := (format.Params{"signing-time": params[1].Value}).Check(f); err != nil {
		return none, err
	}
	if err := ownCertificate(id); err != nil {
		return none, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return none, err
	}
	s := cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: p.Content, Digest: h, Scheme: id.Scheme, AlgorithmProtection: true}
	if params[1].Value == "true" {
		t, err := signingTime(at)
		if err != nil {
			return none, err
		}
		s.Attributes = append(s.Attributes, cms.NewAttribute(cms.OIDSigningTime, t))
	}
	return s, nil
}

// ownCertificate refuses a certificate of another key than the one that signs.
func ownCertificate(id format.Identity) error {
	pub, err := cms.PublicKey(id.Chain[0])
	if err != nil {
		return fmt.Errorf("cmsfile: %w", err)
	}
	if k, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(id.Public) {
		return fmt.Errorf("cmsfile: certificate %q is not of the key that signs", id.Chain[0].Subject)
	}
	return nil
}

// signingTime encodes Time (RFC 5652 section 11.3): UTCTime through 2049.
func signingTime(at time.Time) ([]byte, error) {
	at = at.UTC().Truncate(time.Second)
	if at.Year() < 2000 || at.Year() > 9999 {
		return nil, fmt.Errorf("cmsfile: signing time %s: want the years 2000 to 9999", at.Format(time.RFC3339))
	}
	var b cryptobyte.Builder
	if at.Year() < 2050 {
		b.AddASN1UTCTime(at)
	} else {
		b.AddASN1GeneralizedTime(at)
	}
	return b.Bytes()
}

// MaxKeys makes the format hybrid: a signer for each key.
func (Format) MaxKeys() int { return format.MaxKeys }

// Assemble returns the signed attributes for each key, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	signers := id.Signers()
	if err := format.CheckKeys(f, len(signers)); err != nil {
		return nil, err
	}
	var out []format.ToBeSigned
	for i, id := range signers {
		s, err := f.spec(p, id, at)
		if err != nil {
			return nil, err
		}
		// Verify wants that usage; no signature is made that it refuses.
		if leaf := id.Chain[0]; !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
			return nil, fmt.Errorf("cmsfile: certificate %q is not for code signing", leaf.Subject)
		}
		m, err := s.SignedAttributes()
		if errors.Is(err, cms.ErrAlgorithm) {
			return nil, fmt.Errorf("cmsfile: plan has digest %s: scheme %s wants digest=%s: %w", p.Digest, id.Scheme, format.HashName(cms.DigestFor(id.Scheme)), err)
		}
		if err != nil {
			return nil, fmt.Errorf("cmsfile: %w", err)
		}
		out = append(out, format.ToBeSigned{Scheme: id.Scheme, Message: m, Key: i})
	}
	switch len(done) {
	case 0:
		return out, nil
	case len(out):
		return nil, nil
	}
	return nil, fmt.Errorf("cmsfile: %d signatures: %d are wanted, in one round", len(done), len(out))
}

// Attach makes the .p7s, or reads the file into a .p7m. It refuses a file of another
// size than the plan's, one of another digest where it reads it, and signatures that
// the identity did not make over the plan.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	tbs, err := f.Assemble(p, id, at, nil)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("cmsfile: %s has %d bytes: the plan is for %d", a.Name(), a.Size(), p.Size)
	}
	if len(sigs) != len(tbs) {
		return nil, fmt.Errorf("cmsfile: %d signatures: %d are wanted", len(sigs), len(tbs))
	}
	var certs []*x509.Certificate
	var infos []cms.SignerInfo
	for i, id := range id.Signers() {
		if err := tbs[i].Verify(id.Public, sigs[i].Value); err != nil {
			return nil, fmt.Errorf("cmsfile: signature does not fit plan and key: %w", err)
		}
		s, err := f.spec(p, id, at)
		if err != nil {
			return nil, err
		}
		for _, c := range id.Chain {
			if !slices.ContainsFunc(certs, c.Equal) {
				certs = append(certs, c)
			}
		}
		infos = append(infos, cms.SignerInfo{Spec: s, Signature: sigs[i].Value, Certificate: id.Chain[0]})
	}
	c := cms.Content{Type: cms.OIDData}
	if p.Version == 2 {
		// Encode compares its digest with the one that was signed.
		c.Bytes = make([]byte, a.Size())
		if err := format.ReadFull(a, c.Bytes, 0); err != nil {
			return nil, fmt.Errorf("cmsfile: %w", err)
		}
	}
	der, err := cms.Encode(c, certs, infos...)
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	for _, s := range sigs {
		if s.Timestamp == nil {
			continue
		}
		if der, err = f.addStamp(der, s); err != nil {
			return nil, err
		}
	}
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: suffix(p.Version == 2), Data: der}}, nil
}

func suffix(attached bool) string {
	if attached {
		return SuffixAttached
	}
	return Suffix
}

// addStamp adds a signature's token to the signer whose value it is: CMS orders
// its signers by their encoding, not by ours.
func (Format) addStamp(der []byte, sig format.Signature) ([]byte, error) {
	d, err := parse(der)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.Signers, func(s *cms.ParsedSigner) bool { return bytes.Equal(s.Signature, sig.Value) })
	if i < 0 {
		return nil, errors.New("cmsfile: the signature is not in the signature file")
	}
	return addToken(der, i, sig.Value, sig.Timestamp)
}

// addToken adds a token that is over this signature value.
func addToken(der []byte, signer int, value, token []byte) ([]byte, error) {
	t, err := tsp.ParseToken(token)
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	if _, err := t.VerifySignature(digestOf(value)); err != nil {
		return nil, fmt.Errorf("cmsfile: timestamp: %w", err)
	}
	der, err = cms.AddUnsigned(der, signer, cms.NewAttribute(cms.OIDTimeStampToken, token))
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	return der, nil
}

// digestOf digests b under the hash that is asked for.
func digestOf(b []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if !h.Available() {
			return nil, fmt.Errorf("cmsfile: hash %v is not available", h)
		}
		x := h.New()
		x.Write(b)
		return x.Sum(nil), nil
	}
}

// Unstamped returns the signatures of a .p7s without a timestamp.
func (Format) Unstamped(_ context.Context, _ format.Artifact, detached []byte) ([]format.StampTarget, error) {
	d, err := parse(detached)
	if err != nil {
		return nil, err
	}
	var out []format.StampTarget
	for i, s := range d.Signers {
		if _, ok := s.UnsignedAttribute(cms.OIDTimeStampToken); !ok {
			out = append(out, format.StampTarget{Index: i, Message: s.Signature})
		}
	}
	return out, nil
}

// Stamp adds the token: the patch is the new .p7s.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	d, err := parse(detached)
	if err != nil {
		return nil, err
	}
	if target.Index < 0 || target.Index >= len(d.Signers) {
		return nil, fmt.Errorf("cmsfile: signature %d of %d", target.Index, len(d.Signers))
	}
	s := d.Signers[target.Index]
	if _, ok := s.UnsignedAttribute(cms.OIDTimeStampToken); ok {
		return nil, fmt.Errorf("cmsfile: signature %d has a timestamp", target.Index)
	}
	der, err := addToken(detached, target.Index, s.Signature, token)
	if err != nil {
		return nil, err
	}
	return &format.Patch{Size: a.Size(), Sidecar: &format.Sidecar{Suffix: suffix(d.Content != nil), Data: der}}, nil
}

// parse reads a signature over data, with or without it.
func parse(der []byte) (*cms.SignedData, error) {
	switch {
	case len(der) == 0:
		return nil, fmt.Errorf("cmsfile: no signature file (%s or %s) was given: %w", Suffix, SuffixAttached, format.ErrUnsigned)
	case len(der) > maxEnvelope:
		return nil, fmt.Errorf("cmsfile: signature of %d bytes: at most %d", len(der), maxEnvelope)
	}
	d, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("cmsfile: %w", err)
	}
	switch {
	case !d.Type.Equal(cms.OIDData):
		return nil, fmt.Errorf("cmsfile: content type %v: want data", d.Type)
	case len(der)-len(d.Content) > maxSidecar || len(d.Content) > MaxAttached:
		return nil, fmt.Errorf("cmsfile: signature of %d bytes around content of %d", len(der)-len(d.Content), len(d.Content))
	case len(d.Signers) == 0:
		return nil, errors.New("cmsfile: nobody signed")
	}
	return d, nil
}

func readSidecar(a format.Artifact) (*cms.SignedData, error) {
	if a.Size() > maxEnvelope {
		return nil, fmt.Errorf("cmsfile: %d bytes are too many for a signature", a.Size())
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, err
	}
	return parse(b)
}

// signedTime reads signingTime, if it is there.
func signedTime(s *cms.ParsedSigner) (time.Time, bool, error) {
	a, ok := s.Attribute(cms.OIDSigningTime)
	if !ok {
		return time.Time{}, false, nil
	}
	bad := fmt.Errorf("cmsfile: signing time is not acceptable")
	if len(a.Values) != 1 {
		return time.Time{}, false, bad
	}
	v := cryptobyte.String(a.Values[0].FullBytes)
	var t time.Time
	switch {
	case v.PeekASN1Tag(cbasn1.UTCTime) && v.ReadASN1UTCTime(&t) && v.Empty(),
		v.PeekASN1Tag(cbasn1.GeneralizedTime) && v.ReadASN1GeneralizedTime(&t) && v.Empty():
		return t.UTC(), true, nil
	}
	return time.Time{}, false, bad
}

func attributeName(oid asn1.ObjectIdentifier) string {
	switch {
	case oid.Equal(cms.OIDTimeStampToken):
		return "timestamp"
	case oid.Equal(cms.OIDNestedSignature):
		return "nested signature"
	}
	return oid.String()
}
