package depstest

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

func TestImpure(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"package p\nimport \"strings\"\nvar _ = strings.ToUpper", ""},
		{"package p\nimport \"time\"\nvar _ = time.Unix", ""},
		{"package p\nimport \"os\"", "imports os"},
		{"package p\nimport r \"crypto/rand\"", "imports crypto/rand"},
		{"package p\nimport _ \"net/http\"", "imports net/http"},
		{"package p\nimport \"time\"\nvar _ = time.Now()", "reads the clock: time.Now"},
		{"package p\nimport \"time\"\nvar now = time.Now", "reads the clock: time.Now"},
		{"package p\nimport t \"time\"\nvar _ = t.Since", "reads the clock: time.Since"},
		{"package p\nimport . \"time\"\nvar _ = Now()", "imports all names of time"},
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", c.source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(impure(f), "; "); got != c.want {
			t.Errorf("%q: got %q, want %q", c.source, got, c.want)
		}
	}
}
