package charter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/charter/threshold"
)

// Roll gives everybody who can vote a number. A machine that has an owner has its
// owner's number: whoever owns the machine moves it, so that the two count once
// in a quorum, and neither endorses what the other requests.
type Roll struct {
	c      *Charter
	number map[string]int // by name of person or machine
	count  int
}

// NewRoll numbers the people and machines of c. It expects a charter whose people,
// machines and groups are sound.
func NewRoll(c *Charter) *Roll {
	r := &Roll{c: c, number: make(map[string]int, len(c.People)+len(c.Machines))}
	for _, n := range sorted(c.People) {
		r.number[n] = r.count
		r.count++
	}
	for _, n := range sorted(c.Machines) {
		if o := c.Machines[n].Owner; o != "" {
			r.number[n] = r.number[o]
			continue
		}
		r.number[n] = r.count
		r.count++
	}
	return r
}

// Actor is the number of a person or machine; ok is false for a name that the
// charter does not have.
func (r *Roll) Actor(name string) (n int, ok bool) {
	n, ok = r.number[name]
	return n, ok
}

// Count is one more than the greatest number.
func (r *Roll) Count() int { return r.count }

// Members are the people or machines that a name of the charter stands for: a
// group's members, or the person or machine alone. It is nil for unknown names.
func (c *Charter) Members(name string) []string {
	if g, ok := c.Groups[name]; ok {
		return g.Members
	}
	_, person := c.People[name]
	_, machine := c.Machines[name]
	if person || machine {
		return []string{name}
	}
	return nil
}

// Needs is how many of its children, members or one the node needs.
func (n Node) Needs() int {
	if n.Need == 0 && len(n.Of) == 0 {
		return 1
	}
	return n.Need
}

// Name is the member or group of a leaf, "" for an inner node.
func (n Node) Name() string {
	if n.Member != "" {
		return n.Member
	}
	return n.Group
}

// String writes the tree for people: "2 of release and 1 of security",
// "1 of (2 of release; alice)".
func (n Node) String() string {
	switch {
	case n.Member != "":
		return n.Member
	case n.Group != "":
		return fmt.Sprintf("%d of %s", n.Needs(), n.Group)
	}
	parts := make([]string, len(n.Of))
	for i, c := range n.Of {
		parts[i] = c.String()
		if len(c.Of) > 0 && c.Need == len(c.Of) {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	if n.Need == len(n.Of) {
		return strings.Join(parts, " and ")
	}
	return fmt.Sprintf("%d of (%s)", n.Need, strings.Join(parts, "; "))
}

// Leaves are the leaves of the tree from left to right, as the compiled tree
// numbers them.
func (n *Node) Leaves() []*Node {
	if len(n.Of) == 0 {
		return []*Node{n}
	}
	var out []*Node
	for i := range n.Of {
		out = append(out, n.Of[i].Leaves()...)
	}
	return out
}

// Compile prepares the tree for filling, without the members that skip names.
func (r *Roll) Compile(n *Node, skip func(name string) bool) (*threshold.Tree, error) {
	return threshold.Compile(r.tree(n, skip))
}

func (r *Roll) tree(n *Node, skip func(name string) bool) threshold.Node {
	t := threshold.Node{Need: n.Needs()}
	for i := range n.Of {
		t.Of = append(t.Of, r.tree(&n.Of[i], skip))
	}
	if len(n.Of) > 0 {
		return t
	}
	members := r.c.Members(n.Name())
	t.Voters = make([]int, 0, len(members))
	for _, m := range members {
		if a, ok := r.number[m]; ok && (skip == nil || !skip(m)) {
			t.Voters = append(t.Voters, a)
		}
	}
	return t
}

// Requesters are the people and machines that r names, each once, in order.
func (c *Charter) Requesters(r Rule) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range r.Requesters {
		for _, m := range c.Members(n) {
			if !seen[m] {
				seen[m] = true
				out = append(out, m)
			}
		}
	}
	return out
}

// machineLeaf reports whether a leaf is filled by machines.
func (c *Charter) machineLeaf(n *Node) bool {
	members := c.Members(n.Name())
	return len(members) > 0 && slices.ContainsFunc(members, func(m string) bool { _, ok := c.Machines[m]; return ok })
}
