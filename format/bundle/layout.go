package bundle

import (
	"fmt"
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/plist"
)

// object is a piece of code: a bundle, or a program or library alone.
type object struct {
	path    string // "" is the whole tree
	base    string // what the list is about; "" for code that is no bundle
	info    string // Info.plist, "" for code that is no bundle
	program string
}

// list is where the list of a bundle stands.
func (o *object) list() string { return path.Join(o.base, "_CodeSignature", "CodeResources") }

// rootOf finds base and Info.plist of the bundle at path dir.
func rootOf(t *format.Tree, dir string) (*object, error) {
	o := &object{path: dir}
	if i := t.Lookup(path.Join(dir, "Contents/Info.plist")); i >= 0 && t.Entries[i].File() {
		o.base, o.info = path.Join(dir, "Contents"), t.Entries[i].Path
		return o, onlyChild(t, dir, "Contents")
	}
	i := t.Lookup(path.Join(dir, "Versions/Current"))
	if i < 0 || t.Entries[i].Link == "" || strings.Contains(t.Entries[i].Link, "/") {
		return nil, fmt.Errorf("%w: %q has neither Contents/Info.plist nor Versions/Current", ErrNotBundle, dir)
	}
	o.base = path.Join(dir, "Versions", t.Entries[i].Link)
	o.info = path.Join(o.base, "Resources/Info.plist")
	if i := t.Lookup(o.info); i < 0 || !t.Entries[i].File() {
		return nil, fmt.Errorf("%w: %q has no Resources/Info.plist", ErrNotBundle, o.base)
	}
	if err := onlyChild(t, path.Join(dir, "Versions"), path.Base(o.base), "Current"); err != nil {
		return nil, err
	}
	return o, onlyChild(t, dir, "Versions")
}

// onlyChild refuses what nothing would seal: everything in dir but these entries
// and, beside Versions, the links into it that frameworks have.
func onlyChild(t *format.Tree, dir string, names ...string) error {
next:
	for i := range t.Entries {
		e := &t.Entries[i]
		if up := path.Dir(e.Path); up != dir && !(up == "." && dir == "") {
			continue
		}
		n := path.Base(e.Path)
		for _, want := range names {
			if n == want {
				continue next
			}
		}
		if names[0] == "Versions" && e.Link == "Versions/Current/"+n {
			continue
		}
		return malformed("%q stands beside %s, where no signature covers it", e.Path, names[0])
	}
	return nil
}

// readFile reads a small file of the tree.
func readFile(t *format.Tree, p string, limit int64) ([]byte, error) {
	i := t.Lookup(p)
	if i < 0 || !t.Entries[i].File() {
		return nil, malformed("%q is not there", p)
	}
	if t.Entries[i].Size > limit {
		return nil, malformed("%q has %d bytes: at most %d", p, t.Entries[i].Size, limit)
	}
	b := make([]byte, t.Entries[i].Size)
	if err := format.ReadFull(t.Open(i), b, 0); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

// parseInfo reads identifier and program of an Info.plist.
func parseInfo(b []byte) (plist.Dict, string, string, error) {
	d, err := plist.ParseDict(b)
	if err != nil {
		return nil, "", "", fmt.Errorf("bundle: Info.plist: %w", err)
	}
	id, exe := d.String("CFBundleIdentifier"), d.String("CFBundleExecutable")
	if id == "" || exe == "" || strings.ContainsAny(exe, "/\\") || exe == "." || exe == ".." {
		return nil, "", "", malformed("Info.plist without CFBundleIdentifier, or whose CFBundleExecutable is %.60q", exe)
	}
	return d, id, exe, nil
}

// open fills in the program of a bundle, and gives its Info.plist.
func (o *object) open(t *format.Tree) ([]byte, error) {
	b, err := readFile(t, o.info, maxInfo)
	if err != nil {
		return nil, err
	}
	_, _, exe, err := parseInfo(b)
	if err != nil {
		return nil, err
	}
	o.program = programOf(o.base, exe)
	i := t.Lookup(o.program)
	if i < 0 || !t.Entries[i].File() || !macho.IsCode(t.Open(i)) {
		return nil, malformed("%q is no program", o.program)
	}
	return b, nil
}

// programOf is where the program of a bundle stands.
func programOf(base, exe string) string {
	if path.Base(base) == "Contents" {
		return path.Join(base, "MacOS", exe)
	}
	return path.Join(base, exe)
}

// isBase says whether base may be that of the bundle dir.
func isBase(dir, base string) bool {
	if base == path.Join(dir, "Contents") {
		return true
	}
	up, version := path.Split(base)
	return path.Clean(base) == base && version != "Current" && path.Clean(up) == path.Join(dir, "Versions")
}

// isBundle says whether the folder p is a bundle of its own.
func isBundle(t *format.Tree, p string) bool {
	for _, n := range []string{"Contents/Info.plist", "Versions/Current"} {
		if t.Lookup(path.Join(p, n)) >= 0 {
			return true
		}
	}
	return false
}
