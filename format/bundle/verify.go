package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
)

func report(a format.Artifact, info []byte) (*format.Report, error) {
	d, id, _, err := parseInfo(info)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: name, Size: a.Size(), Signatures: []format.SignatureInfo{}, Facts: []format.Fact{
		{Name: "kind", Value: "bundle"}, {Name: "identifier", Value: plainText(id)},
	}}
	if v := d.String("CFBundleShortVersionString"); v != "" {
		r.Facts = append(r.Facts, format.Fact{Name: "version", Value: plainText(v)})
	}
	return r, nil
}

// label names a signature by the program and the slice.
func label(program, slice string) string { return program + " " + slice }

// Inspect reads the signatures of all code.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	t, root, err := openTree(a)
	if err != nil {
		return nil, err
	}
	var r *format.Report
	var found []format.SignatureInfo
	err = visit(ctx, t, root, func(o *object, info []byte, _ *contents) error {
		one, err := macho.Format{}.Inspect(ctx, t.Open(t.Lookup(o.program)))
		if err != nil {
			return fmt.Errorf("bundle: %q: %w", o.program, err)
		}
		for _, s := range one.Signatures {
			s.Index, s.Label = len(found), label(o.program, s.Label)
			found = append(found, s)
		}
		if o.path == "" {
			r, err = report(a, info)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Signatures = append(r.Signatures, found...)
	return r, nil
}

// Verify reads every file and accepts the bundle when all code in it verifies and
// all lists name what is there.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("bundle: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	tree, root, err := openTree(a)
	if err != nil {
		return nil, err
	}
	v := &verifier{ctx: ctx, tree: tree, trust: t, hashes: map[string][][]byte{}}
	if err := visit(ctx, tree, root, v.object); err != nil {
		return nil, err
	}
	content, err := contentOf(v.known)
	if err != nil {
		return nil, err
	}
	r, err := report(a, v.info)
	if err != nil {
		return nil, err
	}
	for i := range v.found {
		v.found[i].Content = content
	}
	last := &v.found[len(v.found)-1]
	last.Covers = append(last.Covers, strconv.Itoa(v.lines)+" files, links and pieces of code by the lists of resources")
	last.Open = append(last.Open, "permissions of files")
	for _, p := range v.loose {
		last.Open = append(last.Open, plainText(p)+", which the rules leave out")
	}
	if v.folders {
		last.Open = append(last.Open, "empty folders")
	}
	r.Signatures = v.found
	return r, nil
}

type verifier struct {
	ctx     context.Context
	tree    *format.Tree
	trust   format.Trust
	hashes  map[string][][]byte // code hashes of all slices, by path of the code
	found   []format.SignatureInfo
	known   []known
	info    []byte // Info.plist of the bundle itself
	loose   []string
	lines   int
	folders bool
}

func (v *verifier) object(o *object, info []byte, c *contents) error {
	var outside codesign.Outside
	var list []byte
	if o.info != "" {
		if v.tree.Lookup(o.list()) < 0 {
			return fmt.Errorf("%w: %q is not there", ErrUnsigned, o.list())
		}
		var err error
		if list, err = readFile(v.tree, o.list(), maxList); err != nil {
			return err
		}
		outside = codesign.Outside{Info: info, Resources: list}
	}
	r, hashes, err := macho.VerifyIn(v.ctx, v.tree.Open(v.tree.Lookup(o.program)), v.trust, outside)
	if err != nil {
		return fmt.Errorf("bundle: %q: %w", o.program, err)
	}
	if o.info != "" {
		inside := map[string][][]byte{}
		for _, s := range c.lines {
			if s.Code {
				inside[s.Path] = v.hashes[path.Join(o.base, s.Path)]
			}
		}
		if err := compareList(list, c.lines, inside); err != nil {
			return err
		}
	}
	v.hashes[o.path] = hashes
	if v.info == nil || o.path == "" {
		v.info = info
	}
	v.loose, v.lines, v.folders = append(v.loose, c.loose...), v.lines+len(c.lines), v.folders || c.folder
	lines := c.lines
	if lines == nil {
		lines = []sealed{}
	}
	v.known = append(v.known, known{o.path, append([]byte{}, info...), lines, r.Signatures[0].Content})
	for _, s := range r.Signatures {
		s.Index, s.Label = len(v.found), label(o.program, s.Label)
		v.found = append(v.found, s)
	}
	return nil
}

// programs calls f for the program of every piece of code, in the order of
// signatures.
func programs(ctx context.Context, a format.Artifact, f func(t *format.Tree, i int) error) error {
	t, root, err := openTree(a)
	if err != nil {
		return err
	}
	return visit(ctx, t, root, func(o *object, _ []byte, _ *contents) error { return f(t, t.Lookup(o.program)) })
}

// Unstamped lists the signatures without a timestamp.
func (Format) Unstamped(ctx context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	var out []format.StampTarget
	n := 0
	err := programs(ctx, a, func(t *format.Tree, i int) error {
		r, err := macho.Format{}.Inspect(ctx, t.Open(i))
		if err != nil {
			return err
		}
		list, err := macho.Format{}.Unstamped(ctx, t.Open(i), nil)
		if err != nil {
			return err
		}
		for _, s := range list {
			s.Index += n
			out = append(out, s)
		}
		n += len(r.Signatures)
		return nil
	})
	return out, err
}

// Stamp adds a token inside the space of a signature: no list changes.
func (Format) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	var out *format.Patch
	n := 0
	err := programs(ctx, a, func(t *format.Tree, i int) error {
		r, err := macho.Format{}.Inspect(ctx, t.Open(i))
		if err != nil {
			return err
		}
		if k := target.Index - n; out == nil && k >= 0 && k < len(r.Signatures) {
			p, err := macho.Format{}.Stamp(ctx, t.Open(i), nil, format.StampTarget{Index: k, Message: target.Message}, token)
			if err != nil {
				return err
			}
			out = &format.Patch{Size: a.Size()}
			for _, e := range p.Edits {
				e.Offset += t.Offset(i)
				out.Edits = append(out.Edits, e)
			}
		}
		n += len(r.Signatures)
		return nil
	})
	if err == nil && out == nil {
		err = errors.New("bundle: no signature has the value that was stamped")
	}
	return out, err
}

