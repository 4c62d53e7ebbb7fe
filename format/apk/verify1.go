package apk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// verifyV1 judges the JAR signatures of a package, all of which must cover all of it,
// and returns who made them.
func (r *archive) verifyV1(ctx context.Context, rep *format.Report, t format.Trust, list []schemeSigners) ([]*x509.Certificate, error) {
	texts, blocks, m, err := r.partsV1()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		// Nothing else covers what stands between the entries of such a package.
		z, err := zipfile.Open(r.a, zipfile.Options{})
		if err != nil {
			return nil, fmt.Errorf("apk: v1: %w", err)
		}
		r = &archive{Archive: z, a: r.a, pairs: r.pairs}
	}
	index := m.Index()
	var all []*x509.Certificate
	for _, name := range texts.order {
		text, err := r.Content(r.Index(texts.names[name]), jarsig.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("apk: v1: %w", err)
		}
		f, err := jarsig.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("apk: v1: %s: %w", name, err)
		}
		if v, ok := f.Main.Get(signedHeader); ok {
			for _, n := range namesSchemes(v) {
				k := slices.IndexFunc(schemes[:], func(s struct {
					id     uint32
					label  string
					number string
				}) bool {
					return s.number == n
				})
				if k >= 0 && find(r.pairs, schemes[k].id) == nil {
					return nil, fmt.Errorf("%w: scheme v1 says that v%s was there", ErrStripped, n)
				}
			}
		}
		names, _, err := f.Covered(m, index)
		if err != nil {
			return nil, fmt.Errorf("apk: v1: %s: %w", name, err)
		}
		if len(names) != len(m.Sections) { // sections of f are distinct and all in m
			return nil, fmt.Errorf("%w: v1: %s does not cover the whole manifest", ErrDigest, name)
		}
		certs, err := r.verifyBlock(rep, blocks.names[name], name, text, f, m, t)
		if err != nil {
			return nil, fmt.Errorf("apk: v1: %s: %w", name, err)
		}
		all = append(all, certs...)
	}
	return all, r.compareV1(ctx, m, index)
}

// parts are entries by the base name of a signature.
type parts struct {
	names map[string]string // base name in upper case: name of the entry
	order []string
}

// partsV1 finds signature files, blocks and manifest. None may lack its counterpart.
func (r *archive) partsV1() (texts, blocks parts, m *jarsig.File, err error) {
	texts, blocks = parts{names: map[string]string{}}, parts{names: map[string]string{}}
	manifest := -1
	for _, i := range r.v1 {
		name := r.Entries[i].Name
		k, base := jarsig.KindOf(name)
		p := &texts
		switch k {
		case jarsig.ManifestFile:
			manifest = i
			continue
		case jarsig.Block:
			p = &blocks
		case jarsig.SignatureText:
		case jarsig.Content, jarsig.Reserved:
			return texts, blocks, nil, fmt.Errorf("%w: v1: %.80q is a part of no signature", ErrContradiction, name)
		}
		key := strings.ToUpper(base)
		if _, twice := p.names[key]; twice {
			return texts, blocks, nil, fmt.Errorf("%w: v1: two signatures %.80q", ErrContradiction, base)
		}
		p.names[key] = name
		p.order = append(p.order, key)
	}
	for _, key := range append(slices.Clone(texts.order), blocks.order...) {
		if texts.names[key] == "" || blocks.names[key] == "" {
			return texts, blocks, nil, fmt.Errorf("%w: v1: signature %.80q is not whole", ErrContradiction, key)
		}
	}
	if manifest < 0 || len(texts.order) == 0 || len(texts.order) > maxSigners {
		return texts, blocks, nil, fmt.Errorf("%w: v1: no manifest or %d signatures", ErrContradiction, len(texts.order))
	}
	text, err := r.Content(manifest, jarsig.MaxSize)
	if err != nil {
		return texts, blocks, nil, fmt.Errorf("apk: v1: %w", err)
	}
	if m, err = jarsig.Parse(text); err != nil {
		err = fmt.Errorf("apk: v1: manifest: %w", err)
	}
	return texts, blocks, m, err
}

