// Package mcuboot is the format "mcuboot": images for the MCUboot bootloader of
// microcontrollers (docs/design.md of MCUboot, section "Image Format"),
// little-endian.
//
// An image is a header, a payload, protected type-length-value entries (TLVs)
// and unprotected ones: the digest, the name of a key, its signature. The digest
// covers all but the unprotected TLVs. RSA and ECDSA sign it as the digest that it
// is; Ed25519 signs its bytes as a message. Padding of a slot behind the image,
// with or without the boot trailer that asks for an update, keeps its place.
//
// Invariants:
//
//  1. The file is read once, in constant memory, for a plan and for verifying.
//  2. Assemble signs the plan's content digest with algorithms that MCUboot pairs
//     with each other, and refuses a plan whose numbers contradict each other.
//  3. Verify wants the digest to be the image's own, each signature to follow the
//     name of a trusted key and to be by that key, and nothing else among the
//     unprotected TLVs. Padding must be erased flash; what a boot trailer says is
//     named as open.
//  4. Encrypted images are refused: their digest covers what is not in the file.
//
// A caller may not conclude from a plan that its facts are so, unless he makes it
// anew, nor from a verified report that a device installs the image: rollback
// protection and dependencies are the bootloader's to judge.
package mcuboot

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "mcuboot"

// Errors that callers branch on.
var (
	ErrNotImage  = errors.New("mcuboot: not an MCUboot image")
	ErrMalformed = errors.New("mcuboot: malformed image")
	ErrEncrypted = errors.New("mcuboot: image is encrypted: sign it before it is encrypted")
	ErrSigned    = errors.New("mcuboot: image is signed already: replace=true takes the signatures off first")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover too.
func New() format.Format { return Format{} }

var _ format.Remover = Format{}

// Name is "mcuboot".
func (Format) Name() string { return Name }

// Options are the digest and what is done to an image that is signed.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of the image: sha256 for RSA-3072 and P-256, sha384 for P-384, sha256 or sha512 for Ed25519, as the bootloader was built", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "replace", Help: "take off signatures that are there", Values: []string{"false", "true"}, Default: "false"},
	}
}

// Detect is true where the header's magic stands first and its sizes fit the file.
func (Format) Detect(a format.Artifact) bool {
	_, err := parseHeader(a)
	return err == nil
}

// body is version 1 of Plan.Body. The digest alone is signed; the body says where
// the TLVs go and by what Attach knows the file.
type body struct {
	Header []byte `cbor:"1,keyasint"` // the image header, 32 bytes
	Old    []byte `cbor:"2,keyasint"` // SHA-256 of the unprotected TLVs and what is behind them
	Area   int64  `cbor:"3,keyasint"` // size of the unprotected TLVs with their header
	Spare  int64  `cbor:"4,keyasint"` // erased bytes behind them that TLVs may take
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
	im, err := parse(a)
	if err != nil {
		return nil, err
	}
	if len(im.signatures) > 0 && p["replace"] != "true" {
		return nil, ErrSigned
	}
	sums, err := format.Sum(ctx, prefix{a, im.end}, h)
	if err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	if im.digest != nil && p["replace"] != "true" && (im.digestType != digestTypes[h] || string(im.digest) != string(sums[0])) {
		return nil, fmt.Errorf("%w: it carries another digest than %s of itself: replace=true writes it anew", ErrMalformed, p["digest"])
	}
	facts, err := im.facts(a)
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(im.body())
	if err != nil {
		return nil, err
	}
	return &format.Plan{Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: sums[0], Params: single.Options(p), Facts: facts, Body: enc}, nil
}

func (im *image) body() body {
	h := crypto.SHA256.New()
	h.Write(im.tail)
	return body{Header: im.header[:], Old: h.Sum(nil), Area: im.area, Spare: im.spare}
}

// prefix is the beginning of an artifact.
type prefix struct {
	format.Artifact
	size int64
}

func (p prefix) Size() int64 { return p.size }

// signing is what a plan and an identity come to.
type signing struct {
	body body
	kind byte // type of the signature's TLV
	name []byte
	tbs  format.ToBeSigned
}

