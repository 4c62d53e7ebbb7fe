package bundle

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const hint = "run make judges"

// sample is an application that Apple's tools made, as a folder of its own.
func sample(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "dummy.app")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(formattest.Judges(tb), "lib", "relic", "packages", "fatfile.app"))); err != nil {
		tb.Fatalf("%v: %s", err, hint)
	}
	return dir
}

// folder writes a tree to disk.
func folder(tb testing.TB, b []byte) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "A.app")
	for p, c := range unpack(tb, b) {
		at := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			tb.Fatal(err)
		}
		to, link := strings.CutPrefix(c, "-> ")
		var err error
		if link {
			err = os.Symlink(to, at)
		} else {
			err = os.WriteFile(at, []byte(c), 0o755)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// sign signs a folder where it is, through package file.
func sign(tb testing.TB, dir string, s *formattest.Signer) {
	tb.Helper()
	a, err := file.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer a.Close()
	plan, err := Format{}.Plan(tb.Context(), a, nil)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, Format{}, plan, s, formattest.At)
	for i := range sigs {
		sigs[i].Timestamp = s.Timestamp(tb, sigs[i].Value, formattest.At)
	}
	patch, err := Format{}.Attach(tb.Context(), a, plan, s.Identity, formattest.At, sigs)
	if err != nil {
		tb.Fatal(err)
	}
	if err := file.Write(dir, "", patch, file.Options{}); err != nil {
		tb.Fatal(err)
	}
}

func check(tb testing.TB, dir string, t format.Trust) (*format.Report, error) {
	tb.Helper()
	a, err := file.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer a.Close()
	return Format{}.Verify(tb.Context(), a, t)
}

// relic judges every program, and the main one with Info.plist and list from a zip.
func relic(tb testing.TB, root, dir string) error {
	tb.Helper()
	a, err := file.Open(dir)
	if err != nil {
		return err
	}
	defer a.Close()
	program := formattest.Program(tb, "relic", hint)
	run := func(name string, b []byte) error {
		at := filepath.Join(tb.TempDir(), name)
		if err := os.WriteFile(at, b, 0o600); err != nil {
			return err
		}
		out, err := formattest.RunJudge(tb, program, "verify", "--cert", root, at)
		if err == nil && !strings.Contains(out, "OK") {
			err = errors.New(out)
		}
		return err
	}
	var z bytes.Buffer
	w := zip.NewWriter(&z)
	if _, err := w.Create("Payload/"); err != nil {
		return err
	}
	err = programs(tb.Context(), a, func(t *format.Tree, i int) error {
		b := make([]byte, t.Entries[i].Size)
		return errors.Join(format.ReadFull(t.Open(i), b, 0), run("program", b))
	})
	if err != nil {
		return err
	}
	t, _, err := openTree(a)
	if err != nil {
		return err
	}
	for i, e := range t.Entries {
		if !e.File() {
			continue
		}
		f, err := w.Create(path.Join("Payload", "A.app", e.Path))
		if err != nil {
			return err
		}
		b := make([]byte, e.Size)
		if err := format.ReadFull(t.Open(i), b, 0); err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return run("A.ipa", z.Bytes())
}

// python reads the list with another reader of property lists and compares it with
// what is in the folder.
func python(tb testing.TB, base string) error {
	tb.Helper()
	const script = `
import base64, hashlib, os, plistlib, sys
base = sys.argv[1]
with open(os.path.join(base, "_CodeSignature", "CodeResources"), "rb") as f:
    d = plistlib.load(f)
assert set(d) == {"files", "files2", "rules", "rules2"}, d.keys()
for name, e in d["files2"].items():
    at = os.path.join(base, name)
    if "symlink" in e:
        assert os.readlink(at) == e["symlink"], name
    elif "cdhash" in e:
        assert len(e["cdhash"]) == 20 and e["requirement"].startswith("identifier "), name
    else:
        assert hashlib.sha256(open(at, "rb").read()).digest() == e["hash2"], name
for name, e in d["files"].items():
    sha1 = e["hash"] if isinstance(e, dict) else e
    assert hashlib.sha1(open(os.path.join(base, name), "rb").read()).digest() == sha1, name
`
	_, err := formattest.RunJudge(tb, formattest.Program(tb, "python3", "apt-get install python3"), "-c", script, base)
	return err
}

func TestOracleBundle(t *testing.T) {
	v := formattest.Judge(t, "bundle", "relic 8.2.0, python plistlib")
	v.Note = "relic judges every program, and the main one against Info.plist and the list; Python compares lists and files; none of them knows the rules, and none signs bundles"
	for _, key := range []sigalg.Key{sigalg.RSA3072, sigalg.P256} {
		s := formattest.Identity(t, key)
		_, _, root := s.Root.WriteFiles(t, t.TempDir(), "root")
		for name, dir := range map[string]string{"Apple": sample(t), "one slice": folder(t, tree(largeApp()))} {
			sign(t, dir, s)
			what := fmt.Sprintf("%s %s", name, key)
			v.Accepts(what, formattest.Key(key), errors.Join(relic(t, root, dir), python(t, filepath.Join(dir, "Contents"))))
			if _, err := check(t, dir, s.Trust()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			program, at := filepath.Join(dir, "Contents", "MacOS", "A"), 340 // in its code
			if name == "Apple" {
				program, at = filepath.Join(dir, "Contents", "MacOS", "dummy"), 60000
			}
			b, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			b[at] ^= 1
			if err := os.WriteFile(program, b, 0o755); err != nil {
				t.Fatal(err)
			}
			_, ours := check(t, dir, s.Trust())
			v.Rejects(what+": program", ours, relic(t, root, dir))
		}
		dir := folder(t, tree(largeApp()))
		sign(t, dir, s)
		for _, change := range []string{"Contents/Info.plist", list, "Contents/Resources/x"} {
			at := filepath.Join(dir, change)
			b, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Replace(b, []byte("s"), []byte("t"), 1)
			if err := os.WriteFile(at, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			_, ours := check(t, dir, s.Trust())
			v.Rejects(string(key)+": "+change, ours, errors.Join(relic(t, root, dir), python(t, filepath.Join(dir, "Contents"))))
			if err := os.WriteFile(at, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
