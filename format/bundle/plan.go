package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of a bundle that Assemble and Attach need.
type body struct {
	Head []byte `cbor:"1,keyasint"` // SHA-256 of the tree's list: paths, sizes, links
	Code []code `cbor:"2,keyasint"` // what is inside stands before what contains it
	Size int64  `cbor:"3,keyasint"` // of the tree
}

type code struct {
	Path    string   `cbor:"1,keyasint"` // "" is the bundle itself
	Base    string   `cbor:"2,keyasint"` // what its list is about; "" for code that is no bundle
	Program string   `cbor:"3,keyasint"`
	Info    []byte   `cbor:"4,keyasint"` // Info.plist, or empty
	Lines   []sealed `cbor:"5,keyasint"` // of its list
	Plan    []byte   `cbor:"6,keyasint"` // of its program, without the list's digest
}

// visit calls f for every piece of code in the tree, those inside before what
// contains them.
func visit(ctx context.Context, t *format.Tree, root *object, f func(o *object, info []byte, c *contents) error) error {
	n := 0
	var one func(o *object, depth int) error
	one = func(o *object, depth int) error {
		if n++; n > maxCode || depth > maxDepth {
			return malformed("more than %d pieces of code, or bundles %d deep", maxCode, maxDepth)
		}
		if o.info == "" {
			return f(o, nil, &contents{})
		}
		info, err := o.open(t)
		if err != nil {
			return err
		}
		c, err := o.walk(ctx, t)
		if err != nil {
			return err
		}
		for _, in := range c.inner {
			if err := one(in, depth+1); err != nil {
				return err
			}
		}
		return f(o, info, c)
	}
	return one(root, 0)
}

// passed are the options that go to every program as they are.
var passed = []string{"flags", "replace", "reserve", "signing-time", "team"}

// params are the options of one program's plan.
func (c *code) params(all format.Params) (format.Params, error) {
	p := format.Params{}
	for _, n := range passed {
		p[n] = all[n]
	}
	if c.Path == "" {
		p["entitlements"] = all["entitlements"]
	}
	if c.Base == "" {
		p["identifier"] = strings.TrimSuffix(path.Base(c.Program), path.Ext(c.Program))
		return p, nil
	}
	_, id, _, err := parseInfo(c.Info)
	p["identifier"], p["info-plist"] = id, fmt.Sprintf("%x", digest(c.Info))
	return p, err
}

// Plan reads every file once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	t, root, err := openTree(a)
	if err != nil {
		return nil, err
	}
	sum, err := headDigest(a, t)
	if err != nil {
		return nil, err
	}
	b := body{Head: sum, Size: a.Size()}
	err = visit(ctx, t, root, func(o *object, info []byte, c *contents) error {
		one := code{Path: o.path, Base: o.base, Program: o.program, Info: slices.Clip(append([]byte{}, info...)), Lines: c.lines}
		if one.Lines == nil {
			one.Lines = []sealed{}
		}
		ps, err := one.params(params)
		if err != nil {
			return err
		}
		p, err := macho.Format{}.Plan(ctx, t.Open(t.Lookup(o.program)), ps)
		if err != nil {
			return fmt.Errorf("bundle: %q: %w", o.program, err)
		}
		if one.Plan, err = p.Encode(); err != nil {
			return err
		}
		b.Code = append(b.Code, one)
		return nil
	})
	if err != nil {
		return nil, err
	}
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
		return nil, fmt.Errorf("bundle: plan: %w", err)
	}
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: "sha256", Size: a.Size(),
		Content: content, Params: paramFacts(params), Facts: append(facts, b.details(plans, len(facts))...), Body: enc,
	}
	return p, p.Check()
}

func openTree(a format.Artifact) (*format.Tree, *object, error) {
	if !format.IsTree(a) {
		return nil, nil, ErrNotBundle
	}
	t, err := format.ReadTree(a)
	if err != nil {
		return nil, nil, err
	}
	root, err := rootOf(t, "")
	return t, root, err
}

