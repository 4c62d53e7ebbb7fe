package nuget

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// bodyVersion is the version of body. A version that was released never changes.
const bodyVersion = 1

// body is what Attach needs, and what a countersignature is about.
type body struct {
	Directory []byte `cbor:"1,keyasint"` // SHA-256 of the archive's directory
	Existing  []byte `cbor:"2,keyasint"` // SHA-256 of the signature that is there, or empty
	Counter   []byte `cbor:"3,keyasint"` // the author's signature that is countersigned (DER), or empty
}

// maxCountersigned limits, in bytes, a signature that is countersigned: plans have it.
const maxCountersigned = 256 << 10

// factSigned is what is there already.
const factSigned = "signed"

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	if err := checkParams(params); err != nil {
		return nil, err
	}
	h, err := format.HashByName(params["digest"])
	if err != nil {
		return nil, err
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	digests, err := p.digests(ctx, h)
	if err != nil {
		return nil, err
	}
	b := body{Directory: sum(crypto.SHA256, []byte(p.z.RawDirectory())), Existing: []byte{}, Counter: []byte{}}
	signed := format.Fact{Name: factSigned, Value: "no"}
	if p.p7s != nil {
		b.Existing = sum(crypto.SHA256, p.p7s)
		signed.Value = "yes, which is replaced"
		if params["existing"] == "keep" {
			s, err := countersignable(p.p7s, params, h, digests[h])
			if err != nil {
				return nil, err
			}
			signed.Value, b.Counter = s.by(), p.p7s
		}
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("nuget: plan: %w", err)
	}
	facts := append(p.facts, signed)
	facts = append(facts, p.details(len(facts))...)
	out := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: a.Size(), Content: digests[h],
		Params: single.Options(params), Facts: facts, Body: enc,
	}
	return out, out.Check()
}

// countersignable reads an author's signature over the package that has this digest,
// and refuses all that a repository does not countersign.
func countersignable(p7s []byte, params format.Params, h crypto.Hash, digest []byte) (*signature, error) {
	if len(p7s) > maxCountersigned {
		return nil, fmt.Errorf("%w: by %d bytes: at most %d can be countersigned", ErrExisting, len(p7s), maxCountersigned)
	}
	s, err := parseSignature(p7s)
	if err != nil {
		return nil, err
	}
	switch {
	case params["type"] != repository || s.claims.kind != author || len(s.counters) > 0:
		return nil, fmt.Errorf("%w: only a repository adds a signature, one, to an author's (a signature can be replaced: option existing=replace)", ErrExisting)
	case s.hash != h:
		return nil, fmt.Errorf("%w: under another hash: option digest=%s", ErrExisting, format.HashName(s.hash))
	case !bytes.Equal(s.digest, digest):
		return nil, fmt.Errorf("%w: and it is not about this package: %w", ErrExisting, ErrDigest)
	}
	if err := s.signer.Verify(s.leaf, s.sd.ContentDigest); err != nil {
		return nil, fmt.Errorf("%w: and the signature is wrong: %w", ErrExisting, err)
	}
	return s, nil
}

// by says who made the author's signature, by the certificate in it.
func (s *signature) by() string {
	return "by the author: " + single.Text([]byte(authenticode.PlainText(s.leaf.Subject.String())), 1024)
}

// statement is what a plan leads to.
type statement struct {
	body    body
	counter *signature     // what is countersigned, nil for another signature
	text    []byte         // what a primary signature is over
	spec    cms.SignerSpec // of a primary signature
	hash    crypto.Hash    // of the signature
	message []byte
}

// statement derives what is signed, and refuses a plan that Plan does not make, and
// keys that NuGet does not take.
func (f Format) statement(p *format.Plan, id format.Identity, at time.Time) (*statement, error) {
	params, err := single.Frame(f, p, bodyVersion)
	if err != nil {
		return nil, err
	}
	if err := checkParams(params); err != nil {
		return nil, err
	}
	s := &statement{}
	if err := format.Decode(p.Body, &s.body); err != nil {
		return nil, fmt.Errorf("nuget: plan: %w", err)
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	counter := len(s.body.Counter) > 0
	switch n := len(s.body.Existing); {
	case params["digest"] != p.Digest:
		return nil, fmt.Errorf("nuget: %w: digest %s, option digest %s", single.ErrPlan, p.Digest, params["digest"])
	case len(s.body.Directory) != sha256.Size, n != 0 && n != sha256.Size:
		return nil, fmt.Errorf("nuget: %w: digests of directory and signature", single.ErrPlan)
	case counter != (n > 0 && params["existing"] == "keep"), counter && !bytes.Equal(s.body.Existing, sum(crypto.SHA256, s.body.Counter)):
		return nil, fmt.Errorf("nuget: %w: what is countersigned", single.ErrPlan)
	}
	if counter {
		if s.counter, err = countersignable(s.body.Counter, params, h, p.Content); err != nil {
			return nil, err
		}
	}
	if err := s.checkFacts(p.Facts); err != nil {
		return nil, err
	}
	if err := checkIdentity(id); err != nil {
		return nil, err
	}
	s.hash = id.Scheme.Hash()
	attributes, err := attributes(params, id.Chain[0], s.hash, at)
	if err != nil {
		return nil, err
	}
	if s.counter != nil {
		s.message, err = counterMessage(s.counter.signer.Signature, s.hash, attributes)
		return s, err
	}
	if s.text, err = text(h, p.Content); err != nil {
		return nil, err
	}
	s.spec = cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: sum(s.hash, s.text), Digest: s.hash, Scheme: id.Scheme, Attributes: attributes}
	if s.message, err = s.spec.SignedAttributes(); err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	return s, nil
}

