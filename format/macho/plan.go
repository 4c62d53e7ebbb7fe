package macho

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/plist"
)

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

// body is all of a file that Assemble and Attach need.
type body struct {
	Width  uint    `cbor:"1,keyasint"` // of offsets in the table of a universal file, 0: a thin file
	Slices []slice `cbor:"2,keyasint"`
}

type slice struct {
	CPU    uint32        `cbor:"1,keyasint"`
	Sub    uint32        `cbor:"2,keyasint"`
	Kind   uint32        `cbor:"3,keyasint"`
	Offset int64         `cbor:"4,keyasint"` // in the file
	Size   int64         `cbor:"5,keyasint"` // with the signature that was there
	End    int64         `cbor:"6,keyasint"` // without it
	Head   []byte        `cbor:"7,keyasint"` // SHA-256 of header and load commands, as they were
	Signer string        `cbor:"8,keyasint"` // of the signature that was there, for people; or ""
	Code   codesign.Code `cbor:"9,keyasint"`
}

// codeAlign is where signatures begin, as Apple's tools align them.
const codeAlign = 16

func alignCode(n int64) int64 { return (n + codeAlign - 1) / codeAlign * codeAlign }

// Plan reads a once. Besides that it reads the load commands, an Info.plist in the
// program and the signatures that are there, all of limited size.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, err := params.Check(f)
	if err != nil {
		return nil, err
	}
	s, err := settingsOf(params)
	if err != nil {
		return nil, err
	}
	m, err := parse(a)
	if err != nil {
		return nil, err
	}
	b := body{Width: m.width}
	infos := make([]piece, len(m.slices))
	old := ""
	for i, p := range m.slices {
		one, identifier, err := p.existing(a, s)
		if err != nil {
			return nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		if old == "" {
			old = identifier
		}
		if infos[i], err = p.readInfo(a); err != nil {
			return nil, err
		}
		b.Slices = append(b.Slices, one)
	}
	identifier, err := s.identify(infos, old)
	if err != nil {
		return nil, err
	}
	pages := 0
	for i, p := range m.slices {
		one := &b.Slices[i]
		one.Code = s.code(one, identifier)
		one.Code.ExecBase, one.Code.ExecLimit = uint64(p.text.off), uint64(p.text.size)
		if s.flags&codesign.FlagRuntime != 0 {
			one.Code.Runtime = p.sdk
		}
		if len(infos[i].b) > 0 && len(s.info) == 0 {
			one.Code.Info = codesign.Digest(s.hash, infos[i].b)
		}
		head, err := p.withSignature(one.Code.Limit, one.Code.Space)
		if err != nil {
			return nil, fmt.Errorf("slice %s: %w", p.architecture(), err)
		}
		if p.sigAt == 0 {
			if err := zeros(a, p.off+int64(len(p.raw)), p.off+int64(len(head)), commandSize); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNoRoom, err)
			}
		}
		v := &view{a: a, base: p.off, head: head, end: p.end(), seen: infos[i]}
		if one.Code.Slots, err = codesign.Pages(ctx, v, one.Code.Limit, s.pageSize, s.hash); err != nil {
			return nil, err
		}
		if pages += len(one.Code.Slots); pages > maxPages {
			return nil, fmt.Errorf("macho: page hashes of %d bytes: at most %d", pages, maxPages)
		}
	}
	facts, err := b.facts()
	if err != nil {
		return nil, err
	}
	facts = append(facts, m.details(infos, len(facts))...)
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("macho: plan: %w", err)
	}
	p := &format.Plan{
		Format: name, Version: bodyVersion, Digest: params["digest"], Size: m.size,
		Content: b.content(s.hash), Params: paramFacts(params), Facts: facts, Body: enc,
	}
	return p, p.Check()
}

// existing says what stands in the slice's signature, and begins its part of the body.
func (p *part) existing(a format.Artifact, s *settings) (out slice, identifier string, err error) {
	sum := sha256.Sum256(p.raw)
	out = slice{CPU: p.cpu, Sub: p.sub, Kind: p.kind, Offset: p.off, Size: p.size, End: p.end(), Head: sum[:]}
	if p.sigAt == 0 {
		return out, "", nil
	}
	old, err := p.readSignature(a)
	if err != nil {
		if s.replace {
			out.Signer = "not readable"
			return out, "", nil
		}
		return out, "", fmt.Errorf("%w (option replace=true takes it off)", err)
	}
	identifier = old.Directories[0].Identifier
	switch {
	case !old.Signed() && old.Directories[0].Flags&codesign.FlagLinkerSigned != 0:
		out.Signer = "the linker"
	case !old.Signed():
		out.Signer = "nobody (ad-hoc)"
	case !s.replace:
		return out, "", ErrSigned
	default:
		out.Signer = "certificate is not in the signature"
		if c := old.CMS.Signers[0].Certificate(); c != nil {
			out.Signer = plainText(c.Subject.String())
		}
	}
	return out, identifier, nil
}

