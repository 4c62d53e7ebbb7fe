package format

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func smallTree(t testing.TB) ([]byte, []TreeEntry) {
	t.Helper()
	entries := []TreeEntry{{Path: "a", Folder: true}, {Path: "a/b", Size: 3, Executable: true}, {Path: "a/c", Link: "../d"}, {Path: "d", Size: 5}}
	head, err := EncodeTree(entries)
	if err != nil {
		t.Fatal(err)
	}
	return append(head, "abcdefgh"...), entries
}

func TestTree(t *testing.T) {
	b, entries := smallTree(t)
	tree, err := ReadTree(BytesArtifact("x", b))
	if err != nil || len(tree.Entries) != len(entries) || !IsTree(BytesArtifact("x", b)) {
		t.Fatal(err)
	}
	i := tree.Lookup("d")
	got := make([]byte, 5)
	if err := ReadFull(tree.Open(i), got, 0); err != nil || string(got) != "defgh" || tree.Lookup("e") != -1 || tree.Open(i).Name() != "d" {
		t.Errorf("%q, %v", got, err)
	}
	for n := range b {
		if _, err := ReadTree(BytesArtifact("x", b[:n])); err == nil {
			t.Errorf("the first %d bytes are a tree", n)
		}
	}
	if _, err := ReadTree(BytesArtifact("x", append(bytes.Clone(b), 0))); !errors.Is(err, ErrTree) {
		t.Errorf("a byte after the end: %v", err)
	}
}

// Paths with which a folder would not stay inside of itself, or be two things.
func TestTreeRefuses(t *testing.T) {
	for name, entries := range map[string][]TreeEntry{
		"up":               {{Path: "../a"}},
		"up inside":        {{Path: "a", Folder: true}, {Path: "a/../b"}},
		"absolute":         {{Path: "/a"}},
		"backslash":        {{Path: `a\b`}},
		"stream":           {{Path: "a:b"}},
		"line end":         {{Path: "a\nb"}},
		"twice":            {{Path: "a"}, {Path: "a"}},
		"out of order":     {{Path: "b"}, {Path: "a"}},
		"case":             {{Path: "A"}, {Path: "a"}},
		"no folder":        {{Path: "a/b"}},
		"in a file":        {{Path: "a"}, {Path: "a/b"}},
		"in a link":        {{Path: "a", Link: "b"}, {Path: "a/b"}},
		"link up":          {{Path: "a", Link: "../b"}},
		"link up and back": {{Path: "a", Folder: true}, {Path: "a/b", Link: "../../x"}},
		"link to a root":   {{Path: "a", Link: "/etc/passwd"}},
		"folder of a size": {{Path: "a", Folder: true, Size: 1}},
		"deep":             {{Path: strings.Repeat("a/", 40) + "a"}},
	} {
		if _, err := EncodeTree(entries); !errors.Is(err, ErrTree) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is read through a patch is what the patch writes.
func TestPatched(t *testing.T) {
	a := BytesArtifact("x", []byte("0123456789"))
	p := &Patch{Size: 10, Edits: []Edit{{0, 2, []byte("AB")}, {4, 0, []byte("new")}, {6, 3, nil}, {10, 0, []byte("end")}}}
	want, err := p.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Patched(a, p)
	if err != nil || b.Size() != int64(len(want)) {
		t.Fatal(err)
	}
	for from := range want {
		for to := from; to <= len(want); to++ {
			got := make([]byte, to-from)
			if err := ReadFull(b, got, int64(from)); err != nil || !bytes.Equal(got, want[from:to]) {
				t.Fatalf("%d to %d: %q, %v", from, to, got, err)
			}
		}
	}
	if err := ReadFull(b, make([]byte, 1), b.Size()); !errors.Is(err, ErrShort) {
		t.Errorf("after the end: %v", err)
	}
}

func FuzzReadTree(f *testing.F) {
	b, _ := smallTree(f)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := ReadTree(BytesArtifact("x", b))
		if err != nil {
			return
		}
		head, err := EncodeTree(tree.Entries)
		if err != nil || !bytes.HasPrefix(b, head) || tree.Head() != int64(len(head)) {
			t.Fatalf("encoded as another one: %v", err)
		}
	})
}
