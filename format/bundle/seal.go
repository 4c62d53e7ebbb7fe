package bundle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/plist"
)

func itoa(n int) string { return strconv.Itoa(n) }

// sealed is one line of a bundle's list.
type sealed struct {
	Path     string `cbor:"1,keyasint"` // relative to the bundle's base
	SHA1     []byte `cbor:"2,keyasint"` // for the older list, empty where that does not have the file
	SHA256   []byte `cbor:"3,keyasint"` // empty for links and code
	Link     string `cbor:"4,keyasint"`
	Optional bool   `cbor:"5,keyasint"`
	Code     bool   `cbor:"6,keyasint"` // an object of its own, of this path
}

// contents is what a walk through a bundle finds.
type contents struct {
	lines  []sealed
	inner  []*object // code in it, in the order of the tree
	loose  []string  // files that the rules leave out
	folder bool      // there are empty folders, which nothing covers
}

// walk goes through the entries of a bundle. Files among the resources are hashed
// on the way.
func (o *object) walk(ctx context.Context, t *format.Tree) (*contents, error) {
	c := &contents{}
	skip := "" // a folder that belongs to somebody else
	prefix := o.base + "/"
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		rel, ok := strings.CutPrefix(e.Path, prefix)
		if !ok || skip != "" && strings.HasPrefix(e.Path, skip) || e.Path == o.program || rel == "_CodeSignature" {
			continue
		}
		if strings.HasPrefix(rel, "_CodeSignature/") {
			if e.Path != o.list() || !e.File() {
				return nil, malformed("%q stands where signatures do", e.Path)
			}
			continue
		}
		r := rules2.Decide(rel)
		switch {
		case e.Folder:
			if decideFolder(rel) && isBundle(t, e.Path) {
				skip = e.Path + "/"
				b, err := rootOf(t, e.Path)
				if err != nil {
					return nil, err
				}
				c.inner = append(c.inner, b)
				c.lines = append(c.lines, sealed{Path: rel, SHA1: []byte{}, SHA256: []byte{}, Code: true})
			} else if i+1 == len(t.Entries) || !strings.HasPrefix(t.Entries[i+1].Path, e.Path+"/") {
				c.folder = true
			}
		case r.Omit:
			if e.Path != o.info {
				c.loose = append(c.loose, e.Path)
			}
		case e.Link != "":
			c.lines = append(c.lines, sealed{Path: rel, SHA1: []byte{}, SHA256: []byte{}, Link: e.Link, Optional: r.Optional})
		case r.Nested:
			if !macho.IsCode(t.Open(i)) {
				return nil, malformed("%q stands in a place for code and is none: move it to Resources", e.Path)
			}
			c.inner = append(c.inner, &object{path: e.Path, program: e.Path})
			c.lines = append(c.lines, sealed{Path: rel, SHA1: []byte{}, SHA256: []byte{}, Code: true})
		default:
			line, err := hashFile(t.Open(i), rel)
			if err != nil {
				return nil, err
			}
			line.Optional = r.Optional
			c.lines = append(c.lines, line)
		}
	}
	return c, nil
}

// decideFolder says whether a folder is in a place for code.
func decideFolder(rel string) bool {
	r := rules2.Decide(rel)
	return r.Nested && strings.Contains(path.Base(rel), ".") && !strings.HasSuffix(rel, ".dSYM")
}

func hashFile(a format.Artifact, rel string) (sealed, error) {
	h, old := sha256.New(), sha1.New()
	w := io.Writer(h)
	r := rules1.Decide(rel)
	both := r != nil && !r.Omit
	if both {
		w = io.MultiWriter(h, old)
	}
	n, err := io.Copy(w, io.NewSectionReader(a, 0, a.Size()))
	if err != nil || n != a.Size() {
		return sealed{}, fmt.Errorf("bundle: %q: %d bytes of %d: %w", rel, n, a.Size(), orShort(err))
	}
	s := sealed{Path: rel, SHA1: []byte{}, SHA256: h.Sum(nil)}
	if both {
		s.SHA1 = old.Sum(nil)
	}
	return s, nil
}

func orShort(err error) error {
	if err == nil {
		return format.ErrShort
	}
	return err
}

// named is how a list names code: its hash and its requirement.
type named struct {
	hash        []byte
	requirement string
}