// check refuses a plan that Plan does not make, and keys that MCUboot does not
// take with the plan's digest.
func (f Format) check(p *format.Plan, id format.Identity) (*signing, error) {
	o, err := single.Frame(f, p, 1)
	if err != nil {
		return nil, err
	}
	s := &signing{}
	if err := format.Decode(p.Body, &s.body); err != nil {
		return nil, err
	}
	b := s.body
	if len(b.Header) != headerSize || len(b.Old) != 32 || o["digest"] != p.Digest || b.Area < 0 || b.Spare < 0 {
		return nil, fmt.Errorf("mcuboot: %w", single.ErrPlan)
	}
	h := header(b.Header)
	if err := h.check(p.Size); err != nil {
		return nil, fmt.Errorf("mcuboot: %w: %w", single.ErrPlan, err)
	}
	if end := h.end(); b.Area > maxArea || b.Spare > p.Size || end+b.Area+b.Spare > p.Size {
		return nil, fmt.Errorf("mcuboot: %w: its sizes exceed the file", single.ErrPlan)
	}
	if err := h.checkFacts(p.Facts); err != nil {
		return nil, err
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	hash, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	if s.kind, err = signatureType(k, id.Scheme, hash); err != nil {
		return nil, err
	}
	if s.name, err = keyHash(id.Public, hash); err != nil {
		return nil, err
	}
	s.tbs = toBeSigned(id.Scheme, p.Content)
	return s, nil
}

// signatureType is the type of the TLV that holds signatures by a key of kind k.
// MCUboot fixes the pairs of key and digest at build time (boot/bootutil).
func signatureType(k sigalg.Key, s sigalg.Scheme, h crypto.Hash) (byte, error) {
	switch {
	case k == sigalg.RSA3072 && s == sigalg.RSAPSSSHA256 && h == crypto.SHA256:
		return tlvRSA3072, nil
	case k == sigalg.P256 && s == sigalg.ECDSASHA256 && h == crypto.SHA256, k == sigalg.P384 && s == sigalg.ECDSASHA384 && h == crypto.SHA384:
		return tlvECDSA, nil
	case k == sigalg.Ed25519 && s == sigalg.PureEd25519 && (h == crypto.SHA256 || h == crypto.SHA512):
		return tlvEd25519, nil
	}
	return 0, fmt.Errorf("mcuboot: key %s with scheme %s and digest=%s: want rsa-3072 with rsa-pss-sha256, ecdsa-p256 with sha256, ecdsa-p384 with sha384, or ed25519 with sha256 or sha512", k, s, format.HashName(h))
}

// toBeSigned is the digest: as such, or as a message where a key hashes itself.
func toBeSigned(s sigalg.Scheme, digest []byte) format.ToBeSigned {
	if s == sigalg.PureEd25519 {
		return format.ToBeSigned{Scheme: s, Message: digest}
	}
	return format.ToBeSigned{Scheme: s, Digest: digest}
}

// keyHash names a key: the image's hash over RSAPublicKey (RFC 8017) or over
// SubjectPublicKeyInfo (RFC 5280), as bootloaders have it compiled in.
func keyHash(pub crypto.PublicKey, h crypto.Hash) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if k, ok := pub.(*rsa.PublicKey); ok {
		der, err = x509.MarshalPKCS1PublicKey(k), nil
	}
	if err != nil {
		return nil, fmt.Errorf("mcuboot: %w", err)
	}
	x := h.New()
	x.Write(der)
	return x.Sum(nil), nil
}

// Assemble returns the image's digest, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, s.tbs)
}

// Attach writes the unprotected TLVs: digest, key, signature. In an image that is
// padded they take the place of erased bytes.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	s, err := f.check(p, id)
	if err != nil {
		return nil, err
	}
	value, err := single.Fits(Name, a, p, s.tbs, id, sigs)
	if err != nil {
		return nil, err
	}
	im, err := parse(a)
	if err != nil {
		return nil, fmt.Errorf("mcuboot: %w: %w", single.ErrChanged, err)
	}
	if now := im.body(); string(now.Header) != string(s.body.Header) || string(now.Old) != string(s.body.Old) || now.Area != s.body.Area || now.Spare != s.body.Spare {
		return nil, fmt.Errorf("mcuboot: %w", single.ErrChanged)
	}
	hash, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	area := encodeArea([]tlv{{digestTypes[hash], p.Content}, {tlvKeyHash, s.name}, {s.kind, value}})
	return im.replace(area)
}

// replace makes the edit that puts another area of TLVs into the file.
func (im *image) replace(area []byte) (*format.Patch, error) {
	room := im.area + im.spare
	if !im.padded {
		room = max(room, int64(len(area)))
	}
	if int64(len(area)) > room {
		return nil, fmt.Errorf("mcuboot: %d bytes of signature do not fit: the slot has %d left", len(area), room)
	}
	e := format.Edit{Offset: im.end, Delete: im.area, Insert: area}
	if im.padded { // the file keeps its size
		n := max(im.area, int64(len(area)))
		e.Delete = n
		for int64(len(e.Insert)) < n {
			e.Insert = append(e.Insert, erased)
		}
	}
	return &format.Patch{Size: im.size, Edits: []format.Edit{e}}, nil
}

// Remove takes the signatures off; the digest stays.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	im, err := parse(a)
	if err != nil {
		return nil, err
	}
	switch {
	case len(im.signatures) == 0:
		return nil, fmt.Errorf("mcuboot: %w", format.ErrUnsigned)
	case index < -1 || index >= len(im.signatures):
		return nil, fmt.Errorf("mcuboot: signature %d of %d", index, len(im.signatures))
	}
	var keep []tlv
	if im.digest != nil {
		keep = append(keep, tlv{im.digestType, im.digest})
	}
	for i, s := range im.signatures {
		if index >= 0 && i != index {
			keep = append(keep, tlv{tlvKeyHash, s.key}, tlv{s.kind, s.value})
		}
	}
	return im.replace(encodeArea(keep))
}
