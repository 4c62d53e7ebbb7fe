// Package threshold is the arithmetic of quorums: trees of thresholds that are
// filled by distinct voters.
//
// A leaf needs some of its voters; an inner node needs some of its children. A
// voter fills one place in the whole tree, however many leaves he stands in:
// the tree is satisfied when there is an assignment of distinct voters to
// places, which is found by enumerating the ways to choose children (there are
// at most [MaxChoices]) and matching voters to each way's leaves (Kuhn's
// augmenting paths).
//
// Invariants:
//
//  1. [Tree.Fill] is exact: it finds an assignment if and only if one exists.
//  2. A filled tree uses as many distinct voters as the smallest choice of the
//     tree has places.
//  3. More voters never make a satisfied tree unsatisfied.
//  4. Same input, same assignment: nothing depends on map order.
package threshold

import (
	"errors"
	"fmt"
	"slices"
)

// Limits of a tree.
const (
	MaxDepth   = 8
	MaxNodes   = 256
	MaxPlaces  = 64   // places of one way to satisfy the tree
	MaxChoices = 4096 // ways to choose children
)

// Node describes a tree. It is a leaf when Of is empty.
type Node struct {
	Need   int
	Voters []int // of a leaf: the numbers of those who may fill it
	Of     []Node
}

// Tree is a compiled Node. It is immutable. Leaves are numbered in the order in
// which a walk from left to right meets them.
type Tree struct {
	need    []int   // by leaf
	voters  [][]int // by leaf: dense numbers
	of      [][]int // by dense number: leaves
	dense   map[int]int
	choices [][]int // leaves of each way
	places  []int   // by choice: sum of need
}

// What Compile refuses.
var (
	ErrNeed    = errors.New("threshold: need is less than 1 or more than there are")
	ErrTooLong = errors.New("threshold: tree is too large")
	ErrChoices = fmt.Errorf("threshold: more than %d ways to satisfy the tree", MaxChoices)
)

// Compile prepares n. A leaf may have fewer voters than it needs: it is then
// never satisfied.
func Compile(n Node) (*Tree, error) {
	nodes := 0
	if err := measure(n, 1, &nodes); err != nil {
		return nil, err
	}
	if ways(n) > MaxChoices {
		return nil, ErrChoices
	}
	t := &Tree{dense: map[int]int{}}
	t.choices = t.compile(n)
	for _, c := range t.choices {
		sum := 0
		for _, l := range c {
			sum += t.need[l]
		}
		if sum > MaxPlaces {
			return nil, fmt.Errorf("%w: %d voters needed, at most %d", ErrTooLong, sum, MaxPlaces)
		}
		t.places = append(t.places, sum)
	}
	return t, nil
}

func measure(n Node, depth int, nodes *int) error {
	if *nodes++; depth > MaxDepth || *nodes > MaxNodes {
		return fmt.Errorf("%w: at most %d nodes, %d deep", ErrTooLong, MaxNodes, MaxDepth)
	}
	if n.Need < 1 || len(n.Of) > 0 && n.Need > len(n.Of) || n.Need > MaxPlaces {
		return ErrNeed
	}
	for _, c := range n.Of {
		if err := measure(c, depth+1, nodes); err != nil {
			return err
		}
	}
	return nil
}

// ways counts the choices of n, or says MaxChoices+1 for more: the elementary
// symmetric polynomial of degree Need over the children's counts.
func ways(n Node) int {
	if len(n.Of) == 0 {
		return 1
	}
	e := make([]int, n.Need+1)
	e[0] = 1
	for _, c := range n.Of {
		w := ways(c)
		for k := n.Need; k > 0; k-- {
			e[k] = min(e[k]+e[k-1]*w, MaxChoices+1)
		}
	}
	return e[n.Need]
}

func (t *Tree) compile(n Node) [][]int {
	if len(n.Of) == 0 {
		l := len(t.need)
		t.need = append(t.need, n.Need)
		var vs []int
		for _, v := range n.Voters {
			d, ok := t.dense[v]
			if !ok {
				d = len(t.of)
				t.dense[v] = d
				t.of = append(t.of, nil)
			}
			if !slices.Contains(t.of[d], l) {
				t.of[d] = append(t.of[d], l)
				vs = append(vs, d)
			}
		}
		t.voters = append(t.voters, vs)
		return [][]int{{l}}
	}
	// partial[k] are the choices of k of the children so far.
	partial := make([][][]int, n.Need+1)
	partial[0] = [][]int{nil}
	for i, c := range n.Of {
		own := t.compile(c)
		for k := min(n.Need, i+1); k > 0; k-- {
			for _, before := range partial[k-1] {
				for _, o := range own {
					partial[k] = append(partial[k], slices.Concat(before, o))
				}
			}
		}
	}
	return partial[n.Need]
}

// Leaves is the number of leaves.
func (t *Tree) Leaves() int { return len(t.need) }

// Size is the number of voters in leaf l.
func (t *Tree) Size(l int) int { return len(t.voters[l]) }

