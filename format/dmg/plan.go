package dmg

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of an image that Assemble and Attach need.
type body struct {
	Trailer []byte        `cbor:"1,keyasint"` // as it was
	Signer  string        `cbor:"2,keyasint"` // of the signature that was there, for people; or ""
	Code    codesign.Code `cbor:"3,keyasint"`
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(params["digest"])
	if err != nil {
		return nil, err
	}
	b := body{Trailer: m.trailer}
	old, err := b.existing(m, a, params)
	if err != nil {
		return nil, err
	}
	if b.Code, err = code(m, h, params); err != nil {
		return nil, err
	}
	if b.Code.Identifier == "" {
		b.Code.Identifier = old
	}
	if b.Code.Identifier == "" {
		return nil, errors.New("dmg: the image has no identifier: give option identifier, as com.example.image")
	}
	s := m.see(a)
	if b.Code.Slots, err = codesign.Pages(ctx, s, m.end, 0, h); err != nil {
		return nil, err
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("dmg: plan: %w", err)
	}
	facts := b.facts()
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: params["digest"], Size: m.size, Content: content(h, b.Code.Slots, b.Code.Container),
		Params: paramFacts(params), Facts: append(facts, m.details(s, len(facts))...), Body: enc,
	}
	return p, p.Check()
}

// content is the digest by which an image is known: its bytes and its trailer.
func content(h crypto.Hash, slots, container []byte) []byte {
	return codesign.Digest(h, append(bytes.Clone(slots), container...))
}

// existing says what signature is there, and its identifier.
func (b *body) existing(m *image, a format.Artifact, params format.Params) (string, error) {
	if m.old == 0 {
		return "", nil
	}
	s, err := m.signature(a)
	switch replace := params["replace"] == "true"; {
	case err != nil && replace:
		b.Signer = "not readable"
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%w (option replace=true takes it off)", err)
	case !s.Signed():
		b.Signer = "nobody (ad-hoc)"
	case !replace:
		return "", ErrSigned
	default:
		b.Signer = "certificate is not in the signature"
		if c := s.CMS.Signers[0].Certificate(); c != nil {
			b.Signer = plainText(c.Subject.String())
		}
	}
	return s.Directories[0].Identifier, nil
}

// code is what options and trailer say; the hash of the image is missing.
func code(m *image, h crypto.Hash, params format.Params) (codesign.Code, error) {
	c := codesign.Code{
		Identifier: params["identifier"], Team: params["team"], Limit: m.end, SigningTime: params["signing-time"] == "true",
		Info: []byte{}, Resources: []byte{}, Entitlements: []byte{}, Slots: []byte{}, Container: codesign.Digest(h, m.hashed()),
	}
	var err error
	if c.Requirements, err = base64.StdEncoding.Strict().DecodeString(params["requirements"]); err != nil {
		return c, fmt.Errorf("dmg: option requirements: %w", err)
	}
	if len(c.Requirements) > 0 {
		err = codesign.CheckRequirements(c.Requirements)
	}
	return c, err
}

func (b *body) facts() []format.Fact {
	out := []format.Fact{{Name: "kind", Value: "disk image"}, {Name: "identifier", Value: b.Code.Identifier}}
	if b.Code.Team != "" {
		out = append(out, format.Fact{Name: "team", Value: b.Code.Team})
	}
	if b.Signer != "" {
		out = append(out, format.Fact{Name: "replaces signature of", Value: b.Signer})
	}
	return out
}

func paramFacts(p format.Params) []format.Fact {
	out := []format.Fact{}
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// plainText makes a name fit to be shown.
func plainText(s string) string { return codesign.PlainText(s) }

// decodeBody reads a plan's body and checks every relation in it.
func decodeBody(p *format.Plan) (*body, *image, crypto.Hash, error) {
	if p.Format != name || p.Version != bodyVersion {
		return nil, nil, 0, fmt.Errorf("dmg: plan is of format %q, version %d: want %q, %d", p.Format, p.Version, name, bodyVersion)
	}
	if err := p.Check(); err != nil {
		return nil, nil, 0, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, 0, fmt.Errorf("dmg: plan: %w", err)
	}
	given := format.Params{}
	for _, f := range p.Params {
		given[f.Name] = f.Value
	}
	params, err := given.Check(Format{})
	if err != nil {
		return nil, nil, 0, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, nil, 0, err
	}
	m := &image{trailer: b.Trailer, size: p.Size}
	if p.Size < trailerSize || p.Size > maxImage {
		return nil, nil, 0, fmt.Errorf("%w: %d bytes", ErrPlan, p.Size)
	}
	if err := m.read(); err != nil {
		return nil, nil, 0, err
	}
	want, err := code(m, h, params)
	if err != nil {
		return nil, nil, 0, err
	}
	if want.Identifier == "" {
		want.Identifier = b.Code.Identifier
	}
	want.Slots = b.Code.Slots
	x, err1 := format.Encode(&want)
	y, err2 := format.Encode(&b.Code)
	bad := func(f string, args ...any) (*body, *image, crypto.Hash, error) {
		return nil, nil, 0, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	told, err := format.CutDetails(p.Facts, detailNames...)
	switch {
	case err != nil:
		return bad("%v", err)
	case err1 != nil || err2 != nil || !bytes.Equal(x, y):
		return bad("code is not what the options and the trailer say")
	case len(params) != len(p.Params) || params["digest"] != p.Digest:
		return bad("options are not all there, or digest is not %s", p.Digest)
	case (b.Signer == "") != (m.old == 0) || !codesign.IsPlainText(b.Signer):
		return bad("signature that was there")
	case !bytes.Equal(content(h, b.Code.Slots, b.Code.Container), p.Content):
		return bad("content digest is not over the image's and the trailer's")
	case !slices.Equal(b.facts(), told):
		return bad("facts do not follow from the rest")
	}
	return &b, m, h, b.Code.Check(h)
}
