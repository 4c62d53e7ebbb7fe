package ipa

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/macho"
)

// program reads the application's own program.
func (s *source) program() (*object, int, format.Artifact, error) {
	bundles, err := s.bundles()
	if err != nil {
		return nil, 0, nil, err
	}
	for p, o := range bundles {
		if o.dir != "" {
			continue
		}
		i := s.lookup(p)
		b, err := s.read(i, maxProgram)
		return o, i, format.BytesArtifact(path.Base(p), b), err
	}
	return nil, 0, nil, malformed("the application has no program")
}

// inside is how many signatures stand before those of the application's own program.
func (s *source) inside(ctx context.Context) (int, error) {
	r, err := Format{}.Inspect(ctx, s.a)
	if err != nil {
		return 0, err
	}
	o, _, _, err := s.program()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, one := range r.Signatures {
		if !strings.HasPrefix(one.Label, o.program+" ") || strings.Contains(o.program, "/") {
			n++
		}
	}
	return n, nil
}

// Unstamped lists the signatures of the application's own program without a timestamp:
// those inside take none.
func (Format) Unstamped(ctx context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	n, err := s.inside(ctx)
	if err != nil {
		return nil, err
	}
	_, _, program, err := s.program()
	if err != nil {
		return nil, err
	}
	out, err := macho.Format{}.Unstamped(ctx, program, nil)
	for i := range out {
		out[i].Index += n
	}
	return out, err
}

// Stamp adds a token inside the space of a signature of the application's own program,
// which no list names.
func (Format) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	n, err := s.inside(ctx)
	if err != nil {
		return nil, err
	}
	if target.Index < n {
		return nil, errStamped
	}
	_, i, _, err := s.program()
	if err != nil {
		return nil, err
	}
	target.Index -= n
	ch := s.change()
	err = ch.program(i, func(f format.Artifact) (*format.Patch, error) {
		return macho.Format{}.Stamp(ctx, f, nil, target, token)
	})
	if err != nil {
		return nil, err
	}
	return ch.patch()
}

// Remove takes off the signatures of all code, and the lists.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	if index != -1 {
		return nil, fmt.Errorf("ipa: signature %d: those of an application are taken off together", index)
	}
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	ch := s.change()
	var mu sync.Mutex
	changed := false
	code, _, lists, err := s.visit(ctx, func(f *found, a format.Artifact) error {
		p, err := macho.Format{}.Remove(ctx, a, -1)
		if errors.Is(err, format.ErrUnsigned) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		changed = true
		if s.tree != nil {
			ch.patches[f.program] = p
			return nil
		}
		ch.files[f.program], err = p.Bytes(a)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, f := range code {
		if _, ok := lists[listOf(f.dir)]; ok && f.bundle {
			ch.file(listOf(f.dir), nil)
			changed = true
		}
	}
	if !changed {
		return nil, ErrUnsigned
	}
	return ch.patch()
}

// Extract gives the CMS signature of one slice, by the order of signatures.
func (Format) Extract(ctx context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	sidecars := map[string][]*format.Sidecar{}
	code, _, _, err := s.visit(ctx, func(f *found, a format.Artifact) error {
		r, err := macho.Format{}.Inspect(ctx, a)
		if err != nil {
			return err
		}
		var out []*format.Sidecar
		for i := range r.Signatures {
			one, err := macho.Format{}.Extract(ctx, a, i)
			if err != nil && !errors.Is(err, format.ErrUnsigned) {
				return err
			}
			out = append(out, one)
		}
		mu.Lock()
		defer mu.Unlock()
		sidecars[f.program] = out
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []*format.Sidecar
	for _, f := range code {
		all = append(all, sidecars[f.program]...)
	}
	switch {
	case len(all) == 0:
		return nil, ErrUnsigned
	case index < 0 || index >= len(all):
		return nil, fmt.Errorf("ipa: signature %d of %d", index, len(all))
	case all[index] == nil:
		return nil, fmt.Errorf("ipa: signature %d: nobody made it: %w", index, format.ErrUnsigned)
	}
	return all[index], nil
}

// List gives the files of the application, by their paths in it.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	s, err := open(a)
	if err != nil {
		return err
	}
	code, files, lists, err := s.visit(ctx, func(*found, format.Artifact) error { return nil })
	if err != nil {
		return err
	}
	at := map[string]sealed{}
	for _, f := range files {
		at[f.Path] = f
	}
	for _, f := range code {
		at[f.program] = f.file
	}
	for p, l := range lists {
		at[p] = l
	}
	for _, e := range s.entries {
		out := format.Entry{Name: e.Path, Size: e.Size}
		switch {
		case e.Folder:
			continue
		case e.Link != "":
			out.Facts = []format.Fact{{Name: "link", Value: plainText(e.Link)}}
		default:
			out.Digest = at[e.Path].SHA256
		}
		if err := yield(out); err != nil {
			return err
		}
	}
	return nil
}
