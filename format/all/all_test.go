package all

import (
	"bytes"
	"debug/pe"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Formats() {
		n := f.Name()
		if err := statement.CheckName("format", n); err != nil || seen[n] {
			t.Errorf("%q: %v, or twice", n, err)
		}
		seen[n] = true
		if g, ok := ByName(n); !ok || g.Name() != n {
			t.Errorf("%q is not found", n)
		}
		options := map[string]bool{}
		for _, o := range f.Options() {
			if options[o.Name] {
				t.Errorf("%s: option %s twice", n, o.Name)
			}
			options[o.Name] = true
		}
	}
	for _, n := range []string{
		"pe", "msi", "cab", "cat", "appx", "nuget", "script", "macho", "pkg", "dmg", "bundle", "ipa", "cms", "dsse", "xmldsig", "oci", "cose", "jws",
		"apk", "apk-v4", "jar",
		"kmod", "mcuboot", "fit", "rauc", "vbmeta", "swupdate", "ima",
		"circle",
		"pgp", "pgp-key", "rpm", "deb", "apt", "sshsig", "minisign", "signify", "git",
		"records",
	} {
		if !seen[n] {
			t.Errorf("%s is not there", n)
		}
		delete(seen, n)
	}
	if len(seen) > 0 {
		t.Errorf("not in the test's list: %v", seen)
	}
	for _, n := range []string{"", "PE", "two-rounds"} {
		if _, ok := ByName(n); ok {
			t.Errorf("%q is found", n)
		}
	}
}

// program builds a Windows program.
func program(t *testing.T, dir string) string {
	t.Helper()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello.exe")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	c.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GO111MODULE=off")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build for Windows: %v: %s", err, b)
	}
	return out
}

// Every format that takes a Windows program goes the whole way through files:
// plan, sign, write, verify, in each way of writing.
func TestThroughFiles(t *testing.T) {
	base := t.TempDir()
	exe, err := os.ReadFile(program(t, base))
	if err != nil {
		t.Fatal(err)
	}
	s := formattest.Identity(t, sigalg.P256)
	for _, n := range []string{"pe", "cms", "dsse"} {
		f, ok := ByName(n)
		if !ok {
			t.Fatal(n)
		}
		for _, inPlace := range []bool{false, true} {
			t.Run(f.Name()+"/inplace="+strconv.FormatBool(inPlace), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "hello.exe")
				if err := os.WriteFile(path, exe, 0o755); err != nil {
					t.Fatal(err)
				}
				a, err := file.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				if d, ok := Detect(a); !ok || d.Name() != "pe" {
					t.Fatalf("detected %v", d)
				}
				plan, err := f.Plan(t.Context(), a, nil)
				if err != nil {
					t.Fatal(err)
				}
				patch, err := f.Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, f, plan, s, formattest.At))
				if err != nil {
					t.Fatal(err)
				}
				if err := file.Write(path, "", patch, file.Options{InPlace: inPlace && patch.Sidecar == nil}); err != nil {
					t.Fatal(err)
				}
				signed, err := file.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer signed.Close()
				tr := s.Trust()
				if patch.Sidecar != nil {
					if tr.Detached, err = os.ReadFile(path + patch.Sidecar.Suffix); err != nil {
						t.Fatal(err)
					}
					side := format.BytesArtifact("side", tr.Detached)
					if d, ok := Detect(side); !ok || d.Name() != f.Name() {
						t.Errorf("sidecar detected as %v", d)
					}
				} else {
					if _, err := a.ReadAt(make([]byte, 1), 0); inPlace && err == nil {
						t.Error("the artifact that was open did not notice")
					}
					now, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := pe.NewFile(bytes.NewReader(now)); err != nil {
						t.Errorf("debug/pe: %v", err)
					}
				}
				r, err := f.Verify(t.Context(), signed, tr)
				if err != nil || len(r.Signatures) != 1 || !bytes.Equal(r.Signatures[0].Content, plan.Content) {
					t.Fatalf("%+v, %v", r, err)
				}
			})
		}
	}
}

func TestDetectNothing(t *testing.T) {
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("hello\n"), "MZ": []byte("MZ"), "brace": []byte("{"), "sequence": []byte("0\x82")} {
		if f, ok := Detect(format.BytesArtifact(name, b)); ok {
			t.Errorf("%s is %s", name, f.Name())
		}
	}
}

// Invariant 4 of package format: a format knows no key, clock, file or network.
func TestImports(t *testing.T) {
	forbidden := []string{"os", "net", "syscall", "io/ioutil", "os/exec", "math/rand", "math/rand/v2", "crypto/rand", "golang.org/x/sys",
		"github.com/greatseal-io/greatseal/key", "github.com/greatseal-io/greatseal/tsp/client", "github.com/greatseal-io/greatseal/format/file"}
	n := 0
	for _, dir := range []string{
		"..", "../authenticode", "../cfb", "../pe", "../msi", "../script", "../cat", "../appx", "../nuget", "../cab", "../cmsfile", "../attest", "../xmldsig", "../oci", "../jws", "../cose", ".",
		"../plist", "../codesign", "../macho", "../xar", "../dmg", "../bundle", "../ipa",
		"../zipfile", "../opc", "../jarsig", "../jar", "../apk",
		"../single", "../verity", "../envelope", "../kmod", "../mcuboot", "../fit", "../rauc", "../vbmeta", "../swupdate", "../ima",
		"../pgpsig", "../pgp", "../pgpkey", "../rpm", "../deb", "../apt", "../sshsig", "../minisign", "../signify", "../gitobject", "../circle",
		"../records",
	} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			n++
			for _, i := range f.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if slices.ContainsFunc(forbidden, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }) {
					t.Errorf("%s imports %s", name, path)
				}
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(src, []byte("time.Now(")) {
				t.Errorf("%s reads the clock", name)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d files were looked at", n)
	}
}
