package merkle

import (
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files")

func leaves(n int) []Hash {
	out := make([]Hash, n)
	for i := range out {
		out[i] = Leaf(Items, []byte{byte(i), byte(i >> 8)})
	}
	return out
}

// store is a transparency log's storage of leaves that were hashed here: the tree
// above them is RFC 6962's, and golang.org/x/mod computes it its own way.
type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func oracle(t *testing.T, ls []Hash) store {
	t.Helper()
	var s store
	for i, l := range ls {
		more, err := tlog.StoredHashesForRecordHash(int64(i), tlog.Hash(l), s)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, more...)
	}
	return s
}

func TestAgainstTransparencyLog(t *testing.T) {
	for n := 1; n <= 70; n++ {
		ls := leaves(n)
		tree, err := New(Items, ls)
		if err != nil {
			t.Fatal(err)
		}
		s := oracle(t, ls)
		top, err := tlog.TreeHash(int64(n), s)
		if err != nil {
			t.Fatal(err)
		}
		if want := seal(Items, n, Hash(top)); tree.Root() != want {
			t.Errorf("%d leaves: root %s, want %s", n, tree.Root(), want)
		}
		for i := range n {
			p, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			want, err := tlog.ProveRecord(int64(n), int64(i), s)
			if err != nil {
				t.Fatal(err)
			}
			var path []string
			for _, h := range want {
				path = append(path, Hash(h).String())
			}
			if !slices.Equal(p.Path, path) {
				t.Errorf("leaf %d of %d: path %v, want %v", i, n, p.Path, path)
			}
		}
	}
}

// Invariant 2: a proof is good for one index, one size, one leaf, one domain.
func TestProofIsForOneLeaf(t *testing.T) {
	for n := 1; n <= 20; n++ {
		ls := leaves(n)
		tree, err := New(Items, ls)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		for i := range n {
			p, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(Items, root, ls[i]); err != nil {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
			if p.Verify(Signatures, root, ls[i]) == nil {
				t.Fatal("verifies under another domain")
			}
			for k := range n {
				if k != i && p.Verify(Items, root, ls[k]) == nil {
					t.Fatalf("proof of %d verifies leaf %d", i, k)
				}
			}
			for index := -1; index <= n+1; index++ {
				for size := -1; size <= 2*n+1; size++ {
					q := Proof{index, size, p.Path}
					if (index != i || size != n) && q.Verify(Items, root, ls[i]) == nil {
						t.Fatalf("proof of %d of %d verifies as %d of %d", i, n, index, size)
					}
				}
			}
			for _, path := range [][]string{
				append(slices.Clone(p.Path), root.String()),
				append(slices.Clone(p.Path), "x"),
				append([]string{root.String()}, p.Path...),
			} {
				if (Proof{i, n, path}).Verify(Items, root, ls[i]) == nil {
					t.Fatal("a longer path verifies")
				}
			}
			for k := range p.Path {
				short := slices.Delete(slices.Clone(p.Path), k, k+1)
				if (Proof{i, n, short}).Verify(Items, root, ls[i]) == nil {
					t.Fatal("a shorter path verifies")
				}
				upper := slices.Clone(p.Path)
				upper[k] = strings.ToUpper(upper[k])
				if upper[k] != p.Path[k] && (Proof{i, n, upper}).Verify(Items, root, ls[i]) == nil {
					t.Fatal("another spelling of a hash verifies")
				}
			}
		}
		for _, i := range []int{-1, n} {
			if _, err := tree.Prove(i); err == nil {
				t.Errorf("leaf %d of %d is proved", i, n)
			}
		}
	}
}

// Invariant 1.
func TestRootsDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 3), 1, 9)
		a, b := data.Draw(t, "a"), data.Draw(t, "b")
		hash := func(d Domain, xs [][]byte) Hash {
			var ls []Hash
			for _, x := range xs {
				ls = append(ls, Leaf(d, x))
			}
			r, err := Root(d, ls)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		same := slices.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
		if (hash(Items, a) == hash(Items, b)) != same {
			t.Fatalf("%x and %x", a, b)
		}
		if hash(Items, a) == hash(Signatures, a) {
			t.Fatal("two domains, one root")
		}
	})
}

// A node is never a leaf, and a tree of one leaf is not that leaf.
func TestSecondPreimages(t *testing.T) {
	ls := leaves(4)
	l, r := node(ls[0], ls[1]), node(ls[2], ls[3])
	four, err1 := Root(Items, ls)
	two, err2 := Root(Items, []Hash{l, r})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if four == two {
		t.Error("the nodes of a tree pass for leaves")
	}
	one, err := Root(Items, ls[:1])
	if err != nil || one == ls[0] {
		t.Error("the root of one leaf is the leaf", err)
	}
}

// Invariant 3.
func TestNoLeaves(t *testing.T) {
	if _, err := Root(Items, nil); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
	if (Proof{}).Verify(Items, Hash{}, Hash{}) == nil {
		t.Error("a proof in no tree verifies")
	}
}

func TestParseHash(t *testing.T) {
	h := Hash(sha256.Sum256(nil))
	if p, err := ParseHash(h.String()); err != nil || p != h {
		t.Error(err)
	}
	for _, s := range []string{"", "00", strings.ToUpper(h.String()), h.String() + "00", h.String()[1:] + "g", " " + h.String()[1:]} {
		if _, err := ParseHash(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 100} {
		r, err := Root(Items, leaves(n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s\n", n, r)
	}
	if *update {
		if err := os.WriteFile("testdata/roots.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/roots.txt")
	if err != nil || string(want) != b.String() {
		t.Errorf("testdata/roots.txt differs (%v); got\n%s", err, b.String())
	}
}

func FuzzMerkleProof(f *testing.F) {
	const n = 11
	ls := leaves(n)
	tree, err := New(Items, ls)
	if err != nil {
		f.Fatal(err)
	}
	for i := range n {
		p, err := tree.Prove(i)
		if err != nil {
			f.Fatal(err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, i)
	}
	f.Fuzz(func(t *testing.T, b []byte, leaf int) {
		var p Proof
		if json.Unmarshal(b, &p) != nil || leaf < 0 || leaf >= n {
			return
		}
		if p.Verify(Items, tree.Root(), ls[leaf]) != nil {
			return
		}
		good, err := tree.Prove(leaf)
		if err != nil || p.Index != good.Index || p.Size != good.Size || !slices.Equal(p.Path, good.Path) {
			t.Fatalf("another proof of leaf %d: %+v", leaf, p)
		}
	})
}