func (p *part) readSignature(a format.Artifact) (*codesign.Signature, error) {
	if p.signature.size > codesign.MaxSize {
		return nil, malformed("signature of %d bytes", p.signature.size)
	}
	b := make([]byte, p.signature.size)
	if err := format.ReadFull(a, b, p.off+p.signature.off); err != nil {
		return nil, fmt.Errorf("macho: %w", err)
	}
	return codesign.Parse(b)
}

func (p *part) readInfo(a format.Artifact) (piece, error) {
	b := make([]byte, p.info.size)
	if len(b) == 0 {
		return piece{}, nil
	}
	if err := format.ReadFull(a, b, p.off+p.info.off); err != nil {
		return piece{}, fmt.Errorf("macho: %w", err)
	}
	return piece{p.info.off, b}, nil
}

// identify finds the identifier of the code.
func (s *settings) identify(infos []piece, old string) (string, error) {
	if s.identifier != "" {
		return s.identifier, nil
	}
	for _, p := range infos {
		if len(p.b) == 0 {
			continue
		}
		d, err := plist.ParseDict(bytes.TrimRight(p.b, "\x00"))
		if err != nil {
			return "", fmt.Errorf("macho: Info.plist in the program: %w", err)
		}
		if id := d.String("CFBundleIdentifier"); id != "" {
			return id, nil
		}
	}
	if old == "" {
		return "", errors.New("macho: the code has no identifier: give option identifier, as com.example.program")
	}
	return old, nil
}

// code is what the options say of a slice.
func (s *settings) code(one *slice, identifier string) codesign.Code {
	c := codesign.Code{
		Identifier: identifier, Team: s.team, Flags: s.flags, PageSize: s.pageSize, Limit: alignCode(one.End),
		Info: s.info, Resources: s.resources, Container: []byte{}, Requirements: s.requirements,
		Entitlements: s.entitlements, Slots: []byte{}, SigningTime: s.signingTime,
	}
	if c.Info == nil {
		c.Info = []byte{}
	}
	if one.Kind == typeExecute {
		c.ExecFlags = codesign.ExecMain
		if len(s.entitlements) > 0 {
			if d, err := codesign.ParseEntitlements(s.entitlements); err == nil { // else the options were refused
				c.ExecFlags = codesign.ExecFlags(d)
			}
		}
	}
	c.Space = s.space(&c)
	return c
}

// space bounds the signature from above: what is known is counted, for a derived
// requirement and team what they can take, and the reserve for the CMS structure.
func (s *settings) space(c *codesign.Code) int64 {
	size := int64(s.hash.Size())
	pages := (c.Limit + c.PageSize - 1) / c.PageSize
	n := int64(256) + int64(len(c.Identifier)) + max(int64(len(c.Team)), 128) + 7*size + pages*size // CodeDirectory and index
	n += max(int64(len(c.Requirements)), 512+int64(len(c.Identifier)))
	n += 3*int64(len(c.Entitlements)) + 32
	return alignCode(n + s.reserve)
}

func (b *body) content(h crypto.Hash) []byte {
	x := h.New()
	for _, s := range b.Slices {
		x.Write(s.Code.Slots)
	}
	return x.Sum(nil)
}

