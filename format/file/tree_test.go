package file

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// bundle makes a small application.
func bundle(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "A.app")
	for name, content := range map[string]string{"Contents/Info.plist": "plist", "Contents/MacOS/a": "program", "Contents/Resources/x/y": "resource"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := errors.Join(os.Chmod(filepath.Join(dir, "Contents/MacOS/a"), 0o755), os.Symlink("../MacOS/a", filepath.Join(dir, "Contents/Resources/link")),
		os.Chtimes(filepath.Join(dir, "Contents/Resources/x/y"), old, old)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readAll(t *testing.T, a format.Artifact) []byte {
	t.Helper()
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// edit is the patch that makes the program longer and adds a file.
func edit(t *testing.T, a format.Artifact) *format.Patch {
	t.Helper()
	tree, err := format.ReadTree(a)
	if err != nil {
		t.Fatal(err)
	}
	var entries []format.TreeEntry
	at := int64(0)
	for i, e := range tree.Entries {
		if e.Path == "Contents/MacOS/a" {
			e.Size += 7
			at = tree.Offset(i) + e.Size - 7
		}
		entries = append(entries, e)
	}
	entries = append(entries, format.TreeEntry{Path: "Contents/_new", Size: 3})
	head, err := format.EncodeTree(entries)
	if err != nil {
		t.Fatal(err)
	}
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{
		{Offset: 0, Delete: tree.Head(), Insert: head}, {Offset: at, Insert: []byte(" signed")}, {Offset: a.Size(), Insert: []byte("new")},
	}}
}

func TestFolderIsATree(t *testing.T) {
	dir := bundle(t)
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	tree, err := format.ReadTree(a)
	if err != nil || a.Name() != "A.app" || len(tree.Entries) != 8 {
		t.Fatalf("%s, %d entries, %v", a.Name(), len(tree.Entries), err)
	}
	e := tree.Entries[tree.Lookup("Contents/Resources/link")]
	if e.Link != "../MacOS/a" || !tree.Entries[tree.Lookup("Contents/MacOS/a")].Executable {
		t.Errorf("%+v", tree.Entries)
	}
	// Invariant 2: the bytes of one moment.
	if err := os.WriteFile(filepath.Join(dir, "Contents/MacOS/a"), []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := format.ReadFull(a, make([]byte, a.Size()), 0); !errors.Is(err, ErrChanged) {
		t.Errorf("%v", err)
	}
	if err := a.Unchanged(); !errors.Is(err, ErrChanged) {
		t.Errorf("%v", err)
	}
}

func TestFolderRefuses(t *testing.T) {
	for name, target := range map[string]string{"absolute": "/etc/passwd", "up": "../../../x"} {
		dir := bundle(t)
		if err := os.Symlink(target, filepath.Join(dir, "Contents/bad")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, format.ErrTree) {
			t.Errorf("link %s: %v", name, err)
		}
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a folder that is no bundle: %v", err)
	}
}

// Invariant 1: a folder is the old one or the new one, whenever the process dies.
func TestWriteFolder(t *testing.T) {
	for _, self := range []bool{true, false} {
		dir := bundle(t)
		a, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		before, p := readAll(t, a), edit(t, a)
		want, err := p.Bytes(a)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		out := dir
		if !self {
			out = filepath.Join(filepath.Dir(dir), "B.app")
		}
		type stop struct{}
		steps := 0
		for n := 0; ; n++ {
			died := func() (died bool) {
				defer func() {
					if r := recover(); r != nil {
						if _, ok := r.(stop); !ok {
							panic(r)
						}
						died = true
					}
				}()
				i := 0
				if err := Write(dir, out, p, Options{step: func(string) {
					if i == n {
						panic(stop{})
					}
					i++
				}}); err != nil {
					t.Fatal(err)
				}
				return false
			}()
			steps++
			b, err := Open(out)
			switch {
			case err != nil && !self && errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				t.Fatal(err)
			}
			got := readAll(t, b)
			b.Close()
			if !bytes.Equal(got, want) && !(self && bytes.Equal(got, before)) {
				t.Fatalf("after step %d there is something else", n)
			}
			if !died && !bytes.Equal(got, want) {
				t.Fatal("written, and the old one is there")
			}
			if bytes.Equal(got, want) {
				break
			}
		}
		if steps < 4 {
			t.Errorf("%d steps", steps)
		}
		fi, err := os.Stat(filepath.Join(out, "Contents/MacOS/a"))
		if err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
		if fi, err = os.Stat(filepath.Join(out, "Contents/Resources/x/y")); err != nil || fi.ModTime().Year() != 2020 {
			t.Errorf("time of a file that stays: %v, %v", fi.ModTime(), err)
		}
	}
}

// Where names cannot be exchanged, a folder that was aside when the process died
// comes back.
func TestFolderComesBack(t *testing.T) {
	dir := bundle(t)
	if err := os.Rename(dir, asideName(dir)); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	temp := filepath.Join(filepath.Dir(dir), "temp")
	if err := errors.Join(os.Mkdir(temp, 0o755), exchangeByRenames(temp, dir)); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestWriteFolderRefuses(t *testing.T) {
	dir, other := bundle(t), bundle(t)
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := edit(t, a)
	a.Close()
	if err := Write(dir, other, p, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("onto another folder: %v", err)
	}
	if err := Write(dir, "", p, Options{InPlace: true}); err == nil {
		t.Error("edited in place")
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, "", p, Options{}); !errors.Is(err, ErrSize) {
		t.Errorf("a file more: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".greatseal*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An Info.plist beside the resources makes a bundle of iOS only of a folder that is
// called like one.
func TestShallowBundles(t *testing.T) {
	for name, want := range map[string]bool{"A.app": true, "E.appex": true, "F.framework": true, "R.bundle": false, "sources": false} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if IsBundle(dir) {
			t.Errorf("%s: without an Info.plist", name)
		}
		if err := os.WriteFile(filepath.Join(dir, "Info.plist"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if IsBundle(dir) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
