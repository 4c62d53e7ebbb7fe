package macho

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// signed lists the slices that have a signature, with it.
func signed(a format.Artifact) (*file, []*part, []*codesign.Signature, error) {
	f, err := parse(a)
	if err != nil {
		return nil, nil, nil, err
	}
	var ps []*part
	var ss []*codesign.Signature
	for _, p := range f.slices {
		if p.sigAt == 0 {
			continue
		}
		s, err := p.readSignature(a)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		ps, ss = append(ps, p), append(ss, s)
	}
	if len(ps) == 0 {
		return nil, nil, nil, ErrUnsigned
	}
	return f, ps, ss, nil
}

// Unstamped lists the signatures without a timestamp.
func (Format) Unstamped(_ context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	_, _, ss, err := signed(a)
	if err != nil {
		return nil, err
	}
	var out []format.StampTarget
	for i, s := range ss {
		value, err := s.Unstamped()
		if err != nil {
			return nil, err
		}
		if value != nil {
			out = append(out, format.StampTarget{Index: i, Message: value})
		}
	}
	return out, nil
}

// Stamp adds a token inside the space of the signature, whose length is hashed.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	f, ps, ss, err := signed(a)
	if err != nil {
		return nil, err
	}
	i := target.Index
	if i < 0 || i >= len(ss) || !ss[i].Signed() || !bytes.Equal(ss[i].CMS.Signers[0].Signature, target.Message) {
		return nil, errors.New("macho: no signature has the value that was stamped")
	}
	p := ps[i]
	b, err := ss[i].Stamp(token, p.signature.size)
	if err != nil {
		return nil, err
	}
	return &format.Patch{Size: f.size, Edits: []format.Edit{{Offset: p.off + p.signature.off, Delete: p.signature.size, Insert: b}}}, nil
}

// Remove takes off the signature of one slice, or of all. Up to 15 zeros that the
// signature put behind the code stay, and __LINKEDIT is as small in memory as it
// can be.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	f, err := parse(a)
	if err != nil {
		return nil, err
	}
	heads, tails := make([][]byte, len(f.slices)), make([][]byte, len(f.slices))
	n := 0
	for i, p := range f.slices {
		if p.sigAt == 0 {
			continue
		}
		if index == -1 || index == n {
			heads[i] = p.withoutSignature()
		} else {
			tails[i] = make([]byte, p.signature.size)
			if err := format.ReadFull(a, tails[i], p.off+p.signature.off); err != nil {
				return nil, fmt.Errorf("macho: %w", err)
			}
		}
		n++
	}
	if n == 0 {
		return nil, ErrUnsigned
	}
	if index < -1 || index >= n {
		return nil, fmt.Errorf("macho: signature %d of %d", index, n)
	}
	return f.patch(heads, tails)
}

// Extract gives the CMS signature of a slice; what it is over is the slice's first
// CodeDirectory.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	_, _, ss, err := signed(a)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(ss) {
		return nil, fmt.Errorf("macho: signature %d of %d", index, len(ss))
	}
	if !ss[index].Signed() {
		return nil, codesign.ErrAdHoc
	}
	return &format.Sidecar{Suffix: ".p7s", Data: ss[index].CMS.Raw}, nil
}

// List gives the slices, by architecture.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	f, err := parse(a)
	if err != nil {
		return err
	}
	for _, p := range f.slices {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("macho: %w", err)
		}
		x := sha256.New()
		if n, err := io.Copy(x, io.NewSectionReader(a, p.off, p.size)); err != nil || n != p.size {
			return fmt.Errorf("macho: slice %s: %w", p.architecture(), errors.Join(err, format.ErrShort))
		}
		if err := yield(format.Entry{Name: p.architecture(), Size: p.size, Digest: x.Sum(nil)}); err != nil {
			return err
		}
	}
	return nil
}
