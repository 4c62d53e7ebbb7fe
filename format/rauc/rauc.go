// Package rauc is the format "rauc": update bundles of RAUC
// (docs/reference.rst of RAUC, "Bundle Formats"), plain and verity.
//
// A bundle is a squashfs image and, behind it, a CMS signature (RFC 5652) and the
// signature's size in eight bytes, big-endian. In a plain bundle the signature is
// detached and over the image. In a verity bundle the signature carries a manifest
// with the root of a dm-verity tree over the image, and the tree stands between
// image and signature.
//
// Invariants:
//
//  1. Plan and Verify read the file once, in constant memory; the tree is compared
//     level by level through a digest of each.
//  2. Assemble signs attributes over the image's digest, or over the manifest that
//     stands in the plan; facts of a verity bundle are derived from that manifest.
//  3. Verify wants every byte before the signature to be the image or the tree that
//     belongs to it, and every signer to be right.
//
// A caller may not conclude anything from a plain bundle's plan but its digest: its
// manifest is inside the image. RAUC's own purpose of certificates is S/MIME unless
// its configuration says codesign, which is what is wanted here.
package rauc

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "rauc"

// Errors that callers branch on.
var (
	ErrNotBundle = errors.New("rauc: not a bundle: want a squashfs image")
	ErrMalformed = errors.New("rauc: malformed bundle")
	ErrSigned    = errors.New("rauc: bundle is signed already: replace=true takes the signature off first")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover and a format.Extractor too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// Name is "rauc".
func (Format) Name() string { return Name }

// Options are the digest, the manifest of a verity bundle, and what is done to a
// signature.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of image or manifest; it must be the signing scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "manifest", Help: "text of the manifest as a JSON string, with [bundle] format=verity: makes a verity bundle of a squashfs image. A bundle that is one keeps its own"},
		{Name: "replace", Help: "take off a signature that is there", Values: []string{"false", "true"}, Default: "false"},
		{Name: "signing-time", Help: "sign the keeper's time along, as RAUC does", Values: []string{"true", "false"}, Default: "true"},
	}
}

// Detect is true for a bundle that is signed. A squashfs image alone may be
// anything: the user names this format.
func (Format) Detect(a format.Artifact) bool {
	b, err := open(a)
	return err == nil && b.cms != nil
}

const (
	trailerSize  = 8
	squashHeader = 96 // bytes of a squashfs superblock
	maxManifest  = 32 << 10
)

// bundle is a file's outline.
type bundle struct {
	image    int64  // size of the squashfs image
	tree     int64  // size of the tree behind it; 0 in a plain bundle
	cms      []byte // nil when there is no signature
	signed   *cms.SignedData
	manifest *manifest // nil in a plain bundle
	tail     []byte    // signature and trailer
}

func open(a format.Artifact) (*bundle, error) {
	var head [squashHeader]byte
	if a.Size() < squashHeader+trailerSize {
		return nil, ErrNotBundle
	}
	if err := format.ReadFull(a, head[:], 0); err != nil {
		return nil, fmt.Errorf("rauc: %w", err)
	}
	if string(head[:4]) != "hsqs" || binary.LittleEndian.Uint16(head[28:]) != 4 {
		return nil, ErrNotBundle
	}
	b := &bundle{image: a.Size()}
	if err := b.readSignature(a); err != nil {
		return nil, err
	}
	if used := binary.LittleEndian.Uint64(head[40:]); used < squashHeader || used > uint64(b.image) {
		return nil, fmt.Errorf("%w: squashfs of %d bytes", ErrMalformed, used)
	}
	return b, nil
}

// readSignature cuts the signature off. A file that does not end with the size of
// a DER SEQUENCE before it is an image without signature.
func (b *bundle) readSignature(a format.Artifact) error {
	var size [trailerSize]byte
	if err := format.ReadFull(a, size[:], a.Size()-trailerSize); err != nil {
		return fmt.Errorf("rauc: %w", err)
	}
	n := binary.BigEndian.Uint64(size[:])
	if n == 0 || n > single.MaxCMS || int64(n) > a.Size()-trailerSize-squashHeader {
		return nil
	}
	tail := make([]byte, n+trailerSize)
	if err := format.ReadFull(a, tail, a.Size()-int64(len(tail))); err != nil {
		return fmt.Errorf("rauc: %w", err)
	}
	if tail[0] != 0x30 {
		return nil
	}
	d, err := single.ParseCMS(Name, tail[:n])
	if err != nil {
		return err
	}
	b.image, b.cms, b.signed, b.tail = a.Size()-int64(len(tail)), tail[:n], d, tail
	if d.Content == nil {
		return nil
	}
	m, err := parseManifest(d.Content)
	if err != nil {
		return err
	}
	if m.root == nil {
		return fmt.Errorf("%w: manifest of format %q without a root hash", ErrMalformed, m.format)
	}
	b.manifest, b.tree = m, m.size
	if b.image -= m.size; b.image < blockSize || b.image%blockSize != 0 || treeSize(b.image) != m.size {
		return fmt.Errorf("%w: tree of %d bytes", ErrMalformed, m.size)
	}
	return nil
}

