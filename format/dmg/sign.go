package dmg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// Assemble returns the one message: the attributes of the CMS signature.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	b, _, h, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	x, err := b.Code.Assemble(h, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: x.Message}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("dmg: %d signatures are done: there is one round", len(done))
}

// Attach puts the signature between property list and trailer.
func (Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, _, h, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	x, err := b.Code.Assemble(h, id, at)
	if err != nil {
		return nil, err
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("dmg: %d signatures: want one", len(sigs))
	}
	signature, err := x.Finish(sigs[0])
	if err != nil {
		return nil, err
	}
	m, err := parse(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if m.size != p.Size || !bytes.Equal(m.trailer, b.Trailer) {
		return nil, fmt.Errorf("%w: size or trailer differ", ErrChanged)
	}
	return m.patch(signature, m.signed(int64(len(signature)))), nil
}

func (m *image) report(s *seen) *format.Report {
	return &format.Report{Format: name, Size: m.size, Signatures: []format.SignatureInfo{}, Facts: append([]format.Fact{{Name: "kind", Value: "disk image"}}, m.details(s, 1)...)}
}

// Inspect reads the trailer and the signature.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	look, err := m.look(a)
	if err != nil {
		return nil, err
	}
	r := m.report(look)
	if m.old == 0 {
		return r, nil
	}
	s, err := m.signature(a)
	if err != nil {
		return nil, err
	}
	r.Signatures = append(r.Signatures, *s.Info(0))
	return r, nil
}

// Verify reads a once.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("dmg: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	s, err := m.signature(a)
	if err != nil {
		return nil, err
	}
	d, err := s.Best()
	if err != nil {
		return nil, err
	}
	if d.Limit != m.end {
		return nil, malformed("%d bytes are hashed, and the signature begins at %d", d.Limit, m.end)
	}
	if d.Special[codesign.SlotContainer-1] == nil {
		return nil, malformed("the trailer is not hashed")
	}
	look := m.see(a)
	got, err := codesign.Pages(ctx, look, m.end, d.PageSize, d.Hash)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, d.Slots) {
		return nil, ErrDigest
	}
	info, err := s.Verify(codesign.Outside{Container: m.hashed()}, t)
	if err != nil {
		return nil, err
	}
	info.Content = content(d.Hash, got, d.Special[codesign.SlotContainer-1])
	info.Covers = append(info.Covers, "the trailer, but the signature's length (which follows from the rest)")
	r := m.report(look)
	r.Signatures = append(r.Signatures, *info)
	return r, nil
}

// Unstamped gives the value of the signature unless it has a timestamp.
func (Format) Unstamped(_ context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	s, err := m.signature(a)
	if err != nil {
		return nil, err
	}
	value, err := s.Unstamped()
	if err != nil || value == nil {
		return nil, err
	}
	return []format.StampTarget{{Message: value}}, nil
}

// Stamp adds a token; the signature grows.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	s, err := m.signature(a)
	if err != nil {
		return nil, err
	}
	if target.Index != 0 || !s.Signed() || !bytes.Equal(s.CMS.Signers[0].Signature, target.Message) {
		return nil, errors.New("dmg: no signature has the value that was stamped")
	}
	b, err := s.Stamp(token, 0)
	if err != nil {
		return nil, err
	}
	return m.patch(b, m.signed(int64(len(b)))), nil
}

// Remove takes the signature off: what comes back is the image as it was.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	switch {
	case m.old == 0:
		return nil, ErrUnsigned
	case index != -1 && index != 0:
		return nil, fmt.Errorf("dmg: signature %d: an image has one", index)
	}
	return m.patch(nil, m.unsigned()), nil
}

// Extract gives the CMS signature, which is over the CodeDirectory.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	s, err := m.signature(a)
	if err != nil {
		return nil, err
	}
	if !s.Signed() {
		return nil, codesign.ErrAdHoc
	}
	if index != 0 {
		return nil, fmt.Errorf("dmg: signature %d: an image has one", index)
	}
	return &format.Sidecar{Suffix: ".p7s", Data: s.CMS.Raw}, nil
}