// Remove takes off the signatures of all code, and the lists.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	t, root, err := openTree(a)
	if err != nil {
		return nil, err
	}
	if index != -1 {
		return nil, fmt.Errorf("bundle: signature %d: those of a bundle are taken off together", index)
	}
	patches, lists := map[string]*format.Patch{}, map[string][]byte{}
	err = visit(ctx, t, root, func(o *object, _ []byte, _ *contents) error {
		if o.info != "" && t.Lookup(o.list()) >= 0 {
			lists[o.list()], lists[path.Dir(o.list())] = nil, nil
		}
		p, err := macho.Format{}.Remove(ctx, t.Open(t.Lookup(o.program)), -1)
		if errors.Is(err, format.ErrUnsigned) {
			return nil
		}
		patches[o.program] = p
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(patches)+len(lists) == 0 {
		return nil, ErrUnsigned
	}
	return Compose(t, a.Size(), patches, lists)
}

// Extract gives the CMS signature of one slice, by the order of signatures.
func (Format) Extract(ctx context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	var out *format.Sidecar
	n := 0
	err := programs(ctx, a, func(t *format.Tree, i int) error {
		r, err := macho.Format{}.Inspect(ctx, t.Open(i))
		if err != nil {
			return err
		}
		if k := index - n; out == nil && k >= 0 && k < len(r.Signatures) {
			out, err = macho.Format{}.Extract(ctx, t.Open(i), k)
		}
		n += len(r.Signatures)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, ErrUnsigned
	case out == nil:
		return nil, fmt.Errorf("bundle: signature %d of %d", index, n)
	}
	return out, nil
}

// List gives the files.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	t, _, err := openTree(a)
	if err != nil {
		return err
	}
	for i := range t.Entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		e := &t.Entries[i]
		out := format.Entry{Name: e.Path, Size: e.Size}
		switch {
		case e.Folder:
			continue
		case e.Link != "":
			out.Facts = []format.Fact{{Name: "link", Value: plainText(e.Link)}}
		default:
			h := sha256.New()
			if n, err := io.Copy(h, io.NewSectionReader(t.Open(i), 0, e.Size)); err != nil || n != e.Size {
				return fmt.Errorf("bundle: %q: %w", e.Path, orShort(err))
			}
			out.Digest = bytes.Clone(h.Sum(nil))
		}
		if err := yield(out); err != nil {
			return err
		}
	}
	return nil
}
