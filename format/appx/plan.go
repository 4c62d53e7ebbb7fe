package appx

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// factPublisher is the fact that Assemble compares with the certificate.
const factPublisher = "publisher"

// body is what is signed, and what Attach needs besides.
type body struct {
	Parts     [][]byte `cbor:"1,keyasint"` // AXPC, AXCD, AXCT, AXBM, and AXCI where there is a catalogue
	Bundle    bool     `cbor:"2,keyasint"`
	Directory []byte   `cbor:"3,keyasint"` // SHA-256 of the archive's directory as it is
	Existing  []byte   `cbor:"4,keyasint"` // SHA-256 of the signature that is there, or empty
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, h, err := authenticode.Given(f, params)
	if err != nil {
		return nil, err
	}
	p, err := open(a)
	if err != nil {
		return nil, err
	}
	sigs, err := authenticode.Signatures(p)
	signers, err := authenticode.ExistingFacts(sigs, err, params["existing"] == "keep")
	if err != nil {
		return nil, err
	}
	if _, err := parseName(p.publisher); err != nil {
		return nil, err
	}
	m, text, err := p.blockMap()
	if err != nil {
		return nil, err
	}
	if m.hash != h {
		return nil, badMap("Windows wants the signature under its hash: %s", hashHint(m.hash))
	}
	types, err := p.newTypes()
	if err != nil {
		return nil, err
	}
	if types != nil && p.der != nil && params["existing"] == "keep" {
		return nil, malformed("content types do not name the signature that is there: it cannot be kept")
	}
	parts, err := p.scan(ctx, m, text, types, []crypto.Hash{h})
	if err != nil {
		return nil, err
	}
	b := body{Parts: parts[h], Bundle: p.bundle, Directory: p.directoryDigest(), Existing: []byte{}}
	if p.der != nil {
		b.Existing = sum(crypto.SHA256, p.der)
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("appx: plan: %w", err)
	}
	facts := append(p.facts, signers...)
	facts = append(facts, p.details(len(facts))...)
	out := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: a.Size(), Content: sum(h, compose(b.Parts)),
		Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return out, out.Check()
}

func (p *pkg) directoryDigest() []byte {
	d := sha256.Sum256([]byte(p.z.RawDirectory()))
	return d[:]
}

// statement derives what is signed, and refuses a plan that Plan does not make, and
// a certificate of somebody else than the publisher.
func (f Format) statement(p *format.Plan, id format.Identity) (*body, *authenticode.Statement, error) {
	var b body
	params, h, err := authenticode.ReadPlan(f, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *authenticode.Statement, error) {
		return nil, nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	if n := len(b.Parts); n != len(partNames) && n != len(partNames)-1 {
		return bad("%d digests", n)
	}
	for _, d := range b.Parts {
		if len(d) != h.Size() {
			return bad("a digest of %d bytes", len(d))
		}
	}
	switch {
	case !bytes.Equal(p.Content, sum(h, compose(b.Parts))):
		return bad("content is not the digest of the row")
	case len(b.Directory) != sha256.Size:
		return bad("digest of the directory has %d bytes", len(b.Directory))
	case len(b.Existing) != 0 && len(b.Existing) != sha256.Size:
		return bad("digest of the signature has %d bytes", len(b.Existing))
	}
	publisher, err := checkFacts(p.Facts, &b, params["existing"] == "replace")
	if err != nil {
		return nil, nil, err
	}
	if err := authenticode.CheckIdentity(id, false); err != nil {
		return nil, nil, err
	}
	if err := checkPublisher(publisher, id.Chain[0]); err != nil {
		return nil, nil, err
	}
	class := classPackage
	if b.Bundle {
		class = classBundle
	}
	content, err := authenticode.Indirect{
		Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(sipVersion, class), Hash: h, Digest: compose(b.Parts), Composed: true,
	}.Encode()
	if err != nil {
		return nil, nil, err
	}
	return &b, &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: params}, nil
}

// checkFacts returns the publisher.
func checkFacts(facts []format.Fact, b *body, replace bool) (string, error) {
	bad := func(why string) error { return fmt.Errorf("%w: facts: %s", authenticode.ErrPlan, why) }
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return "", bad(err.Error())
	}
	at := slices.IndexFunc(facts, func(f format.Fact) bool { return f.Name == authenticode.FactSignatures })
	if at < 4 {
		return "", bad("some are missing")
	}
	kind := "package"
	if b.Bundle {
		kind = "bundle"
	}
	names := []string{"kind", "name", "version", factPublisher}
	publisher, integrity := "", false
	for i, f := range facts[:at] {
		switch {
		case i < len(names) && f.Name != names[i], i >= len(names) && slices.Contains(names, f.Name):
			return "", bad("one is out of order")
		case f.Name == "kind" && f.Value != kind:
			return "", bad("kind is not the one that is signed")
		case f.Name == factPublisher:
			publisher = f.Value
		case f.Name == "code-integrity":
			integrity = true
		}
	}
	if integrity != (len(b.Parts) == len(partNames)) {
		return "", bad("the catalogue of code")
	}
	return publisher, authenticode.CheckExisting(facts[at:], len(b.Existing) > 0, replace)
}

// Attach puts the signature into the archive, reading its directory and what is no
// content.
func (f Format) Attach(ctx context.Context, a format.Artifact, plan *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, s, err := f.statement(plan, id)
	if err != nil {
		return nil, err
	}
	der, err := s.Seal(id, sigs)
	if err != nil {
		return nil, err
	}
	if a.Size() != plan.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", authenticode.ErrChanged, a.Size(), plan.Size)
	}
	p, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authenticode.ErrChanged, err)
	}
	if p.bundle != b.Bundle || !bytes.Equal(p.directoryDigest(), b.Directory) {
		return nil, fmt.Errorf("%w: its directory differs", authenticode.ErrChanged)
	}
	if (p.der == nil) != (len(b.Existing) == 0) || p.der != nil && !bytes.Equal(sum(crypto.SHA256, p.der), b.Existing) {
		return nil, fmt.Errorf("%w: its signature differs", authenticode.ErrChanged)
	}
	types, err := p.newTypes()
	if err != nil {
		return nil, err
	}
	_, end, err := p.unsigned(types)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(plan.Digest)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(sum(h, end), b.Parts[1]) {
		return nil, fmt.Errorf("%w: its end differs", authenticode.ErrChanged)
	}
	if der, err = authenticode.Join(p.der, der, s.Params, cms.OIDSpcIndirectData); err != nil {
		return nil, err
	}
	patch, _, err := p.edit(types, der)
	return patch, err
}