func headDigest(a format.Artifact, t *format.Tree) ([]byte, error) {
	b := make([]byte, t.Head())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return digest(b), nil
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

// known is what the content digest has of one piece of code.
type known struct {
	Path    string   `cbor:"1,keyasint"`
	Info    []byte   `cbor:"2,keyasint"`
	Lines   []sealed `cbor:"3,keyasint"`
	Content []byte   `cbor:"4,keyasint"` // of the program
}

func contentOf(ks []known) ([]byte, error) {
	b, err := format.Encode(ks)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return digest(b), nil
}

func (b *body) content(plans []*format.Plan) ([]byte, error) {
	var ks []known
	for i, c := range b.Code {
		ks = append(ks, known{c.Path, c.Info, c.Lines, plans[i].Content})
	}
	return contentOf(ks)
}

// maxShown is how many pieces of code a plan names; the rest is counted.
const maxShown = 64

// facts are what people are shown; all of them follow from the body.
func (b *body) facts(plans []*format.Plan) ([]format.Fact, error) {
	root := &b.Code[len(b.Code)-1]
	d, id, _, err := parseInfo(root.Info)
	if err != nil {
		return nil, err
	}
	out := []format.Fact{{Name: "kind", Value: "bundle"}, {Name: "identifier", Value: plainText(id)}}
	if v := d.String("CFBundleShortVersionString"); v != "" {
		out = append(out, format.Fact{Name: "version", Value: plainText(v)})
	}
	files := 0
	for i, c := range b.Code {
		files += len(c.Lines)
		if i >= maxShown {
			continue
		}
		text := plainText(c.Program)
		for _, f := range plans[i].Facts {
			if f.Name == "architecture" || f.Name == "replaces signature of" {
				text += "; " + f.Name + " " + f.Value
			}
		}
		out = append(out, format.Fact{Name: "code", Value: text[:min(len(text), 2048)]})
	}
	if n := len(b.Code) - maxShown; n > 0 {
		out = append(out, format.Fact{Name: "further code", Value: strconv.Itoa(n)})
	}
	out = append(out, format.Fact{Name: "sealed", Value: strconv.Itoa(files)})
	for _, f := range plans[len(plans)-1].Facts {
		if f.Name == "team" || f.Name == "flags" || strings.HasPrefix(f.Name, "entitlement ") {
			out = append(out, f)
		}
	}
	return out, nil
}

// details are some of the Info.plist, and those of the main program. They follow from
// the body too; plans that have none are from before there were any.
func (b *body) details(plans []*format.Plan, before int) []format.Fact {
	out := format.NewDetails(before)
	if d, _, _, err := parseInfo(b.Code[len(b.Code)-1].Info); err == nil {
		for _, n := range [][2]string{{"build", "CFBundleVersion"}, {"name", "CFBundleName"}, {"copyright", "NSHumanReadableCopyright"}} {
			out.Say(n[0], d.String(n[1]))
		}
	}
	out.Copy(plans[len(plans)-1].Facts, macho.DetailNames[1:]...)
	return out.Facts()
}

func paramFacts(p format.Params) []format.Fact {
	out := []format.Fact{}
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// plainText makes a name fit to be shown.
func plainText(s string) string { return codesign.PlainText(s) }

// decodeBody reads a plan's body and checks every relation in it but those inside of
// the programs' plans, which package macho checks.
func decodeBody(p *format.Plan) (*body, []*format.Plan, error) {
	if p.Format != name || p.Version != bodyVersion {
		return nil, nil, fmt.Errorf("bundle: plan is of format %q, version %d: want %q, %d", p.Format, p.Version, name, bodyVersion)
	}
	if err := p.Check(); err != nil {
		return nil, nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, fmt.Errorf("bundle: plan: %w", err)
	}
	given := format.Params{}
	for _, f := range p.Params {
		given[f.Name] = f.Value
	}
	params, err := given.Check(Format{})
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, []*format.Plan, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	if len(params) != len(p.Params) || p.Digest != "sha256" || p.Size != b.Size || len(b.Head) != sha256.Size || len(b.Code) == 0 || len(b.Code) > maxCode {
		return bad("options, digest, size or code")
	}
	plans, err := b.plans()
	if err != nil {
		return nil, nil, err
	}
	open := map[string]bool{} // code that nothing contains yet
	for i := range b.Code {
		if why := b.Code[i].check(params, plans[i], open); why != nil {
			return nil, nil, fmt.Errorf("%w: %q: %w", ErrPlan, b.Code[i].Program, why)
		}
	}
	if len(open) != 1 || !open[""] {
		return bad("code that nothing contains")
	}
	content, err := b.content(plans)
	if err != nil {
		return nil, nil, err
	}
	facts, err := b.facts(plans)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(content, p.Content) || !slices.Equal(facts, p.Facts) && !slices.Equal(append(facts, b.details(plans, len(facts))...), p.Facts) {
		return bad("content digest or facts do not follow from the rest")
	}
	return &b, plans, nil
}

// check says what is wrong with a piece of code.
func (c *code) check(all format.Params, p *format.Plan, open map[string]bool) error {
	ps, err := c.params(all)
	if err != nil {
		return err
	}
	if ps, err = ps.Check(macho.Format{}); err != nil {
		return err
	}
	if !slices.Equal(paramFacts(ps), p.Params) || p.Format != "macho" {
		return errors.New("options of the program are not those of the bundle")
	}
	if (c.Base == "") != (len(c.Info) == 0) || c.Base == "" && len(c.Lines) > 0 || open[c.Path] {
		return errors.New("neither a bundle nor a program alone, or twice")
	}
	where := c.Path
	if c.Base != "" {
		_, _, exe, err := parseInfo(c.Info)
		if err != nil {
			return err
		}
		if !isBase(c.Path, c.Base) {
			return fmt.Errorf("%.200q is not the base of %.200q", c.Base, c.Path)
		}
		where = programOf(c.Base, exe)
	}
	if c.Program != where || path.Clean(c.Path) != c.Path && c.Path != "" || len(c.Path) > 1024 {
		return fmt.Errorf("its program is %.200q", where)
	}
	last := ""
	for i, s := range c.Lines {
		if i > 0 && s.Path <= last || s.Path == "" {
			return errors.New("lines are out of order")
		}
		last = s.Path
		at := path.Join(c.Base, s.Path)
		switch r := rules2.Decide(s.Path); {
		case r.Omit || s.Optional != (r.Optional && !s.Code):
			return fmt.Errorf("line %.100q is not by the rules", s.Path)
		case s.Code && (len(s.SHA256) > 0 || len(s.SHA1) > 0 || s.Link != "" || !open[at]):
			return fmt.Errorf("code %.100q is not there", s.Path)
		case !s.Code && s.Link != "" && (len(s.SHA256) > 0 || len(s.SHA1) > 0),
			!s.Code && s.Link == "" && (len(s.SHA256) != sha256.Size || len(s.SHA1) != 0 && len(s.SHA1) != 20):
			return fmt.Errorf("line %.100q has other digests than its kind", s.Path)
		}
		if s.Code {
			delete(open, at)
		}
	}
	open[c.Path] = true
	return nil
}
