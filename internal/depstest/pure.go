package depstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// world are packages of the standard library by which a package would reach files,
// networks, randomness or other processes.
var world = []string{"os", "os/exec", "net", "net/http", "crypto/rand", "math/rand", "math/rand/v2", "syscall", "log", "log/slog"}

// clock are what of package time reads the clock or waits for it.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}

// Pure fails when a source of the package in dir, tests aside, reads a clock or
// imports what reaches files, networks or randomness. least is how many sources
// there are at the least: an empty folder must not pass.
func Pure(t *testing.T, dir string, least int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		n++
		a, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range impure(a) {
			t.Errorf("%s %s", f, s)
		}
	}
	if n < least {
		t.Fatalf("%d sources in %s: where is the package?", n, dir)
	}
}

// impure says what a source does that is not pure.
func impure(a *ast.File) []string {
	var out []string
	times := "time" // as the source calls the package
	for _, i := range a.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if slices.Contains(world, path) {
			out = append(out, "imports "+path)
		}
		if path == "time" && i.Name != nil {
			if times = i.Name.Name; times == "." {
				out = append(out, "imports all names of time")
			}
		}
	}
	ast.Inspect(a, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == times && slices.Contains(clock, s.Sel.Name) {
				out = append(out, "reads the clock: time."+s.Sel.Name)
			}
		}
		return true
	})
	return out
}
