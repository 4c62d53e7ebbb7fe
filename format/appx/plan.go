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
	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/hashstate"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 2

// Facts that Assemble compares: with the certificate, and with the body.
const (
	factPublisher = "publisher"
	factBlockMap  = "block-map"
)

// body is what is signed, and what Attach needs besides.
type body struct {
	Parts     [][]byte `cbor:"1,keyasint"` // AXPC, AXCD, AXCT, AXBM, and AXCI where there is a catalogue; all without the one that is made
	Bundle    bool     `cbor:"2,keyasint"`
	Directory []byte   `cbor:"3,keyasint"` // SHA-256 of the archive's directory as it is
	Existing  []byte   `cbor:"4,keyasint"` // SHA-256 of the signature that is there, or empty
	Bare      [][]byte `cbor:"5,keyasint"` // AXPC and AXCD without a catalogue that was made here and stays, or none
	Map       []byte   `cbor:"6,keyasint"` // the block map that is made anew, or empty
	Making    []making `cbor:"7,keyasint"` // the catalogue that is made, or none
}

// known are the parts of the plan's content.
func (b *body) known() [][]byte {
	if len(b.Bare) == 2 && len(b.Parts) == len(partNames) {
		return [][]byte{b.Bare[0], b.Bare[1], b.Parts[2], b.Parts[3]}
	}
	return b.Parts
}

// Plan reads a once; what is compressed in it once more where the block map is made anew.
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
	j, err := p.reading(params, h)
	if err != nil {
		return nil, err
	}
	found, err := p.scan(ctx, *j)
	if err != nil {
		return nil, err
	}
	b := body{Parts: found.parts[h], Bundle: p.bundle, Directory: p.directoryDigest(), Existing: []byte{}, Bare: [][]byte{}, Map: []byte{}, Making: []making{}}
	if p.der != nil {
		b.Existing = sum(crypto.SHA256, p.der)
	}
	if x := found.bare[h]; x != nil {
		b.Bare = x
	}
	facts := slices.DeleteFunc(p.facts, func(f format.Fact) bool { return f.Name == factIntegrity })
	if found.text != nil {
		b.Map = found.text
		text, err := mapMade(b.Map, h)
		if err != nil {
			return nil, err
		}
		facts = append(facts, format.Fact{Name: factBlockMap, Value: text})
	}
	switch {
	case len(b.Parts) == len(partNames):
		facts = append(facts, format.Fact{Name: factIntegrity, Value: integrityStays})
	case len(found.images) > 0:
		m, err := p.making(found, h)
		if err != nil {
			return nil, err
		}
		b.Making = []making{*m}
		facts = append(facts, format.Fact{Name: factIntegrity, Value: integrityMade(len(m.Images))})
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("appx: plan: %w", err)
	}
	facts = append(facts, signers...)
	facts = append(facts, p.details(len(facts), found)...)
	out := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: a.Size(), Content: sum(h, compose(b.known())),
		Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return out, out.Check()
}

// reading is what a plan under these options needs of the archive.
func (p *pkg) reading(params format.Params, h crypto.Hash) (*reading, error) {
	j := &reading{hash: h, hashes: []crypto.Hash{h}}
	kept := p.der != nil && params["existing"] == "keep"
	anew := params[optionBlockMap] == "rebuild"
	_, has := p.at[entryIntegrity]
	switch params[optionIntegrity] {
	case "auto":
		j.images = !p.bundle && !kept && (!has || p.made != nil)
	case "renew":
		j.images = !p.bundle
	}
	if kept && (anew || j.images) {
		return nil, malformed("a signature is there, which block map and catalogue belong to: option existing=replace takes it off")
	}
	if !anew {
		m, err := p.blockMap(j.hashes)
		if err != nil {
			return nil, err
		}
		if m.hash != h {
			return nil, badMap("Windows wants the signature under its hash: %s", hashHint(m.hash))
		}
		j.blocks = m
	}
	var err error
	if j.types, err = p.newTypes(anew, entrySignature); err != nil {
		return nil, err
	}
	if j.types != nil && kept {
		return nil, malformed("content types do not name the signature that is there: it cannot be kept")
	}
	j.typesIf, err = p.newTypes(anew, entrySignature, entryIntegrity)
	return j, err
}

// making is what the keeper needs for a catalogue.
func (p *pkg) making(f *found, h crypto.Hash) (*making, error) {
	_, dir, tail, err := p.unsigned(f.change)
	if err != nil {
		return nil, err
	}
	x := h.New()
	x.Write(dir)
	entries, err := hashstate.Of(h, f.axpc[h])
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	directory, err := hashstate.Of(h, x)
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	gone := len(f.change.drop)
	if p.der != nil {
		gone++
	}
	m := &making{Entries: *entries, Directory: *directory, Count: int64(len(p.z.Entries) - gone + len(f.change.back)), Tail: tail}
	m.Images = slices.Clone(f.images)
	slices.SortFunc(m.Images, bytes.Compare)
	m.Images = slices.CompactFunc(m.Images, bytes.Equal)
	// What would stop the second round is found out before anybody signs.
	if len(m.Images) > cat.MaxMembers {
		return nil, malformed("%d executables: a catalogue has at most %d", len(m.Images), cat.MaxMembers)
	}
	if _, _, err := m.with(h, &zipfile.File{Name: entryIntegrity, Content: make([]byte, maxIntegrity)}); err != nil {
		return nil, err
	}
	return m, nil
}