// facts are what people are shown first; all of them follow from the body.
func (b *body) facts() ([]format.Fact, error) {
	c := &b.Slices[0].Code
	out := []format.Fact{{Name: "kind", Value: kinds[b.Slices[0].Kind]}, {Name: "identifier", Value: c.Identifier}}
	if c.Team != "" {
		out = append(out, format.Fact{Name: "team", Value: c.Team})
	}
	out = append(out, format.Fact{Name: "flags", Value: codesign.FlagNames(c.Flags)})
	for _, s := range b.Slices {
		out = append(out, format.Fact{Name: "architecture", Value: architecture(s.CPU, s.Sub)})
		if s.Signer != "" {
			out = append(out, format.Fact{Name: "replaces signature of", Value: s.Signer})
		}
	}
	if len(c.Entitlements) > 0 {
		es, err := codesign.EntitlementFacts(c.Entitlements)
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
	}
	return out, nil
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

// decodeBody reads a plan's body and checks every relation in it, so that what is
// signed is something that Plan may have made of some file.
func decodeBody(p *format.Plan) (*body, *settings, error) {
	if p.Format != name || p.Version != bodyVersion {
		return nil, nil, fmt.Errorf("macho: plan is of format %q, version %d: want %q, %d", p.Format, p.Version, name, bodyVersion)
	}
	if err := p.Check(); err != nil {
		return nil, nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, fmt.Errorf("macho: plan: %w", err)
	}
	given := format.Params{}
	for _, f := range p.Params {
		given[f.Name] = f.Value
	}
	params, err := given.Check(Format{})
	if err != nil {
		return nil, nil, err
	}
	s, err := settingsOf(params)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *settings, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	switch {
	case len(params) != len(p.Params):
		return bad("%d options of %d are in it", len(p.Params), len(params))
	case params["digest"] != p.Digest:
		return bad("digest %s, option digest %s", p.Digest, params["digest"])
	case b.Width != 0 && b.Width != 32 && b.Width != 64, len(b.Slices) == 0, len(b.Slices) > maxSlices, b.Width == 0 && len(b.Slices) != 1:
		return bad("%d slices of a file of kind %d", len(b.Slices), b.Width)
	case p.Size > maxSize:
		return bad("file of %d bytes", p.Size)
	}
	end := int64(0)
	for i := range b.Slices {
		one := &b.Slices[i]
		if why := one.check(s, &b.Slices[0], end, b.Width); why != "" {
			return bad("slice %d: %s", i, why)
		}
		for _, o := range b.Slices[:i] {
			if o.CPU == one.CPU && (o.Sub^one.Sub)&0xffffff == 0 {
				return bad("two slices for %s", architecture(o.CPU, o.Sub))
			}
		}
		end = one.Offset + one.Size
	}
	if end != p.Size {
		return bad("slices end at %d in a file of %d", end, p.Size)
	}
	if !bytes.Equal(b.content(s.hash), p.Content) {
		return bad("content digest is not over the page hashes")
	}
	facts, err := b.facts()
	if err != nil {
		return nil, nil, err
	}
	said, err := format.CutDetails(p.Facts, DetailNames...)
	if err != nil {
		return bad("%v", err)
	}
	if !slices.Equal(facts, said) {
		return bad("facts do not follow from the rest")
	}
	return &b, s, nil
}

// check says what is wrong with a slice, or "".
func (one *slice) check(s *settings, first *slice, end int64, width uint) string {
	c := one.Code
	want := s.code(one, first.Code.Identifier)
	want.ExecBase, want.ExecLimit, want.Runtime, want.Slots = c.ExecBase, c.ExecLimit, c.Runtime, c.Slots
	if len(s.info) == 0 {
		want.Info = c.Info
	}
	switch {
	case kinds[one.Kind] == "":
		return "kind of file"
	case one.Offset < end || one.Size <= 0 || one.Size > maxSize || one.End <= 0 || one.End > one.Size:
		return "place in the file"
	case (width == 0) != (one.Offset == 0):
		return "a thin file begins at 0, and no slice does"
	case len(one.Head) != sha256.Size:
		return "digest of the load commands"
	case !codesign.IsPlainText(one.Signer):
		return "name of a signer"
	case one.End == one.Size && one.Signer != "" || one.End < one.Size && one.Signer == "":
		return "signature that was there"
	case s.identifier != "" && s.identifier != c.Identifier:
		return "identifier is not that of the options"
	case c.ExecBase > uint64(one.Size) || c.ExecLimit > uint64(one.Size):
		return "place of the program's text"
	}
	if !sameCode(c, want) {
		return "code is not what the options say"
	}
	if err := c.Check(s.hash); err != nil {
		return err.Error()
	}
	return ""
}

// sameCode compares all but the slots by their encodings.
func sameCode(a, b codesign.Code) bool {
	if !bytes.Equal(a.Slots, b.Slots) {
		return false
	}
	a.Slots, b.Slots = nil, nil
	x, err1 := format.Encode(&a)
	y, err2 := format.Encode(&b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
