package cli

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the golden files")

const manDir = "../../docs/man"

func testApp() *App {
	return &App{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Now: time.Now}
}

// The checked-in manual is that of the commands.
func TestManPages(t *testing.T) {
	pages := ManPages(testApp().Root())
	if len(pages) < 30 {
		t.Fatalf("%d pages", len(pages))
	}
	if *update {
		if err := os.RemoveAll(manDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for n, b := range pages {
			if err := os.WriteFile(filepath.Join(manDir, n), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	have, err := filepath.Glob(filepath.Join(manDir, "*.1"))
	if err != nil || len(have) == 0 {
		t.Fatalf("%s holds no pages: go test ./internal/cli -run TestManPages -update", manDir)
	}
	for _, p := range have {
		want, ok := pages[filepath.Base(p)]
		got, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || !bytes.Equal(got, want) {
			t.Errorf("%s is not up to date: go test ./internal/cli -run TestManPages -update", p)
		}
		delete(pages, filepath.Base(p))
	}
	for n := range pages {
		t.Errorf("%s is missing: go test ./internal/cli -run TestManPages -update", n)
	}
}

// A real formatter reads every page without a warning.
func TestManPagesFormat(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Fatal("groff is missing: apt-get install groff-base")
	}
	for n, b := range ManPages(testApp().Root()) {
		c := exec.Command(groff, "-man", "-Tutf8", "-ww", "-k", "-P-cbou")
		c.Stdin = bytes.NewReader(b)
		var out, bad bytes.Buffer
		c.Stdout, c.Stderr = &out, &bad
		if err := c.Run(); err != nil || bad.Len() > 0 {
			t.Errorf("%s: %v: %s", n, err, bad.String())
		}
		if !strings.Contains(out.String(), "SYNOPSIS") {
			t.Errorf("%s: no synopsis in %.300q", n, out.String())
		}
	}
}

// Every command says what it does, and takes the flag for JSON.
func TestHelp(t *testing.T) {
	root := testApp().Root()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden { // for programs
			return
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q: want a phrase without a full stop", c.CommandPath(), c.Short)
		}
		if c.Parent() == root && c.GroupID == "" && c.Name() != "help" && c.Name() != "completion" {
			t.Errorf("%s is in no group", c.CommandPath())
		}
		if c.Flag("json") == nil && c.InheritedFlags().Lookup("json") == nil && c.PersistentFlags().Lookup("json") == nil {
			t.Errorf("%s: no --json", c.CommandPath())
		}
		for _, s := range c.Commands() {
			walk(s)
		}
	}
	walk(root)
}
