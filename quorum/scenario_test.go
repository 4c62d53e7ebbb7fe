package quorum_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/quorum/quorumtest"
)

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			s, err := quorumtest.ParseScenario(line)
			if err != nil {
				t.Fatal(err)
			}
			s.Run(t)
			n++
		}
	}
	if n < 100 {
		t.Fatalf("%d scenarios: the table had at least 100", n)
	}
}
