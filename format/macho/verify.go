package macho

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// report says what the file is.
func (f *file) report(a format.Artifact) *format.Report {
	r := &format.Report{Format: name, Size: f.size, Signatures: []format.SignatureInfo{}}
	r.Facts = append(r.Facts, format.Fact{Name: "kind", Value: kinds[f.slices[0].kind]})
	for _, p := range f.slices {
		r.Facts = append(r.Facts, format.Fact{Name: "architecture", Value: p.architecture()})
	}
	var infos []piece
	for _, p := range f.slices {
		if i, err := p.readInfo(a); err == nil {
			infos = append(infos, i)
		}
	}
	r.Facts = append(r.Facts, f.details(infos, len(r.Facts))...)
	return r
}

// Inspect reads load commands and signatures; it computes no digest of the file.
// The index of a signature is that of its slice among those that have one.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	f, err := parse(a)
	if err != nil {
		return nil, err
	}
	r := f.report(a)
	for _, p := range f.slices {
		if p.sigAt == 0 {
			r.Facts = append(r.Facts, format.Fact{Name: "unsigned slice", Value: p.architecture()})
			continue
		}
		s, err := p.readSignature(a)
		if err != nil {
			return nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		info := s.Info(len(r.Signatures))
		info.Label = p.architecture()
		r.Signatures = append(r.Signatures, *info)
	}
	return r, nil
}

// Verify reads a once and accepts it when the signature of every slice verifies.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("macho: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	f, err := parse(a)
	if err != nil {
		return nil, err
	}
	r, _, err := f.verify(ctx, a, t, codesign.Outside{})
	return r, err
}

// checkPages reads the signature of a slice and compares the pages with it: all
// bytes before the signature are hashed, and have the hashes in it.
func (p *part) checkPages(ctx context.Context, a format.Artifact, seen piece) (*codesign.Signature, *codesign.Directory, error) {
	s, err := p.readSignature(a)
	if err != nil {
		return nil, nil, err
	}
	d, err := s.Best()
	if err != nil {
		return nil, nil, err
	}
	if d.Limit != p.signature.off {
		return nil, nil, malformed("%d bytes are hashed, and the signature begins at %d", d.Limit, p.signature.off)
	}
	v := &view{a: a, base: p.off, head: p.raw, end: p.signature.off, seen: seen}
	got, err := codesign.Pages(ctx, v, d.Limit, d.PageSize, d.Hash)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(got, d.Slots) {
		return nil, nil, fmt.Errorf("%w: page %s differs", ErrDigest, firstPage(got, d.Slots, d.Hash.Size()))
	}
	return s, d, nil
}

func (p piece) bytes() []byte {
	if len(p.b) == 0 {
		return nil
	}
	return p.b
}

func firstPage(a, b []byte, size int) string {
	for i := 0; i+size <= min(len(a), len(b)); i += size {
		if !bytes.Equal(a[i:i+size], b[i:i+size]) {
			return strconv.Itoa(i / size)
		}
	}
	return "count"
}