// mapMade is the fact about a block map that is made anew, and refuses texts that are
// none under that hash.
func mapMade(text []byte, h crypto.Hash) (string, error) {
	c := &counter{seen: map[string]*mapped{}}
	have, err := parseBlockMap(text, c)
	if err != nil {
		return "", err
	}
	if have != h {
		return "", badMap("it is made under another hash")
	}
	blocks := 0
	for _, f := range c.files {
		blocks += len(f.digests) / h.Size()
	}
	return fmt.Sprintf("made anew: %d files, %d blocks", len(c.files), blocks), nil
}

func (p *pkg) directoryDigest() []byte {
	x := sha256.New()
	for dir := p.z.RawDirectory(); dir != ""; { // in pieces: a copy of it all is large
		n := min(len(dir), 32<<10)
		x.Write([]byte(dir[:n]))
		dir = dir[n:]
	}
	return x.Sum(nil)
}

// decoded is a plan that was judged.
type decoded struct {
	body
	params format.Params
	hash   crypto.Hash
	making *making // nil: none is made
}

// decode refuses a plan that Plan does not make, and a certificate of somebody else
// than the publisher.
func (f Format) decode(p *format.Plan, id format.Identity) (*decoded, error) {
	if p.Version == 1 {
		return f.decode1(p, id)
	}
	d := &decoded{}
	var err error
	if d.params, d.hash, err = authenticode.ReadPlan(f, bodyVersion, p, &d.body); err != nil {
		return nil, err
	}
	return d, d.check(p, id)
}

