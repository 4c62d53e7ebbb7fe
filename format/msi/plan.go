package msi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of a file that Attach needs besides the digest.
type body struct {
	Structure []byte `cbor:"1,keyasint"` // SHA-256 of header, tables and directory
	Existing  []byte `cbor:"2,keyasint"` // SHA-256 of the signature that was there, or empty
	Extended  []byte `cbor:"3,keyasint"` // MsiDigitalSignatureEx as it will be, or empty
	Sector    int64  `cbor:"4,keyasint"` // size of a sector
	Sectors   int64  `cbor:"5,keyasint"` // of the file, the header's among them
}

// Plan reads every stream of a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, h, err := authenticode.Given(f, params)
	if err != nil {
		return nil, err
	}
	m, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	sigs, err := authenticode.Signatures(m)
	signers, err := authenticode.ExistingFacts(sigs, err, params["existing"] == "keep")
	if err != nil {
		return nil, err
	}
	if m.extended, err = m.wantExtended(params, h); err != nil {
		return nil, err
	}
	digests, err := m.digests(ctx, []crypto.Hash{h}, m.extended)
	if err != nil {
		return nil, err
	}
	b := body{Structure: m.structureDigest(), Existing: []byte{}, Extended: append([]byte{}, m.extended...)}
	b.Sector = int64(m.c.SectorSize())
	b.Sectors = a.Size() / b.Sector
	if m.der != nil {
		b.Existing = sum(m.der)
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("msi: plan: %w", err)
	}
	facts := append(m.facts, signers...)
	facts = append(facts, m.details(ctx, len(facts))...)
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: a.Size(), Content: digests[h],
		Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return p, p.Check()
}

// wantExtended is MsiDigitalSignatureEx as it will be. Signatures that are kept
// were made with it or without it, and under one hash.
func (m *installer) wantExtended(params format.Params, h crypto.Hash) ([]byte, error) {
	kept := m.der != nil && params["existing"] == "keep"
	want := params["extended"] == "true" || params["extended"] == "auto" && (!kept || m.extended != nil)
	if kept && want != (m.extended != nil) {
		return nil, fmt.Errorf("msi: option extended=%s would break the signature that is kept: it was made with extended=%t", params["extended"], m.extended != nil)
	}
	if !want {
		return nil, nil
	}
	pre := m.prehash(h)
	if kept && !bytes.Equal(pre, m.extended) {
		return nil, fmt.Errorf("%w: it is not the %s of names, sizes and times (a signature beside another needs the same digest)", ErrExtended, params["digest"])
	}
	return pre, nil
}

func sum(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

// structureDigest is the SHA-256 of all that decides where streams are.
func (m *installer) structureDigest() []byte {
	if m.structure == nil {
		x := sha256.New()
		for _, part := range m.c.Structure() {
			fmt.Fprintf(x, "%d:", len(part))
			x.Write(part)
		}
		m.structure = x.Sum(nil)
	}
	return m.structure
}

// statement derives what is signed, and refuses a plan that Plan does not make.
func (f Format) statement(p *format.Plan) (*body, *authenticode.Statement, error) {
	var b body
	params, h, err := authenticode.ReadPlan(f, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *authenticode.Statement, error) {
		return nil, nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	switch {
	case b.Sector != 512 && b.Sector != 4096, b.Sectors < 2 || b.Sectors > cfb.MaxSectors+1, b.Sector*b.Sectors != p.Size:
		return bad("%d sectors of %d bytes in a file of %d", b.Sectors, b.Sector, p.Size)
	case len(b.Structure) != sha256.Size:
		return bad("digest of the tables has %d bytes", len(b.Structure))
	case len(b.Existing) != 0 && len(b.Existing) != sha256.Size:
		return bad("digest of the signature has %d bytes", len(b.Existing))
	case len(b.Extended) != 0 && len(b.Extended) != h.Size():
		return bad("MsiDigitalSignatureEx has %d bytes", len(b.Extended))
	case params["extended"] == "true" && len(b.Extended) == 0, params["extended"] == "false" && len(b.Extended) != 0,
		params["extended"] == "auto" && len(b.Extended) == 0 && (len(b.Existing) == 0 || params["existing"] != "keep"):
		return bad("option extended=%s, MsiDigitalSignatureEx of %d bytes", params["extended"], len(b.Extended))
	}
	if err := checkFacts(p.Facts, len(b.Existing) > 0, params["existing"] == "replace"); err != nil {
		return nil, nil, err
	}
	content, err := authenticode.Indirect{
		Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(1, sipClass), Hash: h, Digest: p.Content,
	}.Encode()
	if err != nil {
		return nil, nil, err
	}
	return &b, &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: params}, nil
}

// Attach puts the signature into the file. Of the file it reads the tables, the
// streams of signatures and those that facts come from.
func (f Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, s, err := f.statement(p)
	if err != nil {
		return nil, err
	}
	der, err := s.Seal(id, sigs)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", authenticode.ErrChanged, a.Size(), p.Size)
	}
	m, err := open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authenticode.ErrChanged, err)
	}
	if !bytes.Equal(m.structureDigest(), b.Structure) {
		return nil, fmt.Errorf("%w: its tables differ", authenticode.ErrChanged)
	}
	if (m.der == nil) != (len(b.Existing) == 0) || m.der != nil && !bytes.Equal(sum(m.der), b.Existing) {
		return nil, fmt.Errorf("%w: its signature differs", authenticode.ErrChanged)
	}
	m.putEx = nil
	if len(b.Extended) > 0 {
		h, err := format.HashByName(p.Digest)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(m.prehash(h), b.Extended) {
			return nil, fmt.Errorf("%w: names, sizes or times differ", authenticode.ErrChanged)
		}
		m.putEx = b.Extended
	}
	if der, err = authenticode.Join(m.der, der, s.Params, cms.OIDSpcIndirectData); err != nil {
		return nil, err
	}
	return m.Put(ctx, der)
}
