package jarsig

import (
	"errors"
	"fmt"
)

// Covered compares a signature file with the manifest m, whose sections index has
// by name, and returns the names of the sections that it covers. whole says that
// the manifest is unchanged since. A manifest that has grown since is accepted as
// long as its main section and every section that the signature file names are
// what they were.
func (f *File) Covered(m *File, index map[string]int) (names []string, whole bool, err error) {
	if v, ok := f.Main.Get("Signature-Version"); !ok || v != "1.0" {
		return nil, false, syntax("signature file of version %.20q: want 1.0", v)
	}
	if m.Loose || f.Loose {
		return nil, false, syntax("sections have no clear borders")
	}
	ds, err := f.Main.Digests("-Manifest")
	if err != nil {
		return nil, false, err
	}
	err = matches(m.Raw, ds, "manifest")
	switch {
	case err == nil:
		whole = true
	case !errors.Is(err, ErrDigest):
		return nil, false, err
	}
	main, err := f.Main.Digests("-Manifest-Main-Attributes")
	if err != nil {
		return nil, false, err
	}
	if len(main) > 0 || !whole {
		if err := matches(m.Main.Raw, main, "main section of the manifest"); err != nil {
			return nil, false, err
		}
	}
	for i := range f.Sections {
		s := &f.Sections[i]
		k, ok := index[s.Name]
		if !ok {
			return nil, false, fmt.Errorf("%w: the manifest has no section %.80q, which is signed", ErrDigest, s.Name)
		}
		names = append(names, s.Name)
		if whole {
			continue // says more than the section's own, which some old signers got wrong
		}
		ds, err := s.Digests("")
		if err != nil {
			return nil, false, err
		}
		if err := matches(m.Sections[k].Raw, ds, fmt.Sprintf("section %.80q of the manifest", s.Name)); err != nil {
			return nil, false, err
		}
	}
	return names, whole, nil
}

// Index gives the place of each section by its name.
func (f *File) Index() map[string]int {
	out := make(map[string]int, len(f.Sections))
	for i := range f.Sections {
		out[f.Sections[i].Name] = i
	}
	return out
}
