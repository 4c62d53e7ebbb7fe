package credential_test

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The package is pure: it imports nothing that reads files, networks, clocks or
// randomness. (Some of what it imports does so elsewhere.)
func TestPure(t *testing.T) {
	reasons := map[string]string{
		"os": "files and environment", "net": "network", "net/http": "network", "time": "clock",
		"crypto/rand": "randomness", "math/rand": "randomness", "math/rand/v2": "randomness",
		"os/exec": "processes", "io/ioutil": "files", "syscall": "the system", "unsafe": "memory",
		"golang.org/x/crypto/ssh/agent": "network",
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why, bad := reasons[path]; bad {
				t.Errorf("%s imports %s: %s", e.Name(), path, why)
			}
		}
	}
	if read < 9 {
		t.Errorf("%d files read: the test looks elsewhere", read)
	}
}
