package ipa

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/plist"
	"github.com/greatseal-io/greatseal/hashstate"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of an application that Assemble and Attach need.
type body struct {
	Head   []byte   `cbor:"1,keyasint"` // SHA-256 of what says which files there are, and how large
	Size   int64    `cbor:"2,keyasint"` // of the artifact
	Root   string   `cbor:"3,keyasint"` // "Payload/A.app/" in an archive, "" for a folder
	Beside []string `cbor:"4,keyasint"` // what stands beside the application in the archive
	Files  []sealed `cbor:"5,keyasint"` // all but programs and lists, by their paths
	Code   []code   `cbor:"6,keyasint"` // by rounds, then by the paths of the programs
}

type code struct {
	Dir     string `cbor:"1,keyasint"` // of a bundle, "" for the application
	Bundle  bool   `cbor:"2,keyasint"`
	Program string `cbor:"3,keyasint"`
	Round   int    `cbor:"4,keyasint"`
	Info    []byte `cbor:"5,keyasint"` // Info.plist, or empty
	Profile []byte `cbor:"6,keyasint"` // embedded.mobileprovision, or empty
	Plan    []byte `cbor:"7,keyasint"` // of the program, without the digest of the list
	// The states of SHA-1 and SHA-256 before the signature; none for the application's
	// own program, which no list names.
	States []hashstate.State `cbor:"8,keyasint"`
}

func (c *code) object() *object {
	return &object{dir: c.Dir, bundle: c.Bundle, program: c.Program, info: c.Info, profile: c.Profile}
}

