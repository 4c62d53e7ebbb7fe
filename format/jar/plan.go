package jar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
)

// bodyVersion is the version of body. A version that was released never changes.
const bodyVersion = 1

// body is all that manifest and signature file follow from, and what Attach needs.
type body struct {
	Kept      []byte         `cbor:"1,keyasint"` // the manifest's beginning, as it is to stand
	Sections  []jarsig.Entry `cbor:"2,keyasint"` // written after it
	File      string         `cbor:"3,keyasint"` // base name of signature file and block
	Signers   []string       `cbor:"4,keyasint"` // base names of the signatures that stay
	Remove    []string       `cbor:"5,keyasint"` // entries that are taken out, in the directory's order
	Directory []byte         `cbor:"6,keyasint"` // SHA-256 of the archive's directory
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	h, err := format.HashByName(params["digest"])
	if err != nil {
		return nil, err
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	keep := params["existing"] == "keep" && r.signed()
	b := body{File: params["name"], Sections: []jarsig.Entry{}, Signers: []string{}, Remove: []string{}}
	dir := sha256.Sum256([]byte(r.RawDirectory()))
	b.Directory = dir[:]
	if keep {
		if err := r.whole(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExisting, err)
		}
		b.Signers = slices.Clone(r.order)
	} else if params["existing"] == "keep" && len(r.odd) > 0 {
		return nil, r.whole()
	}
	if b.File == "" {
		b.File = freeName(r, keep)
	}
	if err := checkFile(b.File); err != nil {
		return nil, err
	}
	if _, taken := r.texts[b.File]; taken && keep {
		return nil, fmt.Errorf("jar: there is a signature %s already: choose another name", b.File)
	}
	r.removals(&b, keep)

	// Digests of the other kinds are needed where a manifest to be kept has them.
	want := []crypto.Hash{h}
	var old *jarsig.File
	if keep {
		if r.manifest < 0 {
			return nil, fmt.Errorf("%w: there is no manifest", ErrExisting)
		}
		if old, err = r.readManifest(); err != nil {
			return nil, err
		}
		if want, err = used(old, h); err != nil {
			return nil, err
		}
	}
	got, err := r.Read(ctx, want, func(i int) int64 {
		k, _ := jarsig.KindOf(r.Entries[i].Name)
		switch {
		case k == jarsig.ManifestFile:
			return jarsig.MaxSize
		case k == jarsig.SignatureText && keep:
			return jarsig.MaxSize
		}
		return 0
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	digest := func(i int) func(crypto.Hash) []byte {
		return func(h crypto.Hash) []byte { return part(got.Digest(i), want, h) }
	}
	if keep {
		err = r.extend(&b, old, h, digest, func(i int) []byte { return got.Kept[i] })
	} else {
		var text []byte
		if r.manifest >= 0 {
			text = got.Kept[r.manifest]
		}
		err = r.rewrite(&b, text, digest, h)
	}
	if err != nil {
		return nil, err
	}
	manifest, err := b.draft(h)
	if err != nil {
		return nil, err
	}
	facts, err := b.facts(manifest)
	if err != nil {
		return nil, err
	}
	content, err := manifest.Sum()
	if err != nil {
		return nil, fmt.Errorf("jar: manifest: %w", err)
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("jar: plan: %w", err)
	}
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: r.Size, Content: content,
		Params: single.Options(params), Facts: append(facts, r.details(len(facts))...), Body: enc,
	}
	return p, p.Check()
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// part takes the digest under h out of those under all of hs.
func part(d []byte, hs []crypto.Hash, h crypto.Hash) []byte {
	for _, k := range hs {
		if k == h {
			return d[:k.Size()]
		}
		d = d[k.Size():]
	}
	return nil
}

// freeName is the name of the first signature that is not there yet.
func freeName(r *archive, keep bool) string {
	for n := 1; ; n++ {
		name := "SIGNER"
		if n > 1 {
			name += strconv.Itoa(n)
		}
		if _, taken := r.texts[name]; !taken || !keep {
			return name
		}
	}
}

// checkFile holds the name of a signature file to the specification.
func checkFile(n string) error {
	ok := len(n) >= 1 && len(n) <= 8 && !strings.HasPrefix(n, "SIG-")
	for _, c := range []byte(n) {
		ok = ok && ('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("jar: name %.20q of a signature: want 1 to 8 of A-Z, 0-9, _ and -, not beginning with SIG-", n)
	}
	return nil
}

// removals lists what is taken out: the old manifest, and what is replaced.
func (r *archive) removals(b *body, keep bool) {
	for i := range r.Entries {
		k, _ := jarsig.KindOf(r.Entries[i].Name)
		if k == jarsig.ManifestFile || k != jarsig.Content && !keep {
			b.Remove = append(b.Remove, r.Entries[i].Name)
		}
	}
}

// readManifest reads the manifest before all else: its digests say what to compute.
func (r *archive) readManifest() (*jarsig.File, error) {
	text, err := r.Content(r.manifest, jarsig.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	m, err := jarsig.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("jar: manifest: %w", err)
	}
	return m, nil
}

// used are the hashes of a manifest's digests, and h.
func used(m *jarsig.File, h crypto.Hash) ([]crypto.Hash, error) {
	var out []crypto.Hash
	for _, k := range hashes {
		if k == h {
			out = append(out, k)
		}
	}
	for i := range m.Sections {
		ds, err := m.Sections[i].Digests("")
		if err != nil {
			return nil, fmt.Errorf("jar: manifest: %w", err)
		}
		for _, d := range ds {
			if !slices.Contains(out, d.Hash) {
				out = append(out, d.Hash)
			}
		}
	}
	return out, nil
}

// extend keeps the manifest as it is, which others have signed, and adds sections for
// the entries that it lacks.
func (r *archive) extend(b *body, m *jarsig.File, h crypto.Hash, digest func(int) func(crypto.Hash) []byte, content func(int) []byte) error {
	if m.Loose {
		return fmt.Errorf("%w: sections of the manifest have no clear borders", ErrExisting)
	}
	index := m.Index()
	for _, key := range r.order {
		sf, err := jarsig.Parse(content(r.texts[key]))
		if err == nil {
			_, _, err = sf.Covered(m, index)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrExisting, key, err)
		}
	}
	b.Kept = m.Raw
	for i := range r.Order {
		if !r.is(i) {
			continue
		}
		name := r.Entries[i].Name
		k, ok := index[name]
		if !ok {
			b.Sections = append(b.Sections, jarsig.Entry{Name: name, Digest: digest(i)(h), Attributes: []jarsig.Attribute{}})
			continue
		}
		if err := compare(&m.Sections[k], digest(i)); err != nil {
			return fmt.Errorf("%w: %w", ErrExisting, err)
		}
		delete(index, name)
	}
	return leftovers(m, index)
}

// compare checks an entry against its section.
func compare(s *jarsig.Section, digest func(crypto.Hash) []byte) error {
	ds, err := s.Digests("")
	if err != nil {
		return fmt.Errorf("jar: manifest: %w", err)
	}
	if len(ds) == 0 {
		return fmt.Errorf("%w: %.80q has none that counts", ErrDigest, s.Name)
	}
	for _, d := range ds {
		if !bytes.Equal(digest(d.Hash), d.Value) {
			return fmt.Errorf("%w: %.80q", ErrDigest, s.Name)
		}
	}
	return nil
}

// leftovers refuses sections with digests whose entries are not there.
func leftovers(m *jarsig.File, index map[string]int) error {
	for _, k := range index {
		for _, a := range m.Sections[k].Attributes {
			if jarsig.IsDigest(a.Name) {
				return fmt.Errorf("%w: %.80q is in the manifest and not in the archive", ErrDigest, m.Sections[k].Name)
			}
		}
	}
	return nil
}

// rewrite makes a manifest that nobody has signed: the attributes of the old one, and
// a digest of each entry, in the order of the archive.
func (r *archive) rewrite(b *body, text []byte, digest func(int) func(crypto.Hash) []byte, h crypto.Hash) error {
	m, err := jarsig.Parse(text)
	if err != nil {
		return fmt.Errorf("jar: manifest: %w", err)
	}
	main := []jarsig.Attribute{{Name: "Manifest-Version", Value: "1.0"}}
	if v, ok := m.Main.Get("Manifest-Version"); ok {
		main[0].Value = v
	}
	for _, a := range m.Main.Attributes {
		if !strings.EqualFold(a.Name, "Manifest-Version") && !jarsig.IsDigest(a.Name) {
			main = append(main, a)
		}
	}
	if b.Kept, err = jarsig.Main(main); err != nil {
		return fmt.Errorf("jar: manifest: %w", err)
	}
	attributes := func(s *jarsig.Section) []jarsig.Attribute {
		out := []jarsig.Attribute{}
		for _, a := range s.Attributes[1:] {
			if !jarsig.IsDigest(a.Name) {
				out = append(out, a)
			}
		}
		return out
	}
	index := m.Index()
	for i := range r.Order {
		if !r.is(i) {
			continue
		}
		e := jarsig.Entry{Name: r.Entries[i].Name, Digest: digest(i)(h), Attributes: []jarsig.Attribute{}}
		if k, ok := index[e.Name]; ok {
			e.Attributes = attributes(&m.Sections[k])
			delete(index, e.Name)
		}
		b.Sections = append(b.Sections, e)
	}
	// What is left speaks of folders and packages; digests of files that are gone go too.
	for i := range m.Sections {
		s := &m.Sections[i]
		if _, ok := index[s.Name]; !ok {
			continue
		}
		if left := attributes(s); len(left) > 0 {
			b.Sections = append(b.Sections, jarsig.Entry{Name: s.Name, Digest: []byte{}, Attributes: left})
		}
	}
	return nil
}

// draft checks what the manifest is made of.
func (b *body) draft(h crypto.Hash) (*jarsig.Draft, error) {
	m, err := jarsig.NewDraft(b.Kept, h, b.Sections)
	if err != nil {
		return nil, fmt.Errorf("jar: manifest: %w", err)
	}
	if v, ok := m.Kept.Main.Get("Manifest-Version"); !ok || v == "" {
		return nil, fmt.Errorf("%w: manifest without a version", ErrPlan)
	}
	return m, nil
}
