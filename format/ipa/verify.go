package ipa

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
)

func (s *source) report(info []byte) (*format.Report, error) {
	d, id, _, err := parseInfo(info)
	if err != nil {
		return nil, err
	}
	r := &format.Report{Format: name, Size: s.a.Size(), Signatures: []format.SignatureInfo{}, Facts: []format.Fact{
		{Name: "kind", Value: "application of iOS"}, {Name: "identifier", Value: plainText(id)},
	}}
	if v := d.String("CFBundleShortVersionString"); v != "" {
		r.Facts = append(r.Facts, format.Fact{Name: "version", Value: plainText(v)})
	}
	return r, nil
}

// found is one program with what was learnt of it.
type found struct {
	object
	round      int
	signatures []format.SignatureInfo
	file       sealed // as it is
	bare       sealed // without its signature
	content    []byte
	loose      []string
	lines      int
}

// visit reads all files once. It returns the code by rounds and then by paths, and all
// other files but lists.
func (s *source) visit(ctx context.Context, judge func(f *found, a format.Artifact) error) ([]*found, []sealed, map[string]sealed, error) {
	bundles, err := s.bundles()
	if err != nil {
		return nil, nil, nil, err
	}
	var mu sync.Mutex
	var total atomic.Int64
	var code []*found
	files, lists := []sealed{}, map[string]sealed{}
	for _, e := range s.entries {
		if e.Link != "" {
			files = append(files, sealed{Path: e.Path, SHA1: []byte{}, SHA256: []byte{}, Link: e.Link})
		}
	}
	err = s.scan(ctx, func(i int) io.WriteCloser {
		return newCollector(&s.entries[i], &total, func(c *collector) error {
			o := bundles[c.entry.Path]
			if !c.code {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case o != nil:
					return malformed("%q is no program", c.entry.Path)
				case isList(c.entry.Path, bundles):
					lists[c.entry.Path] = c.line()
				default:
					files = append(files, c.line())
				}
				return nil
			}
			if o == nil {
				o = &object{program: c.entry.Path}
			}
			f := &found{object: *o, file: c.line()}
			f.bare = f.file
			a := format.BytesArtifact(path.Base(o.program), c.start)
			if end, err := macho.CodeEnd(a); err != nil {
				return fmt.Errorf("ipa: %q: %w", o.program, err)
			} else if end > 0 {
				f.bare = sealed{Path: o.program, SHA1: sha1Of(c.start[:end]), SHA256: digest(c.start[:end])}
			}
			if err := judge(f, a); err != nil {
				return fmt.Errorf("ipa: %q: %w", o.program, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if code = append(code, f); len(code) > maxCode {
				return malformed("more than %d pieces of code", maxCode)
			}
			return nil
		})
	})
	if err != nil {
		return nil, nil, nil, err
	}
	at, err := rounds(len(code), func(i int) (string, string, bool) { return code[i].dir, code[i].program, code[i].bundle })
	if err != nil {
		return nil, nil, nil, err
	}
	for i := range code {
		code[i].round = at[i]
	}
	slices.SortFunc(code, func(a, b *found) int {
		return cmp.Or(cmp.Compare(a.round, b.round), strings.Compare(a.program, b.program))
	})
	slices.SortFunc(files, func(a, b sealed) int { return strings.Compare(a.Path, b.Path) })
	if len(code) == 0 || code[len(code)-1].dir != "" || !code[len(code)-1].bundle {
		return nil, nil, nil, malformed("the application has no program")
	}
	return code, files, lists, nil
}

// Inspect reads the signatures of all code.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	code, _, _, err := s.visit(ctx, func(f *found, a format.Artifact) error {
		r, err := macho.Format{}.Inspect(ctx, a)
		if err == nil {
			f.signatures = r.Signatures
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	root := code[len(code)-1]
	r, err := s.report(root.info)
	if err != nil {
		return nil, err
	}
	r.Signatures = numbered(code)
	return r, profileFacts(r, code)
}

// numbered are all signatures, in the order in which they are made.
func numbered(code []*found) []format.SignatureInfo {
	out := []format.SignatureInfo{}
	for _, f := range code {
		for _, s := range f.signatures {
			s.Index, s.Label = len(out), f.program+" "+s.Label
			out = append(out, s)
		}
	}
	return out
}

// profileFacts shows the profiles of bundles.
func profileFacts(r *format.Report, code []*found) error {
	for _, f := range code {
		if f.profile == nil {
			continue
		}
		p, err := parseProfile(f.profile)
		if err != nil {
			return err
		}
		for _, fact := range p.facts() {
			if f.dir != "" {
				fact.Name = plainText(f.dir) + ": " + fact.Name
			}
			r.Facts = append(r.Facts, fact)
		}
	}
	return nil
}

// Verify reads every file and accepts the application when all code in it verifies and
// all lists name what is there.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	switch {
	case t.Roots == nil:
		return nil, errors.New("ipa: verify: no trusted certificates are given")
	case len(t.Detached) > 0:
		return nil, errDetached
	}
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	contents := map[string][]byte{} // of lists, before the programs that seal them are read
	for i := range s.entries {
		e := &s.entries[i]
		if dir, ok := strings.CutSuffix(e.Path, listName); ok && e.File() && s.lookup(dir+"Info.plist") >= 0 {
			if contents[e.Path], err = s.readSmall(i, maxList); err != nil {
				return nil, err
			}
		}
	}
	code, files, lists, err := s.visit(ctx, func(f *found, a format.Artifact) error { return f.verify(ctx, a, t, contents[listOf(f.dir)]) })
	if err != nil {
		return nil, err
	}
	content, err := contentFound(files, code)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(files)
	for _, f := range code {
		all = append(all, f.file)
	}
	for _, l := range lists {
		all = append(all, l)
	}
	for _, f := range code {
		if !f.bundle {
			continue
		}
		list := contents[listOf(f.dir)]
		if !bytes.Equal(lists[listOf(f.dir)].SHA256, digest(list)) {
			return nil, fmt.Errorf("%w: %q changed while it was read", ErrChanged, listOf(f.dir))
		}
		inside := of(all, f.dir, f.program)
		if f.loose, err = compareList(list, inside); err != nil {
			return nil, err
		}
		f.lines = len(inside)
	}
	root := code[len(code)-1]
	r, err := s.report(root.info)
	if err != nil {
		return nil, err
	}
	r.Signatures = numbered(code)
	for i := range r.Signatures {
		r.Signatures[i].Content = content
	}
	last := &r.Signatures[len(r.Signatures)-1]
	last.Covers = append(last.Covers, strconv.Itoa(root.lines)+" files and links by the list of resources")
	last.Open = append(last.Open, "permissions of files", "empty folders")
	for _, p := range root.loose {
		last.Open = append(last.Open, plainText(p)+", which the rules leave out")
	}
	for _, n := range s.beside {
		last.Open = append(last.Open, plainText(n)+", which stands beside the application")
	}
	if s.zip != nil {
		last.Open = append(last.Open, "times, attributes and extra fields of the archive's entries, and its comment")
	}
	if root.profile != nil {
		last.Open = append(last.Open, "Apple's signature over the provisioning profile, which is not judged")
	}
	return r, profileFacts(r, code)
}

