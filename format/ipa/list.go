package ipa

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format/bundle"
	"github.com/greatseal-io/greatseal/format/plist"
)

// The standard rules of lists of shallow bundles (Apple's bundlediskrep.cpp): no place
// is one for code. rules1 are those for systems before iOS 7.
var (
	rules1 = bundle.NewRules(
		bundle.Rule{Pattern: `^.*`, Weight: 1},
		bundle.Rule{Pattern: `^.*\.lproj/`, Weight: 1000, Optional: true},
		bundle.Rule{Pattern: `^.*\.lproj/locversion.plist$`, Weight: 1100, Omit: true},
		bundle.Rule{Pattern: `^Base\.lproj/`, Weight: 1010},
		bundle.Rule{Pattern: `^version.plist$`, Weight: 1},
	)
	rules2 = bundle.NewRules(
		bundle.Rule{Pattern: `.*\.dSYM($|/)`, Weight: 11},
		bundle.Rule{Pattern: `^(.*/)?\.DS_Store$`, Weight: 2000, Omit: true},
		bundle.Rule{Pattern: `^.*`, Weight: 1},
		bundle.Rule{Pattern: `^.*\.lproj/`, Weight: 1000, Optional: true},
		bundle.Rule{Pattern: `^.*\.lproj/locversion.plist$`, Weight: 1100, Omit: true},
		bundle.Rule{Pattern: `^Base\.lproj/`, Weight: 1010},
		bundle.Rule{Pattern: `^Info\.plist$`, Weight: 20, Omit: true},
		bundle.Rule{Pattern: `^PkgInfo$`, Weight: 20, Omit: true},
		bundle.Rule{Pattern: `^embedded\.provisionprofile$`, Weight: 20},
		bundle.Rule{Pattern: `^version\.plist$`, Weight: 20},
	)
)

// sealed is one file as lists know it.
type sealed struct {
	Path   string `cbor:"1,keyasint"` // in the application
	SHA1   []byte `cbor:"2,keyasint"` // empty for links
	SHA256 []byte `cbor:"3,keyasint"` // empty for links
	Link   string `cbor:"4,keyasint"`
}

// of gives the files that the list of a bundle is about, by their paths in it, in order.
func of(all []sealed, dir, program string) []sealed {
	var out []sealed
	for _, s := range all {
		if !within(s.Path, dir) || s.Path == program || s.Path == listOf(dir) {
			continue
		}
		if dir != "" {
			s.Path = strings.TrimPrefix(s.Path, dir+"/")
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b sealed) int { return strings.Compare(a.Path, b.Path) })
	return out
}

var optional = plist.Pair{Key: "optional", Value: true}

// encodeList writes the list of a bundle with these files.
func encodeList(files []sealed) []byte {
	files1, files2 := plist.Dict{}, plist.Dict{}
	for _, s := range files {
		if r := rules1.Decide(s.Path); s.Link == "" && !r.Omit {
			var v plist.Value = plist.Data(s.SHA1)
			if r.Optional {
				v = plist.Dict{{Key: "hash", Value: v}, optional}
			}
			files1 = append(files1, plist.Pair{Key: s.Path, Value: v})
		}
		r := rules2.Decide(s.Path)
		if r.Omit {
			continue
		}
		d := plist.Dict{{Key: "hash2", Value: plist.Data(s.SHA256)}}
		if s.Link != "" {
			d = plist.Dict{{Key: "symlink", Value: s.Link}}
		}
		if r.Optional {
			d = append(d, optional)
		}
		files2 = append(files2, plist.Pair{Key: s.Path, Value: d})
	}
	return plist.EncodeXML(plist.Dict{
		{Key: "files", Value: files1}, {Key: "files2", Value: files2}, {Key: "rules", Value: rules1.Value()}, {Key: "rules2", Value: rules2.Value()},
	})
}

// compareList refuses a list that does not name what is there. It returns what the
// rules leave out.
func compareList(list []byte, files []sealed) (loose []string, err error) {
	d, err := plist.ParseDict(list)
	if err != nil {
		return nil, fmt.Errorf("ipa: list: %w", err)
	}
	for _, p := range d {
		switch p.Key {
		case "files", "files2", "rules", "rules2":
		default:
			return nil, malformed("list with %.40q", p.Key)
		}
	}
	for key, rs := range map[string]bundle.Rules{"rules": rules1, "rules2": rules2} {
		got, _ := d.Get(key).(plist.Dict)
		if !bytes.Equal(plist.EncodeXML(got), plist.EncodeXML(rs.Value())) {
			return nil, malformed("list with %s of its own", key)
		}
	}
	files1, _ := d.Get("files").(plist.Dict)
	files2, ok := d.Get("files2").(plist.Dict)
	if !ok {
		return nil, malformed("list without files2")
	}
	there := map[string]*sealed{}
	for i := range files {
		there[files[i].Path] = &files[i]
	}
	seen := map[string]bool{}
	for _, p := range files2 {
		if err := compareLine(p.Key, p.Value, there[p.Key]); err != nil {
			return nil, err
		}
		seen[p.Key] = true
	}
	for _, s := range files {
		switch {
		case rules2.Decide(s.Path).Omit:
			if s.Path != "Info.plist" {
				loose = append(loose, s.Path)
			}
		case !seen[s.Path]:
			return nil, fmt.Errorf("%w: %.200q was added", ErrSealed, s.Path)
		}
	}
	for _, p := range files1 { // for those who still read it
		sum, ok := p.Value.(plist.Data)
		if entry, isDict := p.Value.(plist.Dict); isDict {
			sum, ok = entry.Get("hash").(plist.Data)
		}
		s := there[p.Key]
		if !ok || s != nil && !bytes.Equal(sum, s.SHA1) || s == nil && !rules1.Decide(p.Key).Optional {
			return nil, fmt.Errorf("%w: %.200q is another one in the older list", ErrSealed, p.Key)
		}
	}
	return loose, nil
}

// compareLine compares a line of files2 with the file of that path, nil where there is
// none.
func compareLine(p string, v plist.Value, s *sealed) error {
	bad := func(why string) error { return fmt.Errorf("%w: %.200q %s", ErrSealed, p, why) }
	d, ok := v.(plist.Dict)
	if !ok {
		return malformed("line for %.200q", p)
	}
	for _, e := range d {
		if !slices.Contains([]string{"hash", "hash2", "optional", "symlink"}, e.Key) {
			return bad("has a line that is not understood")
		}
	}
	r := rules2.Decide(p)
	if marked, _ := d.Get("optional").(bool); marked != r.Optional || r.Omit {
		return bad("is not in the list as the rules want it")
	}
	if s == nil {
		if r.Optional {
			return nil
		}
		return bad("is missing")
	}
	link, _ := d.Get("symlink").(string)
	sum, _ := d.Get("hash2").(plist.Data)
	old, hasOld := d.Get("hash").(plist.Data)
	switch {
	case link != s.Link:
		return bad("is a link to somewhere else, or none")
	case !bytes.Equal(sum, s.SHA256):
		return bad("has other content")
	case hasOld && !bytes.Equal(old, s.SHA1):
		return bad("has other content by the older digest")
	}
	return nil
}
