package macho

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// What package bundle needs of the code in a bundle, whose list of resources is
// known only once it is known who signs.

// WithResources is a plan of the same code, sealed with another digest of its
// CodeResources.
func WithResources(p *format.Plan, digest []byte) (*format.Plan, error) {
	b, _, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	for i := range b.Slices {
		b.Slices[i].Code.Resources = digest
	}
	out := *p
	out.Params = nil
	for _, f := range p.Params {
		if f.Name == "code-resources" {
			f.Value = fmt.Sprintf("%x", digest)
		}
		out.Params = append(out.Params, f)
	}
	out.Body, err = format.Encode(b)
	return &out, err
}

// CodeHash is the digest of the first slice's CodeDirectory, 20 bytes of it, by which
// what contains the code names it.
func CodeHash(p *format.Plan, id format.Identity, at time.Time) ([]byte, error) {
	_, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	return as[0].DirectoryDigest(h)[:20], nil
}

// VerifyIn is Verify for code in a bundle: o has what stands beside it. It also
// returns the code hashes of all slices.
func VerifyIn(ctx context.Context, a format.Artifact, t format.Trust, o codesign.Outside) (*format.Report, [][]byte, error) {
	f, err := parse(a)
	if err != nil {
		return nil, nil, err
	}
	return f.verify(ctx, a, t, o)
}

func (f *file) verify(ctx context.Context, a format.Artifact, t format.Trust, o codesign.Outside) (*format.Report, [][]byte, error) {
	r := f.report(a)
	found := make([]*codesign.Signature, len(f.slices))
	infos := make([]piece, len(f.slices))
	content := map[crypto.Hash][]byte{}
	var hashes [][]byte
	var err error
	for i, p := range f.slices {
		if p.sigAt == 0 {
			return nil, nil, fmt.Errorf("%w: slice %s", ErrUnsigned, p.architecture())
		}
		if infos[i], err = p.readInfo(a); err != nil {
			return nil, nil, err
		}
		var d *codesign.Directory
		if found[i], d, err = p.checkPages(ctx, a, infos[i]); err != nil {
			return nil, nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		content[d.Hash] = append(content[d.Hash], d.Slots...)
		hashes = append(hashes, codesign.Digest(d.Hash, d.Raw)[:20])
	}
	for i, p := range f.slices {
		beside := o
		if beside.Info == nil {
			beside.Info = infos[i].bytes()
		}
		info, err := found[i].Verify(beside, t)
		if err != nil {
			return nil, nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		h, err := format.HashByName(info.Digest)
		if err != nil {
			return nil, nil, err
		}
		info.Index, info.Label, info.Content = i, p.architecture(), codesign.Digest(h, content[h])
		info.Covers[0] = fmt.Sprintf("all %d bytes of slice %s before the signature", p.signature.off, p.architecture())
		if f.width != 0 {
			info.Open = append(info.Open, "alignment of slices in the table of the universal file")
		}
		if f.width != 0 && p.sub>>24 != p.head.sub>>24 {
			info.Open = append(info.Open, "capabilities of the processor, which the table of the universal file leaves out")
		}
		if d, err := found[i].Best(); err != nil || o.Resources != nil && d.Special[codesign.SlotResources-1] == nil || o.Info != nil && d.Special[codesign.SlotInfo-1] == nil {
			return nil, nil, malformed("slice %s is not bound to the Info.plist or the CodeResources of its bundle", p.architecture())
		}
		r.Signatures = append(r.Signatures, *info)
	}
	return r, hashes, nil
}

// IsCode says whether a is what this format signs, by its first bytes.
func IsCode(a format.Artifact) bool { return Format{}.Detect(a) }

// What package ipa needs: lists of iOS name code by digests of whole signed files.

// CodeLimit is where the signature of a planned thin file will begin, which ends it; 0
// for a universal file.
func CodeLimit(p *format.Plan) (int64, error) {
	b, _, err := decodeBody(p)
	if err != nil || b.Width != 0 {
		return 0, err
	}
	return b.Slices[0].Code.Limit, nil
}

// WriteCode writes what will stand before the signature of a planned thin file, of
// which Embedded gives the rest.
func WriteCode(w io.Writer, a format.Artifact, p *format.Plan) error {
	b, _, err := decodeBody(p)
	if err != nil {
		return err
	}
	m, err := b.compare(a, p)
	if err != nil {
		return err
	}
	if b.Width != 0 {
		return errUniversal
	}
	one := &b.Slices[0]
	head, err := m.slices[0].withSignature(one.Code.Limit, one.Code.Space)
	if err != nil {
		return err
	}
	v := &view{a: a, head: head, end: one.End}
	if _, err := io.Copy(w, io.NewSectionReader(v, 0, one.Code.Limit)); err != nil {
		return fmt.Errorf("macho: %w", err)
	}
	return nil
}

// Embedded is the signature that ends a planned thin file. It has no timestamp, and
// whether value is right is checked by Attach.
func Embedded(p *format.Plan, id format.Identity, at time.Time, value []byte) ([]byte, error) {
	b, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	if b.Width != 0 {
		return nil, errUniversal
	}
	return as[0].Embed(value)
}

// Entitlements are those in the signatures of all slices, nil for a slice without.
func Entitlements(a format.Artifact) ([][]byte, error) {
	_, _, ss, err := signed(a)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, s := range ss {
		out = append(out, s.Entitlements)
	}
	return out, nil
}

// CodeEnd is where the signature of a thin file begins; 0 for a universal one, and for
// one without a signature.
func CodeEnd(a format.Artifact) (int64, error) {
	f, err := parse(a)
	if err != nil || f.width != 0 || f.slices[0].sigAt == 0 {
		return 0, err
	}
	return f.slices[0].signature.off, nil
}
