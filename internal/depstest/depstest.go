// Package depstest finds what packages of this module depend on, for tests that
// hold a list of it: of the process with the keys, say, where a new dependency is
// to be a line in a review.
//
// It reads sources itself. A list that a go command makes would be served from the
// test cache after the sources have changed.
package depstest

import (
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// Set is a set of packages by import path, the standard library's among them.
type Set struct {
	t       *testing.T
	root    string // of this module
	self    string // its path
	modules []module.Version
	cache   string
	ctx     build.Context
	seen    map[string]bool
}

// New makes an empty set for the module whose folder is root, as built for Linux
// on x86-64.
func New(t *testing.T, root string, cgo bool) *Set {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &Set{t: t, root: root, self: f.Module.Mod.Path, cache: os.Getenv("GOMODCACHE"), ctx: build.Default, seen: map[string]bool{}}
	if d.cache == "" {
		d.cache = filepath.Join(filepath.SplitList(build.Default.GOPATH)[0], "pkg", "mod")
	}
	for _, r := range f.Require {
		m := r.Mod
		for _, x := range f.Replace {
			if x.Old.Path == m.Path && (x.Old.Version == "" || x.Old.Version == m.Version) {
				if x.New.Path != m.Path {
					t.Fatalf("go.mod takes %s from %s: this package does not know how", m.Path, x.New.Path)
				}
				m = x.New
			}
		}
		d.modules = append(d.modules, m)
	}
	d.ctx.GOOS, d.ctx.GOARCH, d.ctx.CgoEnabled = "linux", "amd64", cgo
	return d
}

// dir is the folder of a package; "" for the standard library's.
func (d *Set) dir(path string) string {
	if rest, ok := strings.CutPrefix(path, d.self+"/"); ok {
		return filepath.Join(d.root, rest)
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return ""
	}
	best := module.Version{}
	for _, m := range d.modules {
		if (path == m.Path || strings.HasPrefix(path, m.Path+"/")) && len(m.Path) > len(best.Path) {
			best = m
		}
	}
	p, err1 := module.EscapePath(best.Path)
	v, err2 := module.EscapeVersion(best.Version)
	if best.Path == "" || err1 != nil || err2 != nil {
		d.t.Fatalf("%s: no module of go.mod has it", path)
	}
	return filepath.Join(d.cache, p+"@"+v, strings.TrimPrefix(path, best.Path))
}

// Add adds packages, named below the module's root, and all that they need.
func (d *Set) Add(pkgs ...string) {
	d.t.Helper()
	for _, p := range pkgs {
		d.add(d.self + "/" + p)
	}
}

func (d *Set) add(path string) {
	if d.seen[path] {
		return
	}
	d.seen[path] = true
	dir := d.dir(path)
	if dir == "" {
		return
	}
	p, err := d.ctx.ImportDir(dir, 0)
	if err != nil {
		d.t.Fatalf("%s: %v", path, err)
	}
	for _, i := range p.Imports {
		d.add(i)
	}
}

// Held compares the packages outside of the standard library with the list in a
// file, which is written anew with update.
func (d *Set) Held(file string, update bool) {
	d.t.Helper()
	var list []string
	for p := range d.seen {
		if p != "C" && d.dir(p) != "" {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	if len(list) < 10 {
		d.t.Fatalf("%d packages: the walk is broken", len(list))
	}
	text := strings.Join(list, "\n") + "\n"
	if update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	if text != string(want) {
		d.t.Errorf("the dependencies are not those of %s: review the change, then run with -update\nnow:\n%s", file, text)
	}
}

// Never fails when a package is one of these, or begins with one: names below the
// module's root, or import paths with a dot in front of the first slash, or of the
// standard library with "std:" before.
func (d *Set) Never(names ...string) {
	d.t.Helper()
	for p := range d.seen {
		for _, n := range names {
			std, isStd := strings.CutPrefix(n, "std:")
			first, _, _ := strings.Cut(n, "/")
			switch {
			case isStd && p == std,
				!isStd && strings.Contains(first, ".") && strings.HasPrefix(p, n),
				!isStd && !strings.Contains(first, ".") && strings.HasPrefix(p, d.self+"/"+n):
				d.t.Errorf("%s is needed: it must not be", p)
			}
		}
	}
}
