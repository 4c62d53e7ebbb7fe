package charter_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Invariant 4: no clock, no files, no network, no randomness.
func TestPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
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
		for _, i := range a.Imports {
			if slices.Contains([]string{`"os"`, `"net"`, `"net/http"`, `"crypto/rand"`, `"math/rand"`, `"math/rand/v2"`, `"syscall"`, `"os/exec"`, `"log"`, `"log/slog"`}, i.Path.Value) {
				t.Errorf("%s imports %s", f, i.Path.Value)
			}
		}
		ast.Inspect(a, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep"}, s.Sel.Name) {
				t.Errorf("%s reads the clock: time.%s", f, s.Sel.Name)
			}
			return true
		})
	}
	if n < 5 {
		t.Fatalf("%d files: where is the package?", n)
	}
}