func (b *decoded) check(p *format.Plan, id format.Identity) error {
	bad := func(f string, args ...any) error {
		return fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	if n := len(b.Parts); n != len(partNames) && n != len(partNames)-1 {
		return bad("%d digests", n)
	}
	for _, d := range append(slices.Clone(b.Parts), b.Bare...) {
		if len(d) != b.hash.Size() {
			return bad("a digest of %d bytes", len(d))
		}
	}
	kept := len(b.Existing) > 0 && b.params["existing"] == "keep"
	anew := b.params[optionBlockMap] == "rebuild"
	switch {
	case len(b.Bare) != 0 && (len(b.Bare) != 2 || len(b.Parts) != len(partNames)):
		return bad("%d digests without the catalogue", len(b.Bare))
	case !bytes.Equal(p.Content, sum(b.hash, compose(b.known()))):
		return bad("content is not the digest of the row")
	case len(b.Directory) != sha256.Size:
		return bad("digest of the directory has %d bytes", len(b.Directory))
	case len(b.Existing) != 0 && len(b.Existing) != sha256.Size:
		return bad("digest of the signature has %d bytes", len(b.Existing))
	case anew != (len(b.Map) > 0), anew && kept, len(b.Map) > maxNewMap:
		return bad("a block map of %d bytes", len(b.Map))
	case anew && !bytes.Equal(sum(b.hash, b.Map), b.Parts[3]):
		return bad("the block map is not the one that is signed")
	case len(b.Making) > 1, len(b.Making) == 1 && (kept || b.Bundle || b.params[optionIntegrity] == "keep" || len(b.Parts) == len(partNames)):
		return bad("%d catalogues are made", len(b.Making))
	}
	var own []format.Fact
	if anew {
		text, err := mapMade(b.Map, b.hash)
		if err != nil {
			return bad("%v", err)
		}
		own = append(own, format.Fact{Name: factBlockMap, Value: text})
	}
	switch {
	case len(b.Making) == 1:
		b.making = &b.Making[0]
		if err := b.checkMaking(); err != nil {
			return err
		}
		own = append(own, format.Fact{Name: factIntegrity, Value: integrityMade(len(b.making.Images))})
	case len(b.Parts) == len(partNames):
		own = append(own, format.Fact{Name: factIntegrity, Value: integrityStays})
	}
	return b.people(p, id, own)
}

// people compares what people were shown: own are the facts that follow from the body.
func (b *decoded) people(p *format.Plan, id format.Identity, own []format.Fact) error {
	publisher, err := checkFacts(p.Facts, &b.body, own, b.params["existing"] == "replace")
	if err != nil {
		return err
	}
	if err := authenticode.CheckIdentity(id, false); err != nil {
		return err
	}
	return checkPublisher(publisher, id.Chain[0])
}

func (b *decoded) checkMaking() error {
	bad := func(f string, args ...any) error {
		return fmt.Errorf("%w: catalogue: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	m := b.making
	if len(m.Images) == 0 || len(m.Images) > cat.MaxMembers {
		return bad("%d executables", len(m.Images))
	}
	for i, d := range m.Images {
		if len(d) != b.hash.Size() || i > 0 && bytes.Compare(m.Images[i-1], d) >= 0 {
			return bad("a digest of %d bytes, or out of order", len(d))
		}
	}
	axpc, axcd, err := m.bare(b.hash)
	if err != nil {
		return bad("%v", err)
	}
	if !bytes.Equal(axpc, b.Parts[0]) || !bytes.Equal(axcd, b.Parts[1]) {
		return bad("states that lead to other digests")
	}
	return nil
}

// statement is what is signed of these parts.
func (b *decoded) statement(_ format.Identity, parts [][]byte) (*authenticode.Statement, error) {
	class := classPackage
	if b.Bundle {
		class = classBundle
	}
	content, err := authenticode.Indirect{
		Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(sipVersion, class), Hash: b.hash, Digest: compose(parts), Composed: true,
	}.Encode()
	if err != nil {
		return nil, err
	}
	return &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: b.params}, nil
}

// checkFacts returns the publisher. Of the facts that follow from the body, own, each has
// to stand there, and no other of their names.
func checkFacts(facts []format.Fact, b *body, own []format.Fact, replace bool) (string, error) {
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
	publisher := ""
	for i, f := range facts[:at] {
		switch {
		case i < len(names) && f.Name != names[i], i >= len(names) && slices.Contains(names, f.Name):
			return "", bad("one is out of order")
		case f.Name == "kind" && f.Value != kind:
			return "", bad("kind is not the one that is signed")
		case f.Name == factPublisher:
			publisher = f.Value
		case f.Name == factIntegrity || f.Name == factBlockMap:
			if len(own) == 0 || own[0] != f {
				return "", bad("block map or catalogue of code")
			}
			own = own[1:]
		}
	}
	if len(own) > 0 {
		return "", bad("block map or catalogue of code")
	}
	return publisher, authenticode.CheckExisting(facts[at:], len(b.Existing) > 0, replace)
}

// seal makes the signature, and the catalogue where one is made.
func (b *decoded) seal(id format.Identity, at time.Time, sigs []format.Signature) (der []byte, s *authenticode.Statement, integrity *zipfile.File, err error) {
	if b.making == nil {
		if s, err = b.statement(id, b.Parts); err == nil {
			der, err = s.Seal(id, sigs)
		}
		return der, s, nil, err
	}
	if len(sigs) != 2 {
		return nil, nil, nil, fmt.Errorf("appx: %d signatures: want those of catalogue and package", len(sigs))
	}
	if len(sigs[0].Timestamp) > 0 {
		return nil, nil, nil, errStamped
	}
	first, err := b.catalogue(at)
	if err != nil {
		return nil, nil, nil, err
	}
	file, err := first.Seal(id, sigs[:1])
	if err != nil {
		return nil, nil, nil, err
	}
	if integrity, s, err = b.second(id, file); err != nil {
		return nil, nil, nil, err
	}
	der, err = s.Seal(id, sigs[1:])
	return der, s, integrity, err
}

// Attach puts the signature into the archive, reading its directory and what is no
// content.
func (f Format) Attach(ctx context.Context, a format.Artifact, plan *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, err := f.decode(plan, id)
	if err != nil {
		return nil, err
	}
	der, s, integrity, err := b.seal(id, at, sigs)
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
	c, err := p.planned(b)
	if err != nil {
		return nil, err
	}
	_, dir, tail, err := p.unsigned(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(sum(b.hash, dir, tail), b.Parts[1]) {
		return nil, fmt.Errorf("%w: its end differs", authenticode.ErrChanged)
	}
	if der, err = authenticode.Join(p.der, der, s.Params, cms.OIDSpcIndirectData); err != nil {
		return nil, err
	}
	var more []zipfile.File
	if integrity != nil {
		more = append(more, *integrity)
	}
	patch, _, _, err := p.edit(c, append(more, signatureFile(der))...)
	return patch, err
}

// planned is the change that a plan is of.
func (p *pkg) planned(b *decoded) (change, error) {
	anew := len(b.Map) > 0
	parts := []string{entrySignature}
	if b.making != nil {
		parts = append(parts, entryIntegrity)
	}
	types, err := p.newTypes(anew, parts...)
	if err != nil {
		return change{}, err
	}
	var blocks []byte
	if anew {
		blocks = b.Map
	}
	return p.change(blocks, types, b.dropsIntegrity())
}

// dropsIntegrity says that the catalogue that is there, if any, goes: none is signed.
func (b *decoded) dropsIntegrity() bool { return len(b.Parts) == len(partNames)-1 }
