package apk

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// Inspect says what a package is and who claims to have signed it.
func (Format) Inspect(_ context.Context, a format.Artifact) (*format.Report, error) {
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	rep := &format.Report{Format: Name, Size: r.Size, Facts: r.facts(m), Signatures: []format.SignatureInfo{}}
	if r.signedV1 {
		r.inspectV1(rep)
	}
	list, err := r.schemes()
	if err != nil {
		rep.Facts = append(rep.Facts, format.Fact{Name: "signing-block", Value: single.Text([]byte(err.Error()), 512)})
		return rep, nil
	}
	for _, s := range list {
		for _, x := range s.signers {
			info := r.info(rep, s.label, x)
			for i, d := range x.digests {
				if scheme := schemeOf(d.id); scheme != "" {
					info.Scheme, info.Digest, info.Content, info.Value = scheme, format.HashName(scheme.Hash()), d.value, x.signatures[i].value
					break
				}
			}
			rep.Signatures = append(rep.Signatures, info)
		}
	}
	return rep, nil
}

// inspectV1 reports the signers of scheme v1 as far as they can be read.
func (r *archive) inspectV1(rep *format.Report) {
	texts, blocks, m, err := r.partsV1()
	if err != nil {
		rep.Facts = append(rep.Facts, format.Fact{Name: "v1", Value: single.Text([]byte(err.Error()), 512)})
		return
	}
	for _, name := range blocks.order {
		der, err := r.Content(r.Index(blocks.names[name]), 1<<20)
		if err != nil {
			continue
		}
		sd, err := single.ParseCMS(Name, der)
		if err != nil {
			rep.Facts = append(rep.Facts, format.Fact{Name: "v1 " + single.Text([]byte(name), 64), Value: single.Text([]byte(err.Error()), 512)})
			continue
		}
		for _, s := range sd.Signers {
			info := single.DescribeCMS(s, s.Certificate())
			info.Index, info.Label = len(rep.Signatures), "v1 "+name
			info.Covers = []string{fmt.Sprintf("%d files", len(m.Sections))}
			if text, err := r.Content(r.Index(texts.names[name]), jarsig.MaxSize); err == nil {
				if f, err := jarsig.Parse(text); err == nil {
					if ds, err := f.Main.Digests("-Manifest"); err == nil && len(ds) > 0 {
						info.Digest, info.Content = format.HashName(ds[0].Hash), ds[0].Value
					}
				}
			}
			rep.Signatures = append(rep.Signatures, info)
		}
	}
}

// List calls yield for each file of the package.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	z, err := openZip(a)
	if err != nil {
		return fmt.Errorf("apk: %w", err)
	}
	return z.List(ctx, yield)
}

// Remove takes all signatures off: the signing block, and the files of scheme v1.
// Schemes name each other, so that one alone cannot be taken off.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if !r.signed() {
		return nil, fmt.Errorf("apk: %w", format.ErrUnsigned)
	}
	if index != -1 {
		return nil, fmt.Errorf("apk: signatures of a package are taken off together (index -1)")
	}
	l := r.layout(false)
	p := &format.Patch{Size: r.Size}
	for _, h := range l.holes {
		p.Edits = append(p.Edits, format.Edit{Offset: h.from, Delete: h.to - h.from, Insert: zipfile.Filler(h.to - h.from)})
	}
	var dir strings.Builder
	for i := range r.Entries {
		if !slices.Contains(l.removed, i) {
			dir.WriteString(r.RawRecord(i))
		}
	}
	end := endRecord(len(r.Entries)-len(l.removed), int64(dir.Len()), l.end, r.Comment)
	p.Edits = append(p.Edits, format.Edit{Offset: l.end, Delete: r.Size - l.end, Insert: append([]byte(dir.String()), end...)})
	return p, p.Check()
}

// Extract returns signature index of Inspect's report: a JAR signature's block, or the
// value of the scheme's pair in the signing block, with all of its signers.
func (f Format) Extract(ctx context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if !r.signed() {
		return nil, fmt.Errorf("apk: %w", format.ErrUnsigned)
	}
	rep, err := f.Inspect(ctx, a)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(rep.Signatures) {
		return nil, fmt.Errorf("apk: no signature %d", index)
	}
	label := rep.Signatures[index].Label
	for _, s := range schemes {
		if s.label == label {
			return &format.Sidecar{Suffix: "." + label, Data: find(r.pairs, s.id)}, nil
		}
	}
	for _, i := range r.v1 {
		if k, base := jarsig.KindOf(r.Entries[i].Name); k == jarsig.Block && "v1 "+strings.ToUpper(base) == label {
			b, err := r.Content(i, 1<<20)
			return &format.Sidecar{Suffix: ".p7s", Data: b}, err
		}
	}
	return nil, fmt.Errorf("apk: signature %d cannot be had apart", index)
}
