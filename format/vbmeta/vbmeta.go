// Package vbmeta is the format "vbmeta": images of Android Verified Boot
// (libavb/avb_vbmeta_image.h and README.md of external/avb), in a partition of their
// own, or behind the content of a partition that has a footer and whose content has
// a digest, or the root of its hash tree, among the descriptors.
//
// An image is a header of 256 bytes, an authentication block with digest and
// signature, and an auxiliary block with descriptors, the public key and its
// metadata. The signature covers header and auxiliary block: what other partitions
// must hold (digests, roots of hash trees), by which keys chained partitions are
// signed, and the rollback index.
//
// Invariants:
//
//  1. Assemble makes header and auxiliary block from the plan and the key: they are
//     the message. Facts are derived from the same bytes.
//  2. Only the layout of avbtool is accepted: blocks packed, in order, padded with
//     zeros. Nothing but the authentication block is outside of what is signed, and
//     every byte of that is checked.
//  3. Verify wants the key in the image to be the trusted key that signed, and
//     everything else in the file to be zeros, a footer that follows from the image,
//     or content with the digest that its descriptor says.
//  4. An image that switches verification off is planned only if that is asked for.
//
// A caller may not conclude that the partitions hold what the descriptors say:
// they are not looked at, but for the content of the partition that carries the
// image behind itself.
package vbmeta

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "vbmeta"

// Errors that callers branch on.
var (
	ErrNotVBMeta = errors.New("vbmeta: not a vbmeta image")
	ErrMalformed = errors.New("vbmeta: malformed image")
	ErrSigned    = errors.New("vbmeta: image is signed already: replace=true takes the signature off first")
	ErrDisabled  = errors.New("vbmeta: the image switches verification off: disabled=allow signs it nevertheless")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover too.
func New() format.Format { return Format{} }

var _ format.Remover = Format{}

// Name is "vbmeta".
func (Format) Name() string { return Name }

// Options are the digest, and what is done to signatures and dangerous flags.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest that is signed; it must be the signing scheme's own", Values: []string{"sha256", "sha512"}, Default: "sha256"},
		{Name: "disabled", Help: "what to do with an image whose flags switch verification or hash trees off", Values: []string{"refuse", "allow"}, Default: "refuse"},
		{Name: "replace", Help: "take off a signature that is there", Values: []string{"false", "true"}, Default: "false"},
	}
}

// Detect is true for an image, and for a partition with a footer that leads to one.
func (Format) Detect(a format.Artifact) bool {
	_, err := open(a)
	return err == nil
}

// body is version 1 of Plan.Body.
type body struct {
	Header      []byte `cbor:"1,keyasint"` // as of an image without signature, 256 bytes
	Descriptors []byte `cbor:"2,keyasint"`
	Metadata    []byte `cbor:"3,keyasint"` // of the public key
	Old         []byte `cbor:"4,keyasint"` // SHA-256 of the image without padding
	Used        int64  `cbor:"5,keyasint"` // its size
	At          int64  `cbor:"6,keyasint"` // its offset: 0, or behind a partition's content
	Original    int64  `cbor:"7,keyasint"` // size of that content, by the footer
}

func (b *body) content(h crypto.Hash) []byte {
	x := h.New()
	x.Write(b.Header)
	x.Write(b.Descriptors)
	x.Write(b.Metadata)
	return x.Sum(nil)
}

// Plan reads header and descriptors.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	im, err := open(a)
	if err != nil {
		return nil, err
	}
	if im.algorithm != 0 && p["replace"] != "true" {
		return nil, ErrSigned
	}
	if err := im.checkFlags(p); err != nil {
		return nil, err
	}
	if err := im.checkRest(ctx, a); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	b := im.body()
	enc, err := format.Encode(b)
	if err != nil {
		return nil, err
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: b.content(h), Params: single.Options(p), Facts: im.facts(), Body: enc}, nil
}

func (im *image) body() body {
	h := crypto.SHA256.New()
	h.Write(im.raw)
	b := body{Header: im.bare(), Descriptors: im.descriptors, Metadata: im.metadata, Old: h.Sum(nil), Used: int64(len(im.raw)), At: im.at}
	if im.footer != nil {
		b.Original = im.footer.original
	}
	return b
}

func (im *image) checkFlags(p format.Params) error {
	if im.flags() != 0 && p["disabled"] != "allow" {
		return ErrDisabled
	}
	return nil
}

// signing is what a plan and an identity come to.
type signing struct {
	body   body
	im     *image // as it will be, without signature
	hash   crypto.Hash
	signed []byte // header and auxiliary block
}

