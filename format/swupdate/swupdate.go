// Package swupdate is the format "swupdate": images of SWUpdate (.swu,
// doc/source/signed_images.rst and swupdate.rst of SWUpdate).
//
// An image is a cpio archive (formats newc and crc) whose first file is
// sw-description and whose second one, in a signed image, is sw-description.sig: a
// detached CMS signature, or a bare RSA signature, over sw-description. Every
// other file is named there with its SHA-256.
//
// Invariants:
//
//  1. Plan and Verify read the file once, in constant memory, in order.
//  2. Assemble signs attributes over the digest of the sw-description that stands in
//     the plan, or the sw-description itself; facts are derived from it.
//  3. A file that sw-description does not name with its right SHA-256, or that is
//     named and not there, is an error when planning and when verifying.
//  4. sw-description is read strictly: what could be read in two ways is refused.
//
// A caller may not conclude anything from the archive's own fields: modes, owners
// and times are not signed. SWUpdate must be told that certificates are for code
// signing (--cert-purpose codeSigning).
package swupdate

import (
	"bytes"
	"context"
	"crypto"
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
const Name = "swupdate"

// Errors that callers branch on.
var (
	ErrNotImage  = errors.New("swupdate: not an image: want a cpio archive that begins with sw-description")
	ErrMalformed = errors.New("swupdate: malformed image")
	ErrSigned    = errors.New("swupdate: image is signed already: replace=true takes the signature off first")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover, a format.Extractor and a
// format.Lister too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// Name is "swupdate".
func (Format) Name() string { return Name }

// Options are the digest, the kind of signature, and what is done to one.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of sw-description; it must be the signing scheme's own", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "replace", Help: "take off a signature that is there", Values: []string{"false", "true"}, Default: "false"},
		{Name: "signature", Help: "cms with certificates, or raw: RSA with PSS or PKCS #1 v1.5 and SHA-256, as SWUpdate was built", Values: []string{"cms", "raw"}, Default: "cms"},
		{Name: "signing-time", Help: "sign the keeper's time along in a CMS signature", Values: []string{"true", "false"}, Default: "true"},
	}
}

// Detect is true for a cpio archive that begins with sw-description.
func (Format) Detect(a format.Artifact) bool {
	e, err := readEntry(a, 0)
	return err == nil && e.name == descriptionName
}

// body is version 1 of Plan.Body.
type body struct {
	Description []byte `cbor:"1,keyasint"`
	CRC         bool   `cbor:"2,keyasint"` // the archive's format: newc or crc
	At          int64  `cbor:"3,keyasint"` // where the signature goes: the end of sw-description
	Old         int64  `cbor:"4,keyasint"` // size of the entry that it replaces
	Head        []byte `cbor:"5,keyasint"` // SHA-256 of the archive up to the end of that entry
}

// Plan reads the archive and holds its files against sw-description.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(p["digest"])
	if err != nil {
		return nil, err
	}
	im, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	if im.signature != nil && p["replace"] != "true" {
		return nil, ErrSigned
	}
	enc, err := format.Encode(im.body())
	if err != nil {
		return nil, err
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: digest(h, im.text), Params: single.Options(p), Facts: im.description.all(), Body: enc}, nil
}

func (im *image) body() body {
	return body{Description: im.text, CRC: im.crc, At: im.at, Old: im.old, Head: digest(crypto.SHA256, im.head)}
}

func digest(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// signing is what a plan and an identity come to.
type signing struct {
	body body
	raw  bool
	spec cms.SignerSpec
	tbs  format.ToBeSigned
}

// check refuses a plan that Plan does not make, and derives what is signed.
func (f Format) check(p *format.Plan, id format.Identity, at time.Time) (*signing, error) {
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, err
	}
	s := &signing{raw: o["signature"] == "raw"}
	if err := format.Decode(p.Body, &s.body); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	b := &s.body
	if o["digest"] != p.Digest || len(b.Head) != 32 || b.At < int64(len(b.Description)) || b.At%4 != 0 || b.Old < 0 || b.Old%4 != 0 ||
		b.At > p.Size || b.Old > p.Size-b.At || b.Old > 0 && o["replace"] != "true" || !bytes.Equal(digest(h, b.Description), p.Content) {
		return nil, fmt.Errorf("swupdate: %w: digest or sizes", single.ErrPlan)
	}
	d, err := parseDescription(b.Description)
	if err != nil {
		return nil, err
	}
	if !d.told(p.Facts) {
		return nil, fmt.Errorf("swupdate: %w: its facts are not those of sw-description", single.ErrPlan)
	}
	if s.raw {
		k, err := sigalg.KeyOf(id.Public)
		if err != nil || !slices.Contains(rawSchemes, id.Scheme) || !id.Scheme.Fits(k) || h != crypto.SHA256 {
			return nil, fmt.Errorf("swupdate: scheme %q with digest %s: a raw signature is RSA, with PSS or PKCS #1 v1.5, and SHA-256", id.Scheme, p.Digest)
		}
		s.tbs = format.ToBeSigned{Scheme: id.Scheme, Message: b.Description}
		return s, nil
	}
	if id.Scheme.Hash() == 0 {
		return nil, fmt.Errorf("swupdate: SWUpdate does not verify %s: want RSA or ECDSA", id.Scheme)
	}
	if o["signing-time"] != "true" {
		at = time.Time{}
	} else if at.IsZero() {
		return nil, errors.New("swupdate: no time to sign")
	}
	if s.spec, err = single.Spec(Name, p.Content, h, id, at); err != nil {
		return nil, err
	}
	m, err := s.spec.SignedAttributes()
	if err != nil {
		return nil, fmt.Errorf("swupdate: %w", err)
	}
	s.tbs = format.ToBeSigned{Scheme: id.Scheme, Message: m}
	return s, nil
}

