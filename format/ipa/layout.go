package ipa

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/plist"
)

// object is a piece of code: a bundle with its program, or a library alone.
type object struct {
	dir     string // of a bundle; "" is the application
	bundle  bool
	program string
	info    []byte // Info.plist
	profile []byte // embedded.mobileprovision, or nil
}

const (
	listName    = "_CodeSignature/CodeResources"
	profileName = "embedded.mobileprovision"
)

func listOf(dir string) string { return path.Join(dir, listName) }

// parseInfo reads identifier and program of an Info.plist; both are "" when it is not
// that of code.
func parseInfo(b []byte) (d plist.Dict, id, exe string, err error) {
	if d, err = plist.ParseDict(b); err != nil {
		return nil, "", "", fmt.Errorf("ipa: Info.plist: %w", err)
	}
	id, exe = d.String("CFBundleIdentifier"), d.String("CFBundleExecutable")
	if strings.ContainsAny(exe, "/\\") || exe == "." || exe == ".." {
		return nil, "", "", malformed("CFBundleExecutable is %.60q", exe)
	}
	if id == "" || exe == "" {
		return d, "", "", nil
	}
	return d, id, exe, nil
}

// bundles finds the bundles with code, by the paths of their programs.
func (s *source) bundles() (map[string]*object, error) {
	out := map[string]*object{}
	for i := range s.entries {
		e := &s.entries[i]
		dir, base := path.Split(e.Path)
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case base == "CodeResources" && path.Base(dir) != "_CodeSignature" && e.Link != "":
			return nil, malformed("%q: the link of old systems: take it out", e.Path)
		case e.Folder && base == "Versions" && strings.HasSuffix(dir, ".framework"), !e.Folder && strings.HasSuffix("/"+e.Path, "/Contents/Info.plist"):
			return nil, malformed("%q: a bundle of macOS inside", dir)
		case base != "Info.plist" || !e.File():
			continue
		}
		b, err := s.readSmall(i, maxInfo)
		if err != nil {
			return nil, err
		}
		_, id, exe, err := parseInfo(b)
		if err != nil {
			return nil, err
		}
		o := &object{dir: dir, bundle: true, program: path.Join(dir, exe), info: b}
		if id == "" || s.lookup(o.program) < 0 {
			if dir == "" {
				return nil, malformed("Info.plist without CFBundleIdentifier or CFBundleExecutable, or no program %.80q", exe)
			}
			continue // resources
		}
		if out[o.program] != nil {
			return nil, malformed("%q is the program of two bundles", o.program)
		}
		if i := s.lookup(path.Join(dir, profileName)); i >= 0 {
			if o.profile, err = s.readSmall(i, maxProfile); err != nil {
				return nil, err
			}
		}
		out[o.program] = o
	}
	for i := range s.entries {
		e := &s.entries[i]
		dir := path.Dir(e.Path)
		if path.Base(dir) != "_CodeSignature" || e.Path == listOf(path.Dir(dir)) && e.File() {
			continue
		}
		up := strings.TrimPrefix(path.Dir(dir), ".")
		for _, o := range out {
			if o.dir == up {
				return nil, malformed("%q stands where signatures do", e.Path)
			}
		}
	}
	if len(out) > maxCode {
		return nil, malformed("more than %d bundles", maxCode)
	}
	return out, nil
}

// rounds says, for each piece of code, after how many others it is signed: those that
// it contains, one in the other. bundle and where tell of the pieces, in any order.
func rounds(n int, piece func(i int) (dir, program string, bundle bool)) ([]int, error) {
	out := make([]int, n)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	depth := func(i int) int {
		dir, program, bundle := piece(i)
		switch {
		case !bundle:
			return strings.Count(program, "/") + 2
		case dir == "":
			return 0
		}
		return strings.Count(dir, "/") + 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return depth(b) - depth(a) }) // the deepest first
	for k, i := range order {
		dir, program, bundle := piece(i)
		if !bundle {
			continue
		}
		for _, j := range order[:k] {
			if _, other, _ := piece(j); other != program && within(other, dir) {
				out[i] = max(out[i], out[j]+1)
			}
		}
		if out[i] >= format.MaxRounds {
			return nil, malformed("code nested deeper than %d levels", format.MaxRounds)
		}
	}
	return out, nil
}

// params are the options of one program's plan.
func (o *object) params(all format.Params, nested plist.Dict) (format.Params, error) {
	p := format.Params{}
	for _, n := range []string{"flags", "replace", "reserve", "signing-time", "team"} {
		p[n] = all[n]
	}
	if !o.bundle {
		p["identifier"] = strings.TrimSuffix(path.Base(o.program), path.Ext(o.program))
		return p, nil
	}
	if o.dir == "" {
		p["entitlements"] = all["entitlements"]
	} else if d, ok := nested.Get(o.dir).(plist.Dict); ok {
		p["entitlements"] = base64.StdEncoding.EncodeToString(plist.EncodeXML(d))
	}
	_, id, _, err := parseInfo(o.info)
	p["identifier"], p["info-plist"] = id, fmt.Sprintf("%x", digest(o.info))
	return p, err
}

// optionText is a property list as it is, or in base64: options have one line.
func optionText(s string) ([]byte, error) {
	if s == "" || strings.HasPrefix(s, "<") {
		return []byte(s), nil
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// nestedEntitlements reads the option of that name.
func nestedEntitlements(all format.Params) (plist.Dict, error) {
	b, err := optionText(all["nested-entitlements"])
	if err != nil {
		return nil, fmt.Errorf("ipa: option nested-entitlements: %w", err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	d, err := codesign.ParseEntitlements(b)
	if err != nil {
		return nil, err
	}
	for _, p := range d {
		if _, ok := p.Value.(plist.Dict); !ok || p.Key == "" || p.Key != path.Clean(p.Key) {
			return nil, fmt.Errorf("ipa: option nested-entitlements: %.80q: a dictionary by the path of a bundle is wanted", p.Key)
		}
	}
	return d, nil
}
