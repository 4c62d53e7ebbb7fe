package threshold

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// brute decides by trying every assignment of voters to leaves.
func brute(n Node, present []int) bool {
	var leaves []Node
	var number func(Node) node
	number = func(n Node) node {
		if len(n.Of) == 0 {
			leaves = append(leaves, n)
			return node{leaf: len(leaves) - 1, need: n.Need}
		}
		m := node{leaf: -1, need: n.Need}
		for _, c := range n.Of {
			m.of = append(m.of, number(c))
		}
		return m
	}
	root := number(n)
	have := make([]int, len(leaves))
	var try func(i int) bool
	try = func(i int) bool {
		if i == len(present) {
			return root.satisfied(have)
		}
		if try(i + 1) {
			return true
		}
		for l, leaf := range leaves {
			if slices.Contains(leaf.Voters, present[i]) {
				have[l]++
				ok := try(i + 1)
				have[l]--
				if ok {
					return true
				}
			}
		}
		return false
	}
	return try(0)
}

type node struct {
	leaf, need int
	of         []node
}

func (n node) satisfied(have []int) bool {
	if n.leaf >= 0 {
		return have[n.leaf] >= n.need
	}
	k := 0
	for _, c := range n.of {
		if c.satisfied(have) {
			k++
		}
	}
	return k >= n.need
}

const people = 7

func trees(depth int) *rapid.Generator[Node] {
	return rapid.Custom(func(t *rapid.T) Node {
		if depth == 0 || rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
			vs := rapid.SliceOfNDistinct(rapid.IntRange(0, people-1), 1, 4, rapid.ID[int]).Draw(t, "voters")
			return Node{Need: rapid.IntRange(1, len(vs)).Draw(t, "need"), Voters: vs}
		}
		of := rapid.SliceOfN(trees(depth-1), 1, 3).Draw(t, "of")
		return Node{Need: rapid.IntRange(1, len(of)).Draw(t, "need"), Of: of}
	})
}

// Invariants 1 to 3.
func TestFillAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := trees(2).Draw(t, "tree")
		present := rapid.SliceOfNDistinct(rapid.IntRange(0, people-1), 0, people-1, rapid.ID[int]).Draw(t, "present")
		tree, err := Compile(n)
		if err != nil {
			t.Fatal(err)
		}
		fill := func(present []int) Filling {
			stands := make([][]int, len(present))
			for i, v := range present {
				stands[i] = tree.LeavesOf(v)
			}
			return tree.Fill(stands)
		}
		f := fill(present)
		if want := brute(n, present); f.Satisfied != want {
			t.Fatalf("Fill says %v, brute force %v", f.Satisfied, want)
		}
		used := 0
		have := make([]int, tree.Leaves())
		for i, l := range f.Leaf {
			if l >= 0 {
				used++
				have[l]++
				if !tree.Stands(present[i], l) {
					t.Fatalf("voter %d fills leaf %d in which he does not stand", present[i], l)
				}
			}
		}
		if f.Satisfied {
			for _, l := range f.Choice {
				if have[l] < tree.Need(l) {
					t.Fatalf("leaf %d of the way taken has %d of %d", l, have[l], tree.Need(l))
				}
			}
			if used < tree.Places() {
				t.Fatalf("satisfied by %d voters, the rule names %d", used, tree.Places())
			}
			more := append(slices.Clone(present), people+1)
			if !fill(more).Satisfied {
				t.Fatal("one voter more made it unsatisfied")
			}
		}
		all := []int{}
		for v := range people {
			all = append(all, v)
		}
		if got, want := tree.Possible(-1), brute(n, all); got != want {
			t.Fatalf("Possible says %v, brute force %v", got, want)
		}
		out := rapid.IntRange(0, people-1).Draw(t, "out")
		rest := slices.DeleteFunc(slices.Clone(all), func(v int) bool { return v == out })
		want := brute(n, rest)
		if got := tree.Possible(out); got != want {
			t.Fatalf("Possible(%d) says %v, brute force %v", out, got, want)
		}
		if !tree.Matters(out) && want != brute(n, all) {
			t.Fatalf("voter %d does not matter, and does", out)
		}
	})
}

func TestCompileRefuses(t *testing.T) {
	leaf := Node{Need: 1, Voters: []int{1, 2}}
	deep := leaf
	for range MaxDepth {
		deep = Node{Need: 1, Of: []Node{deep}}
	}
	for _, c := range []struct {
		name string
		n    Node
		want error
	}{
		{"need 0", Node{Voters: []int{1}}, ErrNeed},
		{"need -1", Node{Need: -1, Voters: []int{1}}, ErrNeed},
		{"more than children", Node{Need: 2, Of: []Node{leaf}}, ErrNeed},
		{"deep", deep, ErrTooLong},
		{"wide", Node{Need: 1, Of: slices.Repeat([]Node{leaf}, MaxNodes)}, ErrTooLong},
		{"many ways", Node{Need: 10, Of: slices.Repeat([]Node{leaf}, 20)}, ErrChoices},
		{"many places", Node{Need: 2, Of: []Node{{Need: 40, Voters: []int{1}}, {Need: 40, Voters: []int{2}}}}, ErrTooLong},
	} {
		if _, err := Compile(c.n); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLargeGroups(t *testing.T) {
	all := make([]int, 10_000)
	for i := range all {
		all[i] = i
	}
	tree, err := Compile(Node{Need: 2, Of: []Node{{Need: 3, Voters: all}, {Need: 2, Voters: all[:2]}}})
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Possible(-1) || tree.Possible(0) || !tree.Possible(5000) {
		t.Error("a group of two that needs both is impossible without either, and without nobody else")
	}
	if tree.Matters(5000) || !tree.Matters(1) {
		t.Error("only the members of the small group matter")
	}
}