func (s *statement) checkFacts(facts []format.Fact) error {
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return fmt.Errorf("nuget: %w: %w", single.ErrPlan, err)
	}
	n := len(facts)
	names := []string{"id", "version"}
	if n < 4 || n > 5 || facts[n-1].Name != factSigned || facts[n-2].Name != "entries" || n == 5 && facts[2].Name != "authors" {
		return fmt.Errorf("nuget: %w: facts", single.ErrPlan)
	}
	for i, name := range names {
		if facts[i].Name != name {
			return fmt.Errorf("nuget: %w: facts", single.ErrPlan)
		}
	}
	want := "no"
	if s.counter != nil {
		want = s.counter.by()
	} else if len(s.body.Existing) > 0 {
		want = "yes, which is replaced"
	}
	if facts[n-1].Value != want {
		return fmt.Errorf("nuget: %w: what is signed already", single.ErrPlan)
	}
	return nil
}

// checkIdentity refuses what no NuGet accepts: it knows RSA with PKCS #1 v1.5 alone.
func checkIdentity(id format.Identity) error {
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return fmt.Errorf("nuget: a certificate is needed: give the key a certificate chain")
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	if s, _ := rsaScheme(id.Scheme.Hash()); s == "" || s != id.Scheme || !id.Scheme.Fits(k) {
		return fmt.Errorf("nuget: NuGet does not verify %s by %s: want an RSA key and PKCS #1 v1.5", id.Scheme, k)
	}
	leaf := id.Chain[0]
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	if eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(id.Public) {
		return fmt.Errorf("nuget: certificate %q is not of the key that signs", leaf.Subject)
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("nuget: certificate %q is not for code signing", leaf.Subject)
	}
	return nil
}

// Attach puts the signature into the package, or the countersignature into the
// signature. Of the file it reads the directory, the manifest and the signature.
func (f Format) Attach(_ context.Context, a format.Artifact, plan *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	s, err := f.statement(plan, id, at)
	if err != nil {
		return nil, err
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("nuget: %d signatures: want one", len(sigs))
	}
	value, token := sigs[0].Value, sigs[0].Timestamp
	if err := sigalg.Verify(id.Public, id.Scheme, s.message, value); err != nil {
		return nil, fmt.Errorf("nuget: signature does not fit the plan: %w", err)
	}
	if len(token) > 0 {
		if err := authenticode.CheckToken(token, value); err != nil {
			return nil, fmt.Errorf("nuget: %w", err)
		}
	}
	if a.Size() != plan.Size {
		return nil, fmt.Errorf("nuget: %w: %d bytes: want %d", single.ErrChanged, a.Size(), plan.Size)
	}
	p, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("nuget: %w: %w", single.ErrChanged, err)
	}
	if !bytes.Equal(sum(crypto.SHA256, []byte(p.z.RawDirectory())), s.body.Directory) {
		return nil, fmt.Errorf("nuget: %w: its directory differs", single.ErrChanged)
	}
	if (p.p7s == nil) != (len(s.body.Existing) == 0) || p.p7s != nil && !bytes.Equal(sum(crypto.SHA256, p.p7s), s.body.Existing) {
		return nil, fmt.Errorf("nuget: %w: its signature differs", single.ErrChanged)
	}
	var der []byte
	if s.counter != nil {
		der, err = s.countersign(id, value, token)
	} else {
		info := cms.SignerInfo{Spec: s.spec, Signature: value, Certificate: id.Chain[0]}
		if len(token) > 0 {
			info.Unsigned = []cms.Attribute{cms.NewAttribute(cms.OIDTimeStampToken, token)}
		}
		der, err = cms.Encode(cms.Content{Type: cms.OIDData, Bytes: s.text}, id.Chain, info)
	}
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	return p.put(der)
}

// countersign adds the countersignature and its certificates to the signature.
func (s *statement) countersign(id format.Identity, value, token []byte) ([]byte, error) {
	info, err := encodeCounter(id.Chain[0], s.hash, s.message, value, token)
	if err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(s.body.Counter, 0, cms.NewAttribute(oidCountersignature, info))
	if err != nil {
		return nil, err
	}
	return cms.AddCertificates(der, id.Chain...)
}