// contentFound is what a plan of these files states as its content.
func contentFound(files []sealed, code []*found) ([]byte, error) {
	all := slices.Clone(files)
	var programs []bare
	for _, f := range code {
		programs = append(programs, bare{f.program, f.content})
		if f.dir != "" || !f.bundle {
			all = append(all, f.bare)
		}
	}
	return contentOf(all, programs)
}

// verify judges one program; list is that of its bundle.
func (f *found) verify(ctx context.Context, a format.Artifact, t format.Trust, list []byte) error {
	var outside codesign.Outside
	if f.bundle {
		if list == nil {
			return fmt.Errorf("%w: %q is not there", ErrUnsigned, listOf(f.dir))
		}
		outside = codesign.Outside{Info: f.info, Resources: list}
	}
	r, _, err := macho.VerifyIn(ctx, a, t, outside)
	if err != nil {
		return err
	}
	f.signatures, f.content = r.Signatures, r.Signatures[0].Content
	if f.profile == nil {
		return nil
	}
	granted, err := parseProfile(f.profile)
	if err != nil {
		return err
	}
	_, id, _, err := parseInfo(f.info)
	if err != nil {
		return err
	}
	entitlements, err := macho.Entitlements(a)
	if err != nil {
		return err
	}
	for i, s := range r.Signatures {
		if err := granted.allows(entitlements[i], id); err != nil {
			return err
		}
		if err := granted.names(s.Signer); err != nil {
			return err
		}
	}
	return nil
}
