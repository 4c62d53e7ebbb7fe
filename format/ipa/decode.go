package ipa

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/plist"
)

// decodeBody reads a plan's body and checks every relation in it but those inside of
// the programs' plans, which package macho checks.
func decodeBody(p *format.Plan) (*body, []*format.Plan, error) {
	if p.Format != name || p.Version != bodyVersion {
		return nil, nil, fmt.Errorf("ipa: plan is of format %q, version %d: want %q, %d", p.Format, p.Version, name, bodyVersion)
	}
	if err := p.Check(); err != nil {
		return nil, nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, nil, fmt.Errorf("ipa: plan: %w", err)
	}
	given := format.Params{}
	for _, f := range p.Params {
		given[f.Name] = f.Value
	}
	params, err := given.Check(Format{})
	if err != nil {
		return nil, nil, err
	}
	nested, err := nestedEntitlements(params)
	if err != nil {
		return nil, nil, err
	}
	bad := func(f string, args ...any) (*body, []*format.Plan, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	if len(params) != len(p.Params) || p.Digest != "sha256" || p.Size != b.Size || len(b.Head) != sha256.Size || len(b.Code) == 0 || len(b.Code) > maxCode {
		return bad("options, digest, size or code")
	}
	if app, ok := strings.CutPrefix(b.Root, "Payload/"); b.Root != "" && (!ok || !strings.HasSuffix(app, ".app/") || strings.Count(app, "/") != 1) || b.Root == "" && len(b.Beside) > 0 {
		return bad("place in the archive")
	}
	for i, n := range b.Beside {
		if !slices.Contains(neighbours, n) || i > 0 && b.Beside[i-1] >= n {
			return bad("%.40q beside the application", n)
		}
	}
	if root := &b.Code[len(b.Code)-1]; root.Dir != "" || !root.Bundle {
		return bad("the application is not the last piece of code")
	}
	at, err := b.rounds()
	if err != nil {
		return nil, nil, err
	}
	for i := range b.Code {
		if b.Code[i].Round != at[i] || i > 0 && byRound(b.Code[i-1], b.Code[i]) >= 0 {
			return bad("order of rounds")
		}
	}
	plans, err := b.plans()
	if err != nil {
		return nil, nil, err
	}
	files, err := b.checkFiles()
	if err != nil {
		return nil, nil, err
	}
	for i := range b.Code {
		if err := b.Code[i].check(params, nested, plans[i], files); err != nil {
			return nil, nil, fmt.Errorf("%w: %q: %w", ErrPlan, b.Code[i].Program, err)
		}
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

// checkFiles refuses files that no application has: out of order, with other digests
// than their kind, or with a path of code or of a list.
func (b *body) checkFiles() (map[string]*sealed, error) {
	bad := func(p, why string) (map[string]*sealed, error) {
		return nil, fmt.Errorf("%w: file %.100q %s", ErrPlan, p, why)
	}
	if len(b.Files) > format.MaxTreeEntries {
		return bad("", "too many")
	}
	taken := map[string]bool{}
	for i := range b.Code {
		c := &b.Code[i]
		for _, p := range []string{c.Program, listOf(c.Dir)} {
			if taken[p] && (p == c.Program || c.Bundle) || path.Clean(p) != p || strings.HasPrefix(p, "../") || path.IsAbs(p) {
				return bad(p, "stands twice, or is no path")
			}
			if p == c.Program || c.Bundle {
				taken[p] = true
			}
		}
	}
	out := map[string]*sealed{}
	for i := range b.Files {
		s := &b.Files[i]
		switch {
		case i > 0 && b.Files[i-1].Path >= s.Path || s.Path == "" || path.Clean(s.Path) != s.Path:
			return bad(s.Path, "is out of order, or no path")
		case taken[s.Path]:
			return bad(s.Path, "is code or a list")
		case s.Link != "" && (len(s.SHA1) != 0 || len(s.SHA256) != 0),
			s.Link == "" && (len(s.SHA1) != sha1.Size || len(s.SHA256) != sha256.Size):
			return bad(s.Path, "has other digests than its kind")
		}
		out[s.Path] = s
	}
	return out, nil
}

// check says what is wrong with a piece of code.
func (c *code) check(all format.Params, nested plist.Dict, p *format.Plan, files map[string]*sealed) error {
	ps, err := c.object().params(all, nested)
	if err != nil {
		return err
	}
	if ps, err = ps.Check(macho.Format{}); err != nil {
		return err
	}
	if !slices.Equal(paramFacts(ps), p.Params) || p.Format != "macho" {
		return errors.New("options of the program are not those of the application")
	}
	if !c.Bundle && (c.Dir != "" || len(c.Info) > 0 || len(c.Profile) > 0) {
		return errors.New("code alone that has what bundles have")
	}
	if isStub(c.Program) {
		return errors.New("a stub is sealed as a file")
	}
	if c.Bundle {
		_, id, exe, err := parseInfo(c.Info)
		if err != nil {
			return err
		}
		if id == "" || c.Program != path.Join(c.Dir, exe) || c.Dir != "" && path.Clean(c.Dir) != c.Dir {
			return errors.New("it is not the program of its bundle")
		}
		if !sealedAs(files[path.Join(c.Dir, "Info.plist")], c.Info) {
			return errors.New("its Info.plist is not the file of that name")
		}
		at := files[path.Join(c.Dir, profileName)]
		if (at != nil && at.Link == "") != (len(c.Profile) > 0) || len(c.Profile) > 0 && !sealedAs(at, c.Profile) {
			return errors.New("its provisioning profile is not the file of that name")
		}
		if err := c.granted(p, id); err != nil {
			return err
		}
	}
	if c.Bundle && c.Dir == "" {
		if len(c.States) != 0 {
			return errors.New("a state of the application's own program")
		}
		return nil
	}
	limit, err := macho.CodeLimit(p)
	if err != nil {
		return err
	}
	if limit == 0 || len(c.States) != 2 || c.States[0].Count != uint64(limit) || c.States[1].Count != uint64(limit) {
		return errors.New("code inside is not one slice with the states of its hashes up to its end")
	}
	return nil
}

// granted refuses entitlements beyond those of the profile, where there is one.
func (c *code) granted(p *format.Plan, identifier string) error {
	if len(c.Profile) == 0 {
		return nil
	}
	granted, err := parseProfile(c.Profile)
	if err != nil {
		return err
	}
	text, err := optionText(p.Param("entitlements"))
	if err != nil {
		return err
	}
	return granted.allows(text, identifier)
}

func sealedAs(s *sealed, b []byte) bool {
	if s == nil {
		return false
	}
	old := sha1.Sum(b)
	return s.Link == "" && bytes.Equal(s.SHA256, digest(b)) && bytes.Equal(s.SHA1, old[:])
}