// body is version 1 of Plan.Body.
type body struct {
	Manifest []byte `cbor:"1,keyasint"` // what a verity bundle signs; empty in a plain one
	Image    int64  `cbor:"2,keyasint"` // size of the squashfs image
	Old      []byte `cbor:"3,keyasint"` // SHA-256 of the signature that is replaced, or empty
}

// Plan digests the image, or makes or checks its tree.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	b, err := open(a)
	if err != nil {
		return nil, err
	}
	if b.cms != nil && p["replace"] != "true" {
		return nil, ErrSigned
	}
	m := b.manifest
	switch {
	case m != nil && p["manifest"] != "":
		return nil, errors.New("rauc: the bundle has a manifest of its own")
	case m != nil:
		err = b.checkTree(ctx, a)
	case p["manifest"] != "":
		m, err = b.makeManifest(ctx, a, p["manifest"])
	}
	if err != nil {
		return nil, err
	}
	plan := &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Params: single.Options(p)}
	own := body{Manifest: []byte{}, Image: b.image, Old: b.old()}
	if m != nil {
		own.Manifest, plan.Content, plan.Facts = m.text, digest(h, m.text), m.all()
	} else {
		sums, err := format.Sum(ctx, prefix{a, b.image}, h)
		if err != nil {
			return nil, fmt.Errorf("rauc: %w", err)
		}
		plan.Content, plan.Facts = sums[0], plainFacts()
	}
	plan.Body, err = format.Encode(own)
	return plan, err
}

func plainFacts() []format.Fact { return []format.Fact{{Name: "format", Value: "plain"}} }

func (b *bundle) old() []byte {
	if b.cms == nil {
		return []byte{}
	}
	return digest(crypto.SHA256, b.tail)
}

func digest(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// prefix is the beginning of an artifact.
type prefix struct {
	format.Artifact
	size int64
}

func (p prefix) Size() int64 { return p.size }

// check refuses a plan that Plan does not make, and derives what is signed.
func (f Format) check(p *format.Plan, id format.Identity, at time.Time) (body, cms.SignerSpec, error) {
	var b body
	var s cms.SignerSpec
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return b, s, err
	}
	if err := format.Decode(p.Body, &b); err != nil {
		return b, s, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return b, s, err
	}
	signed := p.Size - b.Image
	if o["digest"] != p.Digest || b.Image < squashHeader || signed < 0 || (len(b.Old) != 0) != (signed != 0) || len(b.Old) != 0 && (len(b.Old) != 32 || o["replace"] != "true") {
		return b, s, fmt.Errorf("rauc: %w: digest or sizes", single.ErrPlan)
	}
	facts := plainFacts()
	old := facts // of plans from before there were details
	if len(b.Manifest) > 0 {
		m, err := parseManifest(b.Manifest)
		if err != nil {
			return b, s, err
		}
		if m.root == nil || b.Image%blockSize != 0 || m.size != treeSize(b.Image) || !bytes.Equal(digest(h, b.Manifest), p.Content) {
			return b, s, fmt.Errorf("rauc: %w: manifest", single.ErrPlan)
		}
		if o["manifest"] != "" { // then it is that text, completed
			again, err := complete(o["manifest"], m.root, m.size)
			if err != nil {
				return b, s, err
			}
			if !bytes.Equal(again.text, b.Manifest) {
				return b, s, fmt.Errorf("rauc: %w: it has another manifest than its options", single.ErrPlan)
			}
		} else if signed == 0 {
			return b, s, fmt.Errorf("rauc: %w: a manifest from nowhere", single.ErrPlan)
		}
		facts, old = m.all(), m.facts()
	} else if o["manifest"] != "" {
		return b, s, fmt.Errorf("rauc: %w: no manifest", single.ErrPlan)
	}
	if !slices.Equal(facts, p.Facts) && !slices.Equal(old, p.Facts) {
		return b, s, fmt.Errorf("rauc: %w: facts", single.ErrPlan)
	}
	if id.Scheme == sigalg.PureEd25519 || id.Scheme.Hash() == 0 {
		return b, s, fmt.Errorf("rauc: RAUC does not verify %s: want RSA or ECDSA", id.Scheme)
	}
	if o["signing-time"] != "true" {
		at = time.Time{}
	} else if at.IsZero() {
		return b, s, errors.New("rauc: no time to sign")
	}
	s, err = single.Spec(Name, p.Content, h, id, at)
	return b, s, err
}

