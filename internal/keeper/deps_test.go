package keeper

import (
	"flag"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

var update = flag.Bool("update", false, "write the golden files anew")

// deps finds the packages outside of the standard library that packages of this
// module need, without those tests and without cgo. It reads sources itself: a list
// that a go command makes would be served from the test cache after the sources
// have changed.
type deps struct {
	t       *testing.T
	root    string // of this module
	self    string // its path
	modules []module.Version
	cache   string
	ctx     build.Context
	seen    map[string]bool
}

func newDeps(t *testing.T, root string) *deps {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Replace) > 0 {
		t.Fatal("go.mod replaces modules: this test does not know how")
	}
	d := &deps{t: t, root: root, self: f.Module.Mod.Path, cache: os.Getenv("GOMODCACHE"), ctx: build.Default, seen: map[string]bool{}}
	if d.cache == "" {
		d.cache = filepath.Join(filepath.SplitList(build.Default.GOPATH)[0], "pkg", "mod")
	}
	for _, r := range f.Require {
		d.modules = append(d.modules, r.Mod)
	}
	d.ctx.GOOS, d.ctx.GOARCH, d.ctx.CgoEnabled = "linux", "amd64", false
	return d
}

// dir is the folder of a package; "" for the standard library's.
func (d *deps) dir(path string) string {
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

func (d *deps) add(path string) {
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

// The dependencies of the process that holds the keys are a list in a file, so
// that a change of them is a line in a review.
func TestDependencies(t *testing.T) {
	d := newDeps(t, filepath.Join("..", ".."))
	self := d.self + "/internal/keeper"
	for _, p := range packages(t, ".") {
		d.add(strings.TrimSuffix(self+"/"+p, "/."))
	}
	var list []string
	for p := range d.seen {
		if d.dir(p) != "" {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	if len(list) < 10 {
		t.Fatalf("%d packages: the walk is broken", len(list))
	}
	text := strings.Join(list, "\n") + "\n"
	if *update {
		if err := os.WriteFile("deps.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the keeper's dependencies are not those of deps.txt: review the change, then run with -update\nnow:\n%s", text)
	}
	for _, p := range []string{"net/http", "database/sql", "os/exec", "plugin", "html/template", "encoding/gob"} {
		if d.seen[p] {
			t.Errorf("the keeper needs %s", p)
		}
	}
	d.never(d.self+"/tsp/client", d.self+"/internal/store", d.self+"/internal/api", d.self+"/internal/server",
		"github.com/danielgtaylor/huma", "github.com/spf13", "modernc.org", "github.com/jackc")

	// What judges and numbers knows formats and providers by their interfaces.
	core := newDeps(t, filepath.Join("..", ".."))
	for _, p := range []string{self, self + "/ledger", self + "/wire"} {
		core.add(p)
	}
	core.never(d.self+"/format/", d.self+"/key/", d.self+"/internal/config")
}

func (d *deps) never(prefixes ...string) {
	d.t.Helper()
	for p := range d.seen {
		for _, never := range prefixes {
			if strings.HasPrefix(p, never) {
				d.t.Errorf("the keeper needs %s: it must not", p)
			}
		}
	}
}

// packages are the folders below root that hold production code.
func packages(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "testdata":
			return filepath.SkipDir
		case !e.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			if dir := filepath.ToSlash(filepath.Dir(path)); !slices.Contains(out, dir) {
				out = append(out, dir)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