// Plan reads every file once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	nested, err := nestedEntitlements(params)
	if err != nil {
		return nil, err
	}
	s, err := open(a)
	if err != nil {
		return nil, err
	}
	bundles, err := s.bundles()
	if err != nil {
		return nil, err
	}
	for _, p := range nested {
		if !slices.ContainsFunc(slices.Collect(maps.Values(bundles)), func(o *object) bool { return o.dir == p.Key }) {
			return nil, fmt.Errorf("ipa: option nested-entitlements: no bundle %.100q", p.Key)
		}
	}
	b := body{Head: s.head, Size: a.Size(), Root: s.root, Beside: append([]string{}, s.beside...), Files: []sealed{}}
	for _, e := range s.entries {
		if e.Link != "" {
			b.Files = append(b.Files, sealed{Path: e.Path, SHA1: []byte{}, SHA256: []byte{}, Link: e.Link})
		}
	}
	var mu sync.Mutex
	var total atomic.Int64
	err = s.scan(ctx, func(i int) io.WriteCloser {
		return newCollector(&s.entries[i], &total, func(c *collector) error {
			o := bundles[c.entry.Path]
			if c.code {
				one, err := planProgram(ctx, c, o, params, nested)
				mu.Lock()
				defer mu.Unlock()
				if b.Code = append(b.Code, one); len(b.Code) > maxCode {
					return malformed("more than %d pieces of code", maxCode)
				}
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case o != nil:
				return malformed("%q is no program", c.entry.Path)
			case !isList(c.entry.Path, bundles):
				b.Files = append(b.Files, c.line())
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(b.Files, func(x, y sealed) int { return strings.Compare(x.Path, y.Path) })
	if err := b.order(); err != nil {
		return nil, err
	}
	return b.plan(a.Size(), params)
}

// isList says whether p is the list of a bundle with code.
func isList(p string, bundles map[string]*object) bool {
	if !strings.HasSuffix(p, listName) {
		return false
	}
	for _, o := range bundles {
		if p == listOf(o.dir) {
			return true
		}
	}
	return false
}

// planProgram plans one program, whose content c has.
func planProgram(ctx context.Context, c *collector, o *object, params format.Params, nested plist.Dict) (code, error) {
	if o == nil {
		o = &object{program: c.entry.Path}
	}
	one := code{Dir: o.dir, Bundle: o.bundle, Program: o.program, Info: append([]byte{}, o.info...), Profile: append([]byte{}, o.profile...), States: []hashstate.State{}}
	ps, err := o.params(params, nested)
	if err != nil {
		return one, err
	}
	a := format.BytesArtifact(path.Base(o.program), c.start)
	p, err := macho.Format{}.Plan(ctx, a, ps)
	if err != nil {
		return one, fmt.Errorf("ipa: %q: %w", o.program, err)
	}
	if one.Plan, err = p.Encode(); err != nil {
		return one, err
	}
	if err := one.granted(p, ps["identifier"]); err != nil {
		return one, fmt.Errorf("%q: %w", o.program, err)
	}
	if o.bundle && o.dir == "" {
		return one, nil
	}
	if limit, err := macho.CodeLimit(p); err != nil || limit == 0 {
		return one, cmp.Or(err, fmt.Errorf("%w: %q", ErrUniversal, o.program))
	}
	old, sum := sha1.New(), sha256.New()
	if err := macho.WriteCode(io.MultiWriter(old, sum), a, p); err != nil {
		return one, err
	}
	before, err1 := hashstate.Of(crypto.SHA1, old)
	after, err2 := hashstate.Of(crypto.SHA256, sum)
	if err := errors.Join(err1, err2); err != nil {
		return one, err
	}
	one.States = []hashstate.State{*before, *after}
	return one, nil
}

// order sorts the code and says in which round each piece is signed.
func (b *body) order() error {
	at, err := b.rounds()
	if err != nil {
		return err
	}
	for i := range b.Code {
		b.Code[i].Round = at[i]
	}
	slices.SortFunc(b.Code, byRound)
	return nil
}

func (b *body) rounds() ([]int, error) {
	return rounds(len(b.Code), func(i int) (string, string, bool) {
		c := &b.Code[i]
		return c.Dir, c.Program, c.Bundle
	})
}

func byRound(x, y code) int {
	return cmp.Or(cmp.Compare(x.Round, y.Round), strings.Compare(x.Program, y.Program))
}

func (b *body) plan(size int64, params format.Params) (*format.Plan, error) {
	plans, err := b.plans()
	if err != nil {
		return nil, err
	}
	content, err := b.content(plans)
	if err != nil {
		return nil, err
	}
	facts, err := b.facts(plans)
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("ipa: plan: %w", err)
	}
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: "sha256", Size: size,
		Content: content, Params: paramFacts(params), Facts: append(facts, b.details(plans, len(facts))...), Body: enc,
	}
	return p, p.Check()
}

func paramFacts(p format.Params) []format.Fact {
	out := []format.Fact{}
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// plans decodes the plans of all programs.
func (b *body) plans() ([]*format.Plan, error) {
	var out []*format.Plan
	for _, c := range b.Code {
		p, err := format.DecodePlan(c.Plan)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// known is what the content digest has of the application: the digests of the files,
// and of each program its own content.
type known struct {
	Files []sealed `cbor:"1,keyasint"`
	Code  []bare   `cbor:"2,keyasint"`
}

type bare struct {
	Path    string `cbor:"1,keyasint"`
	Content []byte `cbor:"2,keyasint"` // by its pages
}

// contentOf is over all files; the pages of a program are all bytes that stand before
// its signature, of which the states in the plan are too.
func contentOf(files []sealed, programs []bare) ([]byte, error) {
	b, err := format.Encode(known{files, programs})
	if err != nil {
		return nil, fmt.Errorf("ipa: %w", err)
	}
	return digest(b), nil
}

// content is over what Verify finds too, and over the code before its signature as the
// states have it, so that who endorses a content endorses them.
func (b *body) content(plans []*format.Plan) ([]byte, error) {
	files := slices.Clone(b.Files)
	var programs []bare
	for i := range b.Code {
		c := &b.Code[i]
		programs = append(programs, bare{c.Program, plans[i].Content})
		if len(c.States) == 0 {
			continue
		}
		s, err := c.finish(nil)
		if err != nil {
			return nil, err
		}
		files = append(files, s)
	}
	return contentOf(files, programs)
}

// finish is the program as lists know it once the signature stands behind the code.
func (c *code) finish(signature []byte) (sealed, error) {
	s := sealed{Path: c.Program}
	for i, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		x, err := c.States[i].Resume(h)
		if err != nil {
			return s, fmt.Errorf("ipa: %w", err)
		}
		x.Write(signature)
		if h == crypto.SHA1 {
			s.SHA1 = x.Sum(nil)
		} else {
			s.SHA256 = x.Sum(nil)
		}
	}
	return s, nil
}

// maxShown is how many pieces of code a plan names; the rest is counted.
const maxShown = 48

// facts are what people are shown; all of them follow from the body.
func (b *body) facts(plans []*format.Plan) ([]format.Fact, error) {
	root := &b.Code[len(b.Code)-1]
	d, id, _, err := parseInfo(root.Info)
	if err != nil {
		return nil, err
	}
	out := []format.Fact{{Name: "kind", Value: "application of iOS"}, {Name: "identifier", Value: plainText(id)}}
	for _, f := range [][2]string{{"version", "CFBundleShortVersionString"}, {"build", "CFBundleVersion"}, {"minimum system", "MinimumOSVersion"}} {
		if v := d.String(f[1]); v != "" {
			out = append(out, format.Fact{Name: f[0], Value: plainText(v)})
		}
	}
	if b.Root != "" {
		out = append(out, format.Fact{Name: "in the archive", Value: plainText(b.Root)})
	}
	for _, n := range b.Beside {
		out = append(out, format.Fact{Name: "not covered", Value: plainText(n)})
	}
	for i := range b.Code {
		c := &b.Code[i]
		text := plainText(c.Program)
		for _, f := range plans[i].Facts {
			if f.Name == "architecture" || f.Name == "replaces signature of" {
				text += "; " + f.Name + " " + f.Value
			}
		}
		if i < maxShown || c == root {
			out = append(out, format.Fact{Name: "code", Value: text[:min(len(text), 2048)]})
		}
		for _, f := range plans[i].Facts {
			switch {
			case strings.HasPrefix(f.Name, "entitlement ") && c != root:
				f.Name = plainText(c.Dir) + ": " + f.Name
				out = append(out, f)
			case strings.HasPrefix(f.Name, "entitlement ") || c == root && (f.Name == "team" || f.Name == "flags"):
				out = append(out, f)
			}
		}
		if len(c.Profile) > 0 {
			p, err := parseProfile(c.Profile)
			if err != nil {
				return nil, err
			}
			for _, f := range p.facts() {
				if c != root {
					f.Name = plainText(c.Dir) + ": " + f.Name
				}
				out = append(out, f)
			}
		}
	}
	if n := len(b.Code) - 1 - maxShown; n > 0 {
		out = append(out, format.Fact{Name: "further code", Value: strconv.Itoa(n)})
	}
	return append(out, format.Fact{Name: "sealed", Value: strconv.Itoa(len(b.Files))}), nil
}

// details are those of the main program. They follow from the body too; plans that have
// none are from before there were any.
func (b *body) details(plans []*format.Plan, before int) []format.Fact {
	out := format.NewDetails(before)
	out.Copy(plans[len(plans)-1].Facts, macho.DetailNames[1:]...)
	return out.Facts()
}

// plainText makes a name fit to be shown.
func plainText(s string) string { return codesign.PlainText(s) }