// Assemble returns the signed attributes, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, s, err := f.check(p, id, at)
	if err != nil {
		return nil, err
	}
	m, err := s.SignedAttributes()
	if err != nil {
		return nil, fmt.Errorf("rauc: %w", err)
	}
	return single.Round(Name, done, format.ToBeSigned{Scheme: id.Scheme, Message: m})
}

// Attach appends the signature. For a verity bundle of an image that had no tree
// it reads the image again: the tree does not travel.
func (f Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	own, s, err := f.check(p, id, at)
	if err != nil {
		return nil, err
	}
	m, err := s.SignedAttributes()
	if err != nil {
		return nil, fmt.Errorf("rauc: %w", err)
	}
	value, err := single.Fits(Name, a, p, format.ToBeSigned{Scheme: id.Scheme, Message: m}, id, sigs)
	if err != nil {
		return nil, err
	}
	b, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("rauc: %w: %w", single.ErrChanged, err)
	}
	if b.image != own.Image || !bytes.Equal(b.old(), own.Old) {
		return nil, fmt.Errorf("rauc: %w", single.ErrChanged)
	}
	e := format.Edit{Offset: b.image + b.tree, Delete: int64(len(b.tail))}
	var content []byte
	if len(own.Manifest) > 0 {
		content = own.Manifest
		if b.manifest == nil {
			if e.Insert, err = b.makeTree(ctx, a, content); err != nil {
				return nil, err
			}
		}
	}
	der, err := single.EncodeCMS(Name, s, content, id, value)
	if err != nil {
		return nil, err
	}
	e.Insert = binary.BigEndian.AppendUint64(append(e.Insert, der...), uint64(len(der)))
	return &format.Patch{Size: p.Size, Edits: []format.Edit{e}}, nil
}

// Remove takes off signature and tree: what is left is the squashfs image.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	b, err := signedBundle(a, index, true)
	if err != nil {
		return nil, err
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Offset: b.image, Delete: a.Size() - b.image}}}, nil
}

// Extract returns the CMS signature in DER.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	b, err := signedBundle(a, index, false)
	if err != nil {
		return nil, err
	}
	return &format.Sidecar{Suffix: ".p7s", Data: b.cms}, nil
}

func signedBundle(a format.Artifact, index int, all bool) (*bundle, error) {
	b, err := open(a)
	if err != nil {
		return nil, err
	}
	if b.cms == nil {
		return nil, fmt.Errorf("rauc: %w", format.ErrUnsigned)
	}
	if index != 0 && (index != -1 || !all) {
		return nil, fmt.Errorf("rauc: signature %d: there is one", index)
	}
	return b, nil
}

// Verify checks image or tree, and every signer.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	b, err := open(a)
	if err != nil {
		return nil, err
	}
	if b.cms == nil {
		return nil, fmt.Errorf("rauc: %w", format.ErrUnsigned)
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: plainFacts()}
	covers := []string{"every byte of the squashfs image"}
	sum := func(h crypto.Hash) ([]byte, error) {
		if format.HashName(h) == "" {
			return nil, fmt.Errorf("%w: digest %v", cms.ErrAlgorithm, h)
		}
		sums, err := format.Sum(ctx, prefix{a, b.image}, h)
		if err != nil {
			return nil, err
		}
		return sums[0], nil
	}
	known := map[crypto.Hash][]byte{} // each read once
	if b.manifest != nil {
		covers = []string{"the manifest", "every byte of the squashfs image and its tree, by the root hash in the manifest"}
		r.Facts, sum = b.manifest.all(), b.signed.ContentDigest
		if err := b.checkTree(ctx, a); err != nil {
			return nil, err
		}
	}
	r.Signatures, err = single.VerifyCMS(Name, b.signed, t, covers, func(h crypto.Hash) ([]byte, error) {
		if known[h] == nil {
			d, err := sum(h)
			if err != nil {
				return nil, err
			}
			known[h] = d
		}
		return known[h], nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Inspect says what the bundle and its signature say of themselves.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	b, err := open(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if b.cms == nil {
		return r, nil
	}
	r.Facts = plainFacts()
	if b.manifest != nil {
		r.Facts = b.manifest.all()
	}
	for i, s := range b.signed.Signers {
		info := single.DescribeCMS(s, s.Certificate())
		info.Index = i
		r.Signatures = append(r.Signatures, info)
	}
	return r, nil
}