// verifyBlock judges the CMS signature over a signature file.
func (r *archive) verifyBlock(rep *format.Report, entry, name string, text []byte, f, m *jarsig.File, t format.Trust) ([]*x509.Certificate, error) {
	der, err := r.Content(r.Index(entry), 1<<20)
	if err != nil {
		return nil, err
	}
	sd, err := single.ParseCMS(Name, der)
	if err != nil {
		return nil, err
	}
	if sd.Content != nil {
		return nil, fmt.Errorf("%w: the block carries its content", ErrContradiction)
	}
	ds, err := f.Main.Digests("-Manifest")
	if err != nil || len(ds) == 0 {
		return nil, fmt.Errorf("%w: of the manifest", jarsig.ErrWeak)
	}
	var out []*x509.Certificate
	for _, s := range sd.Signers {
		c := s.Certificate(t.Intermediates...)
		if c == nil {
			return nil, fmt.Errorf("%w: it is not there", cms.ErrCertificate)
		}
		if err := s.VerifyContent(c, text); err != nil {
			return nil, err
		}
		if err := trusted(append([]*x509.Certificate{c}, sd.Certificates...), t); err != nil {
			return nil, err
		}
		info := single.DescribeCMS(s, c)
		info.Index, info.Label = len(rep.Signatures), "v1 "+name
		info.Digest, info.Content = format.HashName(ds[0].Hash), sum(ds[0].Hash, m.Raw)
		info.Covers = []string{fmt.Sprintf("%d files", len(m.Sections))}
		if len(find(r.pairs, idV2)) == 0 && len(find(r.pairs, idV3)) == 0 {
			info.Open = append(info.Open, "folders; times, attributes, comments, extra fields and order of entries, and how they are compressed")
		}
		info.Open = append(info.Open, "certificates in the block but the signer's")
		rep.Signatures = append(rep.Signatures, info)
		out = append(out, c)
	}
	return out, nil
}

// compareV1 checks every file against the manifest, and the manifest against the files.
func (r *archive) compareV1(ctx context.Context, m *jarsig.File, index map[string]int) error {
	c, err := r.Read(ctx, hashesV1, func(int) int64 { return 0 }, nil)
	if err != nil {
		return fmt.Errorf("apk: v1: %w", err)
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		if k, _ := jarsig.KindOf(e.Name); k != jarsig.Content || e.Dir() {
			continue
		}
		k, ok := index[e.Name]
		if !ok {
			return fmt.Errorf("%w: v1: %.80q is not in the manifest", ErrDigest, e.Name)
		}
		ds, err := m.Sections[k].Digests("")
		if err != nil {
			return fmt.Errorf("apk: v1: %w", err)
		}
		if len(ds) == 0 {
			return fmt.Errorf("%w: v1: %.80q", jarsig.ErrWeak, e.Name)
		}
		for _, d := range ds {
			if !bytes.Equal(part(c.Digest(i), d.Hash), d.Value) {
				return fmt.Errorf("%w: v1: %.80q", ErrDigest, e.Name)
			}
		}
		delete(index, e.Name)
	}
	for name, k := range index {
		if ds, err := m.Sections[k].Digests(""); err != nil || len(ds) > 0 {
			return fmt.Errorf("%w: v1: %.80q is in the manifest and not in the package", ErrDigest, name)
		}
	}
	return nil
}

// hashesV1 are those of manifests.
var hashesV1 = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// part takes the digest under h out of those under hashesV1.
func part(d []byte, h crypto.Hash) []byte {
	for _, k := range hashesV1 {
		if k == h {
			return d[:k.Size()]
		}
		d = d[k.Size():]
	}
	return nil
}
