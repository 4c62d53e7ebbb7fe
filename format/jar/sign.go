package jar

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// derived is what a plan and an identity lead to.
type derived struct {
	body     *body
	manifest *jarsig.Draft
	spec     cms.SignerSpec
	block    string // name of the block
}

// derive checks every relation in a plan and writes what is signed.
func (f Format) derive(p *format.Plan, id format.Identity) (*derived, error) {
	params, err := single.Frame(f, p, bodyVersion)
	if err != nil {
		return nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, fmt.Errorf("jar: plan: %w", err)
	}
	if err := b.check(p, params); err != nil {
		return nil, err
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	m, err := b.draft(h)
	if err != nil {
		return nil, err
	}
	facts, err := b.facts(m)
	if err != nil {
		return nil, err
	}
	said, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if !slices.Equal(facts, said) {
		return nil, fmt.Errorf("%w: facts do not follow from the manifest", ErrPlan)
	}
	if content, err := m.Sum(); err != nil {
		return nil, fmt.Errorf("jar: manifest: %w", err)
	} else if !bytes.Equal(content, p.Content) {
		return nil, fmt.Errorf("%w: content is not the manifest's digest", ErrPlan)
	}
	if err := format.CheckKeys(f, len(id.Signers())); err != nil {
		return nil, err
	}
	d := &derived{body: &b, manifest: m}
	ext, err := extension(id.Scheme)
	if err != nil {
		return nil, err
	}
	d.block = jarsig.Folder + b.File + ext
	// The block's own digest is the one that goes with the scheme, whatever the
	// manifest's is.
	digest := cms.DigestFor(id.Scheme)
	text := digest.New()
	if err := m.WriteSignatureFile(text, p.Content); err != nil {
		return nil, fmt.Errorf("jar: signature file: %w", err)
	}
	if d.spec, err = single.Spec(Name, text.Sum(nil), digest, id, time.Time{}); err != nil {
		return nil, err
	}
	d.spec.AlgorithmProtection = true
	return d, nil
}

// check holds what is not signed to what Plan makes.
func (b *body) check(p *format.Plan, params format.Params) error {
	bad := func(f string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	if params["digest"] != p.Digest {
		return bad("digest %s, option digest %s", p.Digest, params["digest"])
	}
	if n := params["name"]; n != "" && n != b.File {
		return bad("signature file %.20q, option name %.20q", b.File, n)
	}
	if err := checkFile(b.File); err != nil {
		return err
	}
	if len(b.Directory) != sha256.Size || len(b.Signers) > maxSigners || len(b.Signers) > 0 && params["existing"] != "keep" {
		return bad("signers that stay, or the directory's digest")
	}
	for _, s := range b.Signers {
		if s == b.File || zipfile.CheckName(s) != nil || strings.Contains(s, "/") {
			return bad("signer %.20q", s)
		}
	}
	for i, n := range b.Remove {
		k, _ := jarsig.KindOf(n)
		if k == jarsig.Content || slices.Contains(b.Remove[:i], n) || len(b.Remove) > 1024 || k != jarsig.ManifestFile && len(b.Signers) > 0 {
			return bad("%.80q is taken out", n)
		}
	}
	for i := range b.Sections {
		if k, _ := jarsig.KindOf(b.Sections[i].Name); k != jarsig.Content {
			return bad("a digest of %.80q", b.Sections[i].Name)
		}
		for _, a := range b.Sections[i].Attributes {
			if jarsig.IsDigest(a.Name) {
				return bad("an attribute %.80q of %.80q", a.Name, b.Sections[i].Name)
			}
		}
	}
	return nil
}

// extension of the block for a scheme's keys.
func extension(s sigalg.Scheme) (string, error) {
	switch {
	case s.Fits(sigalg.RSA3072):
		return ".RSA", nil
	case s.Fits(sigalg.P256), s.Fits(sigalg.P384), s.Fits(sigalg.Ed25519):
		return ".EC", nil
	}
	return "", fmt.Errorf("jar: scheme %q: no Java takes it in a JAR", s)
}

// Assemble returns the signed attributes over the signature file, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	t, err := d.toBeSigned(id)
	if err != nil {
		return nil, err
	}
	return single.Round(Name, done, t)
}

func (d *derived) toBeSigned(id format.Identity) (format.ToBeSigned, error) {
	m, err := d.spec.SignedAttributes()
	if err != nil {
		return format.ToBeSigned{}, fmt.Errorf("jar: %w", err)
	}
	return format.ToBeSigned{Scheme: id.Scheme, Message: m}, nil
}

// Attach puts manifest, signature file and block before all other entries: readers
// of streams look for them there.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	t, err := d.toBeSigned(id)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Size() != p.Size:
		return nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	case len(sigs) != 1:
		return nil, fmt.Errorf("jar: %d signatures: one is wanted", len(sigs))
	}
	if err := t.Verify(id.Public, sigs[0].Value); err != nil {
		return nil, fmt.Errorf("jar: signature does not fit plan and key: %w", err)
	}
	der, err := single.EncodeCMS(Name, d.spec, nil, id, sigs[0].Value)
	if err != nil {
		return nil, err
	}
	if sigs[0].Timestamp != nil {
		if der, err = addToken(der, 0, sigs[0].Value, sigs[0].Timestamp); err != nil {
			return nil, err
		}
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if dir := sha256.Sum256([]byte(r.RawDirectory())); !bytes.Equal(dir[:], d.body.Directory) {
		return nil, fmt.Errorf("%w: its directory is another", ErrChanged)
	}
	var again body
	r.removals(&again, len(d.body.Signers) > 0)
	if !slices.Equal(again.Remove, d.body.Remove) || len(d.body.Signers) > 0 && !slices.Equal(r.order, d.body.Signers) {
		return nil, fmt.Errorf("%w: other signatures are there", ErrChanged)
	}
	e := r.Edit()
	for i := range r.Entries {
		if slices.Contains(d.body.Remove, r.Entries[i].Name) {
			e.Remove(i)
		}
	}
	manifest, err := pack(d.manifest.WriteManifest)
	if err != nil {
		return nil, err
	}
	text, err := pack(func(w io.Writer) error { return d.manifest.WriteSignatureFile(w, p.Content) })
	if err != nil {
		return nil, err
	}
	e.Front(
		zipfile.File{Name: jarsig.Manifest, Packed: manifest, Method: zipfile.Deflated},
		zipfile.File{Name: jarsig.Folder + d.body.File + ".SF", Packed: text, Method: zipfile.Deflated},
		zipfile.File{Name: d.block, Content: der, Method: zipfile.Deflated},
	)
	out, err := e.Apply()
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	return out.Patch, nil
}

// pack deflates what write writes.
func pack(write func(io.Writer) error) (*zipfile.Packed, error) {
	p, err := zipfile.NewPacked()
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	if err := errors.Join(write(p), p.Close()); err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	return p, nil
}

// addToken adds a token that is over this signature value.
func addToken(der []byte, signer int, value, token []byte) ([]byte, error) {
	t, err := tsp.ParseToken(token)
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	if _, err := t.VerifySignature(digestOf(value)); err != nil {
		return nil, fmt.Errorf("jar: timestamp: %w", err)
	}
	der, err = cms.AddUnsigned(der, signer, cms.NewAttribute(cms.OIDTimeStampToken, token))
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	return der, nil
}

// digestOf digests b under the hash that is asked for.
func digestOf(b []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if !slices.Contains(hashes[:], h) {
			return nil, fmt.Errorf("jar: digest under %v", h)
		}
		return sum(h, b), nil
	}
}