// Need is how many voters leaf l needs.
func (t *Tree) Need(l int) int { return t.need[l] }

// Choices are the ways to satisfy the tree: the leaves of each. The caller does
// not change them.
func (t *Tree) Choices() [][]int { return t.choices }

// Places is the least number of distinct voters that satisfies the tree.
func (t *Tree) Places() int { return slices.Min(t.places) }

// Has reports whether voter stands in any leaf.
func (t *Tree) Has(voter int) bool { _, ok := t.dense[voter]; return ok }

// Stands reports whether voter stands in leaf l.
func (t *Tree) Stands(voter, l int) bool {
	d, ok := t.dense[voter]
	return ok && slices.Contains(t.of[d], l)
}

// Matters reports whether the absence of voter can make a difference while all
// others are there: a leaf with more voters than any choice has places is filled
// whoever is missing.
func (t *Tree) Matters(voter int) bool {
	d, ok := t.dense[voter]
	if !ok {
		return false
	}
	most := slices.Max(t.places)
	for _, l := range t.of[d] {
		if len(t.voters[l])-1 < most {
			return true
		}
	}
	return false
}

// Possible reports whether the tree can be satisfied when everybody votes but
// the voter without (-1: everybody).
func (t *Tree) Possible(without int) bool {
	out := -1
	if d, ok := t.dense[without]; ok {
		out = d
	}
	m := newMatching(len(t.of), len(t.need))
	for i, choice := range t.choices {
		m.reset()
		ok := true
		for _, l := range choice {
			// With as many voters as the choice has places the leaf can be
			// filled after all the others.
			if size := len(t.voters[l]); size-1 >= t.places[i] {
				continue
			}
			m.adj[l] = t.voters[l]
			for range t.need[l] {
				m.clear(out)
				if ok = m.augment(l); !ok {
					break
				}
			}
			if !ok {
				break
			}
		}
		if ok {
			return true
		}
	}
	return false
}

// Filling is who fills what.
type Filling struct {
	Satisfied bool
	Leaf      []int // by index in stands: the leaf that the voter fills, or -1
	Choice    []int // the leaves of the way taken: one that is satisfied or lacks the fewest
	Missing   int   // places of Choice that nobody fills
}

// LeavesOf are the leaves in which voter stands. The caller does not change them.
func (t *Tree) LeavesOf(voter int) []int {
	if d, ok := t.dense[voter]; ok {
		return t.of[d]
	}
	return nil
}

// Fill assigns voters to the leaves: stands are, for each of the distinct voters
// that are present, the leaves which his votes can fill. Voters whom the way taken does not need fill other leaves as far as they can,
// for the people who read the tree.
func (t *Tree) Fill(stands [][]int) Filling {
	adj := make([][]int, len(t.need))
	for i, leaves := range stands {
		for _, l := range leaves {
			adj[l] = append(adj[l], i)
		}
	}
	m := newMatching(len(stands), len(t.need))
	m.adj = adj
	best := Filling{Missing: MaxPlaces + 1}
	for i, choice := range t.choices {
		m.reset()
		got := 0
		for _, l := range choice {
			for range t.need[l] {
				m.clear(-1)
				if !m.augment(l) {
					break
				}
				got++
			}
		}
		if missing := t.places[i] - got; missing < best.Missing {
			best = Filling{missing == 0, slices.Clone(m.leaf), choice, missing}
		}
		if best.Satisfied {
			break
		}
	}
	have := make([]int, len(t.need))
	for _, l := range best.Leaf {
		if l >= 0 {
			have[l]++
		}
	}
	for l := range t.need {
		for _, v := range adj[l] {
			if have[l] < t.need[l] && best.Leaf[v] < 0 {
				best.Leaf[v] = l
				have[l]++
			}
		}
	}
	return best
}

// matching is one run of Kuhn's algorithm.
type matching struct {
	adj  [][]int // by leaf: voters
	leaf []int   // by voter: the leaf that he fills, or -1
	seen []bool
}

func newMatching(voters, leaves int) *matching {
	return &matching{adj: make([][]int, leaves), leaf: make([]int, voters), seen: make([]bool, voters)}
}

func (m *matching) reset() {
	for i := range m.leaf {
		m.leaf[i] = -1
	}
}

func (m *matching) clear(out int) {
	clear(m.seen)
	if out >= 0 {
		m.seen[out] = true
	}
}

// augment finds one more voter for leaf l, moving others to other leaves where
// that frees one.
func (m *matching) augment(l int) bool {
	for _, v := range m.adj[l] {
		if m.leaf[v] < 0 && !m.seen[v] {
			m.seen[v] = true
			m.leaf[v] = l
			return true
		}
	}
	for _, v := range m.adj[l] {
		if m.seen[v] {
			continue
		}
		m.seen[v] = true
		if m.augment(m.leaf[v]) {
			m.leaf[v] = l
			return true
		}
	}
	return false
}
