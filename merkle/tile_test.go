package merkle

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The streaming builder and the tiles give the roots and paths of the tree in
// memory, whatever the size.
func TestTilesAreTheTree(t *testing.T) {
	sizes := []int{1, 2, 3, 5, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 66000}
	for _, n := range sizes {
		ls := leaves(n)
		tree, err := New(Records, ls)
		if err != nil {
			t.Fatal(err)
		}
		tiles := MemoryTiles{}
		b := NewBuilder(Records, tiles)
		for i, l := range ls {
			if at, err := b.Add(l); err != nil || at != int64(i) {
				t.Fatal(at, err)
			}
		}
		root, err := b.Finish()
		if err != nil || root != tree.Root() {
			t.Fatalf("%d leaves: root %s (%v), want %s", n, root, err, tree.Root())
		}
		paths := NewPaths(int64(n), tiles)
		for i := 0; i < n; i += 1 + n/300 {
			p, err := paths.Path(int64(i))
			if err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
			want, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(p); got != strings.Join(want.Path, "") {
				t.Fatalf("leaf %d of %d: path %s, want %v", i, n, got, want.Path)
			}
			if err := VerifyPath(Records, root, ls[i], int64(i), int64(n), p); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
		}
	}
}

// Invariant 2 holds for paths in bytes.
func TestPathIsForOneLeaf(t *testing.T) {
	for n := 1; n <= 20; n++ {
		ls := leaves(n)
		tiles := MemoryTiles{}
		b := NewBuilder(Records, tiles)
		for _, l := range ls {
			if _, err := b.Add(l); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(n) {
			p, err := NewPaths(int64(n), tiles).Path(i)
			if err != nil {
				t.Fatal(err)
			}
			for index := int64(-1); index <= int64(n)+1; index++ {
				for size := int64(-1); size <= 2*int64(n)+1; size++ {
					for k, l := range ls {
						good := index == i && size == int64(n) && int64(k) == i
						if (VerifyPath(Records, root, l, index, size, p) == nil) != good {
							t.Fatalf("path of %d of %d for leaf %d at %d of %d", i, n, k, index, size)
						}
					}
				}
			}
			for _, bad := range [][]byte{append(p[:len(p):len(p)], 0), append(p[:len(p):len(p)], root[:]...), append(root[:], p...)} {
				if VerifyPath(Records, root, ls[i], i, int64(n), bad) == nil {
					t.Fatal("a longer path verifies")
				}
			}
			if len(p) > 0 && (VerifyPath(Records, root, ls[i], i, int64(n), p[:len(p)-1]) == nil || VerifyPath(Records, root, ls[i], i, int64(n), p[32:]) == nil) {
				t.Fatal("a shorter path verifies")
			}
			if VerifyPath(Items, root, ls[i], i, int64(n), p) == nil {
				t.Fatal("verifies under another domain")
			}
		}
	}
}

type noRoom struct{}

var errNoRoom = errors.New("no room")

func (noRoom) WriteTile(int, int64, []byte) error          { return errNoRoom }
func (noRoom) ReadTile(level int, _ int64) ([]byte, error) { return make([]byte, 32*(level+1)), nil }

// Tiles that are missing, short or refused are errors, not other paths.
func TestBadTiles(t *testing.T) {
	b := NewBuilder(Records, noRoom{})
	if _, err := b.Finish(); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
	if _, err := b.Add(Hash{}); err != nil {
		t.Error(err)
	}
	if _, err := b.Finish(); !errors.Is(err, errNoRoom) {
		t.Error(err)
	}
	if _, err := NewPaths(300, noRoom{}).Path(3); err == nil {
		t.Error("a short tile is accepted")
	}
	if _, err := NewPaths(300, MemoryTiles{}).Path(3); err == nil {
		t.Error("a missing tile is accepted")
	}
	for _, i := range []int64{-1, 300} {
		if _, err := NewPaths(300, MemoryTiles{}).Path(i); err == nil {
			t.Errorf("leaf %d of 300 has a path", i)
		}
	}
}