// check derives what is signed, and refuses a plan that Plan does not make.
func (f Format) check(p *format.Plan, id format.Identity) (*signing, error) {
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, err
	}
	s := &signing{}
	if err := format.Decode(p.Body, &s.body); err != nil {
		return nil, err
	}
	if s.hash, err = format.HashByName(p.Digest); err != nil {
		return nil, err
	}
	b := &s.body
	im, err := parseBare(b.Header, b.Descriptors, b.Metadata)
	if err != nil {
		return nil, err
	}
	s.im = im
	if err := im.checkFlags(o); err != nil {
		return nil, err
	}
	if o["digest"] != p.Digest || len(b.Old) != 32 || b.Used < headerSize || b.Used > min(p.Size, maxImage) || !bytes.Equal(b.content(s.hash), p.Content) {
		return nil, fmt.Errorf("vbmeta: %w: digest or size", single.ErrPlan)
	}
	if b.At != 0 {
		c, err := own(im.list)
		if err != nil {
			return nil, err
		}
		if b.At < 0 || b.At%sector != 0 || b.At > p.Size-footerSize-b.Used {
			return nil, fmt.Errorf("vbmeta: %w: offset", single.ErrPlan)
		}
		if err := c.check(b.Original, b.At); err != nil {
			return nil, fmt.Errorf("vbmeta: %w: %w", single.ErrPlan, err)
		}
	}
	if !slices.Equal(im.facts(), p.Facts) {
		return nil, fmt.Errorf("vbmeta: %w: its facts are not those of its descriptors", single.ErrPlan)
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return nil, fmt.Errorf("vbmeta: %w", err)
	}
	alg, err := algorithmOf(k, id.Scheme)
	if err != nil {
		return nil, err
	}
	if id.Scheme.Hash() != s.hash {
		return nil, fmt.Errorf("vbmeta: plan has digest %s: scheme %s wants digest=%s", p.Digest, id.Scheme, format.HashName(id.Scheme.Hash()))
	}
	if im.key, err = encodeKey(id.Public); err != nil {
		return nil, err
	}
	s.signed = im.signedBytes(alg)
	return s, nil
}

// Assemble returns header and auxiliary block, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, format.ToBeSigned{Scheme: id.Scheme, Message: s.signed})
}

// Attach writes the image anew. A file that was padded or has a footer keeps its size.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, format.ToBeSigned{Scheme: id.Scheme, Message: s.signed}, id, sigs)
	if err != nil {
		return nil, err
	}
	im, err := open(a)
	if err != nil {
		return nil, fmt.Errorf("vbmeta: %w: %w", single.ErrChanged, err)
	}
	if now := im.body(); now.Used != s.body.Used || now.At != s.body.At || now.Original != s.body.Original || !bytes.Equal(now.Old, s.body.Old) {
		return nil, fmt.Errorf("vbmeta: %w", single.ErrChanged)
	}
	h := s.hash.New()
	h.Write(s.signed)
	out := slices.Concat(s.signed[:headerSize], pad(append(h.Sum(nil), value...)), s.signed[headerSize:])
	return im.replace(a.Size(), out)
}

// Remove makes an image without signature.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	im, err := open(a)
	if err != nil {
		return nil, err
	}
	if im.algorithm == 0 {
		return nil, fmt.Errorf("vbmeta: %w", format.ErrUnsigned)
	}
	if index != -1 && index != 0 {
		return nil, fmt.Errorf("vbmeta: signature %d: there is one", index)
	}
	return im.replace(a.Size(), append(im.bare(), pad(slices.Concat(im.descriptors, im.metadata))...))
}

// Verify checks the signature; the key in the image must be a trusted one.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	im, err := open(a)
	if err != nil {
		return nil, err
	}
	if im.algorithm == 0 {
		return nil, fmt.Errorf("vbmeta: %w", format.ErrUnsigned)
	}
	alg, ok := algorithms[im.algorithm]
	if !ok {
		return nil, fmt.Errorf("vbmeta: algorithm %d: want an RSA key of 4096 bits", im.algorithm)
	}
	m := im.signedBytes(im.algorithm)
	pub, tbs, err := single.Key(Name, single.Keys(t), func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
		if !alg.Fits(k) || k != sigalg.RSA4096 {
			return format.ToBeSigned{}, nil, errors.New("vbmeta: another kind of key")
		}
		return format.ToBeSigned{Scheme: alg, Message: m}, im.signature, nil
	})
	if err != nil {
		return nil, err
	}
	key, err := encodeKey(pub)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key, im.key) {
		return nil, errors.New("vbmeta: the key in the image is not the one that signed it")
	}
	h := alg.Hash().New()
	h.Write(m)
	if !bytes.Equal(h.Sum(nil), im.digest) {
		return nil, errors.New("vbmeta: image does not have the digest that it carries")
	}
	if err := im.checkRest(ctx, a); err != nil {
		return nil, err
	}
	info := im.describe()
	b := im.body()
	info.Scheme, info.Key, info.Content = tbs.Scheme, pub, b.content(alg.Hash())
	info.Covers = []string{"header, descriptors, public key and its metadata"}
	if im.footer != nil {
		c, err := own(im.list)
		if err != nil {
			return nil, err
		}
		info.Covers = append(info.Covers, "the partition's content, by the digest in its descriptor")
		info.Open = c.open()
	}
	return &format.Report{Format: Name, Size: a.Size(), Facts: im.facts(), Signatures: []format.SignatureInfo{info}}, nil
}

func (im *image) describe() format.SignatureInfo {
	info := format.SignatureInfo{Value: im.signature, Covers: []string{}}
	if alg, ok := algorithms[im.algorithm]; ok {
		info.Scheme, info.Digest = alg, format.HashName(alg.Hash())
	}
	if len(im.key) > 0 {
		h := crypto.SHA256.New()
		h.Write(im.key)
		info.Facts = []format.Fact{{Name: "public-key", Value: fmt.Sprintf("sha256 %x", h.Sum(nil))}}
	}
	return info
}

// Inspect says what the image and its signature say of themselves.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	im, err := open(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: im.facts(), Signatures: []format.SignatureInfo{}}
	if im.algorithm != 0 {
		r.Signatures = append(r.Signatures, im.describe())
	}
	return r, nil
}

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