var rawSchemes = []sigalg.Scheme{sigalg.RSAPSSSHA256, sigalg.RSAPKCS1SHA256}

// Assemble returns the signed attributes, or sw-description, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	s, err := f.check(p, id, at)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, s.tbs)
}

// Attach puts sw-description.sig behind sw-description.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	s, err := f.check(p, id, at)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, s.tbs, id, sigs)
	if err != nil {
		return nil, err
	}
	im, err := openHead(a)
	if err != nil {
		return nil, fmt.Errorf("swupdate: %w: %w", single.ErrChanged, err)
	}
	if now := im.body(); now.At != s.body.At || now.Old != s.body.Old || now.CRC != s.body.CRC || !bytes.Equal(now.Head, s.body.Head) || !bytes.Equal(now.Description, s.body.Description) {
		return nil, fmt.Errorf("swupdate: %w", single.ErrChanged)
	}
	if !s.raw {
		if value, err = single.EncodeCMS(Name, s.spec, nil, id, value); err != nil {
			return nil, err
		}
	}
	return &format.Patch{Size: p.Size, Edits: []format.Edit{{Offset: im.at, Delete: im.old, Insert: encodeEntry(signatureName, value, im.crc)}}}, nil
}

// Remove takes sw-description.sig out.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	im, err := signedImage(a)
	if err != nil {
		return nil, err
	}
	if index != -1 && index != 0 {
		return nil, fmt.Errorf("swupdate: signature %d: there is one", index)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Offset: im.at, Delete: im.old}}}, nil
}

// Extract returns the content of sw-description.sig.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	im, err := signedImage(a)
	if err != nil {
		return nil, err
	}
	if index != 0 {
		return nil, fmt.Errorf("swupdate: signature %d: there is one", index)
	}
	return &format.Sidecar{Suffix: ".sig", Data: im.signature}, nil
}

func signedImage(a format.Artifact) (*image, error) {
	im, err := openHead(a)
	if err != nil {
		return nil, err
	}
	if im.signature == nil {
		return nil, fmt.Errorf("swupdate: %w", format.ErrUnsigned)
	}
	return im, nil
}

// List yields the files of the archive.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	return walk(ctx, a, func(e entry) error {
		return yield(format.Entry{Name: e.name, Size: e.size, Digest: e.sum})
	})
}

const openFields = "modes, owners, times and numbers of inodes and devices in the archive, and how many zeros end it"

// Verify checks the signature and every file.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	im, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	if im.signature == nil {
		return nil, fmt.Errorf("swupdate: %w", format.ErrUnsigned)
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: im.description.all()}
	covers := []string{"sw-description", "every file, by its SHA-256 in sw-description"}
	d, raw, err := im.parseSignature()
	if err != nil {
		return nil, err
	}
	if raw {
		info, err := im.verifyRaw(t)
		if err != nil {
			return nil, err
		}
		info.Covers = covers
		r.Signatures = []format.SignatureInfo{info}
	} else {
		r.Signatures, err = single.VerifyCMS(Name, d, t, covers, func(h crypto.Hash) ([]byte, error) {
			if format.HashName(h) == "" {
				return nil, fmt.Errorf("%w: digest %v", cms.ErrAlgorithm, h)
			}
			return digest(h, im.text), nil
		})
		if err != nil {
			return nil, err
		}
	}
	r.Signatures[0].Open = append(r.Signatures[0].Open, openFields)
	return r, nil
}

// parseSignature tells a CMS signature from a raw one.
func (im *image) parseSignature() (d *cms.SignedData, raw bool, err error) {
	d, err = single.ParseCMS(Name, im.signature)
	switch {
	case err == nil && d.Content != nil:
		return nil, false, fmt.Errorf("%w: the signature carries content", ErrMalformed)
	case err == nil:
		return d, false, nil
	case len(im.signature) == 384 || len(im.signature) == 512: // as long as a modulus
		return nil, true, nil
	}
	return nil, false, err
}

func (im *image) verifyRaw(t format.Trust) (format.SignatureInfo, error) {
	var last error
	for _, scheme := range rawSchemes {
		pub, _, err := single.Key(Name, single.Keys(t), func(k sigalg.Key) (format.ToBeSigned, []byte, error) {
			if !scheme.Fits(k) {
				return format.ToBeSigned{}, nil, errors.New("swupdate: another kind of key")
			}
			return format.ToBeSigned{Scheme: scheme, Message: im.text}, im.signature, nil
		})
		if err == nil {
			return format.SignatureInfo{Scheme: scheme, Digest: "sha256", Content: digest(crypto.SHA256, im.text), Value: im.signature, Key: pub}, nil
		}
		last = err
	}
	return format.SignatureInfo{}, last
}

// Inspect says what the image and its signature say of themselves.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	im, err := openHead(a)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: Name, Size: a.Size(), Facts: im.description.all(), Signatures: []format.SignatureInfo{}}
	if im.signature == nil {
		return r, ctx.Err()
	}
	d, raw, err := im.parseSignature()
	switch {
	case err != nil:
		return nil, err
	case raw:
		r.Signatures = append(r.Signatures, format.SignatureInfo{Label: "raw", Digest: "sha256", Value: im.signature, Covers: []string{}})
	default:
		for i, s := range d.Signers {
			info := single.DescribeCMS(s, s.Certificate())
			info.Index = i
			r.Signatures = append(r.Signatures, info)
		}
	}
	return r, ctx.Err()
}