// encodeList writes a list. codes has the code by the path in the lines.
func encodeList(lines []sealed, codes map[string]named) ([]byte, error) {
	files, files2 := plist.Dict{}, plist.Dict{}
	for _, s := range lines {
		var d plist.Dict
		optional := func(d plist.Dict) plist.Dict {
			if s.Optional {
				d = append(d, plist.Pair{Key: "optional", Value: true})
			}
			return d
		}
		switch {
		case s.Code:
			n, ok := codes[s.Path]
			if !ok {
				return nil, malformed("code %q is not signed", s.Path)
			}
			d = plist.Dict{{Key: "cdhash", Value: plist.Data(n.hash)}, {Key: "requirement", Value: n.requirement}}
		case s.Link != "":
			d = optional(plist.Dict{{Key: "symlink", Value: s.Link}})
		default:
			d = optional(plist.Dict{{Key: "hash2", Value: plist.Data(s.SHA256)}})
		}
		files2 = append(files2, plist.Pair{Key: s.Path, Value: d})
		if len(s.SHA1) > 0 {
			var v plist.Value = plist.Data(s.SHA1)
			if s.Optional {
				v = optional(plist.Dict{{Key: "hash", Value: v}})
			}
			files = append(files, plist.Pair{Key: s.Path, Value: v})
		}
	}
	return plist.EncodeXML(plist.Dict{
		{Key: "files", Value: files}, {Key: "files2", Value: files2}, {Key: "rules", Value: rules1.Value()}, {Key: "rules2", Value: rules2.Value()},
	}), nil
}

// compareList refuses a list that does not name what is there. hashes has, for each
// piece of code, the code hashes of its slices.
func compareList(list []byte, lines []sealed, hashes map[string][][]byte) error {
	d, err := plist.ParseDict(list)
	if err != nil {
		return fmt.Errorf("bundle: list: %w", err)
	}
	bad := func(p, why string) error { return fmt.Errorf("%w: %.200q %s", ErrSealed, p, why) }
	for _, p := range d {
		switch p.Key {
		case "files", "files2", "rules", "rules2":
		default:
			return malformed("list with %.40q", p.Key)
		}
	}
	for key, rs := range map[string]Rules{"rules": rules1, "rules2": rules2} {
		got, _ := d.Get(key).(plist.Dict)
		if !bytes.Equal(plist.EncodeXML(got), plist.EncodeXML(rs.Value())) {
			return malformed("list with %s of its own", key)
		}
	}
	files, _ := d.Get("files").(plist.Dict)
	files2, ok := d.Get("files2").(plist.Dict)
	if !ok {
		return malformed("list without files2")
	}
	want := map[string]sealed{}
	for _, s := range lines {
		want[s.Path] = s
	}
	seen := map[string]bool{}
	for _, p := range files2 {
		entry, ok := p.Value.(plist.Dict)
		s, there := want[p.Key]
		optional, _ := entry.Get("optional").(bool)
		switch {
		case !ok:
			return malformed("line for %.200q", p.Key)
		case !there && optional:
			continue
		case !there:
			return bad(p.Key, "is missing")
		}
		if why := s.compare(entry, hashes[p.Key]); why != "" {
			return bad(p.Key, why)
		}
		seen[p.Key] = true
	}
	for _, s := range lines {
		if !seen[s.Path] {
			return bad(s.Path, "was added")
		}
	}
	for _, p := range files { // the older list, for those who still read it
		s, there := want[p.Key]
		sum, ok := p.Value.(plist.Data)
		if entry, isDict := p.Value.(plist.Dict); isDict {
			sum, ok = entry.Get("hash").(plist.Data)
		}
		if !ok || there && !bytes.Equal(sum, s.SHA1) || !there && !rules2.Decide(p.Key).Optional {
			return bad(p.Key, "is another one in the older list")
		}
	}
	return nil
}

// compare says what is wrong with a line, or "".
func (s *sealed) compare(d plist.Dict, hashes [][]byte) string {
	known := []string{"hash", "hash2", "optional", "symlink", "cdhash", "requirement"}
	for _, p := range d {
		if !slices.Contains(known, p.Key) {
			return "has a line that is not understood"
		}
	}
	if optional, _ := d.Get("optional").(bool); optional != s.Optional {
		return "is optional by the rules or by the list, and not by both"
	}
	link, _ := d.Get("symlink").(string)
	sum, _ := d.Get("hash2").(plist.Data)
	code, _ := d.Get("cdhash").(plist.Data)
	switch {
	case link != s.Link:
		return "is a link to somewhere else, or none"
	case !bytes.Equal(sum, s.SHA256):
		return "has other content"
	case s.Code != (code != nil):
		return "is code for the list or for the rules, and not for both"
	case s.Code && !slices.ContainsFunc(hashes, func(h []byte) bool { return bytes.Equal(h, code) }):
		return "is other code"
	case s.Code && d.Get("requirement") == nil:
		return "has no requirement"
	}
	if old, ok := d.Get("hash").(plist.Data); ok && len(s.SHA1) > 0 && !bytes.Equal(old, s.SHA1) {
		return "has other content by the older digest"
	}
	return ""
}

// digest is SHA-256, which all digests of bundles are.
func digest(b []byte) []byte { return codesign.Digest(crypto.SHA256, b) }
